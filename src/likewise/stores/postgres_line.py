"""One generation's line in the Postgres registry: what was said of it, and what is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from likewise.base.errors import BindingNotFound
from likewise.stores.postgres_schema import BINDING, WORKER
from likewise.vectors.codec import decode, encode

if TYPE_CHECKING:
    from likewise.base.bound import BindingRecord
    from likewise.base.types import Vectors
    from likewise.sql.postgres import Connection, Database

_ONE = "name = %s AND generation = %s"


class PostgresLine:
    """Pauses, errors, comparisons and such. Safe to use from several threads."""

    def __init__(self, record: BindingRecord, database: Database) -> None:
        self.record = record
        self.name = record.spec.name
        self._database = database
        self._id = (record.spec.name, record.generation)
        self._holder: str | None = None

    def want_reconcile(self) -> None:
        """Ask for source and store to be compared row by row."""
        with self._database.write() as db:
            self._want(db)

    def reconcile_wanted(self) -> int | None:
        """The number of the comparison asked for, if this worker is to make it."""
        with self._database.session() as db:
            if self._get(db, "reconcile_wanted > reconcile_done") is False:
                return None
            found = db.execute(
                f"UPDATE {BINDING} b SET sweeper = %s WHERE {_ONE} AND reconcile_wanted >"
                " reconcile_done AND (sweeper IS NULL OR sweeper = %s OR NOT EXISTS (SELECT FROM"
                f" {WORKER} w WHERE w.{_ONE} AND w.holder = b.sweeper AND w.until >"
                " clock_timestamp())) RETURNING reconcile_wanted",
                (self._holder, *self._id, self._holder, *self._id),
            ).fetchone()
        return None if found is None else int(found[0])

    def reconcile_done(self, number: int) -> None:
        """Note that comparison `number` has been made."""
        self._set("reconcile_done = greatest(reconcile_done, %s), sweeper = NULL", number)

    def note_error(self, error: str | None) -> None:
        """Keep what the worker waits on, for `status`."""
        with self._database.write() as db:
            db.execute(
                f"UPDATE {BINDING} SET error = %s WHERE {_ONE} AND error IS DISTINCT FROM %s",
                (error, *self._id, error),
            )

    def is_paused(self) -> bool:
        """Whether the binding is paused."""
        with self._database.session() as db:
            return bool(self._get(db, "paused"))

    def allows_deletes(self) -> bool:
        """Whether somebody has said that many rows gone at once are meant so."""
        with self._database.session() as db:
            return bool(self._get(db, "accept_deletes"))

    def allow_deletes(self, allowed: bool) -> None:
        """Say so, or take it back."""
        self._set("accept_deletes = %s", allowed)

    def canary(self) -> Vectors | None:
        """What the model gave for the canary text when the binding began."""
        with self._database.session() as db:
            found = self._get(db, "canary")
        return None if found is None else decode([found], self.record.space.dimensions)[0]

    def keep_canary(self, vector: Vectors) -> None:
        """Keep it, unless one is kept."""
        self._set("canary = coalesce(canary, %s)", encode(vector[None])[0])

    def close(self) -> None:
        """Close the connections."""
        self._database.close()

    def _want(self, db: Connection) -> None:
        db.execute(
            f"UPDATE {BINDING} SET reconcile_wanted = reconcile_wanted + 1 WHERE {_ONE}", self._id
        )

    def _get(self, db: Connection, column: str) -> Any:
        found = db.execute(f"SELECT {column} FROM {BINDING} WHERE {_ONE}", self._id).fetchone()
        if found is None:
            raise self._gone()
        return found[0]

    def _set(self, what: str, value: Any) -> None:
        with self._database.write() as db:
            self._update(db, what, value)

    def _update(self, db: Connection, what: str, value: Any) -> None:
        db.execute(f"UPDATE {BINDING} SET {what} WHERE {_ONE}", (value, *self._id))

    def _gone(self) -> BindingNotFound:
        return BindingNotFound(f"the database no longer has a binding {self.name!r}")
