"""Reading rows of a Postgres table, view or query: which expressions, and what becomes of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from likewise.base.types import Key, Row
from likewise.sql.postgres import quoted
from likewise.sql.postgres_keys import arrays, back, given, key_from, one
from likewise.sql.postgres_schema import PLAIN_VALUES
from likewise.text.canon import canonical, fingerprint

if TYPE_CHECKING:
    from likewise.sql.postgres import Connection
    from likewise.sql.postgres_schema import Column
    from likewise.text.template import Template


@dataclass(frozen=True, slots=True)
class Reading:
    """What is read of a row, and from where."""

    relation: str
    """What stands after FROM: a table's name, or a query in parentheses."""
    key: tuple[Column, ...]
    watched: Mapping[str, Column]
    """Template column → the relation's own."""
    others: tuple[Column, ...]
    """Columns that are neither in the key nor in the template."""
    kinds: tuple[str, ...] = field(init=False)
    """Of the key columns; see `Shape`."""
    names: tuple[str, ...] = field(init=False)
    """What the values of a row are called, in their order."""

    def __post_init__(self) -> None:
        names = (*(c.name for c in self.key), *self.watched, *(c.name for c in self.others))
        object.__setattr__(self, "kinds", tuple(column.kind for column in self.key))
        object.__setattr__(self, "names", names)

    def selected(self, *, wide: bool, prefix: str = "t") -> str:
        """The expressions of a SELECT: key, template columns and (`wide`) the others."""
        shown = [key_shown(column, prefix) for column in self.key]
        shown += [value_shown(column, prefix) for column in self.watched.values()]
        if wide:
            shown += [value_shown(column, prefix, blobs=False) for column in self.others]
        return ", ".join(shown)

    def digest(self, prefix: str = "t") -> str:
        """md5 (16 bytes) of key and template columns, unambiguous, as SQL."""
        parts = [f"{prefix}.{quoted(c.name)}::text" for c in (*self.key, *self.watched.values())]
        return f"decode(md5(jsonb_build_array({', '.join(parts)})::text), 'hex')"

    def row(self, template: Template, values: Sequence[Any], mark: bytes = b"") -> Row:
        """The row of which such a SELECT gave `values`."""
        named = dict(zip(self.names, values, strict=False))
        text = canonical(template.render(named))
        key = key_from(values[: len(self.key)], self.kinds)
        return Row(key, text, named, fingerprint(text), mark=mark)


def key_shown(column: Column, prefix: str) -> str:
    """A key column as it crosses."""
    name = f"{prefix}.{quoted(column.name)}"
    return f"{name}::text" if column.kind.startswith("cast:") else name


def value_shown(column: Column, prefix: str, *, blobs: bool = True) -> str:
    """A column's value: numbers and texts as they are, anything else as the text of it."""
    name = f"{prefix}.{quoted(column.name)}"
    if column.type == "bytea" and not blobs:
        return f"NULL AS {quoted(column.name)}"
    return name if column.type in PLAIN_VALUES else f"{name}::text"


def read(
    db: Connection, reading: Reading, keys: Sequence[Key], *, extra: str = ""
) -> Iterator[Sequence[Any]]:
    """Values of the rows with these keys, and `extra` at the end."""
    if not keys:
        return
    kinds = reading.kinds
    joined = " AND ".join(
        f"t.{quoted(column.name)} = {back(kind, f'k.k{number}')}"
        for number, (column, kind) in enumerate(zip(reading.key, kinds, strict=True), start=1)
    )
    sql = (
        f"SELECT {reading.selected(wide=True)}{extra} FROM {given(kinds)}"
        f" JOIN {reading.relation} AS t ON {joined}"
    )
    yield from db.execute(sql, arrays(keys, kinds))


def page(db: Connection, reading: Reading, after: Key | None, size: int) -> list[Sequence[Any]]:
    """The next rows in key order, at most `size`."""
    names = ", ".join(f"t.{quoted(column.name)}" for column in reading.key)
    marks = ", ".join(back(kind, f"%s::{one(kind)}") for kind in reading.kinds)
    where = "" if after is None else f" WHERE ({names}) > ({marks})"
    sql = (
        f"SELECT {reading.selected(wide=False)} FROM {reading.relation} AS t{where}"
        f" ORDER BY {names} LIMIT {size}"
    )
    return list(db.execute(sql, after or ()))
