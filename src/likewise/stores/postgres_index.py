"""The HNSW index over a generation's vectors: built beside the traffic, and built again if need be.

Not with the table: an index over nothing is built row by row, which takes several times as long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from likewise.base.log import fields, logger
from likewise.stores.postgres_schema import indexed_by

if TYPE_CHECKING:
    from likewise.sql.postgres import Connection, Database
    from likewise.stores.postgres_schema import Tables

WORTH_IT = 2_000
"""Vectors from which on an index is built; fewer are compared one by one in a few milliseconds."""
_log = logger("stores.postgres")


class Index:
    """One generation's index."""

    def __init__(self, database: Database, tables: Tables, dimensions: int) -> None:
        self._database = database
        self._tables = tables
        self._name = tables.of("hnsw")
        self._operators = indexed_by(tables.vector_type(dimensions), dimensions)
        self._building: Connection | None = None

    def build(self) -> bool:
        """Build it if it is missing or broken and there is enough to index; True when it did.

        Writers go on meanwhile. Only one worker builds; others come back with False at once.
        """
        if self._operators is None:
            return False
        with self._database.session() as db:
            if self._is_valid(db) is True or not self._is_worth_it(db):
                return False
            if not self._lock(db):
                return False
            self._building = db
            try:
                return self._build(db)
            finally:
                self._building = None
                db.execute("SELECT pg_advisory_unlock(hashtext(%s))", (self._name,))

    def stop(self) -> None:
        """Cut a build short; what it leaves behind is removed by the next."""
        building = self._building
        if building is not None:
            building.cancel()

    def _build(self, db: Connection) -> bool:
        state = self._is_valid(db)
        if state is True:
            return False
        # It waits for transactions that began before it, however long they take.
        db.execute("SET lock_timeout = 0")
        try:
            if state is False:
                # What an interrupted build left behind.
                db.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {self._name}", ())
            bare = self._name.partition(".")[2]
            db.execute(
                f"CREATE INDEX CONCURRENTLY {bare} ON {self._tables.chunk} USING hnsw (vector"
                f" {self._operators})",
                (),
            )
        finally:
            db.execute("SET lock_timeout = '5s'")
        _log.info(fields("index built", index=self._name))
        return True

    def _is_valid(self, db: Connection) -> bool | None:
        """None when there is no such index."""
        found: Any = db.execute(
            "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)",
            (self._name.replace("%%", "%"),),
        ).fetchone()
        return None if found is None else bool(found[0])

    def _is_worth_it(self, db: Connection) -> bool:
        sql = f"SELECT FROM {self._tables.chunk} OFFSET {WORTH_IT - 1} LIMIT 1"
        return db.execute(sql, ()).fetchone() is not None

    def _lock(self, db: Connection) -> bool:
        found = db.execute("SELECT pg_try_advisory_lock(hashtext(%s))", (self._name,)).fetchone()
        return found is not None and bool(found[0])
