"""Which bindings a DuckDB file has: the statements of its registry."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from likewise.base.clock import Clock, wall
from likewise.base.spec import path_of
from likewise.sql.duckdb import Database, value
from likewise.sql.duckdb_memo import Memo
from likewise.stores.bindings import StoredBindings
from likewise.stores.duckdb import DuckdbTable
from likewise.stores.duckdb_schema import BINDING, META, SCHEMA, STEPS, Tables, migrate, version_of

if TYPE_CHECKING:
    import duckdb

    from likewise.base.bound import BindingRecord, GenerationState
    from likewise.base.space import Space
    from likewise.base.spec import BindingSpec
    from likewise.base.types import Shape

_ONE = "name = ? AND generation = ?"


class DuckdbBindings(StoredBindings):
    """The bindings of the file that `address` (`duckdb:PATH`) names.

    A view a binding shows the generation that is current.
    """

    def __init__(self, address: str, *, clock: Clock = wall) -> None:
        self.address = address
        self._path = path_of(address)
        self._clock = clock
        database = Database(self._path)
        self._memo = Memo(database)
        super().__init__(database, shown=str(self._path), stored_at=f"duckdb:{self._path}")

    def generations(self, name: str) -> list[BindingRecord]:
        """Every generation of the binding, oldest first."""
        return list(self._memo.get(name, lambda: super(DuckdbBindings, self).generations(name)))

    def table(self, record: BindingRecord) -> DuckdbTable:
        """The vectors of a generation."""
        return DuckdbTable(record, self._path)

    def _prepare(self, db: duckdb.DuckDBPyConnection) -> None:
        migrate(db)

    def _is_old(self, db: duckdb.DuckDBPyConnection) -> bool:
        return 0 < version_of(db) < len(STEPS)

    def _names(self, db: duckdb.DuckDBPyConnection) -> list[str]:
        if version_of(db) == 0:
            return []
        found = db.execute(f"SELECT DISTINCT name FROM {BINDING} ORDER BY 1").fetchall()
        return [str(row[0]) for row in found]

    def _lines(self, db: duckdb.DuckDBPyConnection, name: str) -> Sequence[Any]:
        return db.execute(
            f"SELECT spec, space, created, kinds, generation, state FROM {BINDING} WHERE name = ?"
            " ORDER BY generation",
            [name],
        ).fetchall()

    def _make(
        self,
        db: duckdb.DuckDBPyConnection,
        spec: BindingSpec,
        shape: Shape,
        space: Space,
        generation: int,
        state: GenerationState,
    ) -> BindingRecord:
        db.execute(
            f"INSERT INTO {BINDING} (name, generation, state, spec, space, kinds, fingerprint,"
            " created, paused) SELECT ?, ?, ?, ?, ?, ?, ?, ?, coalesce(bool_or(paused), false)"
            f" FROM {BINDING} WHERE name = ?",
            [
                spec.name,
                generation,
                state,
                spec.to_json(),
                space.to_json(),
                json.dumps(shape.kinds),
                space.fingerprint,
                self._clock(),
                spec.name,
            ],
        )
        record = self._require(db, spec.name, generation)
        for statement in Tables.of_record(record).statements(space.dimensions):
            db.execute(statement)
        if state == "current":
            self._show(db, record)
        return record

    def _set(
        self, db: duckdb.DuckDBPyConnection, record: BindingRecord, column: str, value: object
    ) -> None:
        db.execute(
            f"UPDATE {BINDING} SET {column} = ? WHERE {_ONE}",
            [value, record.spec.name, record.generation],
        )

    def _show(self, db: duckdb.DuckDBPyConnection, record: BindingRecord) -> None:
        db.execute(Tables.of_record(record).view_statement())

    def _remove(self, db: duckdb.DuckDBPyConnection, record: BindingRecord) -> None:
        tables = Tables.of_record(record)
        if record.state == "current":
            db.execute(f"DROP VIEW IF EXISTS {tables.view}")
        for statement in tables.drops():
            db.execute(statement)
        db.execute(f"DELETE FROM {BINDING} WHERE {_ONE}", [record.spec.name, record.generation])

    def _remove_registry(self, db: duckdb.DuckDBPyConnection) -> None:
        for table in (BINDING, META):
            db.execute(f"DROP TABLE {table}")
        # A view of the user's own may stand in it.
        left = value(
            db,
            "SELECT (SELECT count(*) FROM duckdb_tables() WHERE schema_name = $1 AND database_name"
            " = current_database()) + (SELECT count(*) FROM duckdb_views() WHERE schema_name = $1"
            " AND database_name = current_database())",
            [SCHEMA],
        )
        if left == 0:
            db.execute(f"DROP SCHEMA {SCHEMA}")
