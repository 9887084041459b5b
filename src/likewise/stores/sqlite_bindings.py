"""Which bindings a SQLite file has, and their generations: make, find, switch and drop them."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any, cast

from likewise.base.bound import BindingRecord, GenerationState
from likewise.base.clock import Clock, wall
from likewise.base.errors import BindingError, BindingExists, BindingNotFound
from likewise.base.names import nearest
from likewise.base.same import require_same
from likewise.base.space import Space
from likewise.base.spec import BindingSpec, path_of
from likewise.sql.names import BINDING, META, Layout
from likewise.sql.sqlite import Database
from likewise.stores.migrations import STEPS, migrate, version_of
from likewise.stores.sqlite import SqliteTable

if TYPE_CHECKING:
    import apsw

    from likewise.base.types import Shape

_COLUMNS = "spec, space, created, kinds, generation, state"


class SqliteBindings:
    """The bindings of the file that `address` (`sqlite:PATH`) names."""

    def __init__(self, address: str, *, clock: Clock = wall) -> None:
        self.address = address
        self._path = path_of(address)
        self._database = Database(self._path)
        self._clock = clock

    def create(self, spec: BindingSpec, shape: Shape, space: Space) -> BindingRecord:
        """Make a binding's tables, or find it there with the same definition."""
        spec = dataclasses.replace(spec, table=shape.table, key=shape.key)
        with self._database.write() as db:
            migrate(db)
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
            migrate(db)
            there = self._generations(db, spec.name)
            if any(record.state == "building" for record in there):
                raise BindingExists(
                    f"binding {spec.name}: another generation is being built already; let it "
                    f"finish, or give it up with 'likewise bind swap {spec.name} --abort'"
                )
            number = 1 + max(record.generation for record in there)
            return self._make(db, spec, shape, space, number, "building")

    def cut_over(self, name: str, generation: int) -> None:
        """Make it the current one, in one transaction."""
        with self._database.write() as db:
            self._require(db, name, generation)
            db.execute(
                f"UPDATE {BINDING} SET state = CASE WHEN generation = ? THEN 'current' ELSE"
                " 'previous' END WHERE name = ? AND (generation = ? OR state = 'current')",
                (generation, name, generation),
            )

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
            if version_of(db):
                migrate(db)
            for record in self._generations(db, name):
                self._remove(db, record)
            if not self._names(db):
                db.execute(f"DROP TABLE {BINDING}")
                db.execute(f"DROP TABLE {META}")

    def pause(self, name: str, paused: bool) -> None:
        """Stop workers of the binding at their next step, or let them go on."""
        self._migrate()
        with self._database.write() as db:
            self._current(db, name)
            db.execute(f"UPDATE {BINDING} SET paused = ? WHERE name = ?", (int(paused), name))

    def table(self, record: BindingRecord) -> SqliteTable:
        """The vectors of a generation."""
        return SqliteTable(record, self._path)

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    def _migrate(self) -> None:
        with self._database.read() as db:
            if not 0 < version_of(db) < len(STEPS):
                return
        with self._database.write() as db:
            migrate(db)

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
        record = BindingRecord(spec, space, self._clock(), shape.kinds, generation, state)
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
                record.created,
                spec.name,
            ),
        )
        return record

    def _remove(self, db: apsw.Connection, record: BindingRecord) -> None:
        layout = Layout(record.spec.name, record.spec.key, record.generation)
        for (trigger,) in db.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'trigger'"
        ).fetchall():
            if layout.owns(str(trigger)):
                db.execute(f"DROP TRIGGER {trigger}")
        for table in layout.tables():
            db.execute(f"DROP TABLE IF EXISTS {table}")
        db.execute(
            f"DELETE FROM {BINDING} WHERE name = ? AND generation = ?",
            (record.spec.name, record.generation),
        )

    def _names(self, db: apsw.Connection) -> list[str]:
        if version_of(db) == 0:
            return []
        return [
            str(row[0]) for row in db.execute(f"SELECT DISTINCT name FROM {BINDING} ORDER BY 1")
        ]

    def _generations(self, db: apsw.Connection, name: str) -> list[BindingRecord]:
        names = self._names(db)
        if name not in names:
            raise BindingNotFound(
                f"{self._path} has no binding {name!r}{nearest(name, names)}; "
                f"it has {', '.join(names) or 'none'}"
            )
        sql = f"SELECT {_COLUMNS} FROM {BINDING} WHERE name = ? ORDER BY generation"
        return [self._record(row) for row in db.execute(sql, (name,)).fetchall()]

    def _current(self, db: apsw.Connection, name: str) -> BindingRecord:
        found = [each for each in self._generations(db, name) if each.state == "current"]
        return found[0]

    def _require(self, db: apsw.Connection, name: str, generation: int) -> BindingRecord:
        there = self._generations(db, name)
        for record in there:
            if record.generation == generation:
                return record
        numbers = ", ".join(str(record.generation) for record in there)
        raise BindingNotFound(f"binding {name} has no generation {generation}; it has {numbers}")

    def _record(self, row: Any) -> BindingRecord:
        spec, space, created, kinds, generation, state = row
        return BindingRecord(
            BindingSpec.from_json(spec, f"sqlite:{self._path}"),
            Space.from_json(space),
            created,
            tuple(json.loads(kinds)),
            generation,
            cast(GenerationState, state),
        )
