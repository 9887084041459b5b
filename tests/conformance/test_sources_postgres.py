"""A Postgres table as a source: every way in which a row comes, changes or goes is captured."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from likewise.base.bound import BoundSource
from likewise.base.errors import DatabaseReadOnly, NoKey, SchemaDrift
from likewise.base.spec import BindingSpec
from likewise.base.types import Change, Key
from likewise.binding.reconcile import verify
from likewise.binding.worker import Options, Worker
from likewise.sources import postgres_triggers
from likewise.sources.postgres import PostgresSource
from likewise.sources.postgres_kinds import open_postgres
from likewise.sources.postgres_rows import Reading
from likewise.sources.postgres_triggers import Names, function
from likewise.sql.postgres_schema import Column, Relation
from likewise.stores.memory import MemoryTable
from tests.binding_kit import SPACE, Fake, bars, fake_vector
from tests.postgres_kit import PgApp
from tests.support import LIMIT, wait_until

DOCS = "CREATE TABLE docs (id int PRIMARY KEY, slug text UNIQUE, title text, body text)"
PARTITIONED = """
CREATE TABLE docs (id int PRIMARY KEY, slug text, title text, body text) PARTITION BY RANGE (id);
CREATE TABLE docs_low PARTITION OF docs FOR VALUES FROM (0) TO (100);
CREATE TABLE docs_high PARTITION OF docs FOR VALUES FROM (100) TO (200)
"""
TEXT = "{title}|{body}"


class Clock:
    """Each look at it is a minute later, so that nothing is put off."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 60
        return self.now


def spec_of(address: str, *, name: str = "docs", table: str = "docs", **more: Any) -> BindingSpec:
    values = {"text": TEXT, "store": "sqlite:vectors.db", **more}
    return BindingSpec(name, address, table, **values)


def source_of(app: PgApp, *, generation: int = 1, **more: Any) -> PostgresSource:
    return PostgresSource(spec_of(app.address, **more), generation=generation, clock=Clock())


def taken(source: BoundSource, limit: int = 1_000_000) -> list[Change]:
    with source.captured(limit=limit) as captured:
        return list(captured.changes)


def logged(source: BoundSource) -> list[tuple[Key, str]]:
    """Entries since the last call, as (key, op)."""
    return [(change.key, change.op) for change in taken(source)]


@pytest.fixture
def app(database: str) -> Iterator[PgApp]:
    made = PgApp(database)
    yield made
    made.close()


@pytest.fixture(params=[DOCS, PARTITIONED], ids=["plain", "partitioned"])
def source(request: pytest.FixtureRequest, app: PgApp) -> Iterator[PostgresSource]:
    app(request.param)
    made = source_of(app)
    made.attach()
    assert logged(made) == [((), "all")]
    yield made
    made.close()


@pytest.fixture
def plain(app: PgApp) -> Iterator[PostgresSource]:
    app(DOCS)
    made = source_of(app)
    made.attach()
    logged(made)
    yield made
    made.close()


@pytest.fixture
def parted(app: PgApp) -> Iterator[PostgresSource]:
    app(PARTITIONED)
    made = source_of(app)
    made.attach()
    logged(made)
    yield made
    made.close()


def test_attach_says_once_that_changes_may_have_been_missed(app: PgApp) -> None:
    app(DOCS)
    with closing(source_of(app)) as source:
        assert source.attach()
        assert not source.attach()
        with closing(source_of(app)) as another:
            assert not another.attach()
        assert logged(source) == [((), "all")]


def test_several_that_begin_at_once_install_once(app: PgApp) -> None:
    app(DOCS)
    sources = [source_of(app) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda source: source.attach(), sources))
    assert logged(sources[0]) == [((), "all")]
    for source in sources:
        source.close()


def test_each_write_is_captured(app: PgApp, source: PostgresSource) -> None:
    app("INSERT INTO docs VALUES (1, 'a', 't', 'b'), (102, 'b', 't', 'b')")
    assert logged(source) == [((1,), "upsert"), ((102,), "upsert")]
    app("UPDATE docs SET title = 'new' WHERE id = 1")
    assert logged(source) == [((1,), "upsert")]
    app("DELETE FROM docs WHERE id = 1")
    assert logged(source) == [((1,), "delete")]
    app("TRUNCATE docs")
    assert ((), "all") in logged(source)


def test_columns_outside_key_and_template_are_not_watched(
    app: PgApp, source: PostgresSource
) -> None:
    app("INSERT INTO docs VALUES (1, 'a', 't', NULL)")
    logged(source)
    app("UPDATE docs SET slug = 'c'")
    app("UPDATE docs SET title = 't', body = NULL")
    app("UPDATE docs SET title = 'x' WHERE id = 77")
    app("DELETE FROM docs WHERE id = 77")
    app("INSERT INTO docs SELECT 1, 'x', 'x', 'x' WHERE false")
    assert app("SELECT count(*) FROM likewise.docs_outbox") == [(0,)]
    app("UPDATE docs SET body = ''")  # NULL and '' differ
    assert logged(source) == [((1,), "upsert")]


def test_a_changed_key_leaves_and_arrives(app: PgApp, source: PostgresSource) -> None:
    app("INSERT INTO docs VALUES (1, 'a', 't', 'b'), (2, 'b', 'u', 'b')")
    logged(source)
    app("UPDATE docs SET id = 7 WHERE id = 1")
    assert logged(source) == [((1,), "delete"), ((7,), "upsert")]
    app("UPDATE docs SET id = 150 WHERE id = 7")  # to another partition
    assert logged(source) == [((7,), "delete"), ((150,), "upsert")]


def test_a_text_of_nothing_but_the_key(app: PgApp) -> None:
    app("CREATE TABLE docs (name text PRIMARY KEY, other int)")
    with closing(source_of(app, text="{name}")) as source:
        source.attach()
        app("INSERT INTO docs VALUES ('a', 1), ('b', 2), ('c', 3)")
        taken(source)
        app("UPDATE docs SET other = 5 WHERE name = 'a'; UPDATE docs SET other = 6")
        assert logged(source) == []
        app("UPDATE docs SET name = 'd' WHERE name = 'a'")
        assert logged(source) == [(("a",), "delete"), (("d",), "upsert")]
        app("UPDATE docs SET name = name || '!' WHERE name < 'd'")
        assert sorted(logged(source)) == [
            (("b",), "delete"),
            (("b!",), "upsert"),
            (("c",), "delete"),
            (("c!",), "upsert"),
        ]


