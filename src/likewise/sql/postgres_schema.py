"""What a table, view or query of Postgres looks like, and whether its rows can be bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from likewise.base.errors import DatabaseReadOnly, NoKey, SchemaDrift
from likewise.base.names import nearest
from likewise.sql.postgres import quoted

if TYPE_CHECKING:
    from likewise.sql.postgres import Connection

PLAIN_KEYS = {
    "smallint": "int",
    "integer": "int",
    "bigint": "int",
    "text": "text",
    "character varying": "text",
    "bytea": "bytes",
}
"""Types of key columns that cross as they are; others cross as the text that Postgres shows."""
PLAIN_VALUES = frozenset((*PLAIN_KEYS, "real", "double precision"))
TABLES = frozenset(("r", "p"))


@dataclass(frozen=True, slots=True)
class Column:
    """A column, by the number that stays when it is renamed."""

    number: int
    name: str
    type: str
    """As `format_type` writes it, without a length."""
    is_not_null: bool
    is_virtual: bool = False
    """Computed when read."""
    collation_is_exact: bool = True
    """Whether texts that it calls equal are the same bytes."""

    @property
    def kind(self) -> str:
        """How its values cross as parts of a key; see `Shape`."""
        return PLAIN_KEYS.get(self.type, f"cast:{self.type}")


@dataclass(frozen=True, slots=True)
class Relation:
    """A table or view as it is now."""

    oid: int
    name: str
    """Qualified and quoted."""
    kind: str
    """`pg_class.relkind`: r, p (partitioned), v, m (materialised), f (foreign)."""
    columns: tuple[Column, ...]
    uniques: tuple[tuple[str, ...], ...]
    """Columns of the primary key first, then of other unique indexes over NOT NULL columns."""
    is_by_row: bool = False
    """Whether only triggers by row see all that happens to it: it is partitioned, a partition, or
    replication applies changes to it."""
    partitions: tuple[str, ...] = ()
    """Tables below it in which rows lie, qualified and quoted."""

    def column(self, name: str) -> Column:
        """The column of that name, else of that name in lower case.

        Raises:
            SchemaDrift: there is none.
        """
        for wanted in (name, name.lower()):
            for column in self.columns:
                if column.name == wanted:
                    return column
        names = [column.name for column in self.columns]
        raise SchemaDrift(
            f"{self.name} has no column {name!r}{nearest(name, names)}; it has {', '.join(names)}"
        )

    def key(self, wanted: Sequence[str]) -> tuple[Column, ...]:
        """The columns that name a row: `wanted`, else the primary key, else a unique index's.

        Raises:
            NoKey: none do so for good.
            SchemaDrift: a wanted column isn't there.
        """
        if wanted:
            chosen = tuple(self.column(name) for name in wanted)
            names = {column.name for column in chosen}
            if self.kind in TABLES and not any(set(unique) == names for unique in self.uniques):
                raise NoKey(
                    f"columns {', '.join(sorted(names))} of {self.name} aren't the primary key and "
                    "have no plain unique index with NOT NULL on each; nothing else names a row "
                    "for good"
                )
        elif self.kind not in TABLES:
            raise NoKey(
                f"{self.name} is no table with a primary key: name the columns that tell its rows "
                f"apart with --key; it has {', '.join(c.name for c in self.columns)}"
            )
        elif not self.uniques:
            raise NoKey(
                f"{self.name} has no primary key and no unique index over NOT NULL columns, so "
                "nothing names a row for good. Add one, for example: ALTER TABLE "
                f"{self.name} ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY;"
            )
        else:
            chosen = tuple(self.column(name) for name in self.uniques[0])
        for column in chosen:
            if not column.collation_is_exact:
                raise NoKey(
                    f"key column {column.name} of {self.name} has a collation that calls different "
                    "texts equal; name another key"
                )
        return chosen


_COLUMNS = """
SELECT a.attnum, a.attname, format_type(a.atttypid, NULL), a.attnotnull,
       a.attgenerated = 'v', coalesce(c.collisdeterministic, true)
