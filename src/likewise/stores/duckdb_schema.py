"""The schema of Likewise's tables in a DuckDB file, as numbered steps; old ones never change."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from likewise.sql.duckdb import value
from likewise.sql.names import TableNames, quote
from likewise.stores.steps import steps_left

if TYPE_CHECKING:
    import duckdb

    from likewise.base.bound import BindingRecord

SCHEMA = "likewise"
META, BINDING = (f"{SCHEMA}.{name}" for name in ("meta", "binding"))
_VIEW_COLUMNS = frozenset(("chunk", "start", "end", "text", "vector", "fresh", "embedded_at"))
_SHOWN = {"int": "BIGINT", "real": "DOUBLE", "text": "VARCHAR"}


def m001_registry(db: duckdb.DuckDBPyConnection) -> None:
    """The file's own facts, and one line a generation."""
    db.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
    db.execute(f"CREATE TABLE {META} (name VARCHAR NOT NULL, value VARCHAR NOT NULL)")
    db.execute(f"INSERT INTO {META} VALUES ('epoch', ?)", [secrets.token_hex(16)])
    db.execute(
        f"CREATE TABLE {BINDING} (name VARCHAR NOT NULL, generation INTEGER NOT NULL, state VARCHAR"
        " NOT NULL, spec VARCHAR NOT NULL, space VARCHAR NOT NULL, kinds VARCHAR NOT NULL,"
        " fingerprint VARCHAR NOT NULL, created DOUBLE NOT NULL, cursor BIGINT NOT NULL DEFAULT 0,"
        " published BIGINT NOT NULL DEFAULT 0, logged BIGINT NOT NULL DEFAULT 0, version BIGINT NOT"
        " NULL DEFAULT 0, lease_holder VARCHAR, lease_until DOUBLE, reconcile_wanted BIGINT NOT"
        " NULL DEFAULT 1, reconcile_done BIGINT NOT NULL DEFAULT 0, error VARCHAR, paused BOOLEAN"
        " NOT NULL DEFAULT false, accept_deletes BOOLEAN NOT NULL DEFAULT false, place VARCHAR,"
        " canary BLOB)"
    )


STEPS: tuple[Callable[[duckdb.DuckDBPyConnection], None], ...] = (m001_registry,)


def version_of(db: duckdb.DuckDBPyConnection) -> int:
    """How many steps the file has taken; 0 when it holds nothing of ours."""
    found = value(
        db,
        "SELECT count(*) FROM duckdb_tables() WHERE database_name = current_database() AND"
        " schema_name = ? AND table_name = 'meta'",
        [SCHEMA],
    )
    return int(value(db, f"SELECT value FROM {META} WHERE name = 'schema'")) if found else 0


def migrate(db: duckdb.DuckDBPyConnection) -> None:
    """Take the steps that are left, inside the caller's transaction.

    Raises:
        BindingError: a newer Likewise made the file.
    """
    for number, step in steps_left(STEPS, version_of(db), "the file's"):
        step(db)
        db.execute(f"DELETE FROM {META} WHERE name = 'schema'")
        db.execute(f"INSERT INTO {META} VALUES ('schema', ?)", [str(number)])


@dataclass(frozen=True, slots=True)
class Tables(TableNames):
    """The tables of one generation of a binding: `likewise."<name>.<suffix>"`.

    No binding's name has a dot in it, and a view has the binding's name.

    A key is one text there (see `likewise.base.keys`); no table has an index: DuckDB reads a column
    as fast as it would look rows up, and what has no index can't be out of step with it.
    """

    name: str
    generation: int
    key: tuple[str, ...]
    kinds: tuple[str, ...]
    is_one_database: bool

    @classmethod
    def of_record(cls, record: BindingRecord) -> Tables:
        """Those of `record`."""
        spec = record.spec
        kinds = record.kinds or tuple("any" for _ in spec.key)
        return cls(spec.name, record.generation, spec.key, kinds, spec.is_one_database)

    def of(self, suffix: str) -> str:
        """The object with that suffix, qualified."""
        mark = "" if self.generation == 1 else f"g{self.generation}"
        return f"{SCHEMA}.{quote(f'{self.name}.{mark}{suffix}')}"

    @property
    def view(self) -> str:
        """What users query: the current generation."""
        return f"{SCHEMA}.{quote(self.name)}"

    def statements(self, dimensions: int) -> list[str]:
        """What makes the tables."""
        return [
            f"CREATE TABLE {self.log} (seq BIGINT NOT NULL, key VARCHAR NOT NULL, op VARCHAR NOT"
            ' NULL, "at" DOUBLE NOT NULL)',
            f"CREATE TABLE {self.row} (key VARCHAR NOT NULL, fingerprint BLOB NOT NULL, status"
            " VARCHAR NOT NULL, chunks INTEGER NOT NULL, seq BIGINT NOT NULL, error VARCHAR,"
            ' attempts INTEGER NOT NULL, "at" DOUBLE NOT NULL)',
            f'CREATE TABLE {self.chunk} (key VARCHAR NOT NULL, chunk INTEGER NOT NULL, "start"'
            ' INTEGER NOT NULL, "end" INTEGER NOT NULL, text VARCHAR NOT NULL, hash BLOB, vector'
            f" FLOAT[{dimensions}] NOT NULL)",
            f"CREATE TABLE {self.feed} (version BIGINT NOT NULL, key VARCHAR NOT NULL, stamp BIGINT"
            " NOT NULL)",
            f"CREATE TABLE {self.seen} (unit VARCHAR NOT NULL, mark BLOB NOT NULL)",
        ]

    def view_statement(self) -> str:
        """What makes the view show this generation."""
        keys = ", ".join(
            f"{self._part(at, kind)} AS "
            + quote(name if name.lower() not in _VIEW_COLUMNS else f"key_{name}")
            for at, (name, kind) in enumerate(zip(self.key, self.kinds, strict=True))
        )
        return (
            f'CREATE OR REPLACE VIEW {self.view} AS SELECT {keys}, c.chunk, c."start", c."end",'
            " c.text, c.vector, NOT EXISTS (SELECT 1 FROM "
            f'{self.log} AS l WHERE l.key = c.key) AS fresh, to_timestamp(r."at") AS embedded_at'
            f" FROM {self.chunk} AS c JOIN {self.row} AS r ON r.key = c.key"
        )

    def drops(self) -> list[str]:
        """What removes the tables."""
        tables = (self.log, self.row, self.chunk, self.feed, self.seen)
        return [f"DROP TABLE IF EXISTS {table}" for table in tables]

    def _part(self, at: int, kind: str) -> str:
        """A part of the key with the type that it has in the source."""
        if kind == "bytes":
            return f"unhex(json_extract_string(c.key, '$[{at}].bytes'))"
        if kind == "any":
            return f"json_extract(c.key, '$[{at}]')"
        text = f"json_extract_string(c.key, '$[{at}]')"
        if kind == "real":
            # What JSON has no number for is written {"real": "inf"}.
            text = f"coalesce(json_extract_string(c.key, '$[{at}].real'), {text})"
        if kind.startswith("cast:"):
            # Another database's types are texts here.
            return f"{text}::{kind.removeprefix('cast:')}" if self.is_one_database else text
        return f"{text}::{_SHOWN[kind]}"
