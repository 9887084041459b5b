"""The database that a command means where nobody says which: the one in this folder."""

from __future__ import annotations

from pathlib import Path

from likewise.base.errors import LikewiseError, SettingsError
from likewise.cli import output, resolve

_SQLITE = b"SQLite format 3\0"
_DUCKDB, _DUCKDB_AT = b"DUCK", 8
"""Where the first bytes of a DuckDB file say what it is."""
_LISTED = 8
"""So many files are named in an error."""


def addresses(given: str | None, config: Path) -> list[str]:
    """Addresses of the stores that a command means: `--db`, likewise.toml's, or the one here.

    The one here is the only database file in this folder that has bindings; it is said which.

    Raises:
        SettingsError: nothing says which, and no file or several could be meant.
    """
    said = resolve.databases(given, config)
    if said:
        return said
    found, unknown = _with_bindings(Path())
    if len(found) == 1 or (not found and len(unknown) == 1):
        (only,) = found or unknown
        output.note(f"database: {only.name}")
        return [_address(only)]
    raise SettingsError(
        f"which database? {_what_is_here(found, unknown)}, and there is no {config} with a "
        "[[binding]]; give a file or an address with --db",
        param="db",
    )


def _what_is_here(found: list[Path], unknown: list[Path]) -> str:
    if found:
        return f"Several files here have bindings ({_names(found)})"
    if unknown:
        return f"None here can be read now ({_names(unknown)})"
    there = _files(Path())
    return f"No database file here has a binding ({_names(there) if there else 'there is none'})"


def _names(paths: list[Path]) -> str:
    more = f" and {len(paths) - _LISTED} more" if len(paths) > _LISTED else ""
    return ", ".join(path.name for path in paths[:_LISTED]) + more


def _with_bindings(folder: Path) -> tuple[list[Path], list[Path]]:
    """The database files in `folder` that have bindings, and those that can't be read now."""
    from likewise.server.databases import records

    found, unknown = [], []
    for path in _files(folder):
        try:
            if records(_address(path)):
                found.append(path)
        except LikewiseError:
            # Another process has it open, or what reads it isn't installed.
            unknown.append(path)
    return found, unknown


def _files(folder: Path) -> list[Path]:
    """The files in `folder` that begin as SQLite's or DuckDB's do."""
    found = []
    for path in sorted(folder.iterdir()):
        try:
            if path.is_file() and _kind(path) is not None:
                found.append(path)
        except OSError:
            continue
    return found


def _address(path: Path) -> str:
    return resolve.source(f"{_kind(path)}:{path}", Path())


def _kind(path: Path) -> str | None:
    """`sqlite` or `duckdb`, by how the file begins and whatever it is called."""
    with path.open("rb") as file:
        head = file.read(len(_SQLITE))
    if head[_DUCKDB_AT : _DUCKDB_AT + len(_DUCKDB)] == _DUCKDB:
        return "duckdb"
    return "sqlite" if head == _SQLITE else None
