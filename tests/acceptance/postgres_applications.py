"""Applications that own rows in Postgres."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

IN_THE_WAY = psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure


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