@pytest.mark.parametrize("seed", range(4))
def test_a_statement_of_any_kind_logs_what_it_changed(
    app: PgApp, source: PostgresSource, seed: int
) -> None:
    """No row, one or several; keys that move, also to another partition; NULL and empty text."""
    pick = random.Random(seed)
    is_parted = app("SELECT relkind = 'p' FROM pg_class WHERE relname = 'docs'") == [(True,)]

    def some() -> str:
        low = pick.randrange(160)
        return pick.choice(
            [f"id = {low}", f"id IN ({low}, {low + 3})", "id % 7 = 0", f"id < {low}", "false"]
        )

    def state() -> dict[Key, object]:
        return {(id,): rest for id, *rest in app("SELECT id, title, body FROM docs")}

    app("INSERT INTO docs SELECT n * 3, n, 'a', 'b' FROM generate_series(0, 50) n")
    taken(source)
    for _ in range(60):
        before = state()
        value, other = pick.choices(["NULL", "''", "'a'", "'b'"], k=2)
        low, more = pick.randrange(160), pick.choice([0, 0, 3])
        statement = pick.choice(
            [
                f"UPDATE docs SET title = {value}, body = {other} WHERE {some()}",
                f"UPDATE docs SET title = body, body = title WHERE {some()}",
                f"UPDATE docs SET slug = slug || '!' WHERE {some()}",
                f"UPDATE docs SET id = 199 - id, body = {value} WHERE {some()} AND id < 160"
                " AND 199 - id NOT IN (SELECT id FROM docs)",
                f"INSERT INTO docs SELECT n, NULL, {value}, {other}"
                f" FROM generate_series({low}, {low + more}) n"
                " ON CONFLICT (id) DO UPDATE SET title = excluded.title",
                f"DELETE FROM docs WHERE ({some()}) AND id % 2 = 1",
            ]
        )
        app(statement)
        after = state()
        changed = {k for k in {**before, **after} if before.get(k) != after.get(k)}
        found = logged(source)
        keys = {key for key, _ in found}
        assert keys >= changed, (seed, statement)
        assert is_parted or keys == changed, (seed, statement)
        last = dict(found)
        assert all(last[key] == ("upsert" if key in after else "delete") for key in changed)


def test_keys_exchanged_in_one_statement(app: PgApp) -> None:
    app("CREATE TABLE docs (id int PRIMARY KEY DEFERRABLE, title text, body text)")
    app("CREATE UNIQUE INDEX ON docs (body); ALTER TABLE docs ALTER body SET NOT NULL")
    # A deferrable key may be broken for a moment; the other index is taken.
    with closing(source_of(app)) as source:
        assert source.resolve().key == ("body",)
        app("INSERT INTO docs VALUES (1, 'one', 'a'), (2, 'two', 'b')")
        source.attach()
        logged(source)
        app("UPDATE docs SET id = 3 - id")
        assert logged(source) == []
        app("UPDATE docs SET body = body || 'x'")
        assert sorted(logged(source)) == [
            *(((key,), op) for key, op in [("a", "delete"), ("ax", "upsert")]),
            *(((key,), op) for key, op in [("b", "delete"), ("bx", "upsert")]),
        ]


def test_upserts_and_merges(app: PgApp, source: PostgresSource) -> None:
    app("INSERT INTO docs VALUES (1, 'a', 't', 'b'), (3, 'c', 't', 'b')")
    logged(source)
    app(
        "INSERT INTO docs VALUES (1, 'a', 'new', 'b'), (2, 'b', 't', 'b')"
        " ON CONFLICT (id) DO UPDATE SET title = excluded.title"
    )
    assert sorted(logged(source)) == [((1,), "upsert"), ((2,), "upsert")]
    app("INSERT INTO docs VALUES (1, 'a', 'x', 'x') ON CONFLICT DO NOTHING")
    assert logged(source) == []
    app(
        "MERGE INTO docs USING (VALUES (1), (2), (5)) AS v(id) ON docs.id = v.id"
        " WHEN MATCHED AND v.id = 1 THEN UPDATE SET body = 'merged'"
        " WHEN MATCHED THEN DELETE"
        " WHEN NOT MATCHED THEN INSERT VALUES (v.id, 'e', 't', 'b')"
    )
    assert sorted(logged(source)) == [((1,), "upsert"), ((2,), "delete"), ((5,), "upsert")]


def test_several_writes_in_one_statement(app: PgApp, source: PostgresSource) -> None:
    app("INSERT INTO docs VALUES (1, 'a', 't', 'b'), (2, 'b', 't', 'b'), (3, 'c', 't', 'b')")
    logged(source)
    app(
        "WITH a AS (UPDATE docs SET title = 'x' WHERE id = 1 RETURNING 1),"
        " b AS (UPDATE docs SET title = 'y' WHERE id = 2 RETURNING 1),"
        " c AS (DELETE FROM docs WHERE id = 3 RETURNING 1)"
        " INSERT INTO docs VALUES (4, 'd', 't', 'b')"
    )
    assert sorted(logged(source)) == [
        *(((1,), "upsert"), ((2,), "upsert")),
        *(((3,), "delete"), ((4,), "upsert")),
    ]


def test_copy(app: PgApp, source: PostgresSource) -> None:
    with app.db.cursor() as cursor, cursor.copy("COPY docs FROM STDIN") as copy:
        for number in range(150):
            copy.write_row((number, f"s{number}", "t", "b"))
    assert sorted(logged(source)) == [((number,), "upsert") for number in range(150)]


def test_cascades(app: PgApp) -> None:
    app("CREATE TABLE parent (id int PRIMARY KEY)")
    app(
        "CREATE TABLE docs (id int PRIMARY KEY, title text, body text,"
        " parent int REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE DEFERRABLE"
        " INITIALLY DEFERRED)"
    )
    with closing(source_of(app, text="{title} {parent}")) as source:
        source.attach()
        app("BEGIN; INSERT INTO docs VALUES (1, 't', 'b', 1), (2, 't', 'b', 2)")
        app("INSERT INTO parent VALUES (1), (2); COMMIT")
        assert logged(source) == [((), "all"), ((1,), "upsert"), ((2,), "upsert")]
        app("UPDATE parent SET id = 5 WHERE id = 1")
        assert logged(source) == [((1,), "upsert")]
        app("DELETE FROM parent")
        assert sorted(logged(source)) == [((1,), "delete"), ((2,), "delete")]
        app("INSERT INTO parent VALUES (9); TRUNCATE parent CASCADE")
        assert logged(source) == [((), "all")]


