"""A table of a SQLite file as a source: triggers log changes, the worker reads rows again."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import apsw

from likewise.base.errors import BindingNotFound, SchemaDrift
from likewise.base.log import fields, logger
from likewise.base.types import Change, Key, Op, Row
from likewise.sources.triggers import triggers
from likewise.sql.names import BINDING, Layout, listed, quote
from likewise.sql.schema import read_table
from likewise.sql.sqlite import UTF8, Database, connect, errors_of
from likewise.text.canon import canonical, fingerprint
from likewise.text.template import Template

if TYPE_CHECKING:
    from likewise.base.spec import BindingSpec
    from likewise.sql.schema import Table

PAGE = 500
_log = logger("sources.sqlite")


@dataclass(frozen=True, slots=True)
class _Shape:
    """What reading and capturing need to know of the table, as of one state of the schema."""

    schema_version: int
    generation: int
    table: Table
    layout: Layout
    watched: dict[str, str]
    """Template column → the table's own spelling."""
    others: tuple[str, ...]
    """Columns that aren't in the key or the template."""


class SqliteSource:
    """Rows of `spec.table` in the file at `path`. Safe to use from several threads."""

    def __init__(self, path: Path | str, spec: BindingSpec) -> None:
        self.spec = spec
        self._template = Template(spec.text)
        self._database = Database(path)
        self._shape: _Shape | None = None
        self._attached: tuple[int, int] | None = None
        self._watch_lock = threading.Lock()
        self._watch: tuple[int, apsw.Connection] | None = None

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
        """Drop the triggers; the log and the vectors stay with their binding."""
        self._attached = None
        with self._database.write() as db:
            for name in self._found(db):
                db.execute(f"DROP TRIGGER {name}")

    def changes(self, after: int, *, limit: int) -> list[Change]:
        """Log entries with `seq > after`, in order, at most `limit`."""
        with self._database.read() as db:
            layout = self._shape_of(db).layout
            sql = (
                f"SELECT seq, op, at, {layout.key_list} FROM {layout.log}"
                " WHERE seq > ? ORDER BY seq LIMIT ?"
            )
            try:
                rows: list[Any] | None = db.execute(sql, (after, limit)).fetchall()
            except UnicodeDecodeError:
                rows = None
        if rows is None:
            self._discard_unreadable(after, limit)
            return self.changes(after, limit=limit)
        return [Change(row[0], tuple(row[3:]), cast(Op, row[1]), row[2]) for row in rows]

    def read(self, keys: Sequence[Key]) -> dict[Key, Row]:
        """The rows as they are now; keys that have no row are left out.

        `Row.values` has every column; a BLOB outside key and template is given as None.
        """
        with self._database.read() as db:
            shape = self._shape_of(db)
            where = " AND ".join(f"{quote(column)} = ?" for column in shape.layout.key)
            values = list(_rows(db, shape, where, keys, wide=True))
        found = {row.key: row for row in (self._row_of(shape, each) for each in values)}
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
                rows = list(_rows(db, shape, where, [last or ()], tail=tail))
            for values in rows:
                yield self._row_of(shape, values)
            if len(rows) < PAGE:
                return
            last = tuple(rows[-1][: len(shape.layout.key)])

    def enqueue(self, keys: Sequence[Key]) -> int:
        """Log each key as perhaps changed, in small transactions; gives how many."""
        for at in range(0, len(keys), PAGE):
            with self._database.write() as db:
                layout = self._shape_of(db).layout
                db.executemany(
                    f"INSERT INTO {layout.log} ({layout.key_list}, op)"
                    f" VALUES ({layout.key_marks}, 'upsert')",
                    keys[at : at + PAGE],
                )
        return len(keys)

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
        generation = self._database.check()
        with self._watch_lock, errors_of(self._database.path):
            # data_version compares with what this very connection saw before.
            if self._watch is None or self._watch[0] != generation:
                self._close_watch()
                self._watch = (generation, connect(self._database.path))
            return generation, int(self._watch[1].pragma("data_version"))

    def close(self) -> None:
        """Close the connections."""
        with self._watch_lock:
            self._close_watch()
        self._database.close()

    def _close_watch(self) -> None:
        if self._watch is not None:
            self._watch[1].close()
            self._watch = None

    def _install(self) -> None:
        with self._database.write() as db:
            table, wanted = self._shape_of(db).table, self._wanted(db)
            for name in self._found(db):
                db.execute(f"DROP TRIGGER {name}")
            for statement in wanted.values():
                db.execute(statement)
            db.execute(
                f"UPDATE {BINDING} SET reconcile_wanted = reconcile_wanted + 1 WHERE name = ?",
                (self.spec.name,),
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
        return triggers(shape.layout, shape.table, list(shape.watched.values()))

    def _found(self, db: apsw.Connection) -> dict[str, str]:
        """This binding's triggers as the file has them."""
        prefix = f"likewise_{self.spec.name}_"
        found = db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'")
        return {
            str(name): str(sql)
            for name, sql in found
            if str(name).startswith(prefix) and "_" not in str(name)[len(prefix) :]
        }

    def _shape_of(self, db: apsw.Connection) -> _Shape:
        version = int(db.pragma("schema_version"))
        generation = self._database.generation
        shape = self._shape
        if shape is None or (shape.schema_version, shape.generation) != (version, generation):
            shape = self._shape = self._read_shape(db, version, generation)
        return shape

    def _read_shape(self, db: apsw.Connection, version: int, generation: int) -> _Shape:
        table = read_table(db, self.spec.table)
        layout = Layout(self.spec.name, table.key(self.spec.key))
        logged = [row[1] for row in db.execute(f"PRAGMA table_info({layout.log})")]
        self._require_same(db, is_there=bool(logged))
        if tuple(logged[1:-2]) != layout.columns:
            raise SchemaDrift(
                f"the key of table {table.name} is now {', '.join(layout.key)}; binding "
                f"{self.spec.name} was made when it was "
                f"{', '.join(c.removeprefix('key_') for c in logged[1:-2])}. "
                "Drop the binding and bind again."
            )
        watched = {name: table.column(name).name for name in self._template.columns}
        used = {*layout.key, *watched.values()}
        others = tuple(c.name for c in table.columns if c.name not in used)
        return _Shape(version, generation, table, layout, watched, others)

    def _require_same(self, db: apsw.Connection, *, is_there: bool) -> None:
        """The file has this binding, and nobody has dropped it and made another of its name."""
        name = self.spec.name
        sql = f"SELECT spec FROM {BINDING} WHERE name = ?"
        found: Any = db.execute(sql, (name,)).get if is_there else None
        if found is None:
            raise BindingNotFound(
                f"{self._database.path} has no binding {name!r}; make it with 'likewise bind add'"
            )
        if json.loads(found)["text"] != self.spec.text:
            raise BindingNotFound(f"binding {name!r} was made anew with another text; restart")

    def _row_of(self, shape: _Shape, values: Sequence[Any]) -> Row:
        width = len(shape.layout.key)
        key = tuple(values[:width])
        columns = [*shape.layout.key, *shape.watched, *shape.others]
        row = dict(zip(columns, values, strict=False))
        text = canonical(self._template.render(row))
        return Row(key, text, row, fingerprint(text))

    def _discard_unreadable(self, after: int, limit: int) -> None:
        """Take entries off the log whose key is text that isn't UTF-8: no program can name them."""
        with self._database.write() as db:
            layout = self._shape_of(db).layout
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
        _log.warning(
            fields("rows left out: key isn't UTF-8", binding=self.spec.name, entries=len(bad))
        )


def _rows(
    db: apsw.Connection,
    shape: _Shape,
    where: str,
    bindings: Sequence[Any],
    *,
    tail: str = "",
    wide: bool = False,
) -> Iterator[Sequence[Any]]:
    """Values of key, template and (`wide`) other columns, the statement run for each binding.

    Text that isn't UTF-8 is mended with U+FFFD; rows whose very key isn't are left out.
    """
    key = [quote(column) for column in shape.layout.key]
    plain = [quote(column) for column in shape.watched.values()]
    if wide:
        plain += [f"CASE WHEN typeof({c}) <> 'blob' THEN {c} END" for c in map(quote, shape.others)]
    source = f"FROM {quote(shape.table.name)} WHERE {where}"
    fast = f"SELECT {', '.join(key + plain)} {source} {tail}"
    careful = [f"CASE WHEN typeof({c}) = 'text' THEN CAST({c} AS BLOB) ELSE {c} END" for c in plain]
    named = "".join(f" AND (typeof({c}) <> 'text' OR {UTF8}(CAST({c} AS BLOB)))" for c in key)
    slow = f"SELECT {', '.join(key + careful)} {source}{named} {tail}"
    for binding in bindings:
        try:
            yield from db.execute(fast, binding).fetchall()
        except UnicodeDecodeError:
            for row in db.execute(slow, binding).fetchall():
                yield [*row[: len(key)], *map(_mended, row[len(key) :])]


def _mended(part: object) -> object:
    return part.decode("utf-8", "replace") if isinstance(part, bytes) else part
