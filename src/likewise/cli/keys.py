"""`likewise keys`: who may use a server, kept as hashes in a file."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from likewise.base.clock import wall
from likewise.base.errors import SettingsError
from likewise.cli import output
from likewise.cli.groups import Group
from likewise.cli.options import config_option, json_option

if TYPE_CHECKING:
    from collections.abc import Callable

    from likewise.server.keys import Key

DEFAULT_FILE = Path("keys.jsonl")
_UNITS = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_DURATION = re.compile(r"([0-9]{1,6})([mhdw])")
_COLUMNS = ("name", "admin", "lane", "requests/min", "tokens/min", "created", "expires")


@click.group(cls=Group)
def keys() -> None:
    """Make and revoke the keys that a server asks for.

    The file holds hashes of keys, never a key. A server that was given the file with --keys
    follows its changes.
    """


def _file_options(command: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--keys",
        "path",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help=f"The file. Default: that of likewise.toml here, or {DEFAULT_FILE} here.",
    )(config_option(command))


@keys.command()
@click.argument("name")
@click.option("--admin", is_flag=True, help="It may also load, unload and delete models.")
@click.option(
    "--lane",
    type=click.Choice(["interactive", "bulk"]),
    help="Its requests wait in this lane; 'bulk' can't be left.",
)
@click.option(
    "--requests-per-minute", type=click.IntRange(1), metavar="N", help="More are answered 429."
)
@click.option(
    "--tokens-per-minute", type=click.IntRange(1), metavar="N", help="More are answered 429."
)
@click.option(
    "--expires", metavar="TIME", help="It ends after 30m, 12h, 90d, 4w... Default: never."
)
@_file_options
def add(
    name: str,
    admin: bool,
    lane: Literal["interactive", "bulk"] | None,
    requests_per_minute: int | None,
    tokens_per_minute: int | None,
    expires: str | None,
    path: Path | None,
    config_path: Path,
) -> None:
    """Make a key called NAME, and print it: this once, nobody can print it again."""
    from likewise.server import keys as store

    store.require_name(name)
    now = wall()
    end = None if expires is None else store.moment(now + _seconds(expires))
    key = store.new_key()

    def with_it(content: store.KeyFile) -> store.KeyFile:
        if any(one.name == name for one in content.keys):
            raise SettingsError(
                f"a key is called {name!r} already; revoke it first, or choose another name",
                param="name",
            )
        made = store.Key(
            name=name,
            hash=store.hash_of(key, content.salt).hex(),
            created_at=store.moment(now),
            admin=admin,
            lane=lane,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            expires_at=end,
        )
        return store.KeyFile(content.salt, (*content.keys, made))

    file = _path(path, config_path)
    store.change(file, with_it)
    output.say(key)
    output.note(f"its hash is in {file}; serve with: likewise serve --keys {file}")


@keys.command("list")
@json_option
@_file_options
def list_(as_json: bool, path: Path | None, config_path: Path) -> None:
    """List the keys: names and what they may do."""
    from likewise.server import keys as store

    now = wall()
    rows = [_row(key, now) for key in store.read(_path(path, config_path)).keys]
    if as_json:
        output.json(rows)
    else:
        output.table(rows, _COLUMNS, empty="no keys")


@keys.command()
@click.argument("name")
@_file_options
def revoke(name: str, path: Path | None, config_path: Path) -> None:
    """Let nobody in any more with the key called NAME."""
    from likewise.server import keys as store

    def without_it(content: store.KeyFile) -> store.KeyFile:
        going = content.find(name)
        return store.KeyFile(content.salt, tuple(k for k in content.keys if k is not going))

    file = _path(path, config_path)
    # A file that isn't there is an error here, not a new one.
    store.read(file)
    store.change(file, without_it)
    output.note(f"{name} is revoked; servers that use {file} follow at once")


def _row(key: Key, now: float) -> dict[str, object]:
    end = key.expires_at
    shown = None if end is None else _shown(end) + (" (expired)" if key.is_expired(now) else "")
    return {
        "name": key.name,
        "admin": "yes" if key.admin else None,
        "lane": key.lane,
        "requests/min": key.requests_per_minute,
        "tokens/min": key.tokens_per_minute,
        "created": _shown(key.created_at),
        "expires": shown,
    }


def _shown(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M")


def _seconds(written: str) -> int:
    found = _DURATION.fullmatch(written)
    if found is None or not int(found[1]):
        raise SettingsError(
            f"--expires is {written!r}; write a number and m, h, d or w, such as 90d",
            param="expires",
        )
    return int(found[1]) * _UNITS[found[2]]


def _path(given: Path | None, config: Path) -> Path:
    """The file that is meant."""
    from likewise.cli import settings

    if given is not None:
        return given
    if config.is_file() and (named := settings.read(config).server.keys):
        return config.parent / Path(named).expanduser()
    return DEFAULT_FILE
