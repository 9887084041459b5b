"""How a DuckDB file is opened for as long as it is needed, and what can be known without that.

DuckDB lets one process at a time open a file for writing, and nobody waits for it: others are
refused (https://duckdb.org/docs/current/connect/concurrency). So the file is open here only while
something is done with it and a moment longer, and between two looks a `stat` says whether anything
changed at all. Within one process all connections share one instance, the application's own too.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from likewise.base.clock import monotonic, wall
from likewise.base.errors import DatabaseError, DatabaseMissing, DatabaseReadOnly
from likewise.sql.duckdb_errors import LOCKED, duckdb, errors_of, mapped

T = TypeVar("T")
BUSY_SECONDS = 5.0
"""How long we try to open a file that another process has."""
_LINGER_SECONDS = 0.1
"""How long a file stays open after its last use: opening takes about 25 ms."""
_MOST_HELD_SECONDS = 0.25
_AWAY_SECONDS = 0.1
"""After being open so long it is let go for so long, though there is work: others want in too."""
_DRAIN_SECONDS = 0.2
_AGAIN_SECONDS = 0.01
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
    if not path.exists():
        with errors_of(path):
            duckdb.connect(str(path)).close()


class _Instance:
    """One file in this process, opened when it is used and closed when it isn't."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.handles = 0
        self.generation = 0
        self.commits = 0
        """Of ours; each is counted once it can be seen."""
        self.writing = threading.Lock()
        """One transaction of ours writes at a time: DuckDB's don't wait, they fail."""
        self._changed = threading.Condition()
        self._base: duckdb.DuckDBPyConnection | None = None
        self._is_read_only = False
        self._identity: tuple[int, int] | None = None
        self._users = 0
        self._opened = self._released = self._not_before = 0.0
        self._is_inherited = False

    def check(self) -> int:
        """The present generation; it grows when the path names another file. Costs a `stat`."""
        try:
            found = os.stat(self.path)
        except OSError as error:
            raise DatabaseMissing(
                f"{self.path}: no such database file ({error.strerror}); check the path"
            ) from error
        identity = found.st_dev, found.st_ino
        with self._changed:
            if self._identity not in (None, identity):
                self.generation += 1
                self._not_before = monotonic()
                self._opened = float("-inf")  # to be let go by whoever uses it last
            self._identity = identity
            return self.generation

    @property
    def is_closed(self) -> bool:
        """Whether it isn't open here, nor being closed."""
        with self._changed:
            return self._base is None

    def lend(self, *, writes: bool) -> duckdb.DuckDBPyConnection:
        """A connection of the caller's own, to be given back."""
        with self._changed:
            self._let_go_if_due()
            if self._base is None:
                self._open()
            assert self._base is not None, "it was just opened: this is a bug"
            if writes and self._is_read_only:
                raise DatabaseReadOnly(
                    f"{self.path}: it can only be read (its permissions, or this process has it "
                    "open with read_only=True)"
                )
            made = self._base.cursor()
            self._users += 1
        # What a TIMESTAMPTZ looks like must not depend on where a process runs. A build without ICU
        # knows no other zone.
        with suppress(duckdb.Error):
            made.execute("SET TimeZone = 'UTC'")
        return made

    def give_back(self, connection: duckdb.DuckDBPyConnection) -> None:
        """No longer used."""
        connection.close()
        with self._changed:
            self._users -= 1
            self._released = monotonic()
            if not self._users and self._is_due():
                self._close()
            self._changed.notify_all()

    def forget(self) -> None:
        """The last handle is gone: close it."""
        with self._changed:
            if not self._users:
                self._close()
            self._changed.notify_all()

    def forked(self) -> None:
        """In a process that was just forked: locks are as they were, threads are gone."""
        self._changed, self.writing = threading.Condition(), threading.Lock()
        self._users = 0
        if self._base is not None:
            # Kept, as closing it would write to the file; DuckDB would also give it out again.
            _inherited.append(self._base)
            self._is_inherited, self._base = True, None

    def _is_due(self) -> bool:
        return not self.handles or monotonic() - self._opened > _MOST_HELD_SECONDS

    def _let_go_if_due(self) -> None:
        """Close it when it was open for long."""
        until = monotonic() + _DRAIN_SECONDS
        while self._base is not None and self._is_due():
            if not self._users:
                self._close()
            elif not self._changed.wait(until - monotonic()) and monotonic() >= until:
                return  # a caller that is lent two at a time would wait for itself

    def _close(self) -> None:
        if self._base is not None:
            base, self._base = self._base, None
            # Such as a checkpoint that doesn't fit on the disk: what is committed is in the log.
            with suppress(duckdb.Error):
                base.close()
            if monotonic() - self._opened > _MOST_HELD_SECONDS:
                self._not_before = monotonic() + _AWAY_SECONDS

    def _open(self) -> None:
        if self._is_inherited:
            raise DatabaseError(
                f"{self.path}: this process was forked from one that had the file open, and has "
                "that one's connection without its lock; start it with 'spawn' instead"
            )
        until = monotonic() + BUSY_SECONDS
        while True:
            early = self._not_before - monotonic()
            if early > 0:
                self._changed.wait(early)
            if self._base is not None:
                return  # another thread has opened it meanwhile
            try:
                self._base = self._connect()
                break
            except duckdb.IOException as refused:
                # Nothing tells when another process lets it go.
                if LOCKED not in str(refused) or monotonic() > until:
                    raise mapped(refused, self.path) from refused
                self._changed.wait(_AGAIN_SECONDS)
        self._opened = self._released = monotonic()
        name = f"likewise-duckdb-{self.path.name}"
        threading.Thread(target=self._mind, args=(self._base,), name=name, daemon=True).start()

    def _connect(self) -> duckdb.DuckDBPyConnection:
        if not self.path.is_file():
            raise DatabaseMissing(f"{self.path}: no such database file; check the path")
        # For writing also where we only read: while we have it open, the application's own
        # connections in this process must be of the same kind.
        self._is_read_only = not os.access(self.path, os.W_OK)
        try:
            return duckdb.connect(str(self.path), read_only=self._is_read_only)
        except duckdb.ConnectionException:
            # The application may have been first, and opened it for reading.
            with suppress(duckdb.Error):
                made = duckdb.connect(str(self.path), read_only=True)
                self._is_read_only = True
                return made
            raise

    def _mind(self, base: duckdb.DuckDBPyConnection) -> None:
        """Close it once nobody has used it for a moment."""
        with self._changed:
            while self._base is base:
                left = self._released + _LINGER_SECONDS - monotonic()
                if self._users:
                    self._changed.wait()
                elif left > 0:
                    self._changed.wait(left)
                else:
                    self._close()


