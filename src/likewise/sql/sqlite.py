"""How a SQLite file is opened, lent to threads, and how its errors become ours."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import apsw
import sqlite_vec

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
from likewise.base.locks import lock_seconds

UTF8 = "likewise_utf8"
"""SQL function of our connections: whether a BLOB is UTF-8."""
_KEPT_IDLE = 8
_LOOKS = 4
_LOOK_AGAIN_SECONDS = 0.02

# What each of apsw's errors becomes, and the words for it. Looked up along the class hierarchy, so
# the last line is for whatever isn't named.
ERRORS: dict[type[Exception], tuple[type[LikewiseError], str]] = {
    apsw.BusyError: (
        DatabaseLocked,
        "another program holds it locked; try again when it is done, or wait longer for it with "
        "LIKEWISE_LOCK_TIMEOUT",
    ),
    apsw.LockedError: (DatabaseLocked, "it is locked within this program; try again"),
    apsw.ProtocolError: (DatabaseLocked, "its locks couldn't be taken in time; try again"),
    apsw.ReadOnlyError: (
        DatabaseReadOnly,
        "it can't be written; check the permissions of the file and of its folder",
    ),
    apsw.PermissionsError: (DatabaseReadOnly, "access was denied; check the permissions"),
    apsw.FullError: (DatabaseFull, "the disk (or the file's page limit) is full; make room"),
    apsw.CorruptError: (DatabaseCorrupt, "it is damaged; restore it from a backup"),
    apsw.NotADBError: (DatabaseCorrupt, "it isn't a SQLite database"),
    apsw.CantOpenError: (DatabaseMissing, "it can't be opened; check the path and permissions"),
    apsw.SchemaChangeError: (DatabaseLocked, "its schema changed meanwhile; try again"),
    apsw.IOError: (
        DatabaseError,
        "reading or writing failed; check the disk, its quota and the file-size limit",
    ),
    apsw.Error: (DatabaseError, "SQLite refused"),
}


def mapped(error: apsw.Error, path: Path) -> LikewiseError:
    """Our error for one of apsw's, naming the file and what to do."""
    text = str(error)
    if isinstance(error, apsw.SQLError) and ("no such table" in text or "no such column" in text):
        return SchemaDrift(f"{path}: {text}; was a bound table or column dropped or renamed?")
    for kind in type(error).__mro__:
        if kind in ERRORS:
            ours, words = ERRORS[kind]
            return ours(f"{path}: {words} ({text})")
    raise AssertionError(f"{type(error).__name__} is not an apsw.Error; this is a bug")


@contextmanager
def errors_of(path: Path) -> Iterator[None]:
    """Turn apsw's errors into ours inside the block."""
    try:
        yield
    except apsw.Error as error:
        raise mapped(error, path) from error


def connect(path: Path, *, busy_seconds: float | None = None) -> apsw.Connection:
    """A connection to an existing file, with sqlite-vec's functions.

    `busy_seconds`: how long it waits for a lock; None: as long as everything here does.

    Raises:
        DatabaseMissing: no such file; none is made.
        DatabaseCorrupt: it isn't a SQLite database.
    """
    if not path.is_file():
        raise DatabaseMissing(f"{path}: no such database file; check the path")
    _refuse_another_copy(path)
    with errors_of(path):
        # SQLITE_OPEN_READWRITE falls back to reading when the file can't be written.
        db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            _set_patience(db, busy_seconds)
            db.enable_load_extension(True)
            db.load_extension(sqlite_vec.loadable_path())
            db.enable_load_extension(False)
            db.create_scalar_function(UTF8, _is_utf8, 1, deterministic=True)
            # Also the first real look at the file: this is where a file that is no database fails.
            if db.pragma("journal_mode") == "wal":
                # Safe against corruption; a power cut may take back whole commits, which also
                # brings their log entries back.
                db.pragma("synchronous", 1)
        except apsw.Error:
            db.close()
            raise
        return db