def test_what_is_rolled_back_never_was(app: PgApp, source: PostgresSource) -> None:
    app("BEGIN; INSERT INTO docs VALUES (1, 'a', 't', 'b'); ROLLBACK")
    app("BEGIN; INSERT INTO docs VALUES (2, 'b', 't', 'b'); SAVEPOINT s")
    app("INSERT INTO docs VALUES (3, 'c', 't', 'b'); ROLLBACK TO s; COMMIT")
    assert logged(source) == [((2,), "upsert")]


def test_what_before_triggers_make_of_a_row(app: PgApp, source: PostgresSource) -> None:
    app(
        "CREATE FUNCTION up() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN NEW.title := upper(NEW.slug); RETURN NEW; END$$;"
        "CREATE TRIGGER up BEFORE INSERT OR UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION up()"
    )
    app("INSERT INTO docs VALUES (1, 'a', 't', 'b')")
    assert logged(source) == [((1,), "upsert")]
    app("UPDATE docs SET slug = 'z'")  # no column of the template is in the SET list
    assert logged(source) == [((1,), "upsert")]
    assert source.read([(1,)])[(1,)].text == "Z|b"


@pytest.mark.parametrize("kind", ["STORED", "VIRTUAL"])
@pytest.mark.parametrize("partition", ["", "PARTITION BY HASH (id)"])
def test_generated_columns(app: PgApp, kind: str, partition: str) -> None:
    app(
        "CREATE TABLE docs (id int PRIMARY KEY, title text, other int,"
        f" body text GENERATED ALWAYS AS (title || '!') {kind}) {partition}"
    )
    if partition:
        app("CREATE TABLE docs_0 PARTITION OF docs FOR VALUES WITH (MODULUS 1, REMAINDER 0)")
    with closing(source_of(app, text="{body}")) as source:
        source.attach()
        app("INSERT INTO docs VALUES (1, 'a', 1)")
        logged(source)
        app("UPDATE docs SET title = 'b'")
        assert logged(source) == [((1,), "upsert")]
        assert source.read([(1,)])[(1,)].text == "b!"


def test_values_that_are_equal_and_not_the_same(app: PgApp) -> None:
    app(
        "CREATE TABLE docs (id int PRIMARY KEY, n numeric, f float8, j json,"
        " b jsonb, c char(5), arr numeric[])"
    )
    with closing(source_of(app, text="{n}{f}{j}{b}{c}{arr}")) as source:
        source.attach()
        app("INSERT INTO docs VALUES (1, 1.0, 0, '{}', '1.0', 'x', '{1.0}')")
        logged(source)
        for change in (
            *("n = 1.00", "f = -0.0::float8", "j = '{ }'", "b = '1.00'"),
            *("c = 'y'", "arr = '{1.00}'"),
        ):
            app(f"UPDATE docs SET {change}")
            assert logged(source) == [((1,), "upsert")], change
        app("UPDATE docs SET c = 'y  '")
        assert logged(source) == []
        app("SET extra_float_digits = 0; SET DateStyle = 'SQL, DMY'")
        app("UPDATE docs SET f = 0.1")
        logged(source)
        app("UPDATE docs SET f = 0.1::float8 + 1e-17 * 2")
        assert logged(source) == [((1,), "upsert")]


def test_collations_that_call_different_texts_equal() -> None:
    """Pure: the server of these tests knows none."""
    key, title = Column(1, "id", "text", True), Column(2, "title", "text", True)
    blind = replace(title, collation_is_exact=False)
    for by_row in (False, True):
        reading = Reading("docs", (key,), {"title": blind}, ())
        made = function(Names("docs"), reading, by_row=by_row, notify=False)
        assert made.count('"title"::text COLLATE "C"') >= 2
    relation = Relation(1, "docs", "r", (blind,), (("title",),))
    with pytest.raises(NoKey, match="calls different texts equal"):
        relation.key(())


def test_one_row_a_statement_and_pieces_of_large_ones(app: PgApp, plain: PostgresSource) -> None:
    app("INSERT INTO docs SELECT n, n, 't', 'b' FROM generate_series(1, 120000) n")
    rows = app("SELECT op, cardinality(k1) FROM likewise.docs_outbox ORDER BY seq")
    assert sorted(rows) == [("upsert", 20000), ("upsert", 50000), ("upsert", 50000)]
    first = taken(plain, limit=10)
    assert len(first) in (20000, 50000)  # a statement's rows may have any order
    assert sorted(change.key[0] for change in [*first, *taken(plain)]) == [*range(1, 120001)]


@pytest.mark.parametrize(
    "columns",
    ["id bigint PRIMARY KEY, slug text", "id text PRIMARY KEY, slug text"]
    + ["id bigint, slug text, PRIMARY KEY (id, slug)"],
)
@pytest.mark.parametrize("count", [1, 5, 6, 9, 10, 19, 20, 21, 25, 40, 100, 199, 200, 201, 225])
def test_no_key_is_left_between_two_pieces(
    app: PgApp, monkeypatch: pytest.MonkeyPatch, count: int, columns: str
) -> None:
    """Up to 5 keys at once, else pieces of 10, 2 a pass, 10 passes; the rest is numbered."""
    for name, value in (("_FEW", 5), ("PIECE", 10), ("_SHORT", 2), ("_LONG", 2)):
        monkeypatch.setattr(postgres_triggers, name, value)
    app(f"CREATE TABLE docs ({columns}, title text, body text)")
    wanted = {(str(n), f"s{n}")[: 1 + ("(id" in columns)] for n in range(1, count + 1)}
    with closing(source_of(app)) as source:
        source.attach()
        taken(source)
        for op, statement in (
            ("upsert", f"INSERT INTO docs SELECT n, 's' || n FROM generate_series(1, {count}) n"),
            ("delete", "DELETE FROM docs"),
        ):
            app(statement)
            sizes = app("SELECT cardinality(k1) FROM likewise.docs_outbox ORDER BY 1 DESC")
            full, rest = divmod(count, 10)
            assert sizes == [(10,)] * full + [(rest,)] * (rest > 0)
            changes = taken(source)
            assert {change.op for change in changes} == {op}
            assert len(changes) == count
            assert {tuple(map(str, change.key)) for change in changes} == wanted


