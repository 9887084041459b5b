"""A table of Postgres as a source: triggers write into an outbox, the worker reads rows again."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from likewise.base.clock import Clock, monotonic
from likewise.base.errors import DatabaseError, SchemaDrift
from likewise.base.keys import key_text
from likewise.base.log import fields, logger
from likewise.base.types import Captured, Change, Difference, Key, Op, Row, Shape
from likewise.sources.postgres_listen import Listener
from likewise.sources.postgres_rows import Reading, page, read
from likewise.sources.postgres_triggers import Names, function, outbox_table, triggers
from likewise.sql.postgres import (
    Database,
    drop_schema_if_empty,
    make_schema,
    quoted,
)
from likewise.sql.postgres_schema import Relation, read_relation, require_rights
from likewise.text.template import Template

if TYPE_CHECKING:
    from likewise.base.bound import Capture, Seen
    from likewise.base.spec import BindingSpec
    from likewise.sql.postgres import Connection

PAGE = 500
LEAST_SERVER = 160_000
CHECK_SECONDS = 1.0
"""How often the triggers are looked at."""
_SOURCE = "likewise.source"
_log = logger("sources.postgres")

_STATE = """
SELECT s.signature, md5(concat_ws('|',
    (SELECT string_agg(concat_ws(' ', g.tgrelid, g.tgname, g.tgenabled,
                                 md5(pg_get_triggerdef(g.oid)), md5(p.prosrc)),
                       ',' ORDER BY g.tgrelid, g.tgname)
     FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid
     WHERE p.oid = to_regproc(%s)::oid AND g.tgparentid = 0),
    (SELECT string_agg(t.relid::oid::text, ',' ORDER BY t.relid::oid)
     FROM pg_partition_tree(to_regclass(%s)) t),
    (SELECT string_agg(concat_ws(' ', a.attnum, a.attname, a.atttypid, a.attgenerated), ','
                       ORDER BY a.attnum)
     FROM pg_attribute a
     WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped),
    to_regclass(%s)::oid::text))
