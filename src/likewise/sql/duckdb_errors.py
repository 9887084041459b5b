"""What DuckDB's errors become; and that what speaks to it is there at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from likewise.base.errors import (
    DatabaseCorrupt,
    DatabaseError,
    DatabaseFull,
    DatabaseLocked,
    DatabaseMissing,
    DatabaseReadOnly,
    LikewiseError,
    SchemaDrift,
)
from likewise.base.extras import needed

with needed("duckdb:", extra="duckdb"):
    import duckdb as duckdb
    import pyarrow as pyarrow

LOCKED = "Could not set lock"
_BY_WORDS: tuple[tuple[str, type[DatabaseError], str], ...] = (
    (
        LOCKED,
        DatabaseLocked,
        "another process has it open, and DuckDB lets in one at a time: close it there, or run "
        "Likewise within that process (likewise.bind)",
    ),
    (
        "different configuration",
        DatabaseLocked,
        "this process has it open with settings of its own: open it with duckdb.connect(path) "
        "alone, and set what you need with SET. It is tried again",
    ),
    (
        "Unique file handle conflict",
        DatabaseLocked,
        "this process has it open by ATTACH, or as 'duckdb:' and its path: open it with "
        "duckdb.connect(path). It is tried again",
    ),
    ("read-only mode", DatabaseReadOnly, "it is open for reading only"),
)
"""Of any of DuckDB's errors: what its words become, and what is said."""
_OF_FILES: tuple[tuple[str, type[DatabaseError], str], ...] = (
    ("not a valid DuckDB", DatabaseCorrupt, "it isn't a DuckDB database"),
    ("Permission denied", DatabaseReadOnly, "access was denied; check the permissions"),
    ("No space left", DatabaseFull, "the disk is full; make room"),
    ("No such file", DatabaseMissing, "it can't be opened; check the path"),
    (
        "WAL was created for",
        DatabaseCorrupt,
        "its log (.wal) is of another state of the file, as when a backup was put in its place: "
        "restore the log as well, or remove it, and with it what it alone holds",
    ),
    ("orrupt", DatabaseCorrupt, "it is damaged; restore it from a backup"),
    ("newer version", DatabaseError, "a newer DuckDB made it; install that version"),
)
"""Of errors that are about the file; in others the same words may be names of the user's."""


def mapped(error: duckdb.Error, path: Path, *, waited: float | None = None) -> LikewiseError:
    """Our error for one of DuckDB's, naming the file and what to do.

    `waited`: how many seconds it was tried for.
    """
    text = str(error).partition("\n\n")[0]
    if waited is not None:
        text = f"{text}; tried for {waited:g} s, LIKEWISE_LOCK_TIMEOUT sets how long"
    about_file = (
        duckdb.IOException,
        duckdb.SerializationException,
        duckdb.FatalException,
        duckdb.InternalException,
    )
    for words, ours, advice in _BY_WORDS + (_OF_FILES if isinstance(error, about_file) else ()):
        if words in text:
            return ours(f"{path}: {advice} ({text})")
    if isinstance(error, (duckdb.CatalogException, duckdb.BinderException)):
        return SchemaDrift(f"{path}: {text}; was a bound table or column dropped or renamed?")
    if isinstance(error, duckdb.TransactionException):
        return DatabaseLocked(f"{path}: another transaction was first; try again ({text})")
    return DatabaseError(f"{path}: DuckDB refused ({text})")


@contextmanager
def errors_of(path: Path) -> Iterator[None]:
    """Turn DuckDB's errors into ours inside the block."""
    try:
        yield
    except duckdb.Error as error:
        raise mapped(error, path) from error
