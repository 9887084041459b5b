"""Names of Likewise's tables in a user's SQLite file, and how identifiers are quoted."""

from __future__ import annotations

import abc
import re
from collections.abc import Iterable
from dataclasses import dataclass

META = "likewise_meta"
BINDING = "likewise_binding"
_SHOWN = frozenset(("chunk", "start", "end", "text", "vector", "fresh", "embedded_at"))
"""Columns of a view that a key column can't be called like."""


def quote(name: str) -> str:
    """`name` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def listed(names: Iterable[str]) -> str:
    """Names as a comma-separated list of SQL identifiers."""
    return ", ".join(quote(name) for name in names)


class TableNames(abc.ABC):
    """What the tables of one generation of a binding are called: all stores use these suffixes."""

    __slots__ = ()

    @abc.abstractmethod
    def of(self, suffix: str) -> str:
        """The object of this generation with that suffix."""

    @property
    def log(self) -> str:
        """Changes that wait."""
        return self.of("log")

    @property
    def row(self) -> str:
        """One line a source row: which text its vectors are of."""
        return self.of("row")

    @property
    def chunk(self) -> str:
        """One line a passage: offsets, text and vector."""
        return self.of("chunk")

    @property
    def feed(self) -> str:
        """What was published, for indexes that follow."""
        return self.of("feed")

    @property
    def seen(self) -> str:
        """What is remembered of a source that keeps no log."""
        return self.of("seen")


@dataclass(frozen=True, slots=True)
class Layout(TableNames):
    """The tables of one generation of a binding: `likewise_<name>_<suffix>`.

    No suffix holds a `_`; from the second generation on it begins with `g<number>`.
    """

    name: str
    key: tuple[str, ...]
    """Key columns of the user's table."""
    generation: int = 1

    @property
    def outbox(self) -> str:
        """Where triggers write when the log is in another database."""
        return self.of("outbox")

    @property
    def view(self) -> str:
        """What users query; one a binding, whatever the generation."""
        return f"likewise_{self.name}_view"

    @property
    def columns(self) -> tuple[str, ...]:
        """The key columns as they are called in our tables."""
        return tuple(f"key_{column}" for column in self.key)

    @property
    def key_list(self) -> str:
        """Our key columns, quoted, for a column list."""
        return listed(self.columns)

    @property
    def key_marks(self) -> str:
        """A `?` for each key column."""
        return ", ".join("?" for _ in self.key)

    @property
    def key_match(self) -> str:
        """`key_a = ? AND key_b = ?`: our columns have no affinity and compare as bytes."""
        return " AND ".join(f"{quote(column)} = ?" for column in self.columns)

    @property
    def mark(self) -> str:
        """What tells this generation's objects from those of others: `likewise_<name>_[g2]`."""
        return self.of("")

    def of(self, suffix: str) -> str:
        """The object of this generation with that suffix."""
        generation = "" if self.generation == 1 else f"g{self.generation}"
        return f"likewise_{self.name}_{generation}{suffix}"

    def owns(self, name: str) -> bool:
        """Whether `name` is a table, index or trigger of this very generation."""
        rest = name[len(self.mark) :]
        is_later = self.generation == 1 and bool(re.match(r"g\d", rest))
        return name.startswith(self.mark) and "_" not in rest and not is_later

    def tables(self) -> dict[str, str]:
        """Each table's name and the statement that makes it."""
        key, key_list = self._key_columns(), self.key_list
        return {
            self.log: self.log_table(self.log),
            self.row: (
                f"CREATE TABLE {self.row} ({key}fingerprint BLOB NOT NULL, status TEXT NOT NULL,"
                " chunks INTEGER NOT NULL, seq INTEGER NOT NULL, error TEXT,"
                " attempts INTEGER NOT NULL DEFAULT 0, at REAL NOT NULL,"
                f" PRIMARY KEY ({key_list})) WITHOUT ROWID"
            ),
            self.chunk: (
                f'CREATE TABLE {self.chunk} ({key}chunk INTEGER NOT NULL, "start" INTEGER NOT'
                ' NULL, "end" INTEGER NOT NULL, vector BLOB NOT NULL, hash BLOB, text TEXT,'
                f" PRIMARY KEY ({key_list}, chunk))"
            ),
            self.feed: (
                f"CREATE TABLE {self.feed} (version INTEGER PRIMARY KEY AUTOINCREMENT, {key}"
                "stamp INTEGER NOT NULL)"
            ),
            self.seen: (
                f"CREATE TABLE {self.seen} (unit TEXT PRIMARY KEY, mark BLOB NOT NULL)"
                " WITHOUT ROWID"
            ),
        }

    def view_statement(self) -> str:
        """What makes the view show this generation."""
        keys = "".join(
            f"c.{quote(column)} AS {quote(name if name.lower() not in _SHOWN else column)}, "
            for name, column in zip(self.key, self.columns, strict=True)
        )

        def joined(other: str) -> str:
            return " AND ".join(f"{other}.{quote(c)} = c.{quote(c)}" for c in self.columns)

        return (
            f'CREATE VIEW {self.view} AS SELECT {keys}c.chunk, c."start", c."end", c.text,'
            f" c.vector, NOT EXISTS (SELECT 1 FROM {self.log} l WHERE {joined('l')}) AS fresh,"
            " strftime('%Y-%m-%d %H:%M:%f', r.at, 'unixepoch') AS embedded_at"
            f" FROM {self.chunk} c JOIN {self.row} r ON {joined('r')}"
        )

    def log_table(self, name: str) -> str:
        """The statement that makes the log, or an outbox of the same shape."""
        return (
            f"CREATE TABLE {name} (seq INTEGER PRIMARY KEY AUTOINCREMENT, {self._key_columns()}"
            "op TEXT NOT NULL, at REAL NOT NULL DEFAULT"
            " ((julianday('now') - 2440587.5) * 86400.0))"
        )

    def _key_columns(self) -> str:
        # Without a declared type a column converts nothing: keys keep their database type.
        return "".join(f"{quote(c)}, " for c in self.columns)

    def indexes(self) -> dict[str, str]:
        """Each index's name and the statement that makes it."""
        log, parked, known = self.of("logkey"), self.of("rowparked"), self.of("chunkhash")
        return {
            log: f"CREATE INDEX {log} ON {self.log} ({self.key_list}, seq)",
            parked: f"CREATE INDEX {parked} ON {self.row} (status) WHERE status = 'parked'",
            known: f"CREATE INDEX {known} ON {self.chunk} (hash) WHERE hash IS NOT NULL",
        }
