"""Applications that own the rows: one interface over every source; they know no Likewise.

Each has rows of a number and a text, and a column that no binding looks at.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Protocol

import apsw
import duckdb
import psycopg
from psycopg.pq import TransactionStatus

IN_THE_WAY = psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure


class Application(Protocol):
    """What tests do to rows. Each call is a transaction of its own."""

    def write(self, rows: Mapping[int, str]) -> None:
        """Insert or update."""

    def remove(self, *keys: int) -> None: ...

    def move(self, key: int, to: int) -> None:
        """Give a row another key; nothing happens when it isn't there or `to` is taken."""

    def touch(self) -> None:
        """Change what no binding looks at, in every row."""

    def undo(self, rows: Mapping[int, str]) -> None:
        """Write, and roll back."""

    def clear(self) -> None:
        """Remove every row at once."""

    def bypass(self, rows: Mapping[int, str], removed: int) -> None:
        """Write and remove behind the back of whatever captures changes."""

    def rows(self) -> dict[int, str]: ...

    def close(self) -> None: ...


class SqliteApplication:
    """Over apsw, as this process may have Likewise in it."""

    TABLE = "CREATE TABLE IF NOT EXISTS docs (id INTEGER PRIMARY KEY, body TEXT, other INTEGER)"

    def __init__(self, where: str) -> None:
        self.db = apsw.Connection(where)
        self.db.set_busy_timeout(30_000)
        self.db.pragma("journal_mode", "wal")
        self.db.execute(self.TABLE)

    def write(self, rows: Mapping[int, str]) -> None:
        with self.db:
            self.db.executemany(
                "INSERT INTO docs VALUES (?, ?, 0) ON CONFLICT (id) DO UPDATE SET"
                " body = excluded.body",
                rows.items(),
            )

    def remove(self, *keys: int) -> None:
        with self.db:
            self.db.executemany("DELETE FROM docs WHERE id = ?", [(key,) for key in keys])

    def move(self, key: int, to: int) -> None:
        self.db.execute("UPDATE OR IGNORE docs SET id = ? WHERE id = ?", (to, key))

    def touch(self) -> None:
        self.db.execute("UPDATE docs SET other = other + 1")

    def undo(self, rows: Mapping[int, str]) -> None:
        self.db.execute("BEGIN IMMEDIATE")
        self.db.executemany("INSERT OR REPLACE INTO docs VALUES (?, ?, 0)", rows.items())
        self.db.execute("ROLLBACK")

    def clear(self) -> None:
        self.db.execute("DELETE FROM docs")

    def bypass(self, rows: Mapping[int, str], removed: int) -> None:
        """A table rebuilt as migrations do it: with it go the triggers."""
        self.db.execute("BEGIN IMMEDIATE")
        self.db.execute("CREATE TABLE anew AS SELECT * FROM docs")
        self.db.execute("DROP TABLE docs")
        self.db.execute(self.TABLE)
        self.db.execute("INSERT INTO docs SELECT * FROM anew WHERE id <> ?", (removed,))
        self.db.executemany("INSERT OR REPLACE INTO docs VALUES (?, ?, 0)", rows.items())
        self.db.execute("DROP TABLE anew")
        self.db.execute("COMMIT")

    def rows(self) -> dict[int, str]:
        found: list[Any] = self.db.execute("SELECT id, body FROM docs").fetchall()
        return dict(found)

    def close(self) -> None:
        self.db.close()


class SqliteViewApplication(SqliteApplication):
    """The same, bound through a view."""

    def __init__(self, where: str) -> None:
        super().__init__(where)
        self.db.execute("CREATE VIEW IF NOT EXISTS shown AS SELECT id, body FROM docs")


