"""The triggers that write into the outbox: pure SQL from a table's shape.

A statement's keys become one row with an array a key column, so that a bulk insert pays for one row
more and not for as many again. What each part is for is in docs/postgres-source.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from likewise.sources.postgres_rows import key_shown
from likewise.sql.postgres import literal, ours, quoted
from likewise.sql.postgres_keys import ARRAYS
from likewise.sql.postgres_settings import SCHEMA, STABLE_TEXT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from likewise.sources.postgres_rows import Reading
    from likewise.sql.postgres_schema import Column, Relation

PIECE = 50_000
"""Keys in one row of the outbox."""
_PASSES = 10
"""How often an INSERT or DELETE goes over its rows before it numbers them instead."""
_SHORT, _LONG = 20, 4
"""Rows of the outbox that one pass fills. All its keys are one array before that, of which Postgres
allows 1 GB, and some keys are as long as an index takes: 2,700 bytes."""
_FEW = 1000
"""Keys that are read into variables at first: where a statement has no more, that is all."""
_WROTE = "likewise_wrote := likewise_wrote OR FOUND;"
_COMPARED_AS_THEY_ARE = frozenset(
    (
        *("smallint", "integer", "bigint", "text", "character varying", "bytea", "boolean", "date"),
        *("uuid", "timestamp with time zone", "timestamp without time zone"),
    )
)
_OF_FEW_BYTES = frozenset(
    (
        *("smallint", "integer", "bigint", "boolean", "date", "uuid"),
        *("timestamp with time zone", "timestamp without time zone"),
    )
)
_SAME_TEXT_ANYWHERE = frozenset(("uuid", "numeric", "bpchar", "boolean", "json", "jsonb", "name"))


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
    # Left uncompressed: compressing the keys of a bulk insert takes half as long as the insert.
    keys = "".join(
        f", k{number} {_array(kind)} STORAGE EXTERNAL" for number, kind in enumerate(kinds, start=1)
    )
    return (
        f"CREATE TABLE IF NOT EXISTS {names.outbox} (seq bigint GENERATED ALWAYS AS IDENTITY"
        f" PRIMARY KEY, op text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp(){keys})"
        " WITH (autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 1000)"
    )


def function(names: Names, reading: Reading, *, by_row: bool, notify: bool) -> str:
    """The statement that makes the trigger function."""
    told = f"IF likewise_wrote THEN PERFORM pg_notify('{SCHEMA}', '{names.of('')}'); END IF;"
    end = f"{told if notify else ''} RETURN NULL;"
    text = _by_row(names, reading, end) if by_row else _by_statement(names, reading, end)
    return (
        f"CREATE FUNCTION {names.function}() RETURNS trigger LANGUAGE plpgsql"
        f" SECURITY DEFINER SET search_path = pg_catalog, pg_temp{_settings(reading)}"
        # Identifiers in the text have their % doubled already.
        f" AS {literal(text.replace('%%', '%'))}"
    )


def triggers(names: Names, relation: Relation) -> list[str]:
    """The statements that make the triggers; they also fire where replication applies changes."""
    call = f"EXECUTE FUNCTION {names.function}()"
    table = relation.sql
    made: list[tuple[str, str, str]] = []
    if relation.is_by_row:
        text = f"INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW {call}"
        made.append((names.trigger("r"), table, text))
    else:
        for event, verb, tables in (
            ("i", "INSERT", "NEW TABLE AS n"),
            ("u", "UPDATE", "OLD TABLE AS o NEW TABLE AS n"),
            ("d", "DELETE", "OLD TABLE AS o"),
        ):
            text = f"{verb} ON {table} REFERENCING {tables} FOR EACH STATEMENT {call}"
            made.append((names.trigger(event), table, text))
    for each in (table, *(part.replace("%", "%%") for part in relation.partitions)):
        made.append((names.trigger("t"), each, f"TRUNCATE ON {each} FOR EACH STATEMENT {call}"))
    statements = []
    for name, on, text in made:
        statements.append(f"CREATE TRIGGER {quoted(name)} AFTER {text}")
        # Only the owner may say it; see `Relation.unguarded`.
        if relation.is_ours:
            statements.append(f"ALTER TABLE {on} ENABLE ALWAYS TRIGGER {quoted(name)}")
    return statements


def _array(kind: str) -> str:
    return ARRAYS.get(kind, "text[]")


def _settings(reading: Reading) -> str:
    """One value has one text, whatever the session of the one who writes has set.

    Each costs a little at every call, so there are none where no text depends on them.
    """
    shown = [column for column in reading.key if column.kind.startswith("cast:")]
    shown += [c for c in _watched(reading) if c.type not in _COMPARED_AS_THEY_ARE]
    if all(column.type in _SAME_TEXT_ANYWHERE for column in shown):
        return ""
    return "".join(f" SET {each}" for each in STABLE_TEXT)


def _guarded(names: Names, read: str, end: str) -> str:
    """`read`, and what is done when it fails: the application's statement must not.

    It fails when a column was dropped, renamed or given another type: the worker will say so.
    Nothing is written in the block, as that would use up a transaction number each time.
    """
    there = literal(names.outbox)
    return (
        f" BEGIN {read} EXCEPTION WHEN syntax_error_or_access_rule_violation OR data_exception"
        f" THEN IF to_regclass({there}) IS NOT NULL THEN {_all(names)} END IF; {end} END;"
    )


def _all(names: Names) -> str:
    return f"INSERT INTO {names.outbox} (op) VALUES ('all'); likewise_wrote := true;"


@dataclass(frozen=True, slots=True)
class _Statement:
    """What the function for statements is made of: columns k1, k2, ... and w0, w1, ...

    For few keys, as most statements have, it reads them into variables and writes one row: that is
    quicker than a query that writes as many rows of the outbox as there are pieces.
    """

    names: Names
    kinds: Sequence[str]
    """The array type of each key column."""
    shown: str
    """The key columns of a transition table `t`."""
    compared: Sequence[str]
    """The columns of `t` that decide whether an update changed the text."""
    pieces: int
    """Rows of the outbox that one pass fills."""

    @property
    def keys(self) -> list[str]:
        return [f"k{number}" for number in range(1, len(self.kinds) + 1)]

    @property
    def watched(self) -> list[str]:
        return [f"w{at}" for at in range(len(self.compared))]

    def rows(self, side: str) -> str:
        """The query that gives keys and watched columns of a transition table."""
        shown = (f"{each} AS {w}" for each, w in zip(self.compared, self.watched, strict=True))
        return f"SELECT {', '.join([self.shown, *shown])} FROM {side} t"

    def declared(self) -> str:
        """Variables: the keys of either side, and whether an update changed the text."""
        both = (
            f" likewise_n{at} {kind}; likewise_o{at} {kind};"
            for at, kind in enumerate(self.kinds, start=1)
        )
        return "".join(both) + " likewise_changed boolean;"

    def read(self) -> str:
        """Read the first keys; fails where writing them would.

        An update's only row is compared with what it was before; of more rows this tells nothing.
        """
        news, olds = (self._variables(side) for side in "no")

        def few(side: str, into: str) -> str:
            some = f"({self.rows(side)} LIMIT {_FEW + 1}) s"
            arrays = (f"ARRAY(SELECT s.{k} FROM {some}) || {self._fits(k)}" for k in self.keys)
            return f"SELECT {', '.join(arrays)} INTO {into};"

        arrays = (f"array_agg({s}.{k}) || {self._fits(k)}" for s in "sr" for k in self.keys)
        sides = (", ".join(f"{side}.{w}" for w in self.watched) for side in "sr")
        differ = " IS DISTINCT FROM ".join(f"ROW({side})" for side in sides)
        first = (f"({self.rows(side)} LIMIT 2) {alias}" for side, alias in ("ns", "or"))
        return (
            f"IF TG_OP = 'INSERT' THEN {few('n', news)} ELSIF TG_OP = 'DELETE' THEN"
            f" {few('o', olds)} ELSE SELECT {', '.join(arrays)}, coalesce(bool_or({differ}), false)"
            f" INTO {news}, {olds}, likewise_changed FROM {', '.join(first)}; END IF;"
        )

    def write_all(self, op: str, side: str) -> str:
        """Write the keys of an INSERT or a DELETE."""
        variable = f"likewise_{side}1"
        many = _put_all(
            self.names, self.keys, op, f"SELECT {self.shown} FROM {side} t", self.pieces
        )
        return (
            f"IF cardinality({variable}) > {_FEW} THEN {many}"
            f" ELSIF {variable} <> '{{}}' THEN {self._few(op, side)} END IF;"
        )

    def write_changed(self) -> str:
        """Write what an UPDATE changed: keys that went, and those whose key or text is another."""
        keys = ", ".join(self.keys)
        changed = f"SELECT {keys} FROM ({self.rows('n')} EXCEPT ALL {self.rows('o')}) x"
        left = f"SELECT {self.shown} FROM o t EXCEPT SELECT {self.shown} FROM n t"
        moved = f"ROW({self._variables('n')}) IS DISTINCT FROM ROW({self._variables('o')})"
        many = (
            f"{_put(self.names, self.keys, 'delete', left)}"
            f" {_put(self.names, self.keys, 'upsert', changed)}"
        )
        return (
            f"IF cardinality(likewise_n1) = 1 THEN"
            f" IF {moved} THEN likewise_changed := true; {self._few('delete', 'o')} END IF;"
            f" IF likewise_changed THEN {self._few('upsert', 'n')} END IF;"
            f" ELSE {many} END IF;"
        )

    def _fits(self, key: str) -> str:
        """Nothing, of the type that the outbox has for `key`."""
        return f"(SELECT b.{key} FROM {self.names.outbox} b WHERE false)"

    def _variables(self, side: str) -> str:
        return ", ".join(f"likewise_{side}{at}" for at in range(1, len(self.kinds) + 1))

    def _few(self, op: str, side: str) -> str:
        return (
            f"INSERT INTO {self.names.outbox} (op, {', '.join(self.keys)}) VALUES"
            f" ('{op}', {self._variables(side)}); likewise_wrote := true;"
        )


def _by_statement(names: Names, reading: Reading, end: str) -> str:
    few_bytes = all(column.type in _OF_FEW_BYTES for column in reading.key)
    made = _Statement(
        names,
        [_array(kind) for kind in reading.kinds],
        ", ".join(f"{key_shown(c, 't')} AS k{at}" for at, c in enumerate(reading.key, start=1)),
        [_compared(column) for column in _watched(reading)],
        _SHORT if few_bytes else _LONG,
    )
    return (
        "DECLARE likewise_wrote boolean := false; likewise_at int := 0; likewise_count int;"
        f"{made.declared()} BEGIN"
        f" IF TG_OP = 'TRUNCATE' THEN {_all(names)} {end} END IF;"
        f"{_guarded(names, made.read(), end)}"
        f" IF TG_OP = 'INSERT' THEN {made.write_all('upsert', 'n')}"
        f" ELSIF TG_OP = 'DELETE' THEN {made.write_all('delete', 'o')}"
        f" ELSE {made.write_changed()} END IF;"
        f" {end} END"
    )


def _put(names: Names, keys: Sequence[str], op: str, rows: str) -> str:
    """What writes the keys that the query `rows` gives, in pieces."""
    return (
        f"{_piece(names, keys, op)} (SELECT s.*, (row_number() OVER () - 1) / {PIECE} AS piece FROM"
        f" ({rows}) s) p GROUP BY piece; {_WROTE}"
    )


def _put_all(names: Names, keys: Sequence[str], op: str, rows: str, pieces: int) -> str:
    """As `_put`, but by passes over `rows` that fill `pieces` rows each: numbering costs more.

    Passes grow longer, so numbering takes over. The first pass has no variable in it, because a
    statement with one may be planned anew each time.
    """

    def one(offset: str) -> str:
        gathered = ", ".join(f"array_agg({key}) AS {key}" for key in keys)
        cut = ", ".join(f"c.{key}[c.likewise_from : c.likewise_from + {PIECE - 1}]" for key in keys)
        return (
            f"INSERT INTO {names.outbox} (op, {', '.join(keys)}) SELECT '{op}', {cut} FROM (SELECT"
            f" a.*, generate_series(1, cardinality(a.{keys[0]}), {PIECE}) AS likewise_from FROM"
            f" (SELECT {gathered} FROM ({rows} {offset}LIMIT {pieces * PIECE}) s) a) c;"
            f" {_WROTE} GET DIAGNOSTICS likewise_count = ROW_COUNT;"
        )

    rest = _put(names, keys, op, f"{rows} OFFSET {_PASSES * pieces * PIECE}")
    return (
        f"{one('')} WHILE likewise_count = {pieces} LOOP likewise_at := likewise_at +"
        f" {pieces * PIECE}; IF likewise_at = {_PASSES * pieces * PIECE} THEN {rest} EXIT; END IF;"
        f" {one('OFFSET likewise_at ')} END LOOP;"
    )


def _piece(names: Names, keys: Sequence[str], op: str) -> str:
    gathered = ", ".join(f"array_agg({key})" for key in keys)
    return f"INSERT INTO {names.outbox} (op, {', '.join(keys)}) SELECT '{op}', {gathered} FROM"


def _by_row(names: Names, reading: Reading, end: str) -> str:
    numbers = range(1, len(reading.key) + 1)
    keys = ", ".join(f"k{number}" for number in numbers)

    def declared() -> Iterator[str]:
        for number, kind in enumerate(reading.kinds, start=1):
            yield f"likewise_n{number} {_array(kind)}; likewise_o{number} {_array(kind)};"

    def taken(variable: str, side: str) -> str:
        return " ".join(
            f"{variable}{number} := ARRAY[{key_shown(column, side)}];"
            for number, column in enumerate(reading.key, start=1)
        )

    def differ(columns: Sequence[Column]) -> str:
        old = ", ".join(_compared(column, "OLD") for column in columns)
        new = ", ".join(_compared(column, "NEW") for column in columns)
        return f"ROW({old}) IS DISTINCT FROM ROW({new})"

    def put(op: str, variable: str) -> str:
        values = ", ".join(f"{variable}{number}" for number in numbers)
        return (
            f"INSERT INTO {names.outbox} (op, {keys}) VALUES ('{op}', {values});"
            " likewise_wrote := true;"
        )

    moved = " OR ".join(f"likewise_n{n} IS DISTINCT FROM likewise_o{n}" for n in numbers)
    watched = _watched(reading)
    changed = f"likewise_moved OR {differ(watched)}" if watched else "likewise_moved"
    probe = (
        f"IF TG_OP <> 'DELETE' THEN {taken('likewise_n', 'NEW')} END IF;"
        f" IF TG_OP <> 'INSERT' THEN {taken('likewise_o', 'OLD')} END IF;"
        f" IF TG_OP = 'UPDATE' THEN likewise_moved := {moved}; likewise_changed := {changed};"
        " END IF;"
    )
    return (
        f"DECLARE {' '.join(declared())} likewise_wrote boolean := false;"
        " likewise_moved boolean := false; likewise_changed boolean := true; BEGIN"
        f" IF TG_OP = 'TRUNCATE' THEN {_all(names)} {end} END IF;"
        f"{_guarded(names, probe, end)}"
        f" IF TG_OP = 'DELETE' OR likewise_moved THEN {put('delete', 'likewise_o')} END IF;"
        f" IF TG_OP <> 'DELETE' AND likewise_changed THEN {put('upsert', 'likewise_n')} END IF;"
        f" {end} END"
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
    if not column.collation_is_exact:
        # Such a collation calls 'a' and 'A' equal.
        return f'{name}::text COLLATE "C"'
    return name if column.type in _COMPARED_AS_THEY_ARE else f"{name}::text"
