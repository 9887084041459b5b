"""Which bindings a SQLite file has: the statements of its registry."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from likewise.base.clock import Clock, wall
from likewise.base.spec import path_of
from likewise.sql.names import BINDING, META, Layout
from likewise.sql.sqlite import Database
from likewise.stores.bindings import StoredBindings
from likewise.stores.migrations import STEPS, migrate, version_of
from likewise.stores.sqlite import SqliteTable

if TYPE_CHECKING:
    import apsw

    from likewise.base.bound import BindingRecord, GenerationState
    from likewise.base.space import Space
    from likewise.base.spec import BindingSpec
    from likewise.base.types import Shape

_ONE = "name = ? AND generation = ?"


class SqliteBindings(StoredBindings):
    """The bindings of the file that `address` (`sqlite:PATH`) names."""

    def __init__(self, address: str, *, clock: Clock = wall) -> None:
        self.address = address
        self._path = path_of(address)
        self._clock = clock
        stored_at = f"sqlite:{self._path}"
        super().__init__(Database(self._path), shown=str(self._path), stored_at=stored_at)

    def table(self, record: BindingRecord) -> SqliteTable:
        """The vectors of a generation."""
        return SqliteTable(record, self._path)

    def _prepare(self, db: apsw.Connection) -> None:
        migrate(db)

    def _is_old(self, db: apsw.Connection) -> bool:
        return 0 < version_of(db) < len(STEPS)

    def _names(self, db: apsw.Connection) -> list[str]:
        if version_of(db) == 0:
            return []
        return [
            str(row[0]) for row in db.execute(f"SELECT DISTINCT name FROM {BINDING} ORDER BY 1")
        ]

    def _lines(self, db: apsw.Connection, name: str) -> Sequence[Any]:
        return db.execute(
            f"SELECT spec, space, created, kinds, generation, state FROM {BINDING} WHERE name = ?"
            " ORDER BY generation",
            (name,),
        ).fetchall()

    def _make(
        self,
        db: apsw.Connection,
        spec: BindingSpec,
        shape: Shape,
        space: Space,
        generation: int,
        state: GenerationState,
    ) -> BindingRecord:
        layout = Layout(spec.name, spec.key, generation)
        for statement in [*layout.tables().values(), *layout.indexes().values()]:
            db.execute(statement)
        db.execute(
            f"INSERT INTO {BINDING} (name, generation, state, spec, space, kinds, fingerprint,"
            " created, reconcile_wanted, paused) SELECT ?, ?, ?, ?, ?, ?, ?, ?, 1,"
            f" coalesce(max(paused), 0) FROM {BINDING} WHERE name = ?",
            (
                spec.name,
                generation,
                state,
                spec.to_json(),
                space.to_json(),
                json.dumps(shape.kinds),
                space.fingerprint,
                self._clock(),
                spec.name,
            ),
        )
        record = self._require(db, spec.name, generation)
        if state == "current":
            self._show(db, record)
        return record

    def _set(self, db: apsw.Connection, record: BindingRecord, column: str, value: object) -> None:
        values: tuple[Any, ...] = (value, record.spec.name, record.generation)
        db.execute(f"UPDATE {BINDING} SET {column} = ? WHERE {_ONE}", values)

    def _show(self, db: apsw.Connection, record: BindingRecord) -> None:
        layout = Layout(record.spec.name, record.spec.key, record.generation)
        db.execute(f"DROP VIEW IF EXISTS {layout.view}")
        db.execute(layout.view_statement())

    def _remove(self, db: apsw.Connection, record: BindingRecord) -> None:
        layout = Layout(record.spec.name, record.spec.key, record.generation)
        if record.state == "current":
            db.execute(f"DROP VIEW IF EXISTS {layout.view}")
        triggers = db.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for (trigger,) in triggers:
            if layout.owns(str(trigger)):
                db.execute(f"DROP TRIGGER {trigger}")
        for table in layout.tables():
            db.execute(f"DROP TABLE IF EXISTS {table}")
        db.execute(f"DELETE FROM {BINDING} WHERE {_ONE}", (record.spec.name, record.generation))

    def _remove_registry(self, db: apsw.Connection) -> None:
        db.execute(f"DROP TABLE {BINDING}")
        db.execute(f"DROP TABLE {META}")
