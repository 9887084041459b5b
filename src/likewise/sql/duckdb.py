"""A DuckDB file for whoever reads and writes it here, and what can be known without opening it.

Between two looks a `stat` says whether anything changed at all: the file is left to others.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from likewise.base.clock import wall
from likewise.sql.duckdb_errors import duckdb, errors_of
from likewise.sql.duckdb_instance import instance_of, release

_RACY_SECONDS = 0.1
"""A file changed so recently may change again within the same tick of its clock."""
_UNSURE_SECONDS = 0.5, 2.0
"""Others see a commit once its log is on the disk, which may take so long after it was written."""
_FILES = "", ".wal", ".wal.checkpoint"
"""Where commits go: the last one while a checkpoint is made."""

Stamp = tuple[object, ...]
"""Of each file inode, size and mtime in ns; how many commits were ours; and how sure it is."""


def make_file(path: Path) -> None:
    """Make an empty database unless there is a file.

    Raises:
        DatabaseError: it can't be made there.
    """
    if path.exists():
        return
    # Two processes that make it at once would each believe that it is empty.
    made = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        with errors_of(path):
            duckdb.connect(str(made)).close()
        with suppress(FileExistsError):
            os.link(made, path)
    except OSError:  # a file system without hard links
        with errors_of(path):
            duckdb.connect(str(path)).close()
    finally:
        made.unlink(missing_ok=True)


class Database:
    """One DuckDB file, opened when it is needed. Safe to use from several threads."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).resolve()
        self._instance = instance_of(self.path)
        self._closing = threading.Lock()

    @property
    def generation(self) -> int:
        """Grows when another file was put in this one's place; `check` looks."""
        return self._instance.generation

    def check(self) -> int:
        """The present generation. Costs a `stat`.

        Raises:
            DatabaseMissing: the path names nothing any more.
        """
        return self._instance.check()

    @contextmanager
    def read(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection in a transaction that only reads: all statements see one state."""
        with self._lent(writes=False) as db:
            db.execute("BEGIN TRANSACTION READ ONLY")
            try:
                yield db
            finally:
                _rollback(db)

    @contextmanager
    def write(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection in a transaction; committed at the end, rolled back on an error."""
        with self._instance.writing, self._lent(writes=True) as db:
            db.execute("BEGIN TRANSACTION")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                _rollback(db)
                raise
            finally:
                self._instance.commits += 1

    def stamp(self) -> Stamp | None:
        """What differs once something was committed; None when that can't be told just now.

        Costs three `stat`s: a commit makes the write-ahead log longer, or empties it into the file.
        It is there before the commit can be seen: so ours are counted, and for others the stamp
        differs twice more, some time later.
        """
        newest = 0
        found: list[tuple[int, int, int] | None] = []
        for suffix in _FILES:
            try:
                of = os.stat(f"{self.path}{suffix}")
            except OSError:
                found.append(None)
                continue
            newest = max(newest, of.st_mtime_ns)
            found.append((of.st_ino, of.st_size, of.st_mtime_ns))
        age = wall() - newest / 1e9
        if found[0] is None or abs(age) < _RACY_SECONDS:
            return None
        return *found, self._instance.commits, sum(age > each for each in _UNSURE_SECONDS)

    def close(self) -> None:
        """This handle is used no more; the last one closes the file."""
        if self._closing.acquire(blocking=False):
            release(self._instance)

    @contextmanager
    def _lent(self, *, writes: bool) -> Iterator[duckdb.DuckDBPyConnection]:
        self.check()
        with errors_of(self.path):
            db = self._instance.lend(writes=writes)
            try:
                yield db
            finally:
                self._instance.give_back(db)


def first(
    db: duckdb.DuckDBPyConnection, sql: str, values: Sequence[object] = ()
) -> tuple[Any, ...] | None:
    """The first row of a result, which is read to its end: half read it blocks the connection."""
    rows = db.execute(sql, list(values)).fetchall()
    return rows[0] if rows else None


def value(db: duckdb.DuckDBPyConnection, sql: str, values: Sequence[object] = ()) -> Any:
    """The one value of a result's first row; None when it has no rows."""
    found = first(db, sql, values)
    return None if found is None else found[0]


def _rollback(db: duckdb.DuckDBPyConnection) -> None:
    # Some errors have ended the transaction already.
    with suppress(duckdb.Error):
        db.execute("ROLLBACK")
