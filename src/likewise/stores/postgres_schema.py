"""Likewise's tables in a Postgres database: their names, their statements, and their history."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from likewise.sql.names import TableNames
from likewise.sql.postgres import ours, quoted
from likewise.sql.postgres_keys import ARRAYS
from likewise.sql.postgres_settings import SCHEMA
from likewise.stores.steps import steps_left

if TYPE_CHECKING:
    from likewise.base.bound import BindingRecord
    from likewise.sql.postgres import Connection

META, BINDING, WORKER = (f"{SCHEMA}.{name}" for name in ("meta", "binding", "worker"))
MOST_DIMENSIONS = 16_000
VECTOR_INDEXED = 2_000
HALFVEC_INDEXED = 4_000
_BUSY = "autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000"
_VIEW_COLUMNS = frozenset(("chunk", "start", "end", "text", "vector", "fresh", "embedded_at"))


def m001_registry(db: Connection) -> None:
    """The database's own facts, a line a generation of a binding, and the workers that live."""
    db.execute(f"CREATE TABLE {META} (name text PRIMARY KEY, value text NOT NULL)")
    db.execute(f"INSERT INTO {META} VALUES ('epoch', %s)", (secrets.token_hex(16),))
    db.execute(
        f"CREATE TABLE {BINDING} (name text, generation int, state text NOT NULL, spec text NOT"
        " NULL, space text NOT NULL, kinds text NOT NULL, fingerprint text NOT NULL, created"
        " timestamptz NOT NULL DEFAULT now(), cursor bigint NOT NULL DEFAULT 0, published bigint"
        " NOT NULL DEFAULT 0, version bigint NOT NULL DEFAULT 0, reconcile_wanted int NOT NULL"
        " DEFAULT 0, reconcile_done int NOT NULL DEFAULT 0, sweeper text, error text, paused"
        " boolean NOT NULL DEFAULT false, accept_deletes boolean NOT NULL DEFAULT false, place"
        " text, canary bytea, PRIMARY KEY (name, generation)) WITH (fillfactor = 50)"
    )
    db.execute(
        f"CREATE TABLE {WORKER} (name text, generation int, holder text, until timestamptz NOT"
        " NULL, PRIMARY KEY (name, generation, holder)) WITH (fillfactor = 50)"
    )


STEPS: tuple[Callable[[Connection], None], ...] = (m001_registry,)


def version_of(db: Connection) -> int:
    """How many steps the database has taken; 0 when it holds nothing of ours."""
    found = db.execute("SELECT to_regclass(%s) IS NOT NULL", (META,)).fetchone()
    if found is None or not found[0]:
        return 0
    row = db.execute(f"SELECT value FROM {META} WHERE name = 'schema'").fetchone()
    return 0 if row is None else int(row[0])


def migrate(db: Connection) -> None:
    """Take the steps that are left, inside the caller's transaction.

    Raises:
        BindingError: a newer Likewise made the schema.
    """
    # Two that begin at once would take the same step.
    db.execute("SELECT pg_advisory_xact_lock(hashtext('likewise.schema'))")
    for number, step in steps_left(STEPS, version_of(db), "the database's"):
        step(db)
        db.execute(
            f"INSERT INTO {META} VALUES ('schema', %s) ON CONFLICT (name) DO UPDATE SET value ="
            " excluded.value",
            (str(number),),
        )


