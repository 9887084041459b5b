"""What an operator says about models: `[models."NAME"]` of likewise.toml, and flags."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from likewise.base.errors import SettingsError
from likewise.base.escapes import plain
from likewise.cli import settings
from likewise.models.overrides import SIMILARITIES, Overrides, OverrideTable
from likewise.models.parts import POOLINGS

if TYPE_CHECKING:
    from likewise.cli.settings import OverrideSettings

F = TypeVar("F", bound=Callable[..., Any])
_GIVEN = "likewise.overrides"
_ANY = "any"


def override_options(command: F) -> F:
    """`--pooling` and its like; they aren't handed to the command: `given` has them."""
    for option in reversed(
        (
            _option(
                "--pooling",
                metavar="MODE",
                help=f"Pool as this says, whatever the model's files say: {', '.join(POOLINGS)}; "
                "several joined by +.",
            ),
            _option("--max-length", type=click.IntRange(1), help="Most tokens read of one text."),
            _option(
                "--matryoshka",
                metavar="WIDTHS",
                help="Widths that vectors may be cut to where a request asks for it, such as "
                "128,256; or any.",
            ),
            _option(
                "--truncate-dim",
                type=click.IntRange(1),
                help="Cut all vectors to this width; they aren't scaled to length 1 again.",
            ),
            _option(
                "--prompt-text",
                multiple=True,
                metavar="NAME=TEXT",
                help="A prompt that requests may name, or query or document; \\n is a line end.",
            ),
            _option(
                "--similarity",
                type=click.Choice(SIMILARITIES),
                help="How vectors are to be compared; it is shown, and changes no vector.",
            ),
        )
    ):
        command = option(command)
    return command


def given() -> Overrides:
    """The flags of the command that runs; none outside of one.

    Raises:
        SettingsError: one of them makes no sense.
    """
    context = click.get_current_context(silent=True)
    flags: dict[str, Any] = {} if context is None else context.meta.get(_GIVEN, {})
    prompts = dict(_prompt(each) for each in flags.get("prompt_text", ()))
    return Overrides(
        pooling=_modes(flags.get("pooling")),
        prompts=prompts,
        max_length=flags.get("max_length"),
        matryoshka=_widths(flags.get("matryoshka")),
        truncate_dim=flags.get("truncate_dim"),
        similarity=flags.get("similarity"),
    )


def table(
    written: Mapping[str, OverrideSettings] | None = None,
    folder: Path | None = None,
    flags: Overrides | None = None,
) -> OverrideTable:
    """The overrides in force: flags go before the file.

    `flags` are those of the command that runs, where they aren't given: only the thread that runs
    it knows them.

    `written` is `[models]` of a likewise.toml in `folder`; when it is None, that of the
    likewise.toml in the working directory, if there is one.

    Raises:
        SettingsError: the file isn't right, or a value makes no sense.
    """
    if written is None:
        path = Path(settings.FILE_NAME)
        written = settings.read(path).models if path.is_file() else {}
    by_name = {
        spelt: _overrides(name, each)
        for name, each in written.items()
        for spelt in _names(name, folder or Path())
    }
    return OverrideTable(by_name, given() if flags is None else flags)


def require_one(models: int, *, others: bool, flags: Overrides | None = None) -> None:
    """Raise `SettingsError` where flags are given and it isn't plain which model they are about.

    `models` are named in the command; with `others` it serves more.
    """
    if (given() if flags is None else flags) and (models > 1 or others):
        raise SettingsError(
            "flags such as --pooling say what holds for one model, and several are served; write "
            'them into likewise.toml, a table [models."NAME"] for each'
        )


def _option(*names: str, **how: Any) -> Callable[[F], F]:
    return click.option(*names, expose_value=False, callback=_keep, **how)


def _keep(context: click.Context, option: click.Parameter, value: Any) -> Any:
    if value not in (None, ()) and option.name is not None:
        context.meta.setdefault(_GIVEN, {})[option.name] = value
    return value


def _overrides(name: str, written: OverrideSettings) -> Overrides:
    matryoshka = written.matryoshka
    if isinstance(matryoshka, str) and matryoshka != _ANY:
        raise SettingsError(
            f'models."{name}".matryoshka is {matryoshka!r}; write a list of widths, or "{_ANY}"',
            param="matryoshka",
        )
    try:
        return Overrides(
            pooling=_modes(written.pooling),
            prompts={prompt: plain(text) for prompt, text in written.prompts.items()},
            default_prompt_name=written.default_prompt_name,
            max_length=written.max_length,
            matryoshka="any" if isinstance(matryoshka, str) else matryoshka,
            truncate_dim=written.truncate_dim,
            similarity=written.similarity,
        )
    except SettingsError as wrong:
        raise SettingsError(f'models."{name}": {wrong}', param=wrong.param) from wrong


def _names(name: str, folder: Path) -> tuple[str, ...]:
    """A path doesn't depend on where commands run; a name may be one as well."""
    path = folder / Path(name).expanduser()
    if name.startswith((".", "/", "~")):
        return (str(path.resolve()),)
    return (name, str(path.resolve())) if path.is_dir() else (name,)


def _modes(written: str | None) -> tuple[str, ...] | None:
    return None if written is None else tuple(each.strip() for each in written.split("+"))


def _widths(written: str | None) -> Any:
    if written is None or written.strip() == _ANY:
        return written and _ANY
    try:
        return tuple(int(each) for each in written.split(","))
    except ValueError:
        raise SettingsError(
            f"--matryoshka is {written!r}; write widths such as 128,256, or {_ANY}",
            param="matryoshka",
        ) from None


def _prompt(written: str) -> tuple[str, str]:
    name, equals, text = written.partition("=")
    if not name or not equals:
        raise SettingsError(f"--prompt-text is {written!r}; write NAME=TEXT", param="prompt_text")
    return name, plain(text)
