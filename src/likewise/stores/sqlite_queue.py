"""The log of one binding in SQLite: what waits, what is asked for, what is remembered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from likewise.base.bound import Counts, Parked
from likewise.base.clock import Clock, wall
from likewise.base.errors import BindingNotFound
from likewise.base.log import fields, logger
from likewise.base.types import Captured, Change, Difference, Key, KeyPart, Op
from likewise.sql.names import BINDING, Layout, quote
from likewise.sql.sqlite import UTF8, Database
from likewise.vectors.codec import decode, encode

if TYPE_CHECKING:
    import apsw

    from likewise.base.bound import BindingRecord
    from likewise.base.types import Vectors

_ONE = "name = ? AND generation = ?"
_AT_ONCE = 500
_log = logger("stores.sqlite")


class SqliteQueue:
    """One generation's log, marks and line in the registry. Safe to use from several threads."""

    def __init__(self, record: BindingRecord, database: Database, *, clock: Clock = wall) -> None:
        self.record = record
        self.name = record.spec.name
        self._layout = Layout(record.spec.name, record.spec.key, record.generation)
        self._database = database
        self._clock = clock
        self._id = (record.spec.name, record.generation)

    def claim(self, after: int, *, limit: int) -> list[Change]:
        """Log entries with `seq > after`, in order, at most `limit`."""
        layout = self._layout
        sql = (
            f"SELECT seq, op, at, {layout.key_list} FROM {layout.log}"
            " WHERE seq > ? ORDER BY seq LIMIT ?"
        )
        with self._database.read() as db:
            try:
                rows: list[Any] | None = db.execute(sql, (after, limit)).fetchall()
            except UnicodeDecodeError:
                rows = None
        if rows is None:
            self._discard_unreadable(after, limit)
            return self.claim(after, limit=limit)
        return [Change(row[0], tuple(row[3:]), cast(Op, row[1]), row[2]) for row in rows]

    def gather(self, seqs: Mapping[Key, int]) -> dict[Key, int]:
        """Claimed keys, each with its newest entry."""
        one = f"SELECT max(seq) FROM {self._layout.log} WHERE {self._layout.key_match}"
        with self._database.read() as db:
            return {key: max(seq, db.execute(one, key).get or 0) for key, seq in seqs.items()}

    def unclaim(self) -> None:
        """Nothing: the one that holds the lease works on what it finds."""

    def enqueue(self, keys: Sequence[Key], *, at: Sequence[float] | None = None) -> int:
        """Log each key as perhaps changed, in small transactions; gives how many."""
        for start in range(0, len(keys), _AT_ONCE):
            part = keys[start : start + _AT_ONCE]
            with self._database.write() as db:
                self._append(db, part, None if at is None else at[start : start + _AT_ONCE])
        return len(keys)

    def relay(self, captured: Captured) -> None:
        """Take over a source's changes and its place, in one transaction."""
        if not captured.before and not captured.changes:
            return
        rows = [change for change in captured.changes if change.op != "all"]
        with self._database.read() as db:
            place = self._get(db, "place")
        moved = place is not None and place != captured.before
        if not captured.changes and not moved and place == captured.after:
            return
        with self._database.write() as db:
            self._append(db, [change.key for change in rows], [change.at for change in rows])
            if moved or len(rows) < len(captured.changes):
                self._want(db)
            db.execute(f"UPDATE {BINDING} SET place = ? WHERE {_ONE}", (captured.after, *self._id))

    def note(self, differences: Sequence[Difference]) -> int:
        """Log the keys of what differs and remember its marks, in one transaction."""
        seen = self._layout.seen
        keys = [key for each in differences for key in each.keys]
        with self._database.write() as db:
            self._append(db, keys, None)
            db.executemany(
                f"INSERT OR REPLACE INTO {seen} VALUES (?, ?)",
                [(each.unit, each.mark) for each in differences if each.mark is not None],
            )
            gone = [(each.unit,) for each in differences if each.mark is None]
            db.executemany(f"DELETE FROM {seen} WHERE unit = ?", gone)
        return len(keys)

    def marks(self, units: Sequence[str] | None = None) -> Mapping[str, bytes]:
        """The marks of `units` (or all), as they were noted last."""
        sql = f"SELECT unit, mark FROM {self._layout.seen}"
        one = f"{sql} WHERE unit = ?"
        with self._database.read() as db:
            rows: list[Any] = (
                db.execute(sql).fetchall()
                if units is None
                else [row for unit in units for row in db.execute(one, (unit,))]
            )
        return dict(rows)

    def under(self, first: KeyPart) -> Mapping[Key, bytes]:
        """Fingerprints of the stored keys that begin with `first`; parked rows too."""
        layout = self._layout
        column = quote(layout.columns[0])
        sql = f"SELECT {layout.key_list}, fingerprint FROM {layout.row} WHERE {column} = ?"
        with self._database.read() as db:
            rows: list[Any] = db.execute(sql, (first,)).fetchall()
        return {tuple(row[:-1]): row[-1] for row in rows}

    def pending(self, keys: Sequence[Key] | None = None) -> set[Key]:
        """Those of `keys` (or all) that have a log entry."""
        layout = self._layout
        with self._database.read() as db:
            if keys is None:
                sql = f"SELECT DISTINCT {layout.key_list} FROM {layout.log}"
                return {tuple(row) for row in db.execute(sql)}
            one = f"SELECT 1 FROM {layout.log} WHERE {layout.key_match} LIMIT 1"
            return {key for key in keys if db.execute(one, key).get is not None}

    def has_work(self) -> bool:
        """Whether the log holds anything, or source and store are still to be compared."""
        sql = (
            f"SELECT EXISTS (SELECT 1 FROM {self._layout.log}) OR (SELECT reconcile_wanted >"
            f" reconcile_done FROM {BINDING} WHERE {_ONE})"
        )
        with self._database.read() as db:
            return bool(db.execute(sql, self._id).get)

    def counts(self) -> Counts:
        """How it stands: counts over narrow tables and indexes, no vector is read."""
        layout = self._layout
        sql = (
            f"SELECT (SELECT count(*) FROM {layout.row}),"
            f" (SELECT count(*) FROM {layout.row} WHERE status = 'parked'),"
            f" (SELECT count(*) FROM {layout.chunk}),"
            f" (SELECT count(*) FROM (SELECT DISTINCT {layout.key_list} FROM {layout.log})),"
            f" (SELECT at FROM {layout.log} ORDER BY seq LIMIT 1),"
            " published, reconcile_wanted > reconcile_done, lease_holder, error, paused"
            f" FROM {BINDING} WHERE {_ONE}"
        )
        with self._database.read() as db:
            row: Any = db.execute(sql, self._id).fetchone()
        if row is None:
            raise self._gone()
        stored, parked, *plain, reconciling, holder, error, paused = row
        chunks, waiting, oldest, published = plain
        return Counts(
            stored=stored - parked,
            parked=parked,
            chunks=chunks,
            waiting=waiting,
            oldest=oldest,
            published=published,
            is_reconciling=bool(reconciling),
            holder=holder,
            error=error,
            is_paused=bool(paused),
        )

    def parked(self, limit: int | None = 100) -> list[Parked]:
        """Rows that couldn't be embedded, and why; all of them when `limit` is None."""
        sql = (
            f"SELECT {self._layout.key_list}, error, attempts, at FROM {self._layout.row}"
            " WHERE status = 'parked' LIMIT ?"
        )
        with self._database.read() as db:
            return [Parked(tuple(r[:-3]), *r[-3:]) for r in db.execute(sql, (limit or -1,))]

    def retry_parked(self) -> int:
        """Put all parked rows back on the queue; gives how many."""
        layout = self._layout
        with self._database.write() as db:
            db.execute(
                f"INSERT INTO {layout.log} ({layout.key_list}, op) SELECT {layout.key_list},"
                f" 'upsert' FROM {layout.row} WHERE status = 'parked'"
            )
            db.execute(f"UPDATE {layout.row} SET fingerprint = x'' WHERE status = 'parked'")
            return db.changes()

    def want_reconcile(self) -> None:
        """Ask for source and store to be compared row by row."""
        with self._database.write() as db:
            self._want(db)

    def reconcile_wanted(self) -> int | None:
        """The number of the comparison that is asked for; None when none is."""
        sql = f"SELECT reconcile_wanted, reconcile_done FROM {BINDING} WHERE {_ONE}"
        with self._database.read() as db:
            found: Any = db.execute(sql, self._id).fetchone()
        if found is None:
            raise self._gone()
        return int(found[0]) if found[0] > found[1] else None

    def reconcile_done(self, number: int) -> None:
        """Note that comparison `number` has been made."""
        self._set("reconcile_done = max(reconcile_done, ?)", number)

    def note_error(self, error: str | None) -> None:
        """Keep what the worker waits on, for `status`."""
        self._set("error = ?", error)

    def is_paused(self) -> bool:
        """Whether the binding is paused."""
        with self._database.read() as db:
            return bool(self._get(db, "paused"))

    def allows_deletes(self) -> bool:
        """Whether somebody has said that many rows gone at once are meant so."""
        with self._database.read() as db:
            return bool(self._get(db, "accept_deletes"))

    def allow_deletes(self, allowed: bool) -> None:
        """Say so, or take it back."""
        self._set("accept_deletes = ?", int(allowed))

    def maintain(self) -> bool:
        """Nothing wants upkeep here."""
        return False

    def canary(self) -> Vectors | None:
        """What the model gave for the canary text when the binding began."""
        with self._database.read() as db:
            found = self._get(db, "canary")
        return None if found is None else decode([found], self.record.space.dimensions)[0]

    def keep_canary(self, vector: Vectors) -> None:
        """Keep it, unless one is kept."""
        self._set("canary = coalesce(canary, ?)", encode(vector[None])[0])

    def tail(self) -> int:
        """The newest log entry; 0 when the log is empty."""
        with self._database.read() as db:
            found: Any = db.execute(f"SELECT max(seq) FROM {self._layout.log}").get
        return int(found or 0)

    def is_past(self, seq: int) -> bool:
        """Whether no entry up to `seq` is in the log any more."""
        sql = f"SELECT 1 FROM {self._layout.log} WHERE seq <= ? LIMIT 1"
        with self._database.read() as db:
            return db.execute(sql, (seq,)).get is None

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    def _append(self, db: apsw.Connection, keys: Sequence[Key], at: Sequence[float] | None) -> None:
        layout = self._layout
        when = "" if at is None else ", at"
        marks = f"{layout.key_marks}, 'upsert'" + ("" if at is None else ", ?")
        rows = keys if at is None else [(*key, time) for key, time in zip(keys, at, strict=True)]
        db.executemany(
            f"INSERT INTO {layout.log} ({layout.key_list}, op{when}) VALUES ({marks})", rows
        )

    def _want(self, db: apsw.Connection) -> None:
        db.execute(
            f"UPDATE {BINDING} SET reconcile_wanted = reconcile_wanted + 1 WHERE {_ONE}", self._id
        )

    def _get(self, db: apsw.Connection, column: str) -> Any:
        found: Any = db.execute(f"SELECT {column} FROM {BINDING} WHERE {_ONE}", self._id).fetchone()
        if found is None:
            raise self._gone()
        return found[0]

    def _set(self, what: str, value: Any) -> None:
        with self._database.write() as db:
            db.execute(f"UPDATE {BINDING} SET {what} WHERE {_ONE}", (value, *self._id))

    def _gone(self) -> BindingNotFound:
        return BindingNotFound(f"{self._database.path} no longer has a binding {self.name!r}")

    def _discard_unreadable(self, after: int, limit: int) -> None:
        """Take entries off the log whose key is text that isn't UTF-8: no program can name them."""
        with self._database.write() as db:
            layout = self._layout
            plain = ", ".join(
                f"typeof({c}) <> 'text' OR {UTF8}(CAST({c} AS BLOB))"
                for c in map(quote, layout.columns)
            )
            bad = [
                row[0]
                for row in db.execute(
                    f"SELECT seq, {plain} FROM {layout.log} WHERE seq > ? ORDER BY seq LIMIT ?",
                    (after, limit),
                )
                if not all(row[1:])
            ]
            db.executemany(f"DELETE FROM {layout.log} WHERE seq = ?", [(seq,) for seq in bad])
        _log.warning(fields("rows left out: key isn't UTF-8", binding=self.name, entries=len(bad)))