@dataclass(frozen=True, slots=True)
class Tables(TableNames):
    """The tables of one generation of a binding."""

    name: str
    generation: int
    key: tuple[str, ...]
    kinds: tuple[str, ...]
    is_one_database: bool
    dtype: str = "float32"

    @classmethod
    def of_record(cls, record: BindingRecord) -> Tables:
        """Those of `record`."""
        spec = record.spec
        kinds = record.kinds or tuple("any" for _ in spec.key)
        return cls(spec.name, record.generation, spec.key, kinds, spec.is_one_database, spec.dtype)

    def of(self, suffix: str) -> str:
        """The object with that suffix, qualified."""
        mark = "" if self.generation == 1 else f"g{self.generation}"
        return ours(f"{self.name}_{mark}{suffix}")

    @property
    def tickets(self) -> str:
        """The sequence that claims are numbered by."""
        return self.of("ticket")

    @property
    def view(self) -> str:
        """What users query: the current generation."""
        return ours(self.name)

    @property
    def columns(self) -> tuple[str, ...]:
        """The key columns as they are called in our tables, quoted."""
        return tuple(quoted(f"key_{name}") for name in self.key)

    @property
    def own_kinds(self) -> tuple[str, ...]:
        """Of the key columns here: another database's types are texts here."""
        if self.is_one_database:
            return self.kinds
        return tuple("text" if kind.startswith("cast:") else kind for kind in self.kinds)

    def key_list(self, prefix: str = "") -> str:
        """Our key columns, for a column list."""
        return ", ".join(f"{prefix}{column}" for column in self.columns)

    def shown(self, prefix: str = "") -> str:
        """Our key columns as they cross."""
        return ", ".join(
            f"{prefix}{column}::text" if kind.startswith("cast:") else f"{prefix}{column}"
            for column, kind in zip(self.columns, self.own_kinds, strict=True)
        )

    def types(self) -> tuple[str, ...]:
        """The types of our key columns."""
        return tuple(
            kind.removeprefix("cast:")
            if kind.startswith("cast:")
            else ARRAYS.get(kind, "text[]").removesuffix("[]")
            for kind in self.own_kinds
        )

    def vector_type(self, dimensions: int) -> str:
        """The type of the vector column: `halfvec` for float16, or where only that is indexed."""
        is_wide = VECTOR_INDEXED < dimensions <= HALFVEC_INDEXED
        kind = "halfvec" if self.dtype == "float16" or is_wide else "vector"
        return f"{kind}({dimensions})"

    def statements(self, dimensions: int) -> list[str]:
        """What makes the tables."""
        key = "".join(
            f"{c} {t.replace('%', '%%')} NOT NULL, "
            for c, t in zip(self.columns, self.types(), strict=True)
        )
        keys = self.key_list()
        return [
            f"CREATE SEQUENCE {self.tickets}",
            f"CREATE TABLE {self.log} (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, {key}"
            "at timestamptz NOT NULL DEFAULT clock_timestamp(), claim bigint, holder text)"
            f" WITH ({_BUSY})",
            f"CREATE INDEX ON {self.log} ({keys})",
            f"CREATE TABLE {self.row} ({key}fingerprint bytea NOT NULL, status text NOT NULL,"
            " chunks int NOT NULL, seq bigint NOT NULL, error text, attempts int NOT NULL DEFAULT"
            f" 0, at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY ({keys}))",
            f"CREATE INDEX ON {self.row} (status) WHERE status = 'parked'",
            f'CREATE TABLE {self.chunk} ({key}chunk int NOT NULL, "start" int NOT NULL, "end" int'
            f" NOT NULL, text text NOT NULL, hash bytea, vector {self.vector_type(dimensions)} NOT"
            f" NULL, PRIMARY KEY ({keys}, chunk))",
            f"CREATE INDEX ON {self.chunk} USING hash (hash)",
            f"CREATE TABLE {self.feed} (version bigint PRIMARY KEY, {key}stamp bigint NOT NULL)"
            f" WITH ({_BUSY})",
            f"CREATE TABLE {self.seen} (unit text PRIMARY KEY, mark bytea NOT NULL)",
            self._waits(),
        ]

    def view_statements(self) -> list[str]:
        """What makes the view show this generation."""
        keys = ", ".join(
            f"c.{column} AS {quoted(name if name not in _VIEW_COLUMNS else f'key_{name}')}"
            for column, name in zip(self.columns, self.key, strict=True)
        )
        joined = " AND ".join(f"r.{column} = c.{column}" for column in self.columns)
        return [
            f"DROP VIEW IF EXISTS {self.view}",
            f'CREATE VIEW {self.view} AS SELECT {keys}, c.chunk, c."start", c."end", c.text,'
            f" c.vector, NOT {self.of('waits')}({self.key_list('c.')}) AS fresh,"
            f" r.at AS embedded_at FROM {self.chunk} c JOIN {self.row} r ON {joined}",
        ]

    def drops(self) -> list[str]:
        """What removes the tables."""
        tables = (self.log, self.row, self.chunk, self.feed, self.seen)
        arguments = ", ".join(each.replace("%", "%%") for each in self.types())
        return [
            f"DROP FUNCTION IF EXISTS {self.of('waits')}({arguments}) CASCADE",
            *(f"DROP TABLE IF EXISTS {table} CASCADE" for table in tables),
            f"DROP SEQUENCE IF EXISTS {self.tickets}",
        ]

    def _waits(self) -> str:
        """The function that says whether a change of a row waits.

        The outbox is the source's and may be elsewhere: it is looked for when the function runs.
        """
        names = [f"k{number}" for number in range(1, len(self.key) + 1)]
        arguments = ", ".join(
            f"{n} {t.replace('%', '%%')}" for n, t in zip(names, self.types(), strict=True)
        )
        logged = " AND ".join(
            f"l.{column} = {self._own('waits', name)}"
            for column, name in zip(self.columns, names, strict=True)
        )
        boxed = " AND ".join(
            f"{self._own('waits', name)}{'::text' if kind.startswith('cast:') else ''}"
            f" = ANY(o.{name})"
            for name, kind in zip(names, self.own_kinds, strict=True)
        )
        outbox = self.of("outbox")
        inside = (
            f" IF to_regclass('{outbox}') IS NOT NULL THEN RETURN EXISTS"
            f" (SELECT FROM {outbox} o WHERE o.op = 'all' OR ({boxed})); END IF;"
            if self.is_one_database
            else ""
        )
        return (
            f"CREATE FUNCTION {self.of('waits')}({arguments}) RETURNS boolean LANGUAGE plpgsql"
            " STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $likewise$"
            f" BEGIN IF EXISTS (SELECT FROM {self.log} l WHERE {logged}) THEN RETURN true; END IF;"
            f"{inside} RETURN false; END $likewise$"
        )

    def _own(self, function: str, name: str) -> str:
        mark = "" if self.generation == 1 else f"g{self.generation}"
        return f"{quoted(f'{self.name}_{mark}{function}')}.{name}"


def indexed_by(vector_type: str, dimensions: int) -> str | None:
    """The operator class of the index over vectors; None where pgvector has none that wide."""
    if vector_type.startswith("halfvec"):
        return "halfvec_cosine_ops" if dimensions <= HALFVEC_INDEXED else None
    return "vector_cosine_ops" if dimensions <= VECTOR_INDEXED else None


def run(db: Connection, statements: Sequence[str]) -> None:
    """Run statements whose percent signs are doubled."""
    for statement in statements:
        db.execute(statement, ())
