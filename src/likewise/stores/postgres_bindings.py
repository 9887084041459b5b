"""Which bindings a Postgres database has: the statements of its registry."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from likewise.base.errors import SettingsError
from likewise.base.spec import without_password
from likewise.sql.postgres import Database, drop_schema_if_empty, make_schema, require_pgvector
from likewise.stores.bindings import StoredBindings
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
    from likewise.base.bound import BindingRecord, GenerationState
    from likewise.base.space import Space
    from likewise.base.spec import BindingSpec
    from likewise.base.types import Shape
    from likewise.sql.postgres import Connection

_ONE = "name = %s AND generation = %s"
_OURS = re.compile(r"(?:g\d+)?(?:log|row|chunk|feed|seen|outbox|ticket|waits|capture|hnsw)")
"""What our tables and functions have behind a binding's name."""


class PostgresBindings(StoredBindings):
    """The bindings of the database that `address` (`postgresql://…`) names.

    A view a binding shows the generation that is current.
    """

    def __init__(self, address: str) -> None:
        self.address = without_password(address)
        self._address = address
        super().__init__(Database(address), shown=self.address, stored_at=address)

    def table(self, record: BindingRecord) -> PostgresTable:
        """The vectors of a generation."""
        return PostgresTable(record, self._address)

    def _prepare(self, db: Connection) -> None:
        require_pgvector(db, self._address)
        make_schema(db, self._address)
        migrate(db)

    def _is_old(self, db: Connection) -> bool:
        return 0 < version_of(db) < len(STEPS)

    def _names(self, db: Connection) -> list[str]:
        if version_of(db) == 0:
            return []
        return [str(r[0]) for r in db.execute(f"SELECT DISTINCT name FROM {BINDING} ORDER BY 1")]

    def _lines(self, db: Connection, name: str) -> Sequence[Any]:
        return db.execute(
            "SELECT spec, space, extract(epoch FROM created)::float8, kinds, generation, state"
            f" FROM {BINDING} WHERE name = %s ORDER BY generation",
            (name,),
        ).fetchall()

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
                json.dumps(shape.kinds),
                space.fingerprint,
                spec.name,
            ),
        )
        self._require_unlike(spec.name, self._names(db))
        made = self._require(db, spec.name, generation)
        run(db, Tables.of_record(made).statements(space.dimensions))
        if state == "current":
            self._show(db, made)
        return made

    def _require_unlike(self, name: str, names: Sequence[str]) -> None:
        """Refuse a name that another binding's tables are called by, as its view would be."""
        for other in names:
            for one, longer in ((other, name), (name, other)):
                if _OURS.fullmatch(longer.removeprefix(f"{one}_")) and longer.startswith(f"{one}_"):
                    raise SettingsError(
                        f"binding name {name!r}: binding {other!r} is there, and a table of one "
                        "would be called as the other; choose another",
                        param="name",
                    )

    def _set(self, db: Connection, record: BindingRecord, column: str, value: object) -> None:
        values = (value, record.spec.name, record.generation)
        db.execute(f"UPDATE {BINDING} SET {column} = %s WHERE {_ONE}", values)

    def _show(self, db: Connection, record: BindingRecord) -> None:
        run(db, Tables.of_record(record).view_statements())

    def _remove(self, db: Connection, record: BindingRecord) -> None:
        tables = Tables.of_record(record)
        if record.state == "current":
            db.execute(f"DROP VIEW IF EXISTS {tables.view}", ())
        run(db, tables.drops())
        for table in (WORKER, BINDING):
            db.execute(f"DELETE FROM {table} WHERE {_ONE}", (record.spec.name, record.generation))

    def _remove_registry(self, db: Connection) -> None:
        for table in (WORKER, BINDING, META):
            db.execute(f"DROP TABLE {table}")
        drop_schema_if_empty(db)
