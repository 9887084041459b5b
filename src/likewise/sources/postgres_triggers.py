"""The triggers that write into the outbox: pure SQL from a table's shape.

A statement's keys become one row with an array a key column, so that a bulk insert pays for one row
more and not for as many again. What each part is for is in docs/postgres.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from likewise.sources.postgres_rows import key_shown
from likewise.sql.postgres import SCHEMA, literal, ours, quoted
from likewise.sql.postgres_keys import ARRAYS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from likewise.sources.postgres_rows import Reading
    from likewise.sql.postgres_schema import Column

# One value has one text, whatever the session of the one who writes has set.
_SETTINGS = (
    "SET search_path = pg_catalog, pg_temp SET DateStyle = 'ISO, YMD' SET IntervalStyle ="
    " 'postgres' SET TimeZone = 'UTC' SET extra_float_digits = 1 SET bytea_output = 'hex'"
)
PIECE = 50_000
"""Keys in one row of the outbox."""
_COMPARED_AS_THEY_ARE = frozenset(
    (
        *("smallint", "integer", "bigint", "text", "character varying", "bytea", "boolean", "date"),
        *("uuid", "timestamp with time zone", "timestamp without time zone"),
    )
)


@dataclass(frozen=True, slots=True)
class Names:
    """The objects of one generation of a binding in the source's database."""

    name: str
    generation: int = 1

    def of(self, suffix: str) -> str:
        """An object's bare name."""
        mark = "" if self.generation == 1 else f"g{self.generation}"
        return f"{self.name}_{mark}{suffix}"

    @property
    def outbox(self) -> str:
        """The outbox, qualified."""
        return ours(self.of("outbox"))

    @property
    def function(self) -> str:
        """The trigger function, qualified."""
        return ours(self.of("capture"))

    def trigger(self, event: str) -> str:
        """A trigger's name: `event` is i, u, d, t (by statement) or r (by row)."""
        return f"likewise_{self.of(event)}"


def outbox_table(names: Names, kinds: Sequence[str]) -> str:
    """The statement that makes the outbox."""
    keys = "".join(
        f", k{number} {ARRAYS.get(kind, 'text[]')}" for number, kind in enumerate(kinds, start=1)
    )
    return (
        f"CREATE TABLE IF NOT EXISTS {names.outbox} (seq bigint GENERATED ALWAYS AS IDENTITY"
        f" PRIMARY KEY, op text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp(){keys})"
        " WITH (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 1000)"
    )


def function(names: Names, reading: Reading, *, by_row: bool, notify: bool) -> str:
    """The statement that makes the trigger function."""
    body = _by_row(names, reading) if by_row else _by_statement(names, reading)
    told = f" PERFORM pg_notify('{SCHEMA}', {literal(names.of(''))});" if notify else ""
    text = f"BEGIN {body}{told} RETURN NULL; END"
    return (
        f"CREATE OR REPLACE FUNCTION {names.function}() RETURNS trigger LANGUAGE plpgsql"
        f" SECURITY DEFINER {_SETTINGS} AS {literal(text)}"
    )


