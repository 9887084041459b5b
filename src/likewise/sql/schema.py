"""What a user's SQLite table looks like: columns, the key that names a row, unique indexes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from likewise.base.errors import NoKey, SchemaDrift
from likewise.base.names import nearest
from likewise.sql.names import quote

if TYPE_CHECKING:
    from collections.abc import Sequence

    import apsw

BINARY = "BINARY"


@dataclass(frozen=True, slots=True)
class Column:
    """A column; generated ones too."""

    name: str
    is_not_null: bool
    default: str | None
    """SQL text of its DEFAULT."""
    primary: int
    """Place in the primary key from 1; 0 when it isn't in it."""


@dataclass(frozen=True, slots=True)
class Unique:
    """Columns that can't be equal in two rows, each with the collation that says "equal"."""

    columns: tuple[str, ...]
    collations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table as it is now."""

    name: str
    columns: tuple[Column, ...]
    uniques: tuple[Unique, ...]
    """Of whole columns; partial and expression indexes can't be guarded and are in `unguarded`."""
    unguarded: tuple[str, ...]
    rowid: str | None = None
    """The column that is INTEGER PRIMARY KEY."""

    def column(self, name: str) -> Column:
        """The column of that name; SQLite's names don't distinguish case.

        Raises:
            SchemaDrift: there is none.
        """
        for column in self.columns:
            if column.name.lower() == name.lower():
                return column
        names = [column.name for column in self.columns]
        raise SchemaDrift(
            f"table {self.name} has no column {name!r}{nearest(name, names)}; "
            f"it has {', '.join(names)}"
        )

    def key(self, wanted: Sequence[str] = ()) -> tuple[str, ...]:
        """The columns that name a row: `wanted`, else the primary key, else a UNIQUE NOT NULL one.

        Raises:
            NoKey: none do so for good.
            SchemaDrift: a wanted column isn't there.
        """
        if wanted:
            return self._wanted(wanted)
        primary = sorted((c for c in self.columns if c.primary), key=lambda c: c.primary)
        if primary:
            return tuple(column.name for column in primary)
        for unique in self.uniques:
            if self._never_null(unique.columns):
                return unique.columns
        raise NoKey(
            f"table {self.name} has no primary key and no UNIQUE columns that are all NOT NULL, so "
            "nothing names a row for good (SQLite may renumber its rowid). Add one, for example by "
            f"rebuilding the table with 'id INTEGER PRIMARY KEY', or CREATE UNIQUE INDEX on a "
            "column that is NOT NULL."
        )

    def is_rowid(self, name: str) -> bool:
        """Whether the column is the rowid by another name, which holds nothing but integers."""
        return name == self.rowid

    def _wanted(self, wanted: Sequence[str]) -> tuple[str, ...]:
        names = tuple(self.column(name).name for name in wanted)
        for unique in self.uniques:
            if set(unique.columns) == set(names):
                if self._never_null(names) or all(self.column(n).primary for n in names):
                    return names
                raise NoKey(
                    f"key {', '.join(names)} of table {self.name} can be NULL, and NULL names no "
                    "row; declare NOT NULL or choose another key"
                )
        raise NoKey(
            f"columns {', '.join(names)} of table {self.name} aren't unique together; the key must "
            "be its primary key or have a UNIQUE constraint"
        )

    def _never_null(self, names: Sequence[str]) -> bool:
        return all(self.column(name).is_not_null for name in names)

    def collations_of(self, names: Sequence[str]) -> tuple[str, ...]:
        """How the unique index over exactly `names` compares them."""
        for unique in self.uniques:
            if set(unique.columns) == set(names):
                by_name = dict(zip(unique.columns, unique.collations, strict=True))
                return tuple(by_name[name] for name in names)
        return tuple(BINARY for _ in names)


def read_table(db: apsw.Connection, name: str) -> Table:
    """Table `name` as the file has it now.

    Raises:
        SchemaDrift: no such table.
        NoKey: it is a view or a virtual table, which can't carry triggers.
    """
    found = db.execute(
        "SELECT name, type, sql FROM sqlite_schema WHERE lower(name) = lower(?)"
        " AND type IN ('table', 'view')",
        (name,),
    ).fetchall()
    if not found:
        tables = [str(row[0]) for row in db.execute(_USER_TABLES)]
        raise SchemaDrift(
            f"there is no table {name!r}{nearest(name, tables)}; "
            f"the file has {', '.join(tables) or 'no tables'}"
        )
    actual, kind, sql = map(str, found[0])
    if kind == "view" or sql.upper().startswith("CREATE VIRTUAL"):
        raise NoKey(
            f"{actual} is a {'view' if kind == 'view' else 'virtual table'}: its changes can't be "
            "captured by triggers; bind the table that holds the rows"
        )
    columns = tuple(
        Column(str(row[1]), bool(row[3]), row[4], int(row[5]))
        for row in db.execute(f"PRAGMA table_xinfo({quote(actual)})")
        if row[6] != 1  # 1 is a hidden column of a virtual table; 2 and 3 are generated ones
    )
    uniques, unguarded = _uniques(db, actual, columns)
    return Table(actual, columns, uniques, unguarded, _rowid(db, actual))


def _rowid(db: apsw.Connection, table: str) -> str | None:
    info = db.execute(f"PRAGMA table_info({quote(table)})").fetchall()
    primary = [row for row in info if row[5]]
    # Without an index of its own an INTEGER primary key is the rowid.
    indexes = [row[3] for row in db.execute(f"PRAGMA index_list({quote(table)})")]
    if len(primary) == 1 and str(primary[0][2]).upper() == "INTEGER" and "pk" not in indexes:
        return str(primary[0][1])
    return None


_USER_TABLES = (
    "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    " AND name NOT LIKE 'likewise\\_%' ESCAPE '\\' ORDER BY name"
)


def _uniques(
    db: apsw.Connection, table: str, columns: Sequence[Column]
) -> tuple[tuple[Unique, ...], tuple[str, ...]]:
    uniques: list[Unique] = []
    unguarded: list[str] = []
    for _, index, is_unique, _, is_partial in db.execute(f"PRAGMA index_list({quote(table)})"):
        if not is_unique:
            continue
        parts = [row for row in db.execute(f"PRAGMA index_xinfo({quote(index)})") if row[5]]
        if is_partial or any(row[1] < 0 for row in parts):
            unguarded.append(str(index))
        else:
            uniques.append(
                Unique(tuple(str(row[2]) for row in parts), tuple(str(row[4]) for row in parts))
            )
    primary = tuple(column.name for column in columns if column.primary)
    # INTEGER PRIMARY KEY is the table itself and has no index of its own.
    if primary and not any(set(unique.columns) == set(primary) for unique in uniques):
        uniques.append(Unique(primary, tuple(BINARY for _ in primary)))
    return tuple(sorted(uniques, key=lambda u: u.columns)), tuple(sorted(unguarded))