def test_entries_are_lent_and_come_back_on_an_error(app: PgApp, plain: PostgresSource) -> None:
    app("INSERT INTO docs VALUES (1, 'a', 't', 'b')")
    app("INSERT INTO docs VALUES (2, 'b', 't', 'b')")
    with pytest.raises(ZeroDivisionError), plain.captured(limit=1) as captured:
        assert [change.key for change in captured.changes] == [(1,)]
        with closing(source_of(app)) as another, another.captured(limit=9) as theirs:
            assert theirs.changes == ()  # not twice, and not out of turn
        raise ZeroDivisionError
    before = app("SELECT extract(epoch FROM min(at))::float8 FROM likewise.docs_outbox")[0][0]
    changes = taken(plain)
    assert [change.key for change in changes] == [(1,), (2,)]
    assert changes[0].at == before


def test_the_place_moves_when_something_is_taken(app: PgApp, plain: PostgresSource) -> None:
    app("INSERT INTO docs VALUES (1, 'a', 't', 'b')")
    with plain.captured(limit=9) as first:
        pass
    with plain.captured(limit=9) as second:
        pass
    assert first.before != first.after == second.before == second.after != ""


def test_the_place_is_told_once_a_second_while_nothing_waits(app: PgApp) -> None:
    app(DOCS)
    now = 100.0
    with closing(PostgresSource(spec_of(app.address), clock=lambda: now)) as source:
        source.attach()
        taken(source)

        def place() -> str:
            with source.captured(limit=9) as captured:
                return captured.before

        assert place() == ""
        now += 1
        assert place() != ""
        assert place() == ""
        app("INSERT INTO docs VALUES (1, 'a', 't', 'b')")
        assert place() != ""


def test_commits_out_of_order(app: PgApp, source: PostgresSource) -> None:
    with closing(PgApp(app.address)) as slow:
        slow("BEGIN; INSERT INTO docs VALUES (1, 'a', 't', 'b')")
        app("INSERT INTO docs VALUES (102, 'b', 't', 'b')")
        assert logged(source) == [((102,), "upsert")]
        slow("COMMIT")
        assert logged(source) == [((1,), "upsert")]


def test_a_commit_while_entries_are_lent(app: PgApp, source: PostgresSource) -> None:
    """Its number is lower than those that are taken off, and it stays."""
    with closing(PgApp(app.address)) as slow:
        slow("BEGIN; INSERT INTO docs VALUES (1, 'a', 't', 'b')")
        app("INSERT INTO docs VALUES (102, 'b', 't', 'b')")
        with source.captured(limit=9) as captured:
            assert [change.key for change in captured.changes] == [(102,)]
            slow("COMMIT")
        assert logged(source) == [((1,), "upsert")]


def test_a_writer_that_began_before_the_triggers(app: PgApp) -> None:
    """CREATE TRIGGER waits for it, so that the comparison that follows sees its rows."""
    app(DOCS)
    with closing(PgApp(app.address)) as slow, closing(source_of(app)) as source:
        slow("BEGIN; INSERT INTO docs VALUES (1, 'a', 't', 'b')")
        done = threading.Event()

        def install() -> None:
            source.attach()
            done.set()

        with ThreadPoolExecutor(1) as pool:
            installing = pool.submit(install)
            waits = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            while app(waits) == [(0,)]:
                assert not done.is_set()
            slow("COMMIT")
            installing.result(LIMIT)
        assert logged(source) == [((), "all")]
        assert [row.key for row in source.snapshot()] == [(1,)]


def test_replication_and_bulk_loads_are_captured(app: PgApp, source: PostgresSource) -> None:
    app("SET session_replication_role = replica")
    app("INSERT INTO docs VALUES (1, 'a', 't', 'b')")
    app("UPDATE docs SET title = 'x'; DELETE FROM docs")
    app("SET session_replication_role = DEFAULT")
    assert [op for _, op in logged(source)] == ["upsert", "upsert", "delete"]


@pytest.mark.parametrize(
    "harm",
    [
        "ALTER TABLE docs DISABLE TRIGGER USER",
        "ALTER TABLE docs ENABLE TRIGGER {trigger}",
        "DROP TRIGGER {trigger} ON docs",
        "DROP FUNCTION likewise.docs_capture CASCADE",
        "DROP TABLE likewise.docs_outbox",
        "DROP TABLE likewise.source",
        "DROP SCHEMA likewise CASCADE",
        "CREATE OR REPLACE FUNCTION likewise.docs_capture() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN RETURN NULL; END'",
        "ALTER FUNCTION likewise.docs_capture() RESET ALL",
        "UPDATE likewise.source SET wanted = 'of an older version'",
        "{rebuild}",
        "ALTER TABLE docs ALTER title TYPE varchar(50)",
    ],
)
def test_harm_is_noticed_and_mended(app: PgApp, source: PostgresSource, harm: str) -> None:
    [(kind,)] = app("SELECT relkind::text FROM pg_class WHERE relname = 'docs'")
    trigger = "likewise_docs_i" if kind == "r" else "likewise_docs_r"
    rebuild = "DROP TABLE docs; " + (DOCS if kind == "r" else PARTITIONED)
    if "wanted" in harm:
        source.close()
        source = source_of(app)
    app(harm.format(trigger=trigger, rebuild=rebuild))
    assert source.attach()
    assert not source.attach()
    assert ((), "all") in logged(source)
    app("INSERT INTO docs VALUES (1, 'a', 't', 'b')")
    assert logged(source) == [((1,), "upsert")]
    source.close()


def test_a_worker_goes_on_after_our_schema_was_dropped(app: PgApp, plain: PostgresSource) -> None:
    app("DROP SCHEMA likewise CASCADE")
    assert plain.stamp() == 0
    assert plain.waiting() == (0, None)
    assert plain.attach()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("ALTER TABLE docs RENAME TO papers", "table docs was renamed to papers"),
        ("ALTER TABLE docs RENAME title TO headline", "column title of .* renamed to headline"),
        ("ALTER TABLE docs DROP title", "no column 'title'"),
        ("ALTER TABLE docs RENAME id TO number", "column id of .* renamed to number"),
        ("ALTER TABLE docs ALTER id TYPE text", "key of binding docs is now of text"),
        ("DROP TABLE docs", "there is no table 'docs'"),
    ],
)
def test_drift_is_said_and_no_statement_of_the_application_fails(
    app: PgApp, plain: PostgresSource, change: str, said: str
) -> None:
    app("INSERT INTO docs VALUES (1, 'a', 't', 'b')")
    logged(plain)
    app(change)
    for table in ("papers", "docs"):
        if app("SELECT to_regclass(%s)", (table,)) != [(None,)]:
            app(f"INSERT INTO {table} VALUES ('2', 'b', 't')")
            app(f"UPDATE {table} SET slug = slug || 'x'")
            app(f"DELETE FROM {table}")
    for _ in range(2):
        with pytest.raises(SchemaDrift, match=said):
            plain.attach()
    with closing(source_of(app)) as another, pytest.raises(SchemaDrift, match=said):
        another.attach()


