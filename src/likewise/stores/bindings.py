"""Which bindings a SQLite file has: make, find, list and drop them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likewise.base.clock import Clock, wall
from likewise.base.errors import BindingExists, BindingNotFound, NoKey
from likewise.base.names import nearest
from likewise.base.space import Space
from likewise.base.spec import BindingSpec
from likewise.sql.names import BINDING, META, Layout
from likewise.sql.schema import BINARY, read_table
from likewise.sql.sqlite import Database
from likewise.stores.migrations import migrate, version_of
from likewise.text.template import Template

if TYPE_CHECKING:
    import apsw

KNOWN_COLLATIONS = (BINARY, "NOCASE", "RTRIM")


@dataclass(frozen=True, slots=True)
class BindingRecord:
    """A binding as the file has it."""

    spec: BindingSpec
    """With the key columns filled in."""
    space: Space
    created: float
    """Seconds since 1970, UTC."""

    @property
    def layout(self) -> Layout:
        """Its tables."""
        return Layout(self.spec.name, self.spec.key)


def create_binding(spec: BindingSpec, space: Space, *, clock: Clock = wall) -> BindingRecord:
    """Make the binding's tables in the file, or find it there with the same definition.

    `space` has its chunker set. The triggers come when a worker attaches; it then finds the rows
    that are there already.

    Raises:
        BindingExists: one of that name has another definition.
        SpaceMismatch: it has the same definition for another model or setting.
        NoKey: nothing names a row of the table for good.
        SchemaDrift: no such table or column.
        DatabaseError: the file is missing, locked, read-only, full or damaged.
    """
    template = Template(spec.text)
    database = Database(spec.path)
    try:
        with database.write() as db:
            table = read_table(db, spec.table)
            key = table.key(spec.key)
            for name in template.columns:
                table.column(name)
            _refuse_unknown_collations(table.name, key, table.collations_of(key))
            spec = dataclasses.replace(spec, table=table.name, key=key)
            migrate(db)
            if any(name == spec.name for name in _names(db)):
                return _same(_record(db, spec.path, spec.name), spec, space)
            layout = Layout(spec.name, key)
            for statement in [*layout.tables().values(), *layout.indexes().values()]:
                db.execute(statement)
            record = BindingRecord(spec, space, clock())
            db.execute(
                f"INSERT INTO {BINDING} (name, spec, space, fingerprint, created, reconcile_wanted)"
                " VALUES (?, ?, ?, ?, ?, 1)",
                (spec.name, spec.to_json(), space.to_json(), space.fingerprint, record.created),
            )
            return record
    finally:
        database.close()


def drop_binding(path: Path | str, name: str) -> None:
    """Remove a binding: triggers, log and vectors; with the last one everything of ours goes.

    Raises:
        BindingNotFound: there is none of that name.
    """
    database = Database(path)
    try:
        with database.write() as db:
            layout = find_record(db, Path(path), name).layout
            drop = [
                f"DROP TRIGGER {trigger}"
                for (trigger,) in db.execute("SELECT name FROM sqlite_schema WHERE type='trigger'")
                if trigger.startswith(layout.of("")) and "_" not in trigger[len(layout.of("")) :]
            ]
            drop += [f"DROP TABLE IF EXISTS {table}" for table in layout.tables()]
            for statement in drop:
                db.execute(statement)
            db.execute(f"DELETE FROM {BINDING} WHERE name = ?", (name,))
            if not _names(db):
                db.execute(f"DROP TABLE {BINDING}")
                db.execute(f"DROP TABLE {META}")
    finally:
        database.close()


def list_bindings(path: Path | str) -> list[BindingRecord]:
    """Every binding of the file, by name; none when it holds nothing of ours."""
    database = Database(path)
    try:
        with database.read() as db:
            return [_record(db, Path(path), name) for name in _names(db)]
    finally:
        database.close()


def get_binding(path: Path | str, name: str) -> BindingRecord:
    """The binding of that name.

    Raises:
        BindingNotFound: there is none; the message names those there are.
    """
    database = Database(path)
    try:
        with database.read() as db:
            return find_record(db, Path(path), name)
    finally:
        database.close()


def find_record(db: apsw.Connection, path: Path, name: str) -> BindingRecord:
    """The binding of that name, read through `db`.

    Raises:
        BindingNotFound: there is none.
    """
    names = _names(db)
    if name not in names:
        raise BindingNotFound(
            f"{path} has no binding {name!r}{nearest(name, names)}; "
            f"it has {', '.join(names) or 'none'}"
        )
    return _record(db, path, name)


def _names(db: apsw.Connection) -> list[str]:
    if version_of(db) == 0:
        return []
    return [row[0] for row in db.execute(f"SELECT name FROM {BINDING} ORDER BY name")]


def _record(db: apsw.Connection, path: Path, name: str) -> BindingRecord:
    sql = f"SELECT spec, space, created FROM {BINDING} WHERE name = ?"
    row: Any = db.execute(sql, (name,)).fetchone()
    spec = BindingSpec.from_json(row[0], f"sqlite:{path}")
    return BindingRecord(spec, Space.from_json(row[1]), row[2])


def _same(there: BindingRecord, spec: BindingSpec, space: Space) -> BindingRecord:
    """`there` when it is what was asked for."""
    old, new = dataclasses.asdict(there.spec), dataclasses.asdict(spec)
    # The model's name is a label; its space says what it is.
    differing = [
        f"{name}: {old[name]!r} there, {new[name]!r} here"
        for name in old
        if name not in {"source", "model"} and old[name] != new[name]
    ]
    if differing:
        raise BindingExists(
            f"binding {spec.name} is already there with another definition "
            f"({'; '.join(differing)}). Choose another name, or drop it first with "
            f"'likewise bind drop {spec.name}'."
        )
    there.space.require(space, where=f"binding {spec.name}")
    return there


def _refuse_unknown_collations(table: str, key: tuple[str, ...], used: tuple[str, ...]) -> None:
    for column, collation in zip(key, used, strict=True):
        if collation.upper() not in KNOWN_COLLATIONS:
            raise NoKey(
                f"key column {column} of table {table} has the collation {collation}, which only "
                "your application knows; name another key"
            )
