"""The triggers that log changes: pure SQL from a table's shape; core SQLite functions only.

A writer needs nothing of ours. What each trigger is for, and which trap it avoids, is in
docs/sqlite.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from likewise.sql.names import quote
from likewise.sql.schema import BINARY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from likewise.sql.names import Layout
    from likewise.sql.schema import Table, Unique


def triggers(layout: Layout, log: str, table: Table, watched: Sequence[str]) -> dict[str, str]:
    """Each trigger's name and statement. `watched`: the template's columns, as the table has them.

    `log` is the table they write to. Bodies only ever append to it, where nothing can conflict: the
    outer statement's OR clause replaces the conflict policy of statements in a trigger.
    """
    made = {
        layout.of("ai"): ("AFTER INSERT", "", [_log(layout, log, "NEW", "upsert")]),
        layout.of("ad"): ("AFTER DELETE", "", [_log(layout, log, "OLD", "delete")]),
        layout.of("au"): (
            "AFTER UPDATE",
            f"WHEN {_changed(layout, watched)} ",
            _moved(layout, log),
        ),
    }
    for number, unique in enumerate(_to_guard(layout, table), start=1):
        made[layout.of(f"bi{number}")] = ("BEFORE INSERT", "", [_guard(layout, log, table, unique)])
        changes = " OR ".join(_differs(column) for column in unique.columns)
        # Not "the key differs from OLD's": of a row that REPLACE removes the key always differs,
        # and a log entry too many costs a read.
        made[layout.of(f"bu{number}")] = (
            "BEFORE UPDATE",
            f"WHEN {changes} ",
            [_guard(layout, log, table, unique)],
        )
    return {
        name: f"CREATE TRIGGER {name} {event} ON {quote(table.name)} FOR EACH ROW {when}"
        f"BEGIN {' '.join(body)} END"
        for name, (event, when, body) in made.items()
    }


def _log(layout: Layout, log: str, side: str, op: str) -> str:
    """Append one entry; a NULL in the key names no row, and is left to `verify` to report."""
    values = ", ".join(f"{side}.{quote(column)}" for column in layout.key)
    named = " AND ".join(f"{side}.{quote(column)} IS NOT NULL" for column in layout.key)
    return f"INSERT INTO {log} ({layout.key_list}, op) SELECT {values}, '{op}' WHERE {named};"


def _moved(layout: Layout, log: str) -> list[str]:
    """The entries of an update: the old key when it changed, and the new."""
    key_changed = " OR ".join(_differs(column) for column in layout.key)
    leaving = _log(layout, log, "OLD", "delete")
    return [f"{leaving[:-1]} AND ({key_changed});", _log(layout, log, "NEW", "upsert")]


def _changed(layout: Layout, watched: Sequence[str]) -> str:
    """True when the row's name or text may differ.

    Not UPDATE OF: that looks at the SET list, which never holds a generated column. typeof because
    1 and 1.0 are equal and read differently.
    """
    columns = dict.fromkeys([*layout.key, *watched])
    return " OR ".join(_differs(column) for column in columns)


def _differs(column: str) -> str:
    # The column's own collation may call 'a' and 'A' equal.
    old, new = f"OLD.{quote(column)}", f"NEW.{quote(column)}"
    return f"{old} IS NOT {new} COLLATE {BINARY} OR typeof({old}) <> typeof({new})"


def _to_guard(layout: Layout, table: Table) -> list[Unique]:
    """Unique indexes through which REPLACE may remove a row whose key isn't the new row's.

    SQLite fires no delete trigger for such a row unless the writer asked for recursive triggers.
    The key itself needs a guard where its collation calls different keys equal.
    """
    return [
        unique
        for unique in table.uniques
        if set(unique.columns) != set(layout.key)
        or any(collation != BINARY for collation in unique.collations)
    ]


def _guard(layout: Layout, log: str, table: Table, unique: Unique) -> str:
    """Log the rows that stand where the new row wants to be."""
    values = ", ".join(quote(column) for column in layout.key)
    named = [f"{quote(column)} IS NOT NULL" for column in layout.key]
    same = [
        f"{quote(column)} = {_incoming(table, column)} COLLATE {collation}"
        for column, collation in zip(unique.columns, unique.collations, strict=True)
    ]
    return (
        f"INSERT INTO {log} ({layout.key_list}, op) SELECT {values}, 'delete'"
        f" FROM {quote(table.name)} WHERE {' AND '.join(same + named)};"
    )


def _incoming(table: Table, name: str) -> str:
    """The new row's value. OR REPLACE puts the default where NOT NULL is broken, after BEFORE."""
    column = table.column(name)
    if column.is_not_null and column.default is not None:
        return f"coalesce(NEW.{quote(name)}, {column.default})"
    return f"NEW.{quote(name)}"
