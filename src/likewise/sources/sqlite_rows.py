"""Reading rows of a SQLite table or query, whatever bytes stand in them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from likewise.base.types import Row
from likewise.sql.names import quote
from likewise.sql.sqlite import UTF8
from likewise.text.canon import canonical, fingerprint

if TYPE_CHECKING:
    import apsw

    from likewise.text.template import Template


@dataclass(frozen=True, slots=True)
class Reading:
    """What is read of a row, and from where."""

    relation: str
    """What stands after FROM: a quoted table, or a query in parentheses."""
    key: tuple[str, ...]
    watched: dict[str, str]
    """Template column → the relation's own spelling."""
    others: tuple[str, ...]
    """Columns that are neither in the key nor in the template."""

    def row(self, template: Template, values: Sequence[Any]) -> Row:
        """The row of which `rows` gave `values`."""
        columns = [*self.key, *self.watched, *self.others]
        named = dict(zip(columns, values, strict=False))
        text = canonical(template.render(named))
        digest = fingerprint(text)
        return Row(tuple(values[: len(self.key)]), text, named, digest, mark=digest)


def rows(
    db: apsw.Connection,
    reading: Reading,
    where: str,
    bindings: Sequence[Any],
    *,
    tail: str = "",
    wide: bool = False,
) -> Iterator[Sequence[Any]]:
    """Values of key, template and (`wide`) other columns, the statement run for each binding.

    Text that isn't UTF-8 is mended with U+FFFD; rows whose very key isn't are left out.
    """
    key = [quote(column) for column in reading.key]
    plain = [quote(column) for column in reading.watched.values()]
    if wide:
        plain += [
            f"CASE WHEN typeof({c}) <> 'blob' THEN {c} END" for c in map(quote, reading.others)
        ]
    source = f"FROM {reading.relation} WHERE {where}"
    fast = f"SELECT {', '.join(key + plain)} {source} {tail}"
    careful = [f"CASE WHEN typeof({c}) = 'text' THEN CAST({c} AS BLOB) ELSE {c} END" for c in plain]
    named = "".join(f" AND (typeof({c}) <> 'text' OR {UTF8}(CAST({c} AS BLOB)))" for c in key)
    slow = f"SELECT {', '.join(key + careful)} {source}{named} {tail}"
    for binding in bindings:
        try:
            yield from db.execute(fast, binding).fetchall()
        except UnicodeDecodeError:
            for row in db.execute(slow, binding).fetchall():
                yield [*row[: len(key)], *map(_mended, row[len(key) :])]


def _mended(part: object) -> object:
    return part.decode("utf-8", "replace") if isinstance(part, bytes) else part
