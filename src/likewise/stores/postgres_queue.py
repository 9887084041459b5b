"""The log of one binding in Postgres: what waits, who works on it, what is remembered.

Sequence numbers don't follow the order of commits, so nothing here is answered "up to a number".
A claim draws a ticket and writes it on the entries it takes. An entry under ticket c could be seen
before c was drawn, and a row read under a later ticket was read after that: so what a publication
under ticket t answers are the entries of its key under tickets up to t, and no others.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from likewise.base.bound import Counts, Parked
from likewise.base.clock import ago
from likewise.base.errors import LeaseLost
from likewise.base.types import Captured, Change, Difference, Key, KeyPart
from likewise.sql.postgres_arrays import Array
from likewise.sql.postgres_keys import arrays, back, carried, given, key_from, one
from likewise.stores.postgres_line import PostgresLine
from likewise.stores.postgres_schema import BINDING, WORKER, Tables

if TYPE_CHECKING:
    from likewise.base.bound import BindingRecord
    from likewise.sql.postgres import Connection, Database

_ONE = "name = %s AND generation = %s"
_GATHERED = 10_000
"""Later entries of claimed keys that one claim takes at most."""
_FORGOTTEN_AFTER = "1 hour"


class PostgresQueue(PostgresLine):
    """One generation's log, claims and marks. Safe to use from several threads."""

    def __init__(self, record: BindingRecord, database: Database) -> None:
        super().__init__(record, database)
        self._tables = Tables.of_record(record)
        self._kinds = self._tables.own_kinds
        self._me = f"handle-{secrets.token_hex(8)}"
        self._lease_seconds = 0.0

    def claim(self, after: int, *, limit: int) -> list[Change]:
        """Entries that nobody living has claimed, oldest first; they are this handle's then.

        With them go the later entries of the same keys: the row will be read after all of them.
        """
        tables = self._tables
        free = (
            f"(l.holder IS NULL OR NOT EXISTS (SELECT FROM {WORKER} w WHERE w.{_ONE} AND w.holder ="
            " l.holder AND w.until > clock_timestamp()))"
        )
        keys = tables.key_list("l.")
        sql = (
            f"WITH t AS MATERIALIZED (SELECT nextval('{tables.tickets}') AS ticket),"
            f" c AS MATERIALIZED (SELECT l.seq, {keys} FROM {tables.log} l WHERE {free}"
            " ORDER BY l.seq LIMIT %s FOR UPDATE SKIP LOCKED),"
            f" m AS MATERIALIZED (SELECT l.seq FROM {tables.log} l WHERE ({keys}) IN"
            f" (SELECT {tables.key_list()} FROM c) AND {free}"
            f" ORDER BY l.seq LIMIT {_GATHERED} FOR UPDATE SKIP LOCKED)"
            f" UPDATE {tables.log} l SET claim = t.ticket, holder = %s FROM t WHERE l.seq IN"
            " (SELECT seq FROM c UNION SELECT seq FROM m) RETURNING l.seq, t.ticket,"
            f" extract(epoch FROM l.at)::float8, {tables.shown('l.')}"
        )
        with self._database.write() as db:
            values = (*self._id, limit, *self._id, self._holder or self._me)
            rows: list[Any] = sorted(db.execute(sql, values).fetchall())
        return [
            Change(ticket, key_from(key, self._kinds), "upsert", at) for _, ticket, at, *key in rows
        ]

    def gather(self, seqs: Mapping[Key, int]) -> dict[Key, int]:
        """What was claimed: `claim` has gathered already."""
        return dict(seqs)

    def unclaim(self) -> None:
        """Give back what this handle has claimed and not answered."""
        with self._database.write() as db:
            self._unclaim(db, self._holder or self._me)

    def enqueue(self, keys: Sequence[Key], *, at: Sequence[float] | None = None) -> int:
        """Log each key as perhaps changed; gives how many."""
        if keys:
            with self._database.write() as db:
                self._append(db, keys, at)
        return len(keys)

    def relay(self, captured: Captured) -> None:
        """Take over a source's changes and its place, in one transaction."""
        if not captured.before and not captured.changes:
            return
        rows = [change for change in captured.changes if change.op != "all"]
        with self._database.session() as db:
            place = self._get(db, "place")
        moved = place is not None and place != captured.before
        if not captured.changes and not moved and place == captured.after:
            return
        with self._database.write() as db:
            self._append(db, [change.key for change in rows], [change.at for change in rows])
            if moved or len(rows) < len(captured.changes):
                self._want(db)
            self._update(db, "place = %s", captured.after)

    def note(self, differences: Sequence[Difference]) -> int:
        """Log the keys of what differs and remember its marks, in one transaction.

        What another worker has noted in the same way meanwhile isn't logged again.
        """
        seen = self._tables.seen
        with self._database.write() as db:
            units = sorted(each.unit for each in differences)
            db.execute(f"SELECT pg_advisory_xact_lock(hashtext('{seen}'))", ())
            there = dict(
                db.execute(f"SELECT unit, mark FROM {seen} WHERE unit = ANY(%s)", (units,))
            )
            new = [each for each in differences if there.get(each.unit) != each.mark]
            self._append(db, [key for each in new for key in each.keys], None)
            marked = [(each.unit, each.mark) for each in new if each.mark is not None]
            db.execute(
                f"INSERT INTO {seen} SELECT * FROM unnest(%s::text[], %s::bytea[]) ON CONFLICT"
                " (unit) DO UPDATE SET mark = excluded.mark",
                ([unit for unit, _ in marked], [mark for _, mark in marked]),
            )
            gone = [each.unit for each in new if each.mark is None]
            db.execute(f"DELETE FROM {seen} WHERE unit = ANY(%s)", (gone,))
        return sum(len(each.keys) for each in new)

    def marks(self, units: Sequence[str] | None = None) -> Mapping[str, bytes]:
        """The marks of `units` (or all), as they were noted last."""
        sql = f"SELECT unit, mark FROM {self._tables.seen}"
        with self._database.read() as db:
            if units is None:
                return dict(db.execute(sql, ()))
            return dict(db.execute(f"{sql} WHERE unit = ANY(%s)", (list(units),)))

    def under(self, first: KeyPart) -> Mapping[Key, bytes]:
        """Fingerprints of the stored keys that begin with `first`; parked rows too."""
        tables, kind = self._tables, self._kinds[0]
        sql = (
            f"SELECT fingerprint, {tables.shown()} FROM {tables.row}"
            f" WHERE {tables.columns[0]} = {back(kind, f'%s::{one(kind)}')}"
        )
        with self._database.read() as db:
            rows: list[Any] = db.execute(sql, (carried(kind, first),)).fetchall()
        return {key_from(row[1:], self._kinds): row[0] for row in rows}

    def take_lease(self, holder: str, *, seconds: float, is_dead: Callable[[str], bool]) -> bool:
        """Become one of those that publish; what dead workers had claimed is free then."""
        with self._database.write() as db:
            sql = f"SELECT holder FROM {WORKER} WHERE {_ONE}"
            others = [str(row[0]) for row in db.execute(sql, self._id)]
            dead = [other for other in others if other != holder and is_dead(other)]
            db.execute(
                f"DELETE FROM {WORKER} WHERE {_ONE} AND (holder = ANY(%s) OR until <"
                f" clock_timestamp() - interval '{_FORGOTTEN_AFTER}')",
                (*self._id, dead),
            )
            db.execute(
                f"INSERT INTO {WORKER} SELECT %s, %s, %s, clock_timestamp() + %s * interval '1 s'"
                f" WHERE EXISTS (SELECT FROM {BINDING} WHERE {_ONE}) ON CONFLICT (name, generation,"
                " holder) DO UPDATE SET until = excluded.until",
                (*self._id, holder, seconds, *self._id),
            )
        self._holder, self._lease_seconds = holder, seconds
        return True

    def renew_lease(self) -> None:
        """Prolong the lease.

        Raises:
            LeaseLost: it was taken away: others may have claimed what this worker had.
        """
        with self._database.write() as db:
            self._renew(db)

    def release_lease(self) -> None:
        """Give the lease back, if it is still held, and what was claimed under it."""
        holder, self._holder = self._holder, None
        if holder is not None:
            with self._database.write() as db:
                self._unclaim(db, holder)
                db.execute(
                    f"DELETE FROM {WORKER} WHERE {_ONE} AND holder = %s", (*self._id, holder)
                )
                db.execute(
                    f"UPDATE {BINDING} SET sweeper = NULL WHERE {_ONE} AND sweeper = %s",
                    (*self._id, holder),
                )

    def pending(self, keys: Sequence[Key] | None = None) -> set[Key]:
        """Those of `keys` (or all) that have a log entry."""
        tables = self._tables
        with self._database.session() as db:
            if keys is None:
                found = db.execute(f"SELECT DISTINCT {tables.shown()} FROM {tables.log}", ())
            else:
                sql = (
                    f"SELECT DISTINCT {tables.shown('l.')} FROM {given(self._kinds)}"
                    f" JOIN {tables.log} l ON {self._matches('l')}"
                )
                found = db.execute(sql, arrays(keys, self._kinds))
            return {key_from(row, self._kinds) for row in found}

    def has_work(self) -> bool:
        """Whether the log holds anything, or source and store are still to be compared."""
        sql = (
            f"SELECT EXISTS (SELECT FROM {self._tables.log}) OR"
            f" coalesce((SELECT reconcile_wanted > reconcile_done FROM {BINDING} WHERE {_ONE}),"
            " false)"
        )
        with self._database.session() as db:
            return bool((db.execute(sql, self._id).fetchone() or (False,))[0])

    def counts(self) -> Counts:
        """How it stands: counts over narrow tables, no vector is read."""
        tables = self._tables
        sql = (
            f"SELECT (SELECT count(*) FROM {tables.row}),"
            f" (SELECT count(*) FROM {tables.row} WHERE status = 'parked'),"
            f" (SELECT count(*) FROM {tables.chunk}),"
            f" (SELECT count(*) FROM (SELECT DISTINCT {tables.key_list()} FROM {tables.log}) x),"
            f" (SELECT extract(epoch FROM clock_timestamp() - min(at))::float8 FROM {tables.log}),"
            f" (SELECT min(holder) FROM {WORKER} w WHERE w.{_ONE} AND until > clock_timestamp()),"
            f" published, reconcile_wanted > reconcile_done, error, paused FROM {BINDING}"
            f" WHERE {_ONE}"
        )
        with self._database.read() as db:
            row: Any = db.execute(sql, (*self._id, *self._id)).fetchone()
        if row is None:
            raise self._gone()
        stored, parked, chunks, waiting, age, holder, published, reconciling, error, paused = row
        return Counts(
            stored - parked,
            parked,
            chunks,
            waiting,
            ago(age),
            published,
            reconciling,
            holder,
            error,
            paused,
        )

    def parked(self, limit: int | None = 100) -> list[Parked]:
        """Rows that couldn't be embedded, and why; all of them when `limit` is None."""
        tables = self._tables
        sql = (
            f"SELECT error, attempts, extract(epoch FROM at)::float8, {tables.shown()}"
            f" FROM {tables.row} WHERE status = 'parked' ORDER BY {tables.key_list()} LIMIT %s"
        )
        with self._database.read() as db:
            return [
                Parked(key_from(key, self._kinds), str(error), attempts, at)
                for error, attempts, at, *key in db.execute(sql, (limit,))
            ]

    def retry_parked(self) -> int:
        """Put all parked rows back on the queue; gives how many."""
        tables = self._tables
        with self._database.write() as db:
            db.execute(
                f"INSERT INTO {tables.log} ({tables.key_list()}) SELECT {tables.key_list()}"
                f" FROM {tables.row} WHERE status = 'parked'",
                (),
            )
            return db.execute(
                f"UPDATE {tables.row} SET fingerprint = %s WHERE status = 'parked'", (b"",)
            ).rowcount

    def forget(self, keys: Sequence[Key]) -> None:
        """No longer take what is stored for `keys` to be of any text, nor give its vectors away."""
        tables = self._tables
        matched = f"FROM {given(self._kinds)} WHERE {self._matches('t')}"
        with self._database.write() as db:
            values = arrays(keys, self._kinds)
            db.execute(f"UPDATE {tables.row} t SET fingerprint = ''::bytea {matched}", values)
            db.execute(f"UPDATE {tables.chunk} t SET hash = NULL {matched}", values)

    def tail(self) -> int:
        """The newest log entry that can be seen; 0 when the log is empty."""
        with self._database.session() as db:
            found = db.execute(f"SELECT max(seq) FROM {self._tables.log}", ()).fetchone()
        return int((found or (0,))[0] or 0)

    def is_past(self, seq: int) -> bool:
        """Whether no entry up to `seq` can be seen any more."""
        sql = f"SELECT FROM {self._tables.log} WHERE seq <= %s LIMIT 1"
        with self._database.session() as db:
            return db.execute(sql, (seq,)).fetchone() is None

    def _matches(self, table: str) -> str:
        """That `table` has the key of `given`."""
        return " AND ".join(
            f"{table}.{column} = {back(kind, f'k.k{number}')}"
            for number, (column, kind) in enumerate(
                zip(self._tables.columns, self._kinds, strict=True), start=1
            )
        )

    def _own_keys(self) -> str:
        """The keys of `given` as our columns' types."""
        return ", ".join(
            back(kind, f"k.k{number}") for number, kind in enumerate(self._kinds, start=1)
        )

    def _append(self, db: Connection, keys: Sequence[Key], at: Sequence[float] | None) -> None:
        if not keys:
            return
        times = [None for _ in keys] if at is None else list(at)
        db.execute(
            f"INSERT INTO {self._tables.log} ({self._tables.key_list()}, at)"
            f" SELECT {self._own_keys()}, coalesce(to_timestamp(m1), clock_timestamp())"
            f" FROM {given(self._kinds, 'float8[]')}",
            (*arrays(keys, self._kinds), Array("double precision", times)),
        )

    def _unclaim(self, db: Connection, holder: str) -> None:
        db.execute(
            f"UPDATE {self._tables.log} SET claim = NULL, holder = NULL WHERE holder = %s",
            (holder,),
        )

    def _renew(self, db: Connection) -> None:
        if self._holder is None:
            return
        found = db.execute(
            f"UPDATE {WORKER} SET until = clock_timestamp() + %s * interval '1 s' WHERE {_ONE} AND"
            " holder = %s",
            (self._lease_seconds, *self._id, self._holder),
        )
        if found.rowcount == 0:
            raise LeaseLost(f"binding {self.name}: the lease of {self._holder} was taken away")