FROM likewise.source s WHERE s.name = %s AND s.generation = %s
"""


@dataclass(frozen=True, slots=True)
class _Shape:
    """What reading and capturing need to know of the table."""

    relation: Relation
    reading: Reading


class PostgresSource:
    """Rows of the table `spec.table`. Safe to use from several threads."""

    capture: Capture = "outbox"
    doubts_deletes = False

    def __init__(self, spec: BindingSpec, *, generation: int = 1, clock: Clock = monotonic) -> None:
        self.spec = spec
        self.generation = generation
        self._clock = clock
        self._template = Template(spec.text)
        self._database = Database(spec.source)
        self._names = Names(spec.name, generation)
        self._id = (spec.name, generation)
        self._shape: _Shape | None = None
        self._checked = float("-inf")
        self._listener = Listener(spec.source) if spec.wake == "notify" else None

    def resolve(self) -> Shape:
        """The table as it is now.

        Raises:
            NoKey: nothing names a row for good, or row-level security hides rows from us.
            SchemaDrift: the table or a column isn't there.
            DatabaseReadOnly: a grant is missing; the message names it.
        """
        with self._database.read() as db:
            shape = self._read_shape(db)
            require_rights(db, shape.relation, triggers=True)
        reading = shape.reading
        return Shape(shape.relation.name, tuple(c.name for c in reading.key), reading.kinds)

    def attach(self) -> bool:
        """Install the triggers, or mend them; True when changes may have been missed before.

        That is also written into the outbox, in the same transaction, so that a crash can't forget
        it. Looks once a second at most.

        Raises:
            NoKey: nothing names a row for good.
            SchemaDrift: the table or a column isn't there, or was renamed.
            DatabaseReadOnly: a grant is missing; the message names it.
        """
        if self._shape is not None and self._clock() - self._checked < CHECK_SECONDS:
            return False
        with self._database.read() as db:
            is_whole = self._is_whole(db)
            if is_whole and self._shape is None:
                self._shape = self._read_shape(db)
        if not is_whole:
            self._install()
        self._checked = self._clock()
        return not is_whole

    def detach(self) -> None:
        """Drop triggers, function and outbox; with the last one everything of ours goes."""
        self._shape = None
        with self._database.write() as db:
            if not _is_there(db, _SOURCE):
                return
            db.execute(f"DROP FUNCTION IF EXISTS {self._names.function}() CASCADE", ())
            db.execute(f"DROP TABLE IF EXISTS {self._names.outbox}", ())
            db.execute(f"DELETE FROM {_SOURCE} WHERE name = %s AND generation = %s", self._id)
            if db.execute(f"SELECT FROM {_SOURCE} LIMIT 1").fetchone() is None:
                db.execute(f"DROP TABLE {_SOURCE}")
                drop_schema_if_empty(db)

    @contextmanager
    def captured(self, *, limit: int) -> Iterator[Captured]:
        """Lend the oldest statements' keys, about `limit`; off the outbox when the block ends well.

        One worker is lent something at a time, or the place could not say where things stand.
        """
        with self._database.write() as db:
            place = self._place(db)
            if place is None:
                # Another worker is at it.
                yield Captured()
                return
            found = self._locked(db, limit)
            changes = tuple(change for row in found for change in _expanded(row))
            after = secrets.token_hex(8) if found else place
            yield Captured(changes, place, after)
            if found:
                db.execute(
                    f"DELETE FROM {self._names.outbox} WHERE seq = ANY(%s)",
                    ([row[0] for row in found],),
                )
                db.execute(
                    f"UPDATE {_SOURCE} SET place = %s WHERE name = %s AND generation = %s",
                    (after, *self._id),
                )

    def differences(self, seen: Seen, *, thorough: bool = False) -> Iterator[list[Difference]]:
        """Nothing: triggers tell."""
        yield from ()

    def read(self, keys: Sequence[Key]) -> dict[Key, Row]:
        """The rows as they are now; keys that have no row are left out."""
        with self._database.read() as db:
            reading = self._known(db).reading
            rows = [reading.row(self._template, values) for values in read(db, reading, keys)]
        found = {row.key: row for row in rows}
        return {key: found[key] for key in keys if key in found}

    def snapshot(self) -> Iterator[Row]:
        """Every row, in key order, read in pages, each as of some moment."""
        last: Key | None = None
        while True:
            with self._database.read() as db:
                reading = self._known(db).reading
                rows = [reading.row(self._template, each) for each in page(db, reading, last, PAGE)]
            yield from rows
            if len(rows) < PAGE:
                return
            last = rows[-1].key

    def unit_of(self, key: Key) -> str:
        """Nothing is compared here."""
        return key_text(key)

    def agrees(self, row: Row, mark: bytes) -> bool:
        """Nothing is compared here."""
        return True

    def count(self) -> int:
        """Rows in the table."""
        with self._database.read() as db:
            relation = self._known(db).relation
            return int(_one(db, f"SELECT count(*) FROM {relation.name}"))

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
            if not _is_there(db, self._names.outbox):
                return 0, None
            found: Any = db.execute(
                "SELECT coalesce(sum(greatest(1, coalesce(cardinality(k1), 1))), 0),"
                f" extract(epoch FROM min(at))::float8 FROM {self._names.outbox}",
                (),
            ).fetchone()
        return int(found[0]), found[1]

    def tail(self) -> int:
        """The newest entry of the outbox that can be seen; 0 when it is empty."""
        with self._database.session() as db:
            sql = f"SELECT seq FROM {self._names.outbox} ORDER BY seq DESC LIMIT 1"
            found = db.execute(sql, ()).fetchone()
        return 0 if found is None else int(found[0])

    def is_past(self, seq: int) -> bool:
        """Whether no entry up to `seq` can be seen in the outbox any more."""
        with self._database.session() as db:
            sql = f"SELECT FROM {self._names.outbox} WHERE seq <= %s LIMIT 1"
            return db.execute(sql, (seq,)).fetchone() is None

    def close(self) -> None:
        """Close the connections."""
        if self._listener is not None:
            self._listener.close()
        self._database.close()

    def _is_whole(self, db: Connection) -> bool:
        """Whether triggers, function, partitions and columns are as they were installed."""
        if not _is_there(db, _SOURCE) or not _is_there(db, self._names.outbox):
            return False
        found: Any = self._state(db)
        return found is not None and found[0] == found[1]

    def _state(self, db: Connection) -> Any:
        table = self._shape.relation.name if self._shape is not None else self.spec.table
        values = (self._names.function.replace("%%", "%"), table, table, table, *self._id)
        return db.execute(_STATE, values).fetchone()

    def _install(self) -> None:
        with self._database.write() as db:
            if db.info.server_version < LEAST_SERVER:
                raise DatabaseError(
                    f"Postgres {db.info.server_version // 10_000} is too old; at least "
                    f"{LEAST_SERVER // 10_000} is needed"
                )
            was = self._remembered(db)
            shape = self._read_shape(db, was)
            require_rights(db, shape.relation, triggers=True)
            make_schema(db, self.spec.source)
            self._make(db, shape)
            self._shape = shape
            signature = self._state(db)[1]
            db.execute(
                f"UPDATE {_SOURCE} SET signature = %s, relation = %s WHERE name = %s AND"
                " generation = %s",
                (signature, shape.relation.oid, *self._id),
            )
            db.execute(f"INSERT INTO {self._names.outbox} (op) VALUES ('all')", ())
        _log.info(fields("triggers installed", binding=self.spec.name, table=shape.relation.name))

    def _make(self, db: Connection, shape: _Shape) -> None:
        # Two workers that begin at once would make the same things.
        db.execute("SELECT pg_advisory_xact_lock(hashtext('likewise.source'))")
        db.execute(
            f"CREATE TABLE IF NOT EXISTS {_SOURCE} (name text, generation int, place text NOT NULL,"
            " signature text, relation oid, PRIMARY KEY (name, generation))"
        )
        db.execute(outbox_table(self._names, shape.reading.kinds), ())
        db.execute(
            f"INSERT INTO {_SOURCE} (name, generation, place) VALUES (%s, %s, %s)"
            " ON CONFLICT DO NOTHING",
            (*self._id, secrets.token_hex(8)),
        )
        by_row = shape.relation.is_by_row
        notify = self.spec.wake == "notify"
        db.execute(function(self._names, shape.reading, by_row=by_row, notify=notify), ())
        self._drop_triggers(db)
        for statement in triggers(
            self._names, shape.relation.name, shape.relation.partitions, by_row=by_row
        ):
            db.execute(statement, ())

    def _drop_triggers(self, db: Connection) -> None:
        """Those of other shapes too: of a table that has become a partition, for one."""
        found = db.execute(
            "SELECT tgname, tgrelid::regclass::text FROM pg_trigger"
            " WHERE tgfoid = to_regproc(%s)::oid AND tgparentid = 0",
            (self._names.function.replace("%%", "%"),),
        ).fetchall()
        for name, table in found:
            db.execute(f"DROP TRIGGER {quoted(str(name))} ON {table}", ())

    def _remembered(self, db: Connection) -> int | None:
        if not _is_there(db, _SOURCE):
            return None
        sql = f"SELECT relation FROM {_SOURCE} WHERE name = %s AND generation = %s"
        found = db.execute(sql, self._id).fetchone()
        return None if found is None or found[0] is None else int(found[0])

    def _known(self, db: Connection) -> _Shape:
        if self._shape is None:
            self._shape = self._read_shape(db)
        return self._shape

    def _read_shape(self, db: Connection, was: int | None = None) -> _Shape:
        relation = read_relation(db, self.spec.table, was=was)
        key = relation.key(self.spec.key)
        watched = {name: relation.column(name) for name in self._template.columns}
        used = {column.name for column in (*key, *watched.values())}
        others = tuple(column for column in relation.columns if column.name not in used)
        self._require_same_key(db, tuple(column.kind for column in key))
        return _Shape(relation, Reading(relation.name, key, watched, others))

    def _require_same_key(self, db: Connection, kinds: Sequence[str]) -> None:
        """The outbox was made for as many key columns."""
        found: Any = db.execute(
            "SELECT count(*) FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0"
            " AND NOT attisdropped",
            (self._names.outbox.replace("%%", "%"),),
        ).fetchone()
        if found[0] and found[0] != 3 + len(kinds):
            raise SchemaDrift(
                f"the key of table {self.spec.table} is another than when binding "
                f"{self.spec.name} was made. Drop the binding and bind again."
            )

    def _place(self, db: Connection) -> str | None:
        """The place token, locked for as long as the transaction lasts; None: somebody has it."""
        sql = f"SELECT place FROM {_SOURCE} WHERE name = %s AND generation = %s"
        found = db.execute(f"{sql} FOR UPDATE SKIP LOCKED", self._id).fetchone()
        return None if found is None else str(found[0])

    def _locked(self, db: Connection, limit: int) -> list[Any]:
        """The oldest rows with about `limit` keys together, which nobody else is lent."""
        found: list[Any] = []
        total = 0
        while total < limit:
            sql = (
                f"SELECT seq, op, extract(epoch FROM at)::float8, o.* FROM {self._names.outbox} o"
                " WHERE seq > %s ORDER BY seq LIMIT 200"
            )
            rows: list[Any] = db.execute(sql, (found[-1][0] if found else 0,)).fetchall()
            for row in rows:
                found.append(row)
                total += len(row[6] or ()) if len(row) > 6 else 1
                if total >= limit:
                    break
            if len(rows) < 200:
                break
        return found


def _expanded(row: Any) -> Iterator[Change]:
    """The changes of one statement: `row` is seq, op, at, then the outbox's columns."""
    seq, op, at, _, _, _, *columns = row
    if op == "all":
        yield Change(seq, (), "all", at)
        return
    for key in zip(*columns, strict=True):
        yield Change(seq, tuple(key), cast(Op, op), at)


def _is_there(db: Connection, name: str) -> bool:
    found = db.execute("SELECT to_regclass(%s) IS NOT NULL", (name.replace("%%", "%"),)).fetchone()
    return found is not None and bool(found[0])


def _one(db: Connection, sql: str) -> Any:
    found = db.execute(sql, ()).fetchone()
    return None if found is None else found[0]
