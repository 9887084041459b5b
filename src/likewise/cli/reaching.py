"""How a server is reached: over a Unix socket, below a path, through proxies."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from likewise.base.errors import SettingsError
from likewise.cli import output

if TYPE_CHECKING:
    from likewise.cli.settings import ServerSettings
    from likewise.server.prefix import Behind

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_MODE = "660"


@dataclass(frozen=True)
class Reaching:
    """What flags or likewise.toml say about how the server is reached."""

    uds: Path | None = None
    """The Unix socket to listen on, instead of host and port."""
    uds_mode: str = DEFAULT_MODE
    root_path: str = ""
    trusted_proxies: tuple[str, ...] = ()

    @property
    def mode(self) -> int:
        """The mode of the Unix socket.

        Raises:
            SettingsError: it isn't one.
        """
        digits = self.uds_mode.removeprefix("0o").lstrip("0") or "0"
        if not digits.isascii() or not set(digits) <= set("01234567") or len(digits) > 3:
            raise SettingsError(
                f"the mode of the Unix socket is {self.uds_mode!r}; write it as chmod takes it, "
                "such as 660",
                param="uds_mode",
            )
        return int(digits, 8)

    def behind(self) -> Behind:
        """What stands before the server; raises `SettingsError` if that can't be right."""
        from likewise.server.prefix import behind

        return behind(self.root_path, self.trusted_proxies)


def of_file(server: ServerSettings, folder: Path, flags: Reaching) -> Reaching:
    """What likewise.toml says, in its `folder`; flags go before it."""
    written = Reaching(
        uds=None if server.uds is None else folder / Path(server.uds).expanduser(),
        uds_mode=server.uds_mode,
        root_path=server.root_path,
        trusted_proxies=server.trusted_proxies,
    )
    usual = Reaching()
    given = {
        name: getattr(flags, name)
        for name in ("uds", "uds_mode", "root_path", "trusted_proxies")
        if getattr(flags, name) != getattr(usual, name)
    }
    return replace(written, **given)


def _given(*names: str) -> list[str]:
    """Which of these options stand on the command line."""
    context = click.get_current_context()
    typed = click.core.ParameterSource.COMMANDLINE
    return [f"--{name}" for name in names if context.get_parameter_source(name) is typed]


def reach_options(command: F) -> F:
    """Options that say how the server is reached; the command gets what they say as `reach`."""

    @functools.wraps(command)
    def reached(
        *args: Any,
        uds: Path | None,
        uds_mode: str,
        root_path: str,
        trusted_proxies: tuple[str, ...],
        **options: Any,
    ) -> Any:
        reach = Reaching(uds, uds_mode, root_path, trusted_proxies)
        if uds is not None and (unused := _given("host", "port")):
            output.warn(f"{' and '.join(unused)} isn't used: --uds listens on a Unix socket alone")
        return command(*args, reach=reach, **options)

    wrapped: Any = reached
    for option in reversed(
        (
            click.option(
                "--uds", type=click.Path(path_type=Path), metavar="PATH",
                help="Listen on this Unix socket instead of host and port.",
            ),
            click.option(
                "--uds-mode", default=DEFAULT_MODE, show_default=True, metavar="MODE",
                help="Who may open the Unix socket, as chmod takes it.",
            ),
            click.option(
                "--root-path", default="", metavar="PREFIX",
                help="Path that a reverse proxy serves this server below, such as /likewise.",
            ),
            click.option(
                "--trusted-proxy", "trusted_proxies", multiple=True, metavar="ADDRESS",
                help="Believe X-Forwarded-Prefix of this address or network; 'unix' for who "
                "comes over the Unix socket.",
            ),
        )
    ):  # fmt: skip
        wrapped = option(wrapped)
    return wrapped  # type: ignore[no-any-return]