def triggers(names: Names, relation: str, partitions: Sequence[str], *, by_row: bool) -> list[str]:
    """The statements that make the triggers; they also fire where replication applies changes."""
    call = f"EXECUTE FUNCTION {names.function}()"
    made: list[tuple[str, str, str]] = []
    if by_row:
        made.append(
            (
                names.trigger("r"),
                relation,
                f"INSERT OR UPDATE OR DELETE ON {relation} FOR EACH ROW {call}",
            )
        )
    else:
        for event, verb, tables in (
            ("i", "INSERT", "NEW TABLE AS n"),
            ("u", "UPDATE", "OLD TABLE AS o NEW TABLE AS n"),
            ("d", "DELETE", "OLD TABLE AS o"),
        ):
            text = f"{verb} ON {relation} REFERENCING {tables} FOR EACH STATEMENT {call}"
            made.append((names.trigger(event), relation, text))
    for each in (relation, *partitions):
        made.append((names.trigger("t"), each, f"TRUNCATE ON {each} FOR EACH STATEMENT {call}"))
    statements = []
    for name, table, text in made:
        statements.append(f"DROP TRIGGER IF EXISTS {quoted(name)} ON {table}")
        statements.append(f"CREATE TRIGGER {quoted(name)} AFTER {text}")
        statements.append(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {quoted(name)}")
    return statements


def _by_statement(names: Names, reading: Reading) -> str:
    keys = [f"k{number}" for number in range(1, len(reading.key) + 1)]
    shown = ", ".join(
        f"{key_shown(column, 't')} AS {key}" for column, key in zip(reading.key, keys, strict=True)
    )
    compared = "".join(f", {_compared(c)} AS w{at}" for at, c in enumerate(_watched(reading)))

    def put(op: str, rows: str) -> str:
        gathered = ", ".join(f"array_agg({key})" for key in keys)
        return (
            f"INSERT INTO {names.outbox} (op, {', '.join(keys)}) SELECT '{op}', {gathered} FROM"
            f" (SELECT s.*, (row_number() OVER () - 1) / {PIECE} AS piece FROM ({rows}) s) p"
            " GROUP BY piece;"
        )

    new, old = (f"SELECT {shown}{compared} FROM {side} t" for side in "no")
    changed = f"SELECT {', '.join(keys)} FROM ({new} EXCEPT ALL {old}) x"
    left = f"SELECT {shown} FROM o t EXCEPT SELECT {shown} FROM n t"
    return (
        f"IF TG_OP = 'INSERT' THEN {put('upsert', f'SELECT {shown} FROM n t')}"
        f" ELSIF TG_OP = 'DELETE' THEN {put('delete', f'SELECT {shown} FROM o t')}"
        f" ELSIF TG_OP = 'UPDATE' THEN {put('delete', left)} {put('upsert', changed)}"
        f" ELSE INSERT INTO {names.outbox} (op) VALUES ('all'); END IF;"
    )


def _by_row(names: Names, reading: Reading) -> str:
    keys = ", ".join(f"k{number}" for number in range(1, len(reading.key) + 1))

    def put(op: str, side: str) -> str:
        values = ", ".join(f"ARRAY[{key_shown(column, side)}]" for column in reading.key)
        return f"INSERT INTO {names.outbox} (op, {keys}) VALUES ('{op}', {values});"

    def differ(columns: Sequence[Column]) -> str:
        old = ", ".join(_compared(column, "OLD") for column in columns)
        new = ", ".join(_compared(column, "NEW") for column in columns)
        return f"ROW({old}) IS DISTINCT FROM ROW({new})"

    moved = differ(reading.key)
    changed = differ((*reading.key, *_watched(reading)))
    return (
        f"IF TG_OP = 'INSERT' THEN {put('upsert', 'NEW')}"
        f" ELSIF TG_OP = 'DELETE' THEN {put('delete', 'OLD')}"
        f" ELSIF TG_OP = 'UPDATE' THEN IF {moved} THEN {put('delete', 'OLD')} END IF;"
        f" IF {changed} THEN {put('upsert', 'NEW')} END IF;"
        f" ELSE INSERT INTO {names.outbox} (op) VALUES ('all'); END IF;"
    )


def _watched(reading: Reading) -> list[Column]:
    """The template's columns that aren't in the key; for virtual ones whatever they're made of."""
    watched = list(reading.watched.values())
    if any(column.is_virtual for column in watched):
        # Triggers don't see what is only computed when it is read.
        watched = [c for c in (*watched, *reading.others) if not c.is_virtual]
    names = {column.name for column in reading.key}
    return [column for column in dict.fromkeys(watched) if column.name not in names]


def _compared(column: Column, prefix: str = "t") -> str:
    name = f"{prefix}.{quoted(column.name)}"
    return name if column.type in _COMPARED_AS_THEY_ARE else f"{name}::text"
