"""Applications that own rows in DuckDB."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

import duckdb


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
        # DuckDB 2.0.1 reads a file's header before it locks the file, but not when told what the
        # file is: several processes that take turns lose one another's commits otherwise. Where
        # Likewise shares the file within the process, all must name it alike.
        kind = "" if "likewise.sql.duckdb" in sys.modules else "duckdb:"
        while True:
            try:
                return duckdb.connect(f"{kind}{self.where}")
            except duckdb.IOException as locked:
                if "lock" not in str(locked):
                    raise
                time.sleep(0.001)  # nothing tells when the other process lets it go
