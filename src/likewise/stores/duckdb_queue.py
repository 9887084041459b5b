"""The log of one binding in DuckDB: what waits, what is asked for, what is remembered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from likewise.base.bound import Counts, Parked
from likewise.base.clock import Clock, wall
from likewise.base.errors import BindingNotFound, SchemaDrift
from likewise.base.keys import key_of, key_text, part_text
from likewise.base.types import Captured, Change, Difference, Key, KeyPart, Op
from likewise.sql.duckdb import first, value
from likewise.sql.duckdb_memo import Memo
from likewise.stores.duckdb_rows import rows_in
from likewise.stores.duckdb_schema import BINDING, Tables, version_of
from likewise.vectors.codec import decode, encode

if TYPE_CHECKING:
    import duckdb

    from likewise.base.bound import BindingRecord
    from likewise.base.types import Vectors
    from likewise.sql.duckdb import Database

ONE = "name = ? AND generation = ?"
_AT_ONCE = 10_000


class DuckdbQueue:
    """One generation's log, marks and line in the registry. Safe to use from several threads.

    What is asked often is answered without opening the file as long as nothing was committed.
    """

    def __init__(self, record: BindingRecord, database: Database, *, clock: Clock = wall) -> None:
        self.record = record
        self.name = record.spec.name
        self._tables = Tables.of_record(record)
        self._database = database
        self._memo = Memo(database)
        self._clock = clock
        self._id = [record.spec.name, record.generation]

    def claim(self, after: int, *, limit: int) -> list[Change]:
        """Log entries with `seq > after`, in order, at most `limit`."""
        sql = (
            f'SELECT seq, key, op, "at" FROM {self._tables.log} WHERE seq > ? ORDER BY seq LIMIT ?'
        )
        with self._read() as db:
            rows = db.execute(sql, [after, limit]).fetchall()
        return [Change(seq, key_of(key), cast(Op, op), at) for seq, key, op, at in rows]

    def gather(self, seqs: Mapping[Key, int]) -> dict[Key, int]:
        """Claimed keys, each with its newest entry."""
        sql = (
            f"SELECT key, max(seq) FROM {self._tables.log} WHERE key IN"
            " (SELECT unnest(?::VARCHAR[])) GROUP BY key"
        )
        with self._read() as db:
            rows = db.execute(sql, [[key_text(key) for key in seqs]]).fetchall()
        newest = {key_of(key): seq for key, seq in rows}
        return {key: max(seq, newest.get(key, 0)) for key, seq in seqs.items()}

    def unclaim(self) -> None:
        """Nothing: the one that holds the lease works on what it finds."""

    def enqueue(self, keys: Sequence[Key], *, at: Sequence[float] | None = None) -> int:
        """Log each key as perhaps changed, in small transactions; gives how many."""
        for start in range(0, len(keys), _AT_ONCE):
            end = start + _AT_ONCE
            with self._write() as db:
                self._append(db, keys[start:end], None if at is None else at[start:end])
        return len(keys)

    def relay(self, captured: Captured) -> None:
        """Take over a source's changes and its place, in one transaction."""
        if not captured.before and not captured.changes:
            return
        rows = [change for change in captured.changes if change.op != "all"]
        with self._read() as db:
            place = self._get(db, "place")
        moved = place is not None and place != captured.before
        if not captured.changes and not moved and place == captured.after:
            return
        with self._write() as db:
            self._append(db, [change.key for change in rows], [change.at for change in rows])
            if moved or len(rows) < len(captured.changes):
                self._want(db)
            self._update(db, "place = ?", captured.after)

    def note(self, differences: Sequence[Difference]) -> int:
        """Log the keys of what differs and remember its marks, in one transaction."""
        if not differences:
            return 0
        keys = [key for each in differences for key in each.keys]
        marked = {each.unit: each.mark for each in differences}
        left = {unit: mark for unit, mark in marked.items() if mark is not None}
        seen = self._tables.seen
        with self._write() as db:
            self._append(db, keys, None)
            db.execute(
                f"DELETE FROM {seen} WHERE unit IN (SELECT unnest(?::VARCHAR[]))", [list(marked)]
            )
            rows_in(db, seen, unit=list(left), mark=list(left.values()))
        return len(keys)

    def marks(self, units: Sequence[str] | None = None) -> Mapping[str, bytes]:
        """The marks of `units` (or all), as they were noted last."""
        sql = f"SELECT unit, mark FROM {self._tables.seen}"
        with self._read() as db:
            if units is None:
                return dict(db.execute(sql).fetchall())
            where = " WHERE unit IN (SELECT unnest(?::VARCHAR[]))"
            return dict(db.execute(sql + where, [list(units)]).fetchall())

    def under(self, first: KeyPart) -> Mapping[Key, bytes]:
        """Fingerprints of the stored keys that begin with `first`; parked rows too."""
        # A key's text is a JSON list: "[", its first part, and what parts it from the next.
        begins = f"[{part_text(first)}"
        sql = (
            f"SELECT key, fingerprint FROM {self._tables.row} WHERE starts_with(key, ?)"
            " OR starts_with(key, ?)"
        )
        with self._read() as db:
            rows = db.execute(sql, [begins + ",", begins + "]"]).fetchall()
        return {key_of(key): fingerprint for key, fingerprint in rows}

    def pending(self, keys: Sequence[Key] | None = None) -> set[Key]:
        """Those of `keys` (or all) that have a log entry."""
        sql = f"SELECT DISTINCT key FROM {self._tables.log}"
        with self._read() as db:
            if keys is None:
                rows = db.execute(sql).fetchall()
            else:
                where = " WHERE key IN (SELECT unnest(?::VARCHAR[]))"
                rows = db.execute(sql + where, [[key_text(key) for key in keys]]).fetchall()
        return {key_of(row[0]) for row in rows}

    def has_work(self) -> bool:
        """Whether the log holds anything, or source and store are still to be compared."""
        sql = (
            f"SELECT EXISTS (SELECT 1 FROM {self._tables.log}) OR (SELECT reconcile_wanted >"
            f" reconcile_done FROM {BINDING} WHERE {ONE})"
        )

        def ask() -> bool:
            with self._read() as db:
                return bool(value(db, sql, self._id))

        return self._memo.get("has_work", ask)

    def counts(self) -> Counts:
        """How it stands: no vector is read."""
        return self._memo.get("counts", self._counts)

    def _counts(self) -> Counts:
        log, row, chunk = self._tables.log, self._tables.row, self._tables.chunk
        sql = (
            f"SELECT (SELECT count(*) FROM {row}), (SELECT count(*) FROM {row} WHERE status ="
            f" 'parked'), (SELECT count(*) FROM {chunk}), (SELECT count(DISTINCT key) FROM {log}),"
            f' (SELECT arg_min("at", seq) FROM {log}), published, reconcile_wanted >'
            f" reconcile_done, lease_holder, error, paused FROM {BINDING} WHERE {ONE}"
        )
        with self._read() as db:
            found = first(db, sql, self._id)
        if found is None:
            raise self._gone()
        stored, parked, *rest = found
        return Counts(stored - parked, parked, *rest)

    def parked(self, limit: int | None = 100) -> list[Parked]:
        """Rows that couldn't be embedded, and why; all of them when `limit` is None."""
        sql = f"SELECT key, error, attempts, r.at FROM {self._tables.row} AS r"
        sql += " WHERE status = 'parked'"
        if limit is not None:
            sql += f" LIMIT {limit}"
        with self._read() as db:
            return [Parked(key_of(r[0]), *r[1:]) for r in db.execute(sql).fetchall()]

    def retry_parked(self) -> int:
        """Put all parked rows back on the queue; gives how many."""
        row = self._tables.row
        with self._write() as db:
            found = db.execute(f"SELECT key FROM {row} WHERE status = 'parked'").fetchall()
            self._append(db, [key_of(each[0]) for each in found], None)
            db.execute(f"UPDATE {row} SET fingerprint = ''::BLOB WHERE status = 'parked'")
        return len(found)

    def want_reconcile(self) -> None:
        """Ask for source and store to be compared row by row."""
        with self._write() as db:
            self._want(db)

    def reconcile_wanted(self) -> int | None:
        """The number of the comparison that is asked for; None when none is."""
        with self._read() as db:
            wanted, done = self._get(db, "(reconcile_wanted, reconcile_done)")
        return int(wanted) if wanted > done else None

    def reconcile_done(self, number: int) -> None:
        """Note that comparison `number` has been made."""
        self._set("reconcile_done = greatest(reconcile_done, ?)", number)

    def note_error(self, error: str | None) -> None:
        """Keep what the worker waits on, for `status`."""
        self._set("error = ?", error)

    def is_paused(self) -> bool:
        """Whether the binding is paused."""
        return self._memo.get("paused", lambda: bool(self._look("paused")))

    def allows_deletes(self) -> bool:
        """Whether somebody has said that many rows gone at once are meant so."""
        return bool(self._look("accept_deletes"))

    def allow_deletes(self, allowed: bool) -> None:
        """Say so, or take it back."""
        self._set("accept_deletes = ?", allowed)

    def maintain(self) -> bool:
        """Nothing wants upkeep here."""
        return False

    def canary(self) -> Vectors | None:
        """What the model gave for the canary text when the binding began."""
        found = self._look("canary")
        return None if found is None else decode([found], self.record.space.dimensions)[0]

    def keep_canary(self, vector: Vectors) -> None:
        """Keep it, unless one is kept."""
        self._set("canary = coalesce(canary, ?)", encode(vector[None])[0])

    def tail(self) -> int:
        """The newest log entry; 0 when the log is empty."""
        with self._read() as db:
            return int(value(db, f"SELECT max(seq) FROM {self._tables.log}") or 0)

    def is_past(self, seq: int) -> bool:
        """Whether no entry up to `seq` is in the log any more."""
        sql = f"SELECT EXISTS (SELECT 1 FROM {self._tables.log} WHERE seq <= ?)"
        with self._read() as db:
            return not value(db, sql, [seq])

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    @contextmanager
    def _read(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._or_gone(), self._database.read() as db:
            yield db

    @contextmanager
    def _write(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._or_gone(), self._database.write() as db:
            yield db

    @contextmanager
    def _or_gone(self) -> Iterator[None]:
        """Where a table isn't there because the binding isn't, say that."""
        try:
            yield
        except SchemaDrift:
            with self._database.read() as db:
                is_there = version_of(db) and first(
                    db, f"SELECT 1 FROM {BINDING} WHERE {ONE}", self._id
                )
            if not is_there:
                raise self._gone() from None
            raise

    def _append(
        self, db: duckdb.DuckDBPyConnection, keys: Sequence[Key], at: Sequence[float] | None
    ) -> None:
        """Log `keys`. The numbers are counted in the registry: no other transaction writes."""
        if not keys:
            return
        last = self._get(db, "logged")
        self._update(db, "logged = ?", last + len(keys))
        rows_in(
            db,
            self._tables.log,
            seq=range(last + 1, last + 1 + len(keys)),
            key=[key_text(key) for key in keys],
            op=["upsert"] * len(keys),
            at=[self._clock()] * len(keys) if at is None else list(at),
        )

    def _want(self, db: duckdb.DuckDBPyConnection) -> None:
        self._update(db, "reconcile_wanted = reconcile_wanted + ?", 1)

    def _look(self, column: str) -> Any:
        with self._read() as db:
            return self._get(db, column)

    def _get(self, db: duckdb.DuckDBPyConnection, column: str) -> Any:
        found = first(db, f"SELECT {column} FROM {BINDING} WHERE {ONE}", self._id)
        if found is None:
            raise self._gone()
        return found[0]

    def _set(self, what: str, new: Any) -> None:
        with self._write() as db:
            self._update(db, what, new)

    def _update(self, db: duckdb.DuckDBPyConnection, what: str, new: Any) -> None:
        db.execute(f"UPDATE {BINDING} SET {what} WHERE {ONE}", [new, *self._id])

    def _gone(self) -> BindingNotFound:
        return BindingNotFound(f"{self._database.path} no longer has a binding {self.name!r}")