_instances: dict[Path, _Instance] = {}
_instances_lock = threading.Lock()
_inherited: list[duckdb.DuckDBPyConnection] = []


def _forked() -> None:
    global _instances_lock
    _instances_lock = threading.Lock()
    for each in _instances.values():
        each.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class Database:
    """One DuckDB file, opened when it is needed. Safe to use from several threads."""

    def __init__(self, path: Path | str) -> None:
        # One instance a file, whatever it is called: two in one process would each believe to be
        # alone, as the lock belongs to the process, and lose what the other commits.
        self.path = Path(path).resolve()
        self._is_closed = False
        with _instances_lock:
            self._instance = _instances.setdefault(self.path, _Instance(self.path))
            self._instance.handles += 1

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
        with _instances_lock:
            if self._is_closed:
                return
            self._is_closed = True
            self._instance.handles -= 1
            if self._instance.handles == 0:
                _instances.pop(self.path, None)
        if self._instance.handles == 0:
            self._instance.forget()

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


class Memo:
    """Answers that hold as long as nothing is committed to a file: it needn't be opened for them.

    Safe to use from several threads.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._stamp: Stamp | None = None
        self._kept: dict[object, Any] = {}

    def get(self, what: object, ask: Callable[[], T]) -> T:
        """What `ask` gives, or gave since the last commit; `what` names the question."""
        stamp = self._database.stamp()
        with self._lock:
            if stamp is None or stamp != self._stamp:
                self._kept.clear()
                self._stamp = stamp
            elif what in self._kept:
                kept: T = self._kept[what]
                return kept
        answer = ask()
        with self._lock:
            # Asked after the stamp was taken: a commit in between makes another stamp.
            if stamp is not None and stamp == self._stamp:
                self._kept[what] = answer
        return answer


def _rollback(db: duckdb.DuckDBPyConnection) -> None:
    # Some errors have ended the transaction already.
    with suppress(duckdb.Error):
        db.execute("ROLLBACK")
