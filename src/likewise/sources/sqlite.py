"""A table of a SQLite file as a source: triggers log changes, the worker reads rows again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import apsw

from likewise.base.errors import BindingNotFound, NoKey, SchemaDrift
from likewise.base.log import fields, logger
from likewise.base.types import Captured, Key, Row, Shape
from likewise.sources.sqlite_outbox import Outbox
from likewise.sources.sqlite_rows import Reading, rows
from likewise.sources.triggers import triggers
from likewise.sources.ways import Told
from likewise.sql.names import BINDING, Layout, listed, quote
from likewise.sql.schema import BINARY, read_table
from likewise.sql.sqlite import Database, Watch
from likewise.text.template import Template

if TYPE_CHECKING:
    from likewise.base.bound import Capture
    from likewise.base.spec import BindingSpec
    from likewise.sql.schema import Table

PAGE = 500
KNOWN_COLLATIONS = (BINARY, "NOCASE", "RTRIM")
_log = logger("sources.sqlite")


@dataclass(frozen=True, slots=True)
class _Shape:
    """What reading and capturing need to know of the table, as of one state of the schema."""

    schema_version: int
    generation: int
    table: Table
    layout: Layout
    reading: Reading


class SqliteSource(Told):
    """Rows of the table `spec.table`. Safe to use from several threads.

    Triggers write into the store's log where that is in the same file, else into an outbox.
    """

    def __init__(self, spec: BindingSpec, *, generation: int = 1) -> None:
        self.spec = spec
        self.generation = generation
        self.capture: Capture = "log" if spec.is_one_database else "outbox"
        self._template = Template(spec.text)
        self._database = Database(spec.path)
        self._outbox = Outbox(spec.name, generation)
        self._shape: _Shape | None = None
        self._attached: tuple[int, int] | None = None
        self._watch = Watch(self._database)

    def resolve(self) -> Shape:
        """The table as it is now.

        Raises:
            NoKey: nothing names a row for good, or a collation is known to the application only.
            SchemaDrift: the table or a column isn't there.
        """
        with self._database.read() as db:
            table = read_table(db, self.spec.table)
        key = table.key(self.spec.key)
        for name in self._template.columns:
            table.column(name)
        for column, collation in zip(key, table.collations_of(key), strict=True):
            if collation.upper() not in KNOWN_COLLATIONS:
                raise NoKey(
                    f"key column {column} of table {table.name} has the collation {collation}, "
                    "which only your application knows; name another key"
                )
        kinds = tuple("int" if table.is_rowid(column) else "any" for column in key)
        unguarded = tuple(f"REPLACE through index {name}" for name in table.unguarded)
        return Shape(table.name, key, kinds, unguarded)

    def attach(self) -> bool:
        """Install the triggers, or mend them; True when changes may have been missed before.

        Cheap when nothing changed in the schema. That changes may have been missed is also noted
        in the file, in the same transaction, so that a crash can't forget it.

        Raises:
            NoKey: nothing names a row for good.
            SchemaDrift: the table or a column isn't there.
            BindingNotFound: the file has no such binding.
        """
        with self._database.read() as db:
            state = (self._database.generation, int(db.pragma("schema_version")))
            replaced = self._attached is not None and self._attached[0] != state[0]
            if state == self._attached:
                return replaced
            wanted = self._wanted(db)
            whole = self._found(db) == wanted
        if not whole:
            self._install()
        # Read before the check: a change after it is seen at the next call.
        self._attached = state if whole else None
        return replaced or not whole

    def detach(self) -> None:
        """Drop the triggers, and an outbox; a log stays with its vectors."""
        self._attached = None
        with self._database.write() as db:
            for name in self._found(db):
                db.execute(f"DROP TRIGGER {name}")
            self._outbox.drop(db)

    @contextmanager
    def captured(self, *, limit: int) -> Iterator[Captured]:
        """Lend what is in the outbox; it is taken off when the block ends well."""
        if self.capture != "outbox":
            yield Captured()
            return
        with self._database.read() as db:
            shape = self._shape_of(db)
            found = self._outbox.read(db, shape.layout, limit)
        yield found
        if found.changes:
            with self._database.write() as db:
                self._outbox.take_off(db, found)

    def waiting(self) -> tuple[int, float | None]:
        """Changes in the outbox, and when the oldest was written."""
        if self.capture != "outbox":
            return 0, None
        with self._database.read() as db:
            return self._outbox.waiting(db)

    def tail(self) -> int:
        """The newest entry of the outbox; 0 when it is empty."""
        if self.capture != "outbox":
            return 0
        with self._database.read() as db:
            return self._outbox.tail(db)

    def is_past(self, seq: int) -> bool:
        """Whether no entry up to `seq` is in the outbox any more."""
        if self.capture != "outbox":
            return True
        with self._database.read() as db:
            return self._outbox.is_past(db, seq)

    def read(self, keys: Sequence[Key]) -> dict[Key, Row]:
        """The rows as they are now; keys that have no row are left out.

        `Row.values` has every column; a BLOB outside key and template is given as None.
        """
        with self._database.read() as db:
            shape = self._shape_of(db)
            where = " AND ".join(f"{quote(column)} = ?" for column in shape.layout.key)
            values = list(rows(db, shape.reading, where, keys, wide=True))
        found = {
            row.key: row for row in (shape.reading.row(self._template, each) for each in values)
        }
        # A column's own collation may have found the row 'a' for the key 'A'.
        return {key: found[key] for key in keys if key in found}

    def snapshot(self) -> Iterator[Row]:
        """Every row that has a name, in key order, read in pages, each as of some moment.

        No transaction stays open in between, so nobody waits for a slow reader.
        """
        last: Key | None = None
        while True:
            with self._database.read() as db:
                shape = self._shape_of(db)
                key = listed(shape.layout.key)
                named = [f"{quote(column)} IS NOT NULL" for column in shape.layout.key]
                after = [] if last is None else [f"({key}) > ({shape.layout.key_marks})"]
                where = " AND ".join(named + after)
                tail = f"ORDER BY {key} LIMIT {PAGE}"
                page = list(rows(db, shape.reading, where, [last or ()], tail=tail))
            for values in page:
                yield shape.reading.row(self._template, values)
            if len(page) < PAGE:
                return
            last = tuple(page[-1][: len(shape.layout.key)])

    def count(self) -> int:
        """Rows in the table."""
        with self._database.read() as db:
            table = self._shape_of(db).table
            return int(db.execute(f"SELECT count(*) FROM {quote(table.name)}").get)

    def unnamed(self) -> int:
        """Rows with NULL in the key: nothing names them, so they can't be bound."""
        with self._database.read() as db:
            shape = self._shape_of(db)
            null = " OR ".join(f"{quote(column)} IS NULL" for column in shape.layout.key)
            sql = f"SELECT count(*) FROM {quote(shape.table.name)} WHERE {null}"
            return int(db.execute(sql).get)

    def stamp(self) -> tuple[int, int]:
        """A value that differs once another connection has committed; costs microseconds."""
        return self._watch.stamp()

    def close(self) -> None:
        """Close the connections."""
        self._watch.close()
        self._database.close()

    def _install(self) -> None:
        with self._database.write() as db:
            if self.capture == "outbox":
                self._outbox.make(db, self._layout_of(db))
            table, wanted = self._shape_of(db).table, self._wanted(db)
            for name in self._found(db):
                db.execute(f"DROP TRIGGER {name}")
            for statement in wanted.values():
                db.execute(statement)
            if self.capture == "outbox":
                self._outbox.note_all(db)
            else:
                db.execute(
                    f"UPDATE {BINDING} SET reconcile_wanted = reconcile_wanted + 1"
                    " WHERE name = ? AND generation = ?",
                    (self.spec.name, self.generation),
                )
        _log.info(fields("triggers installed", binding=self.spec.name, count=len(wanted)))
        if table.unguarded:
            _log.warning(
                fields(
                    "REPLACE through these indexes is only noticed by reconciling",
                    binding=self.spec.name,
                    indexes=",".join(table.unguarded),
                )
            )

    def _wanted(self, db: apsw.Connection) -> dict[str, str]:
        shape = self._shape_of(db)
        log = shape.layout.log if self.capture == "log" else shape.layout.outbox
        return triggers(shape.layout, log, shape.table, list(shape.reading.watched.values()))

    def _found(self, db: apsw.Connection) -> dict[str, str]:
        """This generation's triggers as the file has them."""
        owns = Layout(self.spec.name, (), self.generation).owns
        found = db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'")
        return {str(name): str(sql) for name, sql in found if owns(str(name))}

    def _layout_of(self, db: apsw.Connection) -> Layout:
        key = read_table(db, self.spec.table).key(self.spec.key)
        return Layout(self.spec.name, key, self.generation)

    def _shape_of(self, db: apsw.Connection) -> _Shape:
        version = int(db.pragma("schema_version"))
        generation = self._database.generation
        shape = self._shape
        if shape is None or (shape.schema_version, shape.generation) != (version, generation):
            shape = self._shape = self._read_shape(db, version, generation)
        return shape

    def _read_shape(self, db: apsw.Connection, version: int, generation: int) -> _Shape:
        table = read_table(db, self.spec.table)
        layout = Layout(self.spec.name, table.key(self.spec.key), self.generation)
        log = layout.log if self.capture == "log" else layout.outbox
        logged = tuple(row[1] for row in db.execute(f"PRAGMA table_info({log})"))[1:-2]
        if self.capture == "log":
            self._require_same(db, is_there=bool(logged))
        if logged and logged != layout.columns:
            raise SchemaDrift(
                f"the key of table {table.name} is now {', '.join(layout.key)}; binding "
                f"{self.spec.name} was made when it was "
                f"{', '.join(c.removeprefix('key_') for c in logged)}. "
                "Drop the binding and bind again."
            )
        watched = {name: table.column(name).name for name in self._template.columns}
        used = {*layout.key, *watched.values()}
        others = tuple(c.name for c in table.columns if c.name not in used)
        reading = Reading(quote(table.name), layout.key, watched, others)
        return _Shape(version, generation, table, layout, reading)

    def _require_same(self, db: apsw.Connection, *, is_there: bool) -> None:
        """The file has this binding, and nobody has dropped it and made another of its name."""
        name = self.spec.name
        sql = f"SELECT spec FROM {BINDING} WHERE name = ? AND generation = ?"
        found: Any = db.execute(sql, (name, self.generation)).get if is_there else None
        if found is None:
            raise BindingNotFound(
                f"{self._database.path} has no binding {name!r}; make it with 'likewise bind add'"
            )
        if json.loads(found)["text"] != self.spec.text:
            raise BindingNotFound(f"binding {name!r} was made anew with another text; restart")
