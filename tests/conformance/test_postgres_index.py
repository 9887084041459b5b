"""What users of Postgres see of a binding: a view to query, and an index that serves it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from likewise.base.errors import LikewiseError, SettingsError
from likewise.base.spec import BindingSpec
from likewise.base.types import passage_hash
from likewise.binding.worker import Options, Worker
from likewise.server import databases
from likewise.stores import postgres_index, postgres_publish
from likewise.stores.postgres import PostgresTable
from tests.binding_kit import SPACE, Fake, bars, fake_vector, running
from tests.postgres_kit import PgApp
from tests.support import LIMIT, wait_until

VALID = (
    "SELECT count(*) FROM pg_index WHERE indexrelid = to_regclass('likewise.docs_hnsw')"
    " AND indisvalid"
)
NEAREST = (
    "SELECT d.title, e.text FROM likewise.docs e JOIN docs d USING (id)"
    " ORDER BY e.vector <=> %s::vector LIMIT 3"
)


class Kit:
    """Twenty bound rows in a database of their own."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.app = PgApp(address, "CREATE TABLE docs (id int PRIMARY KEY, title text, body text)")
        self.write(1, 20)
        spec = BindingSpec("docs", address, "docs", "{title}|{body}")
        self.record = databases.create(spec, SPACE)
        self.source, table = databases.open_ends(self.record)
        assert isinstance(table, PostgresTable)
        self.table = table

    def worker(self, **options: float) -> Worker:
        settings = Options(reconcile_seconds=None, **options)  # type: ignore[arg-type] # floats only
        return Worker(self.source, self.table, Fake(), bars, options=settings)

    def drain(self) -> None:
        worker = self.worker()
        worker.drain()
        worker.close()

    def write(self, first: int, last: int) -> None:
        rows = "SELECT n, 't' || n, 'b' || n FROM generate_series(%s::int, %s::int) n"
        self.app(f"INSERT INTO docs {rows}", [first, last])

    def has_index(self) -> bool:
        return bool(self.app(VALID)[0][0])

    def close(self) -> None:
        self.source.close()
        self.table.close()
        self.app.close()


@pytest.fixture
def kit(database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kit]:
    monkeypatch.setattr(postgres_index, "WORTH_IT", 30)
    made = Kit(database)
    yield made
    made.close()


def test_the_view_shows_text_vector_and_whether_it_is_fresh(kit: Kit) -> None:
    kit.drain()
    wanted = [(7, 0, 0, 2, "t7", True), (7, 1, 3, 5, "b7", True)]
    shown = (
        'SELECT id, chunk, "start", "end", text, fresh FROM likewise.docs WHERE id = 7 ORDER BY 2'
    )
    assert kit.app(shown) == wanted
    vector = kit.app("SELECT vector::text FROM likewise.docs WHERE id = 7 AND chunk = 0")[0][0]
    assert [float(part) for part in vector.strip("[]").split(",")] == fake_vector("t7").tolist()
    kit.app("UPDATE docs SET title = 'new' WHERE id = 7")
    fresh = (
        "SELECT id, bool_and(fresh) FROM likewise.docs WHERE id IN (7, 8) GROUP BY id ORDER BY id"
    )
    assert kit.app(fresh) == [(7, False), (8, True)]
    kit.drain()
    assert kit.app(fresh) == [(7, True), (8, True)]


def test_nearest_rows_in_plain_sql_by_the_index(kit: Kit) -> None:
    kit.drain()
    assert kit.table.maintain()
    assert not kit.table.maintain()
    query = str(fake_vector("t9").tolist())
    assert kit.app(NEAREST, [query])[0] == ("t9", "t9")
    kit.app("SET enable_seqscan = off")
    plan = "\n".join(row[0] for row in kit.app("EXPLAIN " + NEAREST, [query]))
    assert "docs_hnsw" in plan, plan


