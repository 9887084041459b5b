"""Who may publish to a binding in a DuckDB file: leases, most of which need no writing."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likewise.base.clock import Clock, wall
from likewise.base.errors import LeaseLost, SpaceMismatch
from likewise.sql.duckdb import first
from likewise.stores.duckdb_queue import ONE, DuckdbQueue
from likewise.stores.duckdb_schema import BINDING

if TYPE_CHECKING:
    import duckdb

    from likewise.base.bound import BindingRecord, Counts
    from likewise.sql.duckdb import Database


@dataclasses.dataclass(slots=True)
class _Lease:
    holder: str
    until: float


_leases: dict[tuple[Path, str, int, float], _Lease] = {}
"""What this process has given out, by file and generation."""
_leases_lock = threading.Lock()


class DuckdbLease(DuckdbQueue):
    """A lease is written by the first publication under it, not when it is taken.

    So a worker that looks and finds nothing leaves the file as it is, and need not look again
    because of its own writing. Within a process leases are known at once; two processes may both
    take one, until one of them publishes.
    """

    def __init__(self, record: BindingRecord, database: Database, *, clock: Clock = wall) -> None:
        super().__init__(record, database, clock=clock)
        self._holder: str | None = None
        self._seconds = 0.0
        self._lease_of = 0
        self._is_written = False
        path = database.path.absolute()
        self._lease_at = (path, record.spec.name, record.generation, record.created)

    def take_lease(self, holder: str, *, seconds: float, is_dead: Callable[[str], bool]) -> bool:
        """Become the one that publishes, unless another living holder's lease runs."""
        with self._read() as db:
            other, until, *_ = self._line(db)
            generation = self._database.generation
        now = self._clock()

        def is_free(other: str | None, until: float) -> bool:
            return other in (None, holder) or until <= now or is_dead(other)

        with _leases_lock:
            here = _leases.get(self._lease_at)
            if not is_free(other, until or 0.0) or (
                here is not None and not is_free(here.holder, here.until)
            ):
                return False
            _leases[self._lease_at] = _Lease(holder, now + seconds)
        self._holder, self._seconds, self._lease_of = holder, seconds, generation
        self._is_written = other == holder
        if other not in (None, holder):
            # Whoever wakes up must find that the lease isn't theirs any more.
            return self._overtake(is_free)
        return True

    def _overtake(self, is_free: Callable[[str | None, float], bool]) -> bool:
        with self._write() as db:
            other, until, *_ = self._line(db)
            if is_free(other, until or 0.0):
                self._write_lease(db)
                return True
        self._let_go()
        return False

    def renew_lease(self) -> None:
        """Prolong the lease.

        Raises:
            LeaseLost: another worker took over, or the file was replaced.
        """
        with self._write() as db:
            self._require_mine(db)
            self._write_lease(db)

    def release_lease(self) -> None:
        """Give the lease back, if it is still held."""
        holder = self._holder
        if holder is None:
            return
        self._let_go()
        if self._is_written:
            with self._write() as db:
                db.execute(
                    f"UPDATE {BINDING} SET lease_holder = NULL, lease_until = NULL"
                    f" WHERE {ONE} AND lease_holder = ?",
                    [*self._id, holder],
                )
            self._is_written = False

    def _let_go(self) -> None:
        holder, self._holder = self._holder, None
        with _leases_lock:
            here = _leases.get(self._lease_at)
            if here is not None and here.holder == holder:
                del _leases[self._lease_at]

    def counts(self) -> Counts:
        """How it stands: no vector is read."""
        counts = super().counts()
        with _leases_lock:
            here = _leases.get(self._lease_at)
        living = here is not None and here.until > self._clock()
        holder = counts.holder or (here.holder if here is not None and living else None)
        return dataclasses.replace(counts, holder=holder)

    def _write_lease(self, db: duckdb.DuckDBPyConnection) -> None:
        """Have the lease stand in the file, from now on."""
        if self._holder is None:
            return
        until = self._clock() + self._seconds
        db.execute(
            f"UPDATE {BINDING} SET lease_holder = ?, lease_until = ? WHERE {ONE}",
            [self._holder, until, *self._id],
        )
        with _leases_lock:
            _leases[self._lease_at] = _Lease(self._holder, until)
        self._is_written = True

    def _line(self, db: duckdb.DuckDBPyConnection) -> Any:
        sql = f"SELECT lease_holder, lease_until, fingerprint, created FROM {BINDING} WHERE {ONE}"
        found = first(db, sql, self._id)
        if found is None:
            raise self._gone()
        return found

    def _require_mine(self, db: duckdb.DuckDBPyConnection) -> None:
        """Inside a write transaction: nobody else leads, and it is still this binding."""
        written, _, fingerprint, created = self._line(db)
        if fingerprint != self.record.space.fingerprint:
            raise SpaceMismatch(
                f"binding {self.name} was made anew for another model or setting; restart"
            )
        if created != self.record.created:
            # A swap given up and begun anew has the same number, and perhaps another text.
            raise self._gone()
        if self._holder is not None and self._lease_of != self._database.generation:
            raise LeaseLost(f"{self._database.path} was replaced by another file")
        with _leases_lock:
            here = _leases.get(self._lease_at)
        known = None if here is None else here.holder
        mine = {self._holder} if self._is_written else {self._holder, None}
        others = [each for each in (written, known) if each != self._holder]
        if known != self._holder or written not in mine:
            raise LeaseLost(
                f"binding {self.name}: {next(filter(None, others), 'nobody')} holds the lease, not "
                f"{self._holder or 'this program'}; nothing of this batch was published"
            )
