"""Names of Likewise's tables in a user's SQLite file, and how identifiers are quoted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

META = "likewise_meta"
BINDING = "likewise_binding"


def quote(name: str) -> str:
    """`name` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def listed(names: Iterable[str]) -> str:
    """Names as a comma-separated list of SQL identifiers."""
    return ", ".join(quote(name) for name in names)


@dataclass(frozen=True, slots=True)
class Layout:
    """The tables of one binding: `likewise_<name>_<suffix>`; no suffix holds a `_`."""

    name: str
    key: tuple[str, ...]
    """Key columns of the user's table."""

    @property
    def log(self) -> str:
        """Changes that wait: written by triggers, answered by the worker."""
        return self.of("log")

    @property
    def row(self) -> str:
        """One line a source row: which text its vectors are of."""
        return self.of("row")

    @property
    def chunk(self) -> str:
        """One line a passage: offsets and vector."""
        return self.of("chunk")

    @property
    def feed(self) -> str:
        """What was published, for indexes that follow."""
        return self.of("feed")

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

    def of(self, suffix: str) -> str:
        """The object of this binding with that suffix."""
        return f"likewise_{self.name}_{suffix}"

    def tables(self) -> dict[str, str]:
        """Each table's name and the statement that makes it."""
        # Without a declared type a column converts nothing: keys keep their database type.
        key, key_list = "".join(f"{quote(c)}, " for c in self.columns), self.key_list
        return {
            self.log: (
                f"CREATE TABLE {self.log} (seq INTEGER PRIMARY KEY AUTOINCREMENT, {key}"
                "op TEXT NOT NULL, at REAL NOT NULL DEFAULT"
                " ((julianday('now') - 2440587.5) * 86400.0))"
            ),
            self.row: (
                f"CREATE TABLE {self.row} ({key}fingerprint BLOB NOT NULL, status TEXT NOT NULL,"
                " chunks INTEGER NOT NULL, seq INTEGER NOT NULL, error TEXT,"
                " attempts INTEGER NOT NULL DEFAULT 0, at REAL NOT NULL,"
                f" PRIMARY KEY ({key_list})) WITHOUT ROWID"
            ),
            self.chunk: (
                f'CREATE TABLE {self.chunk} ({key}chunk INTEGER NOT NULL, "start" INTEGER NOT'
                ' NULL, "end" INTEGER NOT NULL, vector BLOB NOT NULL,'
                f" PRIMARY KEY ({key_list}, chunk))"
            ),
            self.feed: (
                f"CREATE TABLE {self.feed} (version INTEGER PRIMARY KEY AUTOINCREMENT, {key}"
                "stamp INTEGER NOT NULL)"
            ),
        }

    def indexes(self) -> dict[str, str]:
        """Each index's name and the statement that makes it."""
        log, parked = self.of("logkey"), self.of("rowparked")
        return {
            log: f"CREATE INDEX {log} ON {self.log} ({self.key_list}, seq)",
            parked: f"CREATE INDEX {parked} ON {self.row} (status) WHERE status = 'parked'",
        }