def test_drift_of_a_partitioned_table(app: PgApp, parted: PostgresSource) -> None:
    app("ALTER TABLE docs RENAME title TO headline")
    app("INSERT INTO docs VALUES (1, 'a', 't', 'b')")
    app("UPDATE docs SET headline = 'x'; DELETE FROM docs")
    assert ((), "all") in logged(parted)
    with pytest.raises(SchemaDrift, match="renamed to headline"):
        parted.attach()
    app("ALTER TABLE docs RENAME headline TO title")
    parted.attach()
    logged(parted)
    app("INSERT INTO docs VALUES (1, 'a', 't', 'b')")
    assert logged(parted) == [((1,), "upsert")]


def test_a_column_that_nothing_watches_may_go(app: PgApp, source: PostgresSource) -> None:
    app("ALTER TABLE docs DROP slug; INSERT INTO docs VALUES (1, 't', 'b')")
    assert logged(source) == [((1,), "upsert")]
    assert source.attach()


def test_a_key_that_is_one_no_longer(app: PgApp, plain: PostgresSource) -> None:
    app("ALTER TABLE docs DROP CONSTRAINT docs_pkey")
    with pytest.raises(NoKey, match="no primary key"):
        plain.attach()


def test_straight_into_a_partition(app: PgApp, parted: PostgresSource) -> None:
    app("INSERT INTO docs_low VALUES (1, 'a', 't', 'b')")
    app("UPDATE docs_low SET title = 'x'; DELETE FROM docs_low")
    assert [op for _, op in logged(parted)] == ["upsert", "upsert", "delete"]
    app("TRUNCATE docs_high")
    assert logged(parted) == [((), "all")]