def test_the_planner_knows_a_table_that_has_grown(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = "SELECT DISTINCT tablename FROM pg_stats WHERE schemaname = 'likewise' ORDER BY 1"
    kit.drain()
    assert kit.app(known) == []
    monkeypatch.setattr(postgres_publish, "LEAST_KNOWN", 32)
    kit.write(21, 30)
    kit.drain()
    assert kit.app(known) == []
    kit.write(31, 40)
    kit.drain()
    assert kit.app(known) == [("docs_chunk",), ("docs_row",)]


def test_too_few_rows_need_no_index(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_index, "WORTH_IT", 1000)
    kit.drain()
    assert not kit.table.maintain()
    assert not kit.has_index()


def test_a_worker_builds_it_while_rows_keep_coming(kit: Kit) -> None:
    first = 21
    with running(kit.worker(upkeep_seconds=0.05)):

        def built() -> bool:
            nonlocal first
            kit.write(first, first)
            first += 1
            return kit.has_index()

        wait_until(built, what="the index")
    kit.drain()
    assert len(kit.table.fingerprints()) == first - 1


def test_nobody_waits_for_a_build(kit: Kit) -> None:
    """It waits for a transaction that began before it; the application doesn't wait for it."""
    kit.drain()
    with psycopg.connect(kit.address) as old, ThreadPoolExecutor(1) as pool:
        old.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        old.execute("INSERT INTO docs VALUES (500, 't', 'b')")
        old.execute("SELECT count(*) FROM likewise.docs_chunk")
        build = pool.submit(kit.table.maintain)
        waiting = (
            "SELECT count(*) FROM pg_stat_progress_create_index WHERE phase LIKE 'waiting for old%'"
        )
        wait_until(lambda: kit.app(waiting)[0][0], what="the build")
        kit.write(100, 110)
        kit.drain()
        old.commit()
        assert build.result(LIMIT)
    assert kit.has_index()


def test_only_one_builds(kit: Kit) -> None:
    kit.drain()
    with psycopg.connect(kit.address) as other:
        name = kit.table.index._name
        other.execute("SELECT pg_advisory_lock(hashtext(%s))", (name,))
        assert not kit.table.maintain()
    assert kit.table.maintain()


def test_what_an_interrupted_build_left_is_built_again(kit: Kit) -> None:
    kit.drain()
    with psycopg.connect(kit.address) as old, ThreadPoolExecutor(1) as pool:
        old.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        old.execute("SELECT count(*) FROM likewise.docs_chunk")
        old.execute("INSERT INTO docs VALUES (500, 't', 'b')")
        build = pool.submit(kit.table.maintain)
        waiting = (
            "SELECT count(*) FROM pg_stat_progress_create_index WHERE phase LIKE 'waiting for old%'"
        )
        wait_until(lambda: kit.app(waiting)[0][0], what="the build")
        kit.table.index.stop()
        with pytest.raises(LikewiseError):
            build.result(LIMIT)
        old.commit()
    assert not kit.has_index()
    assert kit.table.maintain()
    assert kit.has_index()


def test_half_as_many_bits(kit: Kit, database: str) -> None:
    """float16 is `halfvec`, with an index of its own; a float32 generation takes none of them."""
    spec = BindingSpec("half", database, "docs", "{title}|{body}", dtype="float16")
    record = databases.create(spec, SPACE.stored_as("bars", "float16"))
    with databases.ends(record) as (source, table):
        worker = Worker(source, table, Fake(), bars, options=Options(reconcile_seconds=None))
        worker.drain()
        worker.close()
        assert table.maintain()
        kinds = (
            "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid ="
            " 'likewise.half_chunk'::regclass AND attname = 'vector'"
        )
        assert kit.app(kinds) == [("halfvec(8)",)]
        # Numbers from 0 to 255 are the same in both.
        nearest = NEAREST.replace("likewise.docs", "likewise.half").replace("::vector", "::halfvec")
        asked = str(fake_vector("t7").tolist())
        assert kit.app(nearest, [asked])[0] == ("t7", "t7")
        kit.app("SET enable_seqscan = off")
        plan = "\n".join(row[0] for row in kit.app(f"EXPLAIN {nearest}", [asked]))
        assert "half_hnsw" in plan
        assert table.known([passage_hash("t7")])
    # A float32 generation doesn't take what was cut to half.
    assert kit.table.known([passage_hash("t7")]) == {}


def test_only_postgres_keeps_half(database: str) -> None:
    for store in ("sqlite:a.db", "duckdb:a.duckdb"):
        with pytest.raises(SettingsError, match="in Postgres also float16"):
            BindingSpec("docs", database, "docs", "{title}", store=store, dtype="float16")
    with pytest.raises(SettingsError, match="'int8'"):
        BindingSpec("docs", database, "docs", "{title}", dtype="int8")
