"""Which way a Postgres relation is followed: tables by triggers, anything else by comparing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from likewise.base.errors import SchemaDrift
from likewise.sources.postgres import PostgresSource
from likewise.sources.postgres_query import PostgresQuery
from likewise.sql.postgres import Database
from likewise.sql.postgres_schema import TABLES, read_relation

if TYPE_CHECKING:
    from likewise.base.spec import BindingSpec


def open_postgres(spec: BindingSpec, *, generation: int = 1) -> PostgresSource | PostgresQuery:
    """The source for `spec`; what isn't there at all is left to it to say."""
    if spec.query or not _is_table(spec):
        return PostgresQuery(spec, generation=generation)
    return PostgresSource(spec, generation=generation)


def _is_table(spec: BindingSpec) -> bool:
    database = Database(spec.source)
    try:
        with database.read() as db:
            return read_relation(db, spec.table).kind in TABLES
    except SchemaDrift:
        return True
    finally:
        database.close()
