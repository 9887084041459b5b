"""Which way a SQLite file is followed: tables by triggers, anything else by comparing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from likewise.sources.sqlite import SqliteSource
from likewise.sources.sqlite_query import SqliteQuery
from likewise.sql.sqlite import Database

if TYPE_CHECKING:
    from likewise.base.spec import BindingSpec


def open_sqlite(spec: BindingSpec, *, generation: int = 1) -> SqliteSource | SqliteQuery:
    """The source for `spec`; what isn't there at all is left to it to say."""
    if spec.query or _is_view(spec):
        return SqliteQuery(spec, generation=generation)
    return SqliteSource(spec, generation=generation)


def _is_view(spec: BindingSpec) -> bool:
    database = Database(spec.path)
    try:
        with database.read() as db:
            found = db.execute(
                "SELECT type = 'view' OR sql LIKE 'CREATE VIRTUAL%' FROM sqlite_schema"
                " WHERE lower(name) = lower(?) AND type IN ('table', 'view')",
                (spec.table,),
            ).get
    finally:
        database.close()
    return bool(found)
