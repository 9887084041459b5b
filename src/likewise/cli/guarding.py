"""Who may ask the server: flags, likewise.toml and the environment become its guard."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from likewise.base.errors import SettingsError
from likewise.cli import output, resolve
from likewise.cli.request_options import Requests, request_options
from likewise.cli.settings import DEFAULT_HOST, ServerSettings

if TYPE_CHECKING:
    from likewise.server.guard import Guard

F = TypeVar("F", bound=Callable[..., Any])

_DEFAULT = ServerSettings()


@dataclass(frozen=True)
class Guarding:
    """What flags or likewise.toml say about who may ask, and how much."""

    keys: Path | None = None
    insecure: bool = False
    cors_origins: tuple[str, ...] = ()
    tls_cert: Path | None = None
    tls_key: Path | None = None
    strict: bool = False
    max_batch_inputs: int = _DEFAULT.max_batch_inputs
    max_connections: int = _DEFAULT.max_connections
    body_timeout_s: float = _DEFAULT.body_timeout_s
    connection_idle_s: float = _DEFAULT.connection_idle_s
    requests: Requests = Requests()


def of_file(server: ServerSettings, folder: Path, flags: Guarding) -> Guarding:
    """What likewise.toml says, in its `folder`; flags go before it."""

    def path(written: str | None) -> Path | None:
        return None if written is None else folder / Path(written).expanduser()

    given = {
        name: value
        for name in ("keys", "insecure", "cors_origins", "tls_cert", "tls_key", "strict")
        if (value := getattr(flags, name))
    }
    written = Guarding(
        keys=path(server.keys),
        insecure=server.insecure,
        cors_origins=server.cors_origins,
        tls_cert=path(server.tls_cert),
        tls_key=path(server.tls_key),
        strict=server.strict,
        max_batch_inputs=server.max_batch_inputs,
        max_connections=server.max_connections,
        body_timeout_s=server.body_timeout_s,
        connection_idle_s=server.connection_idle_s,
    )
    written = replace(written, requests=flags.requests.over(server))
    return replace(written, **given)


def guard_options(command: F) -> F:
    """Options that say who may ask; the command gets what they say as `guard`."""

    @functools.wraps(command)
    def guarded(
        *args: Any,
        keys: Path | None,
        insecure: bool,
        cors_origins: tuple[str, ...],
        tls_cert: Path | None,
        tls_key: Path | None,
        strict: bool,
        requests: Requests,
        **options: Any,
    ) -> Any:
        guard = Guarding(keys, insecure, cors_origins, tls_cert, tls_key, strict)
        guard = replace(guard, requests=requests)
        return command(*args, guard=guard, **options)

    file = click.Path(path_type=Path)
    wrapped: Any = request_options(guarded)
    for option in reversed(
        (
            click.option(
                "--keys", type=file, metavar="FILE",
                help="Let in only who has a key of this file; see 'likewise keys'.",
            ),
            click.option(
                "--no-auth", "insecure", is_flag=True,
                help="Let everybody in, also beyond loopback.",
            ),
            click.option(
                "--cors-origin", "cors_origins", multiple=True, metavar="ORIGIN",
                help="Pages of this origin may use the server: https://app.example, "
                "http://localhost:*, app://*, or * for every one.",
            ),
            click.option(
                "--tls-cert", type=file, metavar="FILE",
                help="Speak https with this certificate (PEM).",
            ),
            click.option(
                "--tls-key", type=file, metavar="FILE", help="The certificate's private key (PEM)."
            ),
            click.option(
                "--strict", is_flag=True,
                help="Refuse request fields that a dialect doesn't know; else they are ignored.",
            ),
        )
    ):  # fmt: skip
        wrapped = option(wrapped)
    return wrapped  # type: ignore[no-any-return]


def guard_of(said: Guarding, host: str) -> Guard:
    """The guard of a server that listens on `host`; the environment may hold keys.

    Raises:
        SettingsError: others could reach the server and nobody would be asked for a key; the keys,
            an origin or the certificate can't be right.
    """
    from likewise.server.guard import Guard
    from likewise.server.keys import KeyRing
    from likewise.server.listen import require_certificate
    from likewise.server.origin_patterns import require_origins

    given = resolve.given_keys()
    keys = KeyRing(said.keys, given) if said.keys is not None or given else None
    if keys is not None and said.insecure:
        where = said.keys or next(iter(given))
        raise SettingsError(f"--no-auth (server.insecure) and keys ({where}) contradict each other")
    require_origins(said.cors_origins)
    certificate = require_certificate(said.tls_cert, said.tls_key)
    _require_closed(host, has_keys=keys is not None, insecure=said.insecure)
    if keys is not None and certificate is None and not is_loopback(host):
        output.warn(
            f"keys travel to {host} as they are: give --tls-cert and --tls-key, or put a proxy "
            f"that speaks TLS in front"
        )
    return Guard(
        keys=keys,
        cors_origins=said.cors_origins,
        strict=said.strict,
        defaults=said.requests.defaults(),
        max_inputs=said.max_batch_inputs,
        max_connections=said.max_connections,
        body_timeout_s=said.body_timeout_s,
        keep_alive_s=said.connection_idle_s,
        certificate=certificate,
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens on `host`."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _require_closed(host: str, *, has_keys: bool, insecure: bool) -> None:
    if has_keys or is_loopback(host):
        return
    if not insecure:
        raise SettingsError(
            f"{host} may be reached from other machines, and nothing would ask who they are: make "
            f"a key with 'likewise keys add NAME' and give the file with --keys (server.keys), set "
            f"LIKEWISE_API_KEY, use --host {DEFAULT_HOST}, or say --no-auth (server.insecure) if a "
            f"proxy in front asks",
            param="host",
        )
    output.warn(f"{host} may be reached from other machines, and nothing here asks who they are")
