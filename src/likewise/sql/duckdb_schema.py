"""What a table, view or query of DuckDB looks like, and how its keys cross."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from likewise.base.errors import NoKey, SchemaDrift, SettingsError
from likewise.base.names import nearest
from likewise.sql.names import quote

if TYPE_CHECKING:
    import duckdb

    from likewise.base.types import Key

_PLAIN = {
    "TINYINT": "int",
    "SMALLINT": "int",
    "INTEGER": "int",
    "BIGINT": "int",
    "UTINYINT": "int",
    "USMALLINT": "int",
    "UINTEGER": "int",
    "FLOAT": "real",
    "DOUBLE": "real",
    "VARCHAR": "text",
    "BLOB": "bytes",
}
"""Types whose values cross as they are; others cross as the text that DuckDB shows."""
_CARRIED = {"int": "BIGINT", "real": "DOUBLE", "text": "VARCHAR", "bytes": "BLOB"}


@dataclass(frozen=True, slots=True)
class Column:
    """A column and its type, as DuckDB writes it."""

    name: str
    type: str

    @property
    def kind(self) -> str:
        """How its values cross as parts of a key; see `Shape`."""
        return _PLAIN.get(self.type, f"cast:{self.type}")

    def shown(self, *, blobs: bool = True) -> str:
        """The expression by which its values cross."""
        name = f"t.{quote(self.name)}"
        if self.type == "BLOB" and not blobs:
            return "NULL"
        return name if self.type in _PLAIN else f"{name}::VARCHAR"


@dataclass(frozen=True, slots=True)
class Relation:
    """A table, view or query as it is now."""

    name: str
    """As it is shown; empty for a query."""
    sql: str
    """What stands after FROM."""
    columns: tuple[Column, ...]
    uniques: tuple[tuple[str, ...], ...] = ()
    """Columns of the primary key first, then of other constraints over NOT NULL columns."""
    is_table: bool = False

    def column(self, name: str) -> Column:
        """The column of that name; DuckDB's names don't distinguish case.

        Raises:
            SchemaDrift: there is none.
        """
        for column in self.columns:
            if column.name.lower() == name.lower():
                return column
        names = [column.name for column in self.columns]
        raise SchemaDrift(
            f"{self.name or 'the query'} has no column {name!r}{nearest(name, names)}; "
            f"it has {', '.join(names)}"
        )

    def key(self, wanted: Sequence[str]) -> tuple[Column, ...]:
        """The columns that name a row: `wanted`, else the primary key, else a UNIQUE NOT NULL one.

        Raises:
            NoKey: none do.
            SchemaDrift: a wanted column isn't there.
        """
        names = wanted or (self.uniques[0] if self.uniques else ())
        if not names:
            raise NoKey(
                f"{self.name} has no primary key and no UNIQUE columns that are all NOT NULL (and "
                "DuckDB's rowid changes): name the columns that tell its rows apart with --key; it "
                f"has {', '.join(column.name for column in self.columns)}"
            )
        return tuple(self.column(name) for name in names)


def read_relation(db: duckdb.DuckDBPyConnection, name: str) -> Relation:
    """Table or view `name` (`TABLE` or `SCHEMA.TABLE`) as the file has it now.

    Raises:
        SchemaDrift: there is none.
    """
    there: list[Any] = db.execute(
        "SELECT schema_name, table_name, true FROM duckdb_tables() WHERE NOT internal AND"
        " database_name = current_database() UNION ALL SELECT schema_name, view_name, false FROM"
        " duckdb_views() WHERE NOT internal AND database_name = current_database()"
    ).fetchall()
    found = [
        each
        for each in there
        if name.lower() in (f"{each[0]}.{each[1]}".lower(), each[1].lower())
        and (each[0] == "main" or name.lower() != each[1].lower())
    ]
    if not found:
        names = [_shown(*each[:2]) for each in there if each[0] != "likewise"]
        raise SchemaDrift(
            f"there is no table {name!r}{nearest(name, names)}; "
            f"the file has {', '.join(sorted(names)) or 'no tables'}"
        )
    schema, table, is_table = found[0]
    sql = f"{quote(schema)}.{quote(table)}"
    columns = _columns(db, sql)
    uniques = _uniques(db, schema, table) if is_table else ()
    return Relation(_shown(schema, table), sql, columns, uniques, is_table)


def read_query(db: duckdb.DuckDBPyConnection, query: str) -> Relation:
    """The rows of a SELECT.

    Raises:
        SettingsError: it isn't exactly one, and nothing else.
        DatabaseError: it isn't SQL.
    """
    statements = db.extract_statements(query)
    if [each.type.name for each in statements] != ["SELECT"]:
        raise SettingsError("a binding's query is one SELECT, and nothing else", param="query")
    # A line of its own for the parenthesis: the query may end in a comment.
    sql = f"({query.strip().rstrip(';')}\n)"
    return Relation("", sql, _columns(db, sql))


def _shown(schema: str, table: str) -> str:
    return table if schema == "main" else f"{schema}.{table}"


def _columns(db: duckdb.DuckDBPyConnection, sql: str) -> tuple[Column, ...]:
    # The description of a result folds types together (a DECIMAL has lost its scale).
    found = db.execute(f"DESCRIBE SELECT * FROM {sql} AS t").fetchall()
    return tuple(Column(str(row[0]), str(row[1])) for row in found)


def _uniques(db: duckdb.DuckDBPyConnection, schema: str, table: str) -> tuple[tuple[str, ...], ...]:
    found = db.execute(
        "SELECT constraint_type, constraint_column_names FROM duckdb_constraints() WHERE"
        " database_name = current_database() AND schema_name = ? AND table_name = ?",
        [schema, table],
    ).fetchall()
    not_null = {name for kind, names in found if kind == "NOT NULL" for name in names}
    uniques = [tuple(names) for kind, names in found if kind == "PRIMARY KEY"]
    uniques += [
        tuple(names) for kind, names in found if kind == "UNIQUE" and not_null.issuperset(names)
    ]
    return tuple(uniques)


def given(kinds: Sequence[str]) -> str:
    """Keys as parameters, `SELECT unnest(?::BIGINT[]) AS k0, …`: an array a column."""
    return "SELECT " + ", ".join(
        f"unnest(?::{_CARRIED.get(kind, 'VARCHAR')}[]) AS k{at}" for at, kind in enumerate(kinds)
    )


def arrays(keys: Sequence[Key], kinds: Sequence[str]) -> list[list[Any]]:
    """The parameters of `given`."""
    return [[key[at] for key in keys] for at in range(len(kinds))]


def back(kind: str, name: str) -> str:
    """A carried part as the key column's own type."""
    return f"{name}::{kind.removeprefix('cast:')}" if kind.startswith("cast:") else name