def test_a_move_that_the_other_partition_refuses(app: PgApp, parted: PostgresSource) -> None:
    app("INSERT INTO docs SELECT n, n, 't', 'b' FROM generate_series(1, 4) n")
    app("CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    app("CREATE TRIGGER no BEFORE INSERT ON docs_high FOR EACH ROW EXECUTE FUNCTION no()")
    taken(parted)
    app("UPDATE docs SET id = 150 WHERE id = 1")
    app("UPDATE docs SET id = id + 150 WHERE id IN (2, 3)")
    assert app("SELECT id FROM docs ORDER BY id") == [(4,)]
    assert sorted((c.op, c.key) for c in taken(parted)) == [("delete", (n,)) for n in (1, 2, 3)]


def test_partitions_that_come_and_go(app: PgApp, parted: PostgresSource) -> None:
    app(
        "CREATE TABLE more (LIKE docs INCLUDING ALL); INSERT INTO more VALUES (201, 's', 't', 'b');"
        "ALTER TABLE docs ATTACH PARTITION more FOR VALUES FROM (200) TO (300)"
    )
    assert parted.attach()
    assert logged(parted) == [((), "all")]
    app("UPDATE more SET title = 'x'; TRUNCATE more")
    assert logged(parted) == [((201,), "upsert"), ((), "all")]
    app("ALTER TABLE docs DETACH PARTITION more")
    assert parted.attach()
    assert logged(parted) == [((), "all")]
    app("INSERT INTO more VALUES (202, 's', 't', 'b')")
    assert logged(parted) == []


def test_a_trigger_disabled_on_one_partition(app: PgApp, parted: PostgresSource) -> None:
    app("ALTER TABLE docs_low DISABLE TRIGGER USER")
    assert parted.attach()
    logged(parted)
    app("INSERT INTO docs_low VALUES (1, 'a', 't', 'b')")
    assert logged(parted) == [((1,), "upsert")]


def test_a_table_that_becomes_a_partition(app: PgApp, plain: PostgresSource) -> None:
    app(
        "CREATE TABLE whole (id int NOT NULL, slug text, title text, body text)"
        " PARTITION BY RANGE (id);"
        "ALTER TABLE whole ATTACH PARTITION docs FOR VALUES FROM (0) TO (100)"
    )
    assert plain.attach()
    logged(plain)
    app("INSERT INTO whole VALUES (1, 'a', 't', 'b'); INSERT INTO docs VALUES (2, 'b', 't', 'b')")
    assert logged(plain) == [((1,), "upsert"), ((2,), "upsert")]
    app("ALTER TABLE whole DETACH PARTITION docs")
    assert plain.attach()
    logged(plain)
    app("INSERT INTO docs VALUES (3, 'c', 't', 'b')")
    assert logged(plain) == [((3,), "upsert")]


KEYS: dict[str, tuple[str, list[Any]]] = {
    "smallint": ("smallint", [1, -3]),
    "int": ("int", [1, 2**31 - 1]),
    "bigint": ("bigint", [0, -(2**63)]),
    "text": ("text", ["", "a", "ü\n'\"\\ {},NULL", "NULL", "%s 100%"]),
    "varchar": ("varchar(20)", ["a ", "a"]),
    "char": ("char(5)", ["abc", "z"]),
    "name": ("name", ["pg"]),
    "bytea": ("bytea", [b"", b"\x00\xff'", b"a"]),
    "uuid": ("uuid", ["00000000-0000-0000-0000-0000000000ff"]),
    "numeric": ("numeric", ["1.50", "-0.001", "NaN", "Infinity"]),
    "float8": ("float8", ["0.1", "NaN", "-Infinity", "-0", "1e+300"]),
    "real": ("real", ["0.1", "NaN"]),
    "date": ("date", ["2024-02-29", "infinity", "0044-03-15 BC"]),
    "timestamptz": ("timestamptz", ["2024-02-29 12:00:00.000001+00"]),
    "timestamp": ("timestamp(0)", ["2024-02-29 12:00:00"]),
    "interval": ("interval", ["1 day", "-00:00:01"]),
    "bool": ("bool", ["true", "false"]),
    "bit": ("bit(4)", ["0101"]),
    "inet": ("inet", ["10.0.0.1/8", "::1/128"]),
    "enum": ('"Mood"', ["sad", "it's %"]),
    "domain": ("posint", ["7"]),
    "composite": ("pair", ["(1,a)", '(2,"b,c")']),
    "array": ("int[]", ["{1,2}", "{}"]),
    "money": ("money", ["$1.00"]),
}
TYPES = """
CREATE TYPE "Mood" AS ENUM ('sad', 'it''s %'); CREATE DOMAIN posint AS int CHECK (VALUE > 0);
CREATE TYPE pair AS (n int, t text)
"""


@pytest.mark.parametrize("partition", ["", "PARTITION BY LIST (part)"])
@pytest.mark.parametrize("kind", KEYS)
def test_every_kind_of_key(app: PgApp, kind: str, partition: str) -> None:
    type_, values = KEYS[kind]
    app(TYPES)
    app(
        f"CREATE TABLE docs (id {type_}, part int, title text, body text, PRIMARY KEY (id, part))"
        f" {partition}"
    )
    if partition:
        app("CREATE TABLE docs_1 PARTITION OF docs FOR VALUES IN (1)")
    with closing(source_of(app)) as source:
        source.attach()
        logged(source)
        # The one who writes has settings of their own.
        app("SET DateStyle = 'German'; SET TimeZone = 'Asia/Tokyo'; SET IntervalStyle = iso_8601")
        app("SET bytea_output = escape; SET extra_float_digits = 0")
        for value in values:
            app(f"INSERT INTO docs VALUES (%s::text::{type_}, 1, 't', 'b')", (_written(value),))
        keys = [(value, 1) for value in values]
        assert logged(source) == [(key, "upsert") for key in keys]
        found = source.read([*keys, (values[0], 5)])
        assert list(found) == keys
        assert {row.key for row in source.snapshot()} == set(keys)
        assert source.count() == len(keys)
        app("UPDATE docs SET title = 'x'")
        assert {key for key, _ in logged(source)} == set(keys)
        app("DELETE FROM docs")
        assert set(logged(source)) == {(key, "delete") for key in keys}


def _written(value: object) -> str:
    return f"\\x{value.hex()}" if isinstance(value, bytes) else str(value)


def test_snapshots_of_many_pages_are_in_order_and_whole(app: PgApp) -> None:
    app("CREATE TABLE docs (a numeric, b uuid, title text, body text, PRIMARY KEY (b, a))")
    app(
        "INSERT INTO docs SELECT n / 7.0, md5((n % 50)::text)::uuid, 't', n"
        " FROM generate_series(1, 1234) n"
    )
    with closing(source_of(app)) as source:
        source.attach()
        rows = list(source.snapshot())
        assert len({row.key for row in rows}) == len(rows) == 1234
        assert source.resolve().kinds == ("cast:uuid", "cast:numeric")
        assert len(source.read([row.key for row in rows])) == 1234


ODD = 'T%s ü "quoted"'


def test_odd_names(app: PgApp) -> None:
    def q(name: str) -> str:
        return psycopg.sql.Identifier(name).as_string()

    long = "x" * 62
    app.db.execute(f"CREATE SCHEMA {q('My %Schema')}")
    table = f"{q('My %Schema')}.{q(ODD)}"
    app.db.execute(
        f"CREATE TABLE {table} ({q('Key %d')} int, {q('select')} text, {q(long)} text,"
        f" {q('Ünïcode')} text, {q('k1')} text, {q('likewise_wrote')} text,"
        f" PRIMARY KEY ({q('Key %d')}, {q('select')}))"
    )
    text = "{Ünïcode} {" + long + "} {k1} {likewise_wrote}"
    with closing(source_of(app, table=table, text=text)) as source:
        shape = source.resolve()
        assert shape.key == ("Key %d", "select")
        # As a store remembers it.
        with closing(source_of(app, table=shape.table, key=shape.key, text=text)) as again:
            again.attach()
            assert not source.attach()
        logged(source)
        app.db.execute(f"INSERT INTO {table} VALUES (1, 'a', 'l', 'u', 'k', 'w')")
        app.db.execute(f"UPDATE {table} SET {q('likewise_wrote')} = 'x'")
        assert logged(source) == [((1, "a"), "upsert")] * 2
        assert source.read([(1, "a")])[(1, "a")].text == "u l k x"
        assert [row.text for row in source.snapshot()] == ["u l k x"]
        assert source.count() == 1
        source.detach()


def test_names_in_mixed_case_without_quotes(app: PgApp) -> None:
    app('CREATE TABLE "Docs" (id int PRIMARY KEY, "Title" text)')
    with closing(source_of(app, table="Docs", text="{Title}")) as source:
        assert source.attach()
        assert not source.attach()
        with closing(source_of(app, table="public.Docs", text="{Title}")) as another:
            assert not another.attach()


def test_rows_have_every_column_as_json_can_show_it(app: PgApp) -> None:
    app(
        "CREATE TABLE docs (id int PRIMARY KEY, title text, body bytea, n numeric, d date, b bool,"
        " f float8, a int[], j jsonb, blob bytea, nothing text)"
    )
    with closing(source_of(app, text="{title} {n} {d} {b} {f} {a} {j} {body}")) as source:
        source.attach()
        app(
            "INSERT INTO docs VALUES (1, ' t', 'b\\303', 1.50, '2024-01-02', true, 1.5, '{1,2}',"
            """ '{"a": 1}', 'x', NULL)"""
        )
        row = source.read([(1,)])[(1,)]
        assert row.text == 't 1.50 2024-01-02 true 1.5 {1,2} {"a": 1} b\ufffd'
        assert row.values["blob"] is None
        assert row.values["nothing"] is None
        assert row.values["a"] == "{1,2}"
        assert next(iter(source.snapshot())).text == row.text


def test_two_bindings_and_two_generations_of_one_table(app: PgApp) -> None:
    app(DOCS)
    one, two = source_of(app), source_of(app, name="other", text="{slug}")
    three = source_of(app, generation=2)
    sources = [one, two, three]
    for source in sources:
        assert source.attach()
        logged(source)
    app("INSERT INTO docs VALUES (1, 'a', 't', 'b')")
    assert [logged(source) for source in sources] == [[((1,), "upsert")]] * 3
    app("UPDATE docs SET slug = 'z'")
    assert [logged(source) for source in sources] == [[], [((1,), "upsert")], []]
    three.detach()
    assert not one.attach()
    assert not two.attach()
    one.detach()
    two.detach()
    for source in sources:
        source.close()
    assert app("SELECT FROM pg_namespace WHERE nspname = 'likewise'") == []
    assert app("SELECT FROM pg_trigger WHERE tgname LIKE 'likewise%'") == []


def test_detach_leaves_nothing_and_may_be_said_twice(app: PgApp, source: PostgresSource) -> None:
    source.detach()
    source.detach()
    assert app("SELECT FROM pg_namespace WHERE nspname = 'likewise'") == []
    assert app("SELECT FROM pg_trigger WHERE tgname LIKE 'likewise%'") == []
    app("INSERT INTO docs VALUES (1, 'a', 't', 'b')")


def test_detach_after_the_table_was_dropped(app: PgApp, plain: PostgresSource) -> None:
    app("DROP TABLE docs")
    plain.detach()
    assert app("SELECT FROM pg_namespace WHERE nspname = 'likewise'") == []


@pytest.mark.parametrize(
    ("table", "key", "said"),
    [
        ("CREATE TABLE docs (id int, title text, body text)", (), "no primary key"),
        ("CREATE TABLE docs (id int UNIQUE, title text, body text)", (), "no primary key"),
        (
            "CREATE TABLE docs (id int NOT NULL, title text, body text);"
            "CREATE UNIQUE INDEX ON docs (id) WHERE id > 0",
            (),
            "no primary key",
        ),
        (
            "CREATE TABLE docs (id text NOT NULL, title text, body text);"
            "CREATE UNIQUE INDEX ON docs (lower(id))",
            (),
            "no primary key",
        ),
        (DOCS, ("slug",), "slug of .* aren't the primary key"),
        (
            "CREATE TABLE docs (id regclass PRIMARY KEY, title text, body text)",
            (),
            "depends on who reads",
        ),
        (f"{DOCS}; CREATE TABLE heir () INHERITS (docs)", (), "inherit"),
        ("CREATE VIEW docs AS SELECT 1 AS id, 't' AS title, 'b' AS body", (), "--key"),
    ],
)
def test_tables_whose_rows_nothing_names(
    app: PgApp, table: str, key: tuple[str, ...], said: str
) -> None:
    app(table)
    with (
        closing(open_postgres(spec_of(app.address, key=key))) as source,
        pytest.raises(NoKey, match=said),
    ):
        source.resolve()


def test_a_unique_index_with_more_columns_included(app: PgApp) -> None:
    app("CREATE TABLE docs (id int, title text NOT NULL, body text)")
    app("CREATE UNIQUE INDEX ON docs (title) INCLUDE (body)")
    with closing(source_of(app)) as source:
        assert source.resolve().key == ("title",)


@pytest.mark.parametrize("missing", ["docz", "docs.x", "nowhere.docs", "", "a b;c"])
def test_tables_that_are_not_there(app: PgApp, missing: str) -> None:
    app(DOCS)
    with (
        closing(source_of(app, table=missing or "%")) as source,
        pytest.raises(SchemaDrift, match="there is no table"),
    ):
        source.resolve()


@pytest.fixture
def role(app: PgApp) -> Iterator[str]:
    """A role that may nothing but connect."""
    app(DOCS)
    name = f"worker_{app('SELECT current_database()')[0][0]}"
    app(f"CREATE ROLE {name} LOGIN")
    yield name
    app(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")


def test_each_missing_grant_is_named(app: PgApp, role: str) -> None:
    spec = spec_of(app.address.replace("//postgres:", f"//{role}:"))
    [(database,)] = app("SELECT current_database()")
    with closing(PostgresSource(spec, clock=Clock())) as source:
        for said, grant in (
            ("GRANT SELECT, TRIGGER ON .*docs", "GRANT SELECT ON docs TO {role}"),
            ("GRANT TRIGGER ON .*docs", "GRANT TRIGGER ON docs TO {role}"),
            (f'GRANT CREATE ON DATABASE "{database}"', "CREATE SCHEMA likewise"),
            ("GRANT USAGE, CREATE ON SCHEMA", "GRANT USAGE, CREATE ON SCHEMA likewise TO {role}"),
        ):
            with pytest.raises(DatabaseReadOnly, match=said):
                source.resolve()
            with pytest.raises(DatabaseReadOnly, match=said):
                source.attach()
            app(grant.format(role=role))
        [unguarded] = source.resolve().unguarded
        assert "owner" in unguarded
        assert source.attach()
        logged(source)
        # An application that has no rights on anything of ours.
        app(f"CREATE ROLE {role}_app; GRANT ALL ON docs TO {role}_app; SET ROLE {role}_app")
        app("INSERT INTO docs VALUES (1, 'a', 't', 'b'); UPDATE docs SET title = 'x'")
        app(f"RESET ROLE; DROP OWNED BY {role}_app; DROP ROLE {role}_app")
        assert logged(source) == [((1,), "upsert")] * 2
        app("ALTER TABLE docs DISABLE TRIGGER USER")
        assert source.attach()
        source.detach()
    assert app("SELECT FROM pg_trigger WHERE tgname LIKE 'likewise%'") == []


def test_rights_on_partitions(app: PgApp) -> None:
    app(PARTITIONED)
    name = f"worker_{app('SELECT current_database()')[0][0]}"
    app(f"CREATE ROLE {name} LOGIN; CREATE SCHEMA likewise AUTHORIZATION {name}")
    app(f"GRANT SELECT, TRIGGER ON docs, docs_high TO {name}")
    spec = spec_of(app.address.replace("//postgres:", f"//{name}:"))
    with closing(PostgresSource(spec, clock=Clock())) as source:
        with pytest.raises(DatabaseReadOnly, match="GRANT TRIGGER ON docs_low"):
            source.attach()
        app(f"GRANT TRIGGER ON docs_low TO {name}")
        assert source.attach()
        source.detach()
    app(f"DROP OWNED BY {name}; DROP ROLE {name}")


def test_row_level_security(app: PgApp, role: str) -> None:
    app(f"GRANT SELECT, TRIGGER ON docs TO {role}; CREATE SCHEMA likewise AUTHORIZATION {role}")
    app("INSERT INTO docs VALUES (1, 'a', 't', 'b')")
    spec = spec_of(app.address.replace("//postgres:", f"//{role}:"))
    with closing(PostgresSource(spec, clock=Clock())) as source:
        source.attach()
        app("ALTER TABLE docs ENABLE ROW LEVEL SECURITY")
        # No policy lets us see the row: that it looks deleted must not be believed.
        with pytest.raises(DatabaseReadOnly, match="row-level security"):
            source.read([(1,)])
        with pytest.raises(NoKey, match="BYPASSRLS"):
            source.attach()
        app(f"ALTER ROLE {role} BYPASSRLS")
        source.attach()
        assert list(source.read([(1,)])) == [(1,)]


def test_an_unlogged_table_is_said_to_be_emptied_by_crashes(app: PgApp) -> None:
    app(DOCS.replace("TABLE", "UNLOGGED TABLE"))
    with closing(source_of(app)) as source:
        assert "UNLOGGED" in source.resolve().unguarded[0]


def test_notify_wakes_once_a_statement_that_wrote(app: PgApp) -> None:
    app(DOCS)
    with closing(source_of(app, wake="notify")) as source:
        source.attach()
        before = source.stamp()
        assert source.stamp() == before
        app("INSERT INTO docs SELECT n, n, 't', 'b' FROM generate_series(1, 100) n")
        wait_until(lambda: source.stamp() != before, what="the notice")
        after = source.stamp()
        app("UPDATE docs SET slug = slug || 'x'")
        assert app("SELECT pg_notification_queue_usage() >= 0") == [(True,)]
        assert source.stamp() == after


def test_polling_sees_that_something_waits(app: PgApp, plain: PostgresSource) -> None:
    before = plain.stamp()
    app("INSERT INTO docs VALUES (1, 'a', 't', 'b'), (2, 'b', 't', 'b')")
    assert plain.stamp() != before
    count, oldest = plain.waiting()
    assert (count, oldest is None) == (2, False)
    tail = plain.tail()
    assert not plain.is_past(tail)
    taken(plain)
    assert plain.is_past(tail)
    assert plain.waiting() == (0, None)


class Bound:
    """A source with a store in memory, and a worker between them."""

    def __init__(self, source: BoundSource) -> None:
        self.source = source
        self.table = MemoryTable(SPACE)
        self.fake = Fake()
        self.worker = Worker(
            source, self.table, self.fake, bars, options=Options(reconcile_seconds=None)
        )

    def assert_right(self, rows: dict[Key, str]) -> None:
        self.worker.drain()
        audit = verify(self.source, self.table, repair=False)
        assert audit.is_clean, audit
        found = {
            (key, chunk.ordinal): vector.tolist()
            for block in self.table.scan()
            for key, chunk, vector in zip(block.keys, block.chunks, block.vectors, strict=True)
        }
        wanted = {
            (key, number): fake_vector(part).tolist()
            for key, text in rows.items()
            for number, part in enumerate(part for part in text.split("|") if part)
        }
        assert found == wanted


def test_vectors_follow_in_another_kind_of_store(app: PgApp, source: PostgresSource) -> None:
    app("INSERT INTO docs VALUES (1, 'a', 'one', 'b'), (101, 'b', 'two', NULL)")
    bound = Bound(source)
    bound.assert_right({(1,): "one|b", (101,): "two"})
    app("UPDATE docs SET id = 102 WHERE id = 101; DELETE FROM docs WHERE id = 1")
    app("INSERT INTO docs VALUES (3, 'c', 'three', 'c')")
    bound.assert_right({(102,): "two", (3,): "three|c"})
    app("ALTER TABLE docs DISABLE TRIGGER USER")
    app("UPDATE docs SET title = 'unseen'; DELETE FROM docs WHERE id = 3")
    bound.assert_right({(102,): "unseen"})
    app("TRUNCATE docs")
    bound.assert_right({})
    app("INSERT INTO docs VALUES (5, 'e', 'five', '')")
    bound.assert_right({(5,): "five"})
    bound.worker.close()


VIEWS = {
    "view": "CREATE VIEW shown AS SELECT id, title, body FROM docs WHERE slug <> 'hidden'",
    "materialised": "CREATE MATERIALIZED VIEW shown AS"
    " SELECT id, title, body FROM docs WHERE slug <> 'hidden'",
    "query": "SELECT id, title, body FROM docs WHERE slug <> 'hid' || 'den' -- 100%",
}


@pytest.mark.parametrize("kind", VIEWS)
def test_views_and_queries_are_compared(app: PgApp, kind: str) -> None:
    app(DOCS)
    app("INSERT INTO docs VALUES (1, 'a', 'one', 'b'), (2, 'hidden', 'two', 'b')")
    if kind == "query":
        spec = spec_of(app.address, table="", query=VIEWS[kind], key=("id",))
    else:
        app(VIEWS[kind])
        spec = spec_of(app.address, table="shown", key=("id",))
    now = [0.0]
    refresh = "REFRESH MATERIALIZED VIEW shown" if kind == "materialised" else "SELECT 1"
    with closing(open_postgres(spec)) as source:
        source._clock = lambda: now[0]
        assert source.capture == "scan"
        assert source.resolve().kinds == ("int",)
        assert not source.attach()
        bound = Bound(source)
        bound.assert_right({(1,): "one|b"})
        app("UPDATE docs SET slug = 'x' || id")
        app(refresh)
        now[0] += 60
        bound.assert_right({(1,): "one|b", (2,): "two|b"})
        app("DELETE FROM docs WHERE id = 1; UPDATE docs SET title = NULL")
        app(refresh)
        now[0] += 60
        bound.assert_right({(2,): "b"})
        source.detach()
        bound.worker.close()
    assert app("SELECT FROM pg_namespace WHERE nspname = 'likewise'") == []


def test_a_views_key_must_tell_its_rows_apart(app: PgApp) -> None:
    app("CREATE TABLE docs (id int, title text, body text)")
    app("INSERT INTO docs VALUES (1, 'a', 'b'), (1, 'c', 'd'), (NULL, 'e', 'f')")
    app("CREATE VIEW shown AS SELECT * FROM docs")
    spec = spec_of(app.address, table="shown", key=("id",))
    with closing(open_postgres(spec)) as source:
        with pytest.raises(NoKey, match="same id: 1"):
            source.resolve()
        with pytest.raises(NoKey, match="same id: 1"):
            list(source.differences(MemoryTable(SPACE)))
        app("DELETE FROM docs WHERE title = 'a'")
        source.resolve()
        assert source.unnamed() == 1
        assert [row.key for row in source.snapshot()] == [(1,)]


def test_a_query_that_is_none(app: PgApp) -> None:
    for query, said in (("SELEC 1", "SELEC"), ("SELECT 1 AS a", "no column 'id'")):
        spec = spec_of(app.address, table="", query=query, key=("id",))
        with closing(open_postgres(spec)) as source, pytest.raises(Exception, match=said):
            source.resolve()
