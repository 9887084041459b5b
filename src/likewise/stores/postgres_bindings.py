"""Which bindings a Postgres database has, and their generations: make, find, switch and drop."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from likewise.base.bound import BindingRecord, GenerationState
from likewise.base.errors import BindingError, BindingExists, BindingNotFound, SettingsError
from likewise.base.names import nearest
from likewise.base.same import require_same
from likewise.base.space import Space
from likewise.base.spec import BindingSpec, without_password
from likewise.sql.postgres import Database, drop_schema_if_empty, make_schema, require_pgvector
from likewise.stores.postgres import PostgresTable
from likewise.stores.postgres_schema import (
    BINDING,
    META,
    MOST_DIMENSIONS,
    STEPS,
    WORKER,
    Tables,
    migrate,
    run,
    version_of,
)

if TYPE_CHECKING:
    from likewise.base.types import Shape
    from likewise.sql.postgres import Connection

_COLUMNS = "spec, space, extract(epoch FROM created)::float8, kinds, generation, state"


class PostgresBindings:
    """The bindings of the database that `address` (`postgresql://…`) names."""

    def __init__(self, address: str) -> None:
        self.address = without_password(address)
        self._address = address
        self._database = Database(address)

    def create(self, spec: BindingSpec, shape: Shape, space: Space) -> BindingRecord:
        """Make a binding's tables, or find it there with the same definition."""
        spec = dataclasses.replace(spec, table=shape.table, key=shape.key)
        with self._database.write() as db:
            self._prepare(db)
            if spec.name in self._names(db):
                there = self._current(db, spec.name)
                require_same(there, spec, space)
                return there
            return self._make(db, spec, shape, space, 1, "current")

    def records(self) -> list[BindingRecord]:
        """The current generation of every binding, by name."""
        self._migrate()
        with self._database.read() as db:
            return [self._current(db, name) for name in self._names(db)]

    def get(self, name: str) -> BindingRecord:
        """The current generation of the binding."""
        self._migrate()
        with self._database.read() as db:
            return self._current(db, name)

    def generations(self, name: str) -> list[BindingRecord]:
        """Every generation of the binding, oldest first."""
        self._migrate()
        with self._database.read() as db:
            return self._generations(db, name)

    def add_generation(self, spec: BindingSpec, shape: Shape, space: Space) -> BindingRecord:
        """Make the tables of another generation beside the current one."""
        spec = dataclasses.replace(spec, table=shape.table, key=shape.key)
        with self._database.write() as db:
            self._prepare(db)
            there = self._generations(db, spec.name)
            if any(record.state == "building" for record in there):
                raise BindingExists(
                    f"binding {spec.name}: another generation is being built already; let it "
                    f"finish, or give it up with 'likewise bind swap {spec.name} --abort'"
                )
            number = 1 + max(record.generation for record in there)
            return self._make(db, spec, shape, space, number, "building")

    def cut_over(self, name: str, generation: int) -> None:
        """Make it the current one, in one transaction; the view shows it then."""
        with self._database.write() as db:
            record = self._require(db, name, generation)
            db.execute(
                f"UPDATE {BINDING} SET state = CASE WHEN generation = %s THEN 'current' ELSE"
                " 'previous' END WHERE name = %s AND (generation = %s OR state = 'current')",
                (generation, name, generation),
            )
            run(db, Tables.of_record(record).view_statements())

    def drop_generation(self, name: str, generation: int) -> None:
        """Remove a generation that isn't current: its log and vectors."""
        with self._database.write() as db:
            record = self._require(db, name, generation)
            if record.state == "current":
                raise BindingError(
                    f"binding {name}: generation {generation} is the one that answers; it can only "
                    "go with the binding"
                )
            self._remove(db, record)

    def drop(self, name: str) -> None:
        """Remove a binding: log and vectors; with the last one everything of ours goes."""
        with self._database.write() as db:
            for record in self._generations(db, name):
                if record.state == "current":
                    db.execute(f"DROP VIEW IF EXISTS {Tables.of_record(record).view}", ())
                self._remove(db, record)
            if not self._names(db):
                for table in (WORKER, BINDING, META):
                    db.execute(f"DROP TABLE {table}")
                drop_schema_if_empty(db)

    def pause(self, name: str, paused: bool) -> None:
        """Stop workers of the binding at their next step, or let them go on."""
        with self._database.write() as db:
            self._current(db, name)
            db.execute(f"UPDATE {BINDING} SET paused = %s WHERE name = %s", (paused, name))

    def table(self, record: BindingRecord) -> PostgresTable:
        """The vectors of a generation."""
        return PostgresTable(record, self._address)

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    def _prepare(self, db: Connection) -> None:
        require_pgvector(db, self._address)
        make_schema(db, self._address)
        migrate(db)

    def _migrate(self) -> None:
        with self._database.read() as db:
            if not 0 < version_of(db) < len(STEPS):
                return
        with self._database.write() as db:
            migrate(db)

    def _make(
        self,
        db: Connection,
        spec: BindingSpec,
        shape: Shape,
        space: Space,
        generation: int,
        state: GenerationState,
    ) -> BindingRecord:
        if space.dimensions > MOST_DIMENSIONS:
            raise SettingsError(
                f"{space.model} gives {space.dimensions} dimensions; pgvector holds up to "
                f"{MOST_DIMENSIONS:,}",
                param="model",
            )
        kinds = shape.kinds
        tables = Tables(spec.name, generation, spec.key, kinds, spec.is_one_database)
        run(db, tables.statements(space.dimensions))
        if state == "current":
            run(db, tables.view_statements())
        db.execute(
            f"INSERT INTO {BINDING} (name, generation, state, spec, space, kinds, fingerprint,"
            " reconcile_wanted, paused) SELECT %s, %s, %s, %s, %s, %s, %s, 1,"
            f" coalesce(bool_or(paused), false) FROM {BINDING} WHERE name = %s",
            (
                spec.name,
                generation,
                state,
                spec.to_json(),
                space.to_json(),
                json.dumps(kinds),
                space.fingerprint,
                spec.name,
            ),
        )
        return self._require(db, spec.name, generation)

    def _remove(self, db: Connection, record: BindingRecord) -> None:
        run(db, Tables.of_record(record).drops())
        values = (record.spec.name, record.generation)
        for table in (WORKER, BINDING):
            db.execute(f"DELETE FROM {table} WHERE name = %s AND generation = %s", values)

    def _names(self, db: Connection) -> list[str]:
        if version_of(db) == 0:
            return []
        return [str(r[0]) for r in db.execute(f"SELECT DISTINCT name FROM {BINDING} ORDER BY 1")]

    def _generations(self, db: Connection, name: str) -> list[BindingRecord]:
        names = self._names(db)
        if name not in names:
            raise BindingNotFound(
                f"{self.address} has no binding {name!r}{nearest(name, names)}; "
                f"it has {', '.join(names) or 'none'}"
            )
        sql = f"SELECT {_COLUMNS} FROM {BINDING} WHERE name = %s ORDER BY generation"
        return [self._record(row) for row in db.execute(sql, (name,))]

    def _current(self, db: Connection, name: str) -> BindingRecord:
        return next(each for each in self._generations(db, name) if each.state == "current")

    def _require(self, db: Connection, name: str, generation: int) -> BindingRecord:
        there = self._generations(db, name)
        for record in there:
            if record.generation == generation:
                return record
        numbers = ", ".join(str(record.generation) for record in there)
        raise BindingNotFound(f"binding {name} has no generation {generation}; it has {numbers}")

    def _record(self, row: Any) -> BindingRecord:
        spec, space, created, kinds, generation, state = row
        return BindingRecord(
            BindingSpec.from_json(spec, self._address),
            Space.from_json(space),
            created,
            tuple(json.loads(kinds)),
            generation,
            state,
        )