class Database:
    """One SQLite file. Connections are made when needed and lent to one thread at a time."""

    def __init__(self, path: Path | str, *, busy_seconds: float | None = None) -> None:
        self.path = Path(path)
        self.generation = 0
        """Grows when another file was put in this one's place; `check` looks."""
        self._busy_seconds = busy_seconds
        self._lock = threading.Lock()
        self._idle: list[apsw.Connection] = []
        self._identity: tuple[int, int] | None = None

    @contextmanager
    def read(self) -> Iterator[apsw.Connection]:
        """A connection in a read transaction: all statements see one state."""
        with self._lent() as db:
            db.execute("BEGIN")
            try:
                yield db
            finally:
                _rollback(db)

    @contextmanager
    def write(self) -> Iterator[apsw.Connection]:
        """A connection in `BEGIN IMMEDIATE`; committed at the end, rolled back on an error."""
        with self._lent() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            finally:
                _rollback(db)

    def check(self) -> int:
        """The present generation; reopens when the path now names another file. Costs a `stat`.

        Raises:
            DatabaseMissing: the path names nothing any more.
        """
        identity = self._file()
        with self._lock:
            if self._identity not in (None, identity):
                self._reopen(identity)
            return self.generation

    def close(self) -> None:
        """Close idle connections; those lent out close when given back."""
        with self._lock:
            self._reopen(None)

    def _reopen(self, identity: tuple[int, int] | None) -> None:
        self._identity = identity
        self.generation += 1
        idle, self._idle = self._idle, []
        for db in idle:
            db.close()

    def _file(self) -> tuple[int, int]:
        try:
            return _identity(self.path)
        except OSError as error:
            raise DatabaseMissing(
                f"{self.path}: no such database file ({error.strerror}); check the path"
            ) from error

    @contextmanager
    def _lent(self) -> Iterator[apsw.Connection]:
        generation = self.check()
        with self._lock:
            db = self._idle.pop() if self._idle else None
        if db is None:
            identity = self._file()
            db = connect(self.path, busy_seconds=self._busy_seconds)
            with self._lock:
                self._identity = self._identity or identity
        try:
            with errors_of(self.path):
                # The one it was lent to before may have had less time, or more.
                _set_patience(db, self._busy_seconds)
                yield db
        finally:
            with self._lock:
                keep = generation == self.generation and len(self._idle) < _KEPT_IDLE
                if keep:
                    self._idle.append(db)
            if not keep:
                db.close()


class Watch:
    """Notices commits of other connections to one file. Safe to use from several threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._watch: tuple[int, apsw.Connection] | None = None

    def stamp(self) -> tuple[int, int]:
        """A value that differs once another connection has committed; costs microseconds."""
        generation = self._database.check()
        with self._lock, errors_of(self._database.path):
            # data_version compares with what this very connection saw before.
            if self._watch is None or self._watch[0] != generation:
                self._close()
                self._watch = (generation, connect(self._database.path))
            return generation, int(self._watch[1].pragma("data_version"))

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._watch is not None:
            self._watch[1].close()
            self._watch = None


def _refuse_another_copy(path: Path) -> None:
    """Refuse a file that this process has open other than through apsw.

    POSIX locks belong to the process: when another copy of SQLite (Python's `sqlite3` module is
    one) closes the file, the locks of this copy are gone, and the file can be damaged
    (https://sqlite.org/howtocorrupt.html, section 2.2.1). Seen only where /proc tells.
    """
    for _ in range(_LOOKS):
        if not _is_open_elsewhere(path):
            return
        # It may be a connection of ours that another thread is opening or closing just now.
        threading.Event().wait(_LOOK_AGAIN_SECONDS)
    raise DatabaseError(
        f"{path}: this process has the file open already, through something other than apsw (the "
        "sqlite3 module?). Two copies of SQLite in one process would undo each other's locks and "
        "damage the file: close it first, use apsw here too, or give Likewise its own process"
    )


def _is_open_elsewhere(path: Path) -> bool:
    with suppress(OSError):
        identity = _identity(path)
        try:
            ours = [db.filename for db in apsw.connections() if db.filename]
        except apsw.ThreadingViolationError:
            # One is at work in another thread, perhaps on this file: what can't be known from
            # here isn't refused. The first connection to a file is checked, which is what counts.
            return False
        if any(_identity(name) == identity for name in ours):
            return False
        for descriptor in Path("/proc/self/fd").iterdir():
            with suppress(OSError):  # the descriptor of this very listing is closed again
                if _identity(descriptor) == identity:
                    return True
    return False


def _identity(path: Path | str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _is_utf8(*parts: Any) -> bool:
    try:
        parts[0].decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _set_patience(db: apsw.Connection, busy_seconds: float | None) -> None:
    db.set_busy_timeout(int(1000 * (lock_seconds() if busy_seconds is None else busy_seconds)))


def _rollback(db: apsw.Connection) -> None:
    # Some errors (full disk, for one) have rolled back already.
    if not db.get_autocommit():
        with suppress(apsw.Error):
            db.execute("ROLLBACK")