class PostgresApplication:
    """Over psycopg, in autocommit."""

    TABLE = "CREATE TABLE IF NOT EXISTS docs (id int PRIMARY KEY, body text, other int DEFAULT 0)"

    def __init__(self, where: str) -> None:
        self.db = psycopg.connect(where, autocommit=True)
        self.db.execute("SET client_min_messages = warning")
        with self.db.transaction():
            self.db.execute("SELECT pg_advisory_xact_lock(1)")
            self.db.execute(self.TABLE)

    def run(self, sql: str, values: Sequence[Any] = ()) -> None:
        """Again when another's statement got in its way, as applications have to.

        Two that change rows in different orders lock each other out, and a row that moves to
        another partition fails whoever waits for it (SQLSTATE 40P01 and 40001).
        """
        while True:
            try:
                self.db.execute(sql, values or None)
            except IN_THE_WAY:
                if self.db.info.transaction_status != TransactionStatus.IDLE:
                    raise
            else:
                return

    def write(self, rows: Mapping[int, str]) -> None:
        self.run(
            "INSERT INTO docs (id, body) SELECT * FROM unnest(%s::int[], %s::text[])"
            " ORDER BY 1 ON CONFLICT (id) DO UPDATE SET body = excluded.body",
            (list(rows), list(rows.values())),
        )

    def remove(self, *keys: int) -> None:
        self.run("DELETE FROM docs WHERE id = ANY(%s)", (sorted(keys),))

    def move(self, key: int, to: int) -> None:
        with suppress(psycopg.errors.UniqueViolation):
            self.run("UPDATE docs SET id = %s WHERE id = %s", (to, key))

    def touch(self) -> None:
        self.run("UPDATE docs SET other = other + 1")

    def undo(self, rows: Mapping[int, str]) -> None:
        with suppress(*IN_THE_WAY), self.db.transaction(force_rollback=True):
            self.write(rows)

    def clear(self) -> None:
        self.run("TRUNCATE docs")

    def bypass(self, rows: Mapping[int, str], removed: int) -> None:
        """As a restore with --disable-triggers does, by one who then forgets to enable them."""
        self.db.execute("ALTER TABLE docs DISABLE TRIGGER USER")
        self.write(rows)
        self.remove(removed)

    def rows(self) -> dict[int, str]:
        return dict(self.db.execute("SELECT id, body FROM docs").fetchall())

    def close(self) -> None:
        self.db.close()


class PartitionedApplication(PostgresApplication):
    """A partitioned table; rows move between partitions with their keys."""

    TABLE = """
        CREATE TABLE IF NOT EXISTS docs (id int PRIMARY KEY, body text, other int DEFAULT 0)
            PARTITION BY RANGE (id);
        CREATE TABLE IF NOT EXISTS docs_low PARTITION OF docs FOR VALUES FROM (0) TO (30);
        CREATE TABLE IF NOT EXISTS docs_high PARTITION OF docs FOR VALUES FROM (30) TO (5000)
    """

    def write(self, rows: Mapping[int, str]) -> None:
        low = {number: text for number, text in rows.items() if number < 30}
        if low and len(low) == len(rows):
            # Straight into the partition.
            self.run(
                "INSERT INTO docs_low (id, body) SELECT * FROM unnest(%s::int[], %s::text[])"
                " ORDER BY 1 ON CONFLICT (id) DO UPDATE SET body = excluded.body",
                (list(low), list(low.values())),
            )
        else:
            super().write(rows)


