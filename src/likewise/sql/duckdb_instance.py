"""A DuckDB file in this process: opened when it is needed, closed soon after.

DuckDB lets one process at a time open a file for writing, and nobody waits for it: others are
refused (https://duckdb.org/docs/current/connect/concurrency). So the file is open here only while
something is done with it and a moment longer. Within one process all connections share one
instance, the application's own too.

Its log is moved into it a moment before it is closed, not while it is, as DuckDB would: who has
read the header of before (see `duckdb_header`) must still find the file locked. And DuckDB 1.x,
when it does that while closing, loses what indexes were to get from the log of a process that was
killed.
"""

from __future__ import annotations

import atexit
import os
import threading
from contextlib import suppress
from pathlib import Path

from likewise.base.clock import monotonic, wall
from likewise.base.errors import DatabaseError, DatabaseMissing, DatabaseReadOnly
from likewise.base.locks import lock_seconds
from likewise.sql.duckdb_errors import LOCKED, duckdb, mapped
from likewise.sql.duckdb_header import Header

_LINGER_SECONDS = 0.1
"""How long a file stays open after its last use: opening takes about 25 ms."""
_SETTLED_SECONDS = 0.05
"""How long it stays open after a checkpoint: opening it takes 0.1 ms from header to lock."""
_MOST_HELD_SECONDS = 0.25
_AWAY_SECONDS = 0.1
"""After being open so long it is let go for so long, though there is work: others want in too."""
_DRAIN_SECONDS = 0.2
_LAST_SECONDS = 5.0
"""At most, at the end of the process, for those who are still at work."""
_AGAIN_SECONDS = 0.002
"""Nothing tells when another process lets it go; looking at the lock takes microseconds."""


class Instance:
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
        self._is_read_only = self._is_shared = False
        self._is_tidy = True
        """Nothing was done with it since the log was moved into the file."""
        self._header = Header(path)
        self._identity: tuple[int, int] | None = None
        self._users = 0
        self._opened = self._released = self._not_before = 0.0
        self._is_inherited = False
        self._minder: threading.Thread | None = None

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
            self._is_tidy = False
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

    def end(self) -> None:
        """The interpreter ends: close it, unless somebody is still at it, and let nobody be at it.

        A thread that the interpreter stops while it is within DuckDB takes the process down.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._users, _LAST_SECONDS)
            if not self._users:
                self._close()
            self._changed.notify_all()
        if self._minder is not None:
            self._minder.join(_LAST_SECONDS)

    def forked(self) -> None:
        """In a process that was just forked: locks are as they were, threads are gone."""
        self._changed, self.writing = threading.Condition(), threading.Lock()
        self._users, self._minder = 0, None
        if self._base is not None:
            # Kept, as closing it would write to the file; DuckDB would also give it out again.
            _inherited.append(self._base)
            self._is_inherited, self._base = True, None

    def _is_due(self) -> bool:
        return not self.handles or monotonic() - self._opened > _MOST_HELD_SECONDS

    def _tidy(self) -> None:
        """Move its log into it, unless that is the application's affair."""
        if self._base is None or self._is_tidy or self._is_read_only or self._is_shared:
            return
        self._is_tidy = True
        # Such as for a disk that is full: what is committed is in the log.
        with suppress(OSError, duckdb.Error):
            if os.stat(f"{self.path}.wal").st_size:
                self._base.execute("CHECKPOINT")

    def _unsettled_seconds(self) -> float:
        """How long somebody may yet open it with a header of before its last checkpoint."""
        try:
            age = wall() - os.stat(self.path).st_mtime
        except OSError:
            return 0.0
        # A clock may have been set back.
        return max(_SETTLED_SECONDS - age, 0.0) if age >= 0 and not self._is_read_only else 0.0

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
            self._tidy()
            # Holding our lock: other threads are to wait, and to find it closed.
            threading.Event().wait(self._unsettled_seconds())
            base, self._base = self._base, None
            with suppress(duckdb.Error):
                base.close()
            if monotonic() - self._opened > _MOST_HELD_SECONDS:
                self._not_before = monotonic() + _AWAY_SECONDS
        if not self.handles:
            self._header.close()

    def _open(self) -> None:
        if self._is_inherited:
            raise DatabaseError(
                f"{self.path}: this process was forked from one that had the file open, and has "
                "that one's connection without its lock; start it with 'spawn' instead"
            )
        patience = lock_seconds()
        until = monotonic() + patience
        while True:
            early = self._not_before - monotonic()
            if early > 0:
                self._changed.wait(early)
            if self._base is not None:
                return  # another thread has opened it meanwhile
            is_late = monotonic() > until
            # DuckDB takes some ms to find that out: too long to be quick when it is free.
            if is_late or not self._header.is_locked():
                refused = self._try_to_open()
                if refused is None:
                    break
                if is_late:
                    raise mapped(refused, self.path, waited=patience) from refused
            self._changed.wait(_AGAIN_SECONDS)
        self._opened = self._released = monotonic()
        name = f"likewise-duckdb-{self.path.name}"
        minder = threading.Thread(target=self._mind, args=(self._base,), name=name, daemon=True)
        minder.start()
        self._minder = minder

    def _try_to_open(self) -> duckdb.Error | None:
        """Open it, or say why it couldn't be and may be in a moment."""
        before = self._header.read()
        self._is_shared = self._header.is_open_otherwise()
        try:
            made = self._connect()
        except duckdb.Error as refused:
            if LOCKED in str(refused) or self._header.read() != before:
                return refused
            raise mapped(refused, self.path) from refused
        if not self._is_shared and not self._is_read_only:
            made.execute("PRAGMA disable_checkpoint_on_shutdown")
        if self._header.read() == before:
            self._base = made
            return None
        made.close()
        return duckdb.IOException(f"{LOCKED}: others changed the file while it was opened")

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
                idle = monotonic() - self._released
                if self._users:
                    self._changed.wait()
                elif idle < _LINGER_SECONDS - _SETTLED_SECONDS:
                    self._changed.wait(_LINGER_SECONDS - _SETTLED_SECONDS - idle)
                elif idle < _LINGER_SECONDS:
                    self._tidy()
                    self._changed.wait(_LINGER_SECONDS - idle)
                else:
                    self._close()


_instances: dict[Path, Instance] = {}
_instances_lock = threading.Lock()
_inherited: list[duckdb.DuckDBPyConnection] = []


def instance_of(path: Path) -> Instance:
    """That of a file, by its real path; to be given to `release` once.

    One a file, whatever it is called: two in one process would each believe to be alone, as the
    lock belongs to the process, and lose what the other commits.
    """
    with _instances_lock:
        found = _instances.setdefault(path, Instance(path))
        found.handles += 1
    return found


def release(instance: Instance) -> None:
    """One handle is used no more; with the last one the file is closed."""
    with _instances_lock:
        instance.handles -= 1
        is_last = instance.handles == 0
        if is_last:
            _instances.pop(instance.path, None)
    if is_last:
        instance.forget()


@atexit.register
def _end() -> None:
    for each in list(_instances.values()):
        each.end()


def _forked() -> None:
    global _instances_lock
    _instances_lock = threading.Lock()
    for each in _instances.values():
        each.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