FROM pg_attribute a LEFT JOIN pg_collation c ON c.oid = a.attcollation
WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_UNIQUES = """
SELECT array(SELECT a.attname::text
             FROM unnest(i.indkey[0:i.indnkeyatts - 1]) WITH ORDINALITY AS k(number, place)
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
             ORDER BY k.place)
FROM pg_index i
WHERE i.indrelid = %s AND i.indisunique AND i.indisvalid AND i.indimmediate
  AND i.indpred IS NULL AND i.indexprs IS NULL
  AND NOT EXISTS (SELECT FROM unnest(i.indkey[0:i.indnkeyatts - 1]) n JOIN pg_attribute a
                  ON a.attrelid = i.indrelid AND a.attnum = n WHERE NOT a.attnotnull)
ORDER BY NOT i.indisprimary, i.indexrelid
"""
_FIND = """
SELECT c.oid, format('%%I.%%I', n.nspname, c.relname), c.relkind::text,
       c.relkind = 'p' OR c.relispartition
       OR EXISTS (SELECT FROM pg_subscription_rel s WHERE s.srrelid = c.oid),
       array(SELECT t.relid::regclass::text FROM pg_partition_tree(c.oid) t
             WHERE c.relkind = 'p' AND t.level > 0 ORDER BY 1)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = %s
"""


def read_relation(db: Connection, name: str, *, was: int | None = None) -> Relation:
    """The table or view `name`, with or without its schema, as it is now.

    Args:
        db: a connection.
        name: as in SQL; also without the quotes that it would need there.
        was: its number when the binding was made, by which a renamed one is known.

    Raises:
        SchemaDrift: there is none.
    """
    oid = _oid(db, name)
    if oid is None:
        _say_missing(db, name, was)
    found = db.execute(_FIND, (oid,)).fetchone()
    if found is None:
        raise SchemaDrift(f"there is no table {name!r}")
    columns = tuple(Column(*row) for row in db.execute(_COLUMNS, (oid,)))
    uniques = tuple(tuple(row[0]) for row in db.execute(_UNIQUES, (oid,)))
    oid, qualified, kind, is_by_row, partitions = found
    return Relation(
        int(oid), str(qualified), str(kind), columns, uniques, bool(is_by_row), tuple(partitions)
    )


def _oid(db: Connection, name: str) -> int | None:
    exact = ".".join(f'"{part}"' for part in name.replace('"', "").split("."))
    whole = '"' + name.replace('"', '""') + '"'
    for each in (name, exact, whole):
        # A name that isn't one at all is an error inside to_regclass.
        found = db.execute(
            "SELECT CASE WHEN pg_input_is_valid(%s, 'regclass') THEN %s::regclass::oid END",
            (each, each),
        ).fetchone()
        if found is not None and found[0] is not None:
            return int(found[0])
    return None


def _say_missing(db: Connection, name: str, was: int | None) -> None:
    if was is not None:
        now = db.execute(
            "SELECT %s::oid::regclass::text WHERE EXISTS (SELECT FROM pg_class WHERE oid = %s)",
            (was, was),
        ).fetchone()
        if now is not None:
            raise SchemaDrift(
                f"table {name} was renamed to {now[0]}; drop the binding and bind {now[0]}, or "
                "rename it back"
            )
    tables = [
        str(row[0])
        for row in db.execute(
            "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid ="
            " c.relnamespace WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT IN"
            " ('pg_catalog', 'pg_toast', 'information_schema', 'likewise')"
            " ORDER BY 1 LIMIT 50",
            (),
        )
    ]
    raise SchemaDrift(
        f"there is no table {name!r}{nearest(name, tables)}; "
        f"the database has {', '.join(tables) or 'no tables'}"
    )


def require_rights(db: Connection, relation: Relation, *, triggers: bool) -> None:
    """This role can do what following the relation needs.

    Raises:
        DatabaseReadOnly: a grant is missing; the message has the statement that gives it.
        NoKey: row-level security would hide rows from this role, which would look deleted.
    """
    row = db.execute(
        "SELECT current_user, has_table_privilege(%s::oid, 'SELECT'),"
        " has_table_privilege(%s::oid, 'TRIGGER'), row_security_active(%s::oid)",
        (relation.oid, relation.oid, relation.oid),
    ).fetchone()
    user, may_read, may_trigger, is_hidden = row or ("?", True, True, False)
    missing = [
        grant
        for grant, has in (("SELECT", may_read), ("TRIGGER", may_trigger or not triggers))
        if not has
    ]
    if missing:
        raise DatabaseReadOnly(
            f"role {user} lacks {' and '.join(missing)} on {relation.name}; let its owner run: "
            f'GRANT {", ".join(missing)} ON {relation.name} TO "{user}";'
        )
    if is_hidden:
        raise NoKey(
            f"row-level security of {relation.name} hides rows from role {user}; they would look "
            f'deleted. Let a superuser run: ALTER ROLE "{user}" BYPASSRLS;'
        )


def as_text(column: str) -> str:
    """A column's value as the text that Postgres shows."""
    return f"{quoted(column)}::text"
