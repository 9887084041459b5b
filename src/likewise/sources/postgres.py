"""A table of Postgres as a source: triggers write into an outbox, the worker reads rows again."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from likewise.base.clock import Clock, ago, monotonic
from likewise.base.errors import SchemaDrift
from likewise.base.log import fields, logger
from likewise.base.types import Captured, Change, Key, Op, Row, Shape
from likewise.sources.postgres_capture import SOURCE, Capture, Known, is_there
from likewise.sources.postgres_listen import Listener
from likewise.sources.postgres_rows import Reading, page, read
from likewise.sources.ways import Told
from likewise.sql.postgres import Database, require_schema
from likewise.sql.postgres_keys import key_from
from likewise.sql.postgres_schema import read_relation, require_rights
from likewise.text.template import Template

if TYPE_CHECKING:
    from likewise.base import bound
    from likewise.base.spec import BindingSpec
    from likewise.sql.postgres import Connection

PAGE = 500
CHECK_SECONDS = 1.0
"""How often the triggers are looked at."""
_FETCHED = 200
_log = logger("sources.postgres")


class PostgresSource(Told):
    """Rows of the table `spec.table`. Safe to use from several threads."""

    capture: bound.Capture = "outbox"

    def __init__(self, spec: BindingSpec, *, generation: int = 1, clock: Clock = monotonic) -> None:
        self.spec = spec
        self.generation = generation
        self._clock = clock
        self._template = Template(spec.text)
        self._database = Database(spec.source)
        self._capture = Capture(spec.name, generation, notify=spec.wake == "notify")
        self._outbox = self._capture.names.outbox
        self._known: Known | None = None
        self._checked = self._placed = float("-inf")
        self._listener = Listener(spec.source) if spec.wake == "notify" else None

    def resolve(self) -> Shape:
        """The table as it is now.

        Raises:
            NoKey: nothing names a row for good, or row-level security hides rows from us.
            SchemaDrift: the table or a column isn't there.
            DatabaseReadOnly: a grant is missing; the message names it.
        """
        with self._database.read() as db:
            known = self._look(db)
            require_rights(db, known.relation, triggers=True)
            require_schema(db, self.spec.source)
        relation, reading = known.relation, known.reading
        key = tuple(column.name for column in reading.key)
        return Shape(relation.name, key, reading.kinds, relation.unguarded)

    def attach(self) -> bool:
        """Install the triggers, or mend them; True when changes may have been missed before.

        That is also written into the outbox, in the same transaction, so that a crash can't forget
        it. Looks once a second at most.

        Raises:
            NoKey: nothing names a row for good.
            SchemaDrift: the table or a column isn't there, or was renamed.
            DatabaseReadOnly: a grant is missing; the message names it.
        """
        if self._known is not None and self._clock() - self._checked < CHECK_SECONDS:
            return False
        with self._database.read() as db:
            known = self._known or self._look(db)
            is_whole = self._capture.is_whole(db, known)
            if is_whole:
                self._known = known
        if not is_whole:
            self._install()
        self._checked = self._clock()
        return not is_whole

    def detach(self) -> None:
        """Drop triggers, function and outbox; with the last one everything of ours goes."""
        self._known = None
        with self._database.write() as db:
            self._capture.remove(db)

    @contextmanager
    def captured(self, *, limit: int) -> Iterator[Captured]:
        """Lend the oldest statements' keys, about `limit`; off the outbox when the block ends well.

        One worker is lent something at a time, or the place could not say where things stand. While
        there is nothing to lend, the place is told once a second: to lock it costs a commit.
        """
        now = self._clock()
        if now - self._placed < CHECK_SECONDS and self.tail() == 0:
            yield Captured()
            return
        with self._database.write() as db:
            place = self._place(db)
            if place is None:
                # Another worker is at it.
                yield Captured()
                return
            self._placed = now
            found = self._locked(db, limit)
            kinds = self._now(db).reading.kinds
            changes = tuple(change for row in found for change in _expanded(row, kinds))
            after = secrets.token_hex(8) if found else place
            yield Captured(changes, place, after)
            if found:
                db.execute(
                    f"DELETE FROM {self._outbox} WHERE seq = ANY(%s)",
                    ([row[0] for row in found],),
                )
                db.execute(
                    f"UPDATE {SOURCE} SET place = %s WHERE name = %s AND generation = %s",
                    (after, *self._capture.id),
                )

    def read(self, keys: Sequence[Key]) -> dict[Key, Row]:
        """The rows as they are now; keys that have no row are left out."""
        with self._database.read() as db:
            reading = self._now(db).reading
            rows = [reading.row(self._template, values) for values in read(db, reading, keys)]
        found = {row.key: row for row in rows}
        return {key: found[key] for key in keys if key in found}

    def snapshot(self) -> Iterator[Row]:
        """Every row, in key order, read in pages, each as of some moment."""
        last: Key | None = None
        while True:
            with self._database.read() as db:
                reading = self._now(db).reading
                rows = [reading.row(self._template, each) for each in page(db, reading, last, PAGE)]
            yield from rows
            if len(rows) < PAGE:
                return
            last = rows[-1].key

    def count(self) -> int:
        """Rows in the table."""
        with self._database.read() as db:
            relation = self._now(db).relation
            return int(_one(db, f"SELECT count(*) FROM {relation.sql}"))

    def unnamed(self) -> int:
        """None: key columns are NOT NULL."""
        return 0

    def stamp(self) -> object:
        """A value that differs once there is something in the outbox."""
        if self._listener is not None:
            return self._listener.count()
        return self.tail()

    def waiting(self) -> tuple[int, float | None]:
        """Changes in the outbox, and when the oldest was written."""
        with self._database.read() as db:
            if not is_there(db, self._outbox):
                return 0, None
            found: Any = db.execute(
                "SELECT coalesce(sum(greatest(1, coalesce(cardinality(k1), 1))), 0),"
                f" extract(epoch FROM clock_timestamp() - min(at))::float8 FROM {self._outbox}",
                (),
            ).fetchone()
        return int(found[0]), ago(found[1])

    def tail(self) -> int:
        """The newest entry of the outbox that can be seen; 0 when it is empty, or not there yet."""
        try:
            with self._database.session() as db:
                sql = f"SELECT seq FROM {self._outbox} ORDER BY seq DESC LIMIT 1"
                found = db.execute(sql, ()).fetchone()
        except SchemaDrift:
            return 0
        return 0 if found is None else int(found[0])

    def is_past(self, seq: int) -> bool:
        """Whether no entry up to `seq` can be seen in the outbox any more."""
        with self._database.session() as db:
            sql = f"SELECT FROM {self._outbox} WHERE seq <= %s LIMIT 1"
            return db.execute(sql, (seq,)).fetchone() is None

    def close(self) -> None:
        """Close the connections."""
        if self._listener is not None:
            self._listener.close()
        self._database.close()

    def _install(self) -> None:
        with self._database.write() as db:
            require_rights(db, self._look(db).relation, triggers=True)
            self._capture.lock(db, self.spec.source)
            known = self._look(db)
            if self._capture.is_whole(db, known):
                return  # another worker was quicker
            self._capture.install(db, known)
        self._known = known
        _log.info(fields("triggers installed", binding=self.spec.name, table=known.relation.name))
        for each in known.relation.unguarded:
            _log.warning(fields("only noticed by comparing", binding=self.spec.name, what=each))

    def _now(self, db: Connection) -> Known:
        if self._known is None:
            self._known = self._look(db)
        return self._known

    def _look(self, db: Connection) -> Known:
        """The table as it is; that it is the one for which the binding was made is seen to."""
        was = self._capture.remembered(db)
        relation = read_relation(db, self.spec.table, was=None if was is None else was.relation)
        if was is not None:
            self._capture.require_same(relation, was)
        key = relation.key(self.spec.key)
        watched = {name: relation.column(name) for name in self._template.columns}
        used = {column.name for column in (*key, *watched.values())}
        others = tuple(column for column in relation.columns if column.name not in used)
        reading = Reading(relation.sql, key, watched, others)
        if was is not None:
            self._capture.require_same_key(reading.kinds, was)
        return Known(relation, reading)

    def _place(self, db: Connection) -> str | None:
        """The place token, locked for as long as the transaction lasts; None: somebody has it."""
        sql = f"SELECT place FROM {SOURCE} WHERE name = %s AND generation = %s"
        found = db.execute(f"{sql} FOR UPDATE SKIP LOCKED", self._capture.id).fetchone()
        return None if found is None else str(found[0])

    def _locked(self, db: Connection, limit: int) -> list[Any]:
        """The oldest rows with about `limit` keys together, which nobody else is lent."""
        found: list[Any] = []
        total = 0
        while total < limit:
            sql = (
                f"SELECT seq, op, extract(epoch FROM at)::float8, o.* FROM {self._outbox} o"
                f" WHERE seq > %s ORDER BY seq LIMIT {_FETCHED}"
            )
            rows: list[Any] = db.execute(sql, (found[-1][0] if found else 0,)).fetchall()
            for row in rows:
                found.append(row)
                total += len(row[6] or ()) if len(row) > 6 else 1
                if total >= limit:
                    break
            if len(rows) < _FETCHED:
                break
        return found


def _expanded(row: Any, kinds: Sequence[str]) -> Iterator[Change]:
    """The changes of one statement: `row` is seq, op, at, then the outbox's columns."""
    seq, op, at, _, _, _, *columns = row
    if op == "all":
        yield Change(seq, (), "all", at)
        return
    for parts in zip(*columns, strict=True):
        yield Change(seq, key_from(parts, kinds), cast(Op, op), at)


def _one(db: Connection, sql: str) -> Any:
    found = db.execute(sql, ()).fetchone()
    return None if found is None else found[0]