class DuckdbApplication:
    """Over duckdb, open for one statement at a time, as only one process may have the file."""

    TABLE = "CREATE TABLE IF NOT EXISTS docs (id INTEGER PRIMARY KEY, body TEXT, other INTEGER)"
    UPSERT = (
        "INSERT INTO docs SELECT unnest(?::INTEGER[]), unnest(?::VARCHAR[]), 0"
        " ON CONFLICT (id) DO UPDATE SET body = excluded.body"
    )

    def __init__(self, where: str) -> None:
        self.where = where
        self.run(self.TABLE)

    def run(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """In one transaction; whoever has the file lets it go before long."""
        with closing(self._opened()) as db:
            return db.execute(sql, list(values)).fetchall()

    def write(self, rows: Mapping[int, str]) -> None:
        """An upsert: what DuckDB refuses on a table that has triggers."""
        self.run(self.UPSERT, [list(rows), list(rows.values())])

    def remove(self, *keys: int) -> None:
        self.run("DELETE FROM docs WHERE id IN (SELECT unnest(?::INTEGER[]))", [list(keys)])

    def move(self, key: int, to: int) -> None:
        free = "NOT EXISTS (SELECT 1 FROM docs WHERE id = $2)"
        self.run(f"UPDATE docs SET id = $2 WHERE id = $1 AND {free}", [key, to])

    def touch(self) -> None:
        self.run("UPDATE docs SET other = other + 1")

    def undo(self, rows: Mapping[int, str]) -> None:
        with closing(self._opened()) as db:
            db.execute("BEGIN")
            db.execute(self.UPSERT, [list(rows), list(rows.values())])
            db.execute("ROLLBACK")

    def clear(self) -> None:
        self.run("TRUNCATE docs")

    def bypass(self, rows: Mapping[int, str], removed: int) -> None:
        """There is nothing to go behind."""
        self.remove(removed)
        self.write(rows)

    def rows(self) -> dict[int, str]:
        return dict(self.run("SELECT id, body FROM docs"))

    def close(self) -> None:
        pass

    def _opened(self) -> duckdb.DuckDBPyConnection:
        while True:
            try:
                return duckdb.connect(self.where)
            except duckdb.IOException as locked:
                if "lock" not in str(locked):
                    raise
                time.sleep(0.001)  # nothing tells when the other process lets it go


class FilesApplication:
    """A folder of text files, one a row; each is written beside its place and moved into it."""

    def __init__(self, where: str) -> None:
        self.folder = Path(where)
        self.folder.mkdir(exist_ok=True)

    def write(self, rows: Mapping[int, str]) -> None:
        for number, text in rows.items():
            self._put(self._path(number), text)

    def remove(self, *keys: int) -> None:
        for key in keys:
            self._path(key).unlink(missing_ok=True)

    def move(self, key: int, to: int) -> None:
        if not self._path(to).exists():
            with suppress(FileNotFoundError):
                self._path(key).rename(self._path(to))

    def touch(self) -> None:
        for path in self.folder.glob("*.txt"):
            with suppress(FileNotFoundError):
                path.touch()

    def undo(self, rows: Mapping[int, str]) -> None:
        for number, text in rows.items():
            left = self.folder / f"{number}.txt.{os.getpid()}.tmp"
            left.write_text(text, encoding="utf-8")
            left.unlink()

    def clear(self) -> None:
        for path in self.folder.glob("*.txt"):
            path.unlink(missing_ok=True)

    def bypass(self, rows: Mapping[int, str], removed: int) -> None:
        """Times set back, as `cp -p` and `rsync -t` do."""
        self.remove(removed)
        for number, text in rows.items():
            self._put(self._path(number), text)
            os.utime(self._path(number), (1_000_000_000, 1_000_000_000))

    def rows(self) -> dict[int, str]:
        return {
            int(path.stem): path.read_text(encoding="utf-8") for path in self.folder.glob("*.txt")
        }

    def close(self) -> None:
        pass

    def _path(self, number: int) -> Path:
        return self.folder / f"{number}.txt"

    def _put(self, path: Path, text: str) -> None:
        beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)


APPLICATIONS: dict[str, Callable[[str], Application]] = {
    "sqlite": SqliteApplication,
    "sqlite-view": SqliteViewApplication,
    "postgres": PostgresApplication,
    "postgres-partitioned": PartitionedApplication,
    "duckdb": DuckdbApplication,
    "files": FilesApplication,
}


def open_application(kind: str, where: str | Path) -> Application:
    """The application of that kind over its rows at `where`."""
    return APPLICATIONS[kind](str(where))
