"""DuckDB as a source and as a store: keys of every type, files that others hold, plain SQL."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from likewise.base import locks
from likewise.base.bound import BindingRecord
from likewise.base.errors import (
    BindingExists,
    BindingNotFound,
    DatabaseCorrupt,
    DatabaseLocked,
    DatabaseMissing,
    DatabaseReadOnly,
    LeaseLost,
    LikewiseError,
    NoKey,
    SchemaDrift,
    SettingsError,
)
from likewise.base.spec import BindingSpec
from likewise.binding.reconcile import verify
from likewise.binding.worker import Options, Worker
from likewise.server import databases
from likewise.sql import duckdb_instance as opening
from likewise.sql.duckdb import Database, first
from likewise.sql.duckdb_memo import Memo
from likewise.stores import duckdb_lease
from likewise.stores.duckdb import DuckdbTable
from tests.binding_kit import SPACE, Fake, bars, fake_vector, spawn
from tests.support import LIMIT, wait_until

DOCS = "CREATE TABLE docs (id INTEGER PRIMARY KEY, title VARCHAR, body VARCHAR, other INTEGER)"
HOLDER = """
# Another process that has the file open, until it is told to let go.
import duckdb
db = duckdb.connect(ARGS["path"], read_only=ARGS.get("read_only", False))
print("open", flush=True)
sys.stdin.readline()
db.close()
print("closed", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "app.duckdb"


def run(path: Path, *statements: str) -> list[Any]:
    """An application that comes and goes."""
    with closing(duckdb.connect(str(path))) as db:
        for sql in statements:
            db.execute(sql)
        return db.fetchall()


def bind(path: Path, **more: Any) -> BindingRecord:
    options: dict[str, Any] = {"table": "docs", "text": "{title}|{body}"} | more
    return databases.create(BindingSpec("docs", f"duckdb:{path}", **options), SPACE)


def drain(record: BindingRecord, embedder: Fake | None = None) -> Fake:
    embedder = embedder or Fake()
    with databases.ends(record) as (source, table):
        worker = Worker(source, table, embedder, bars, options=Options(reconcile_seconds=None))
        worker.drain()
        worker.close()
        audit = verify(source, table, repair=False)
        assert audit.is_clean and audit.pending == 0, audit
    return embedder


KEYS: dict[str, tuple[str, list[str]]] = {
    "tinyint": ("TINYINT", ["1", "-3"]),
    "bigint": ("BIGINT", ["1", "-9223372036854775808"]),
    "ubigint": ("UBIGINT", ["1", "18446744073709551615"]),
    "hugeint": ("HUGEINT", ["1", "170141183460469231731687303715884105727"]),
    "double": ("DOUBLE", ["1.5", "'inf'", "-1e300"]),
    "float": ("FLOAT", ["0.1", "2.5"]),
    "decimal": ("DECIMAL(12,4)", ["1.5", "-0.0001"]),
    "varchar": ("VARCHAR", ["'a'", "''", "'ü\"[,{'", "chr(0) || chr(10)", "'[1]'"]),
    "nocase": ("VARCHAR COLLATE NOCASE", ["'a'", "'B'", "'c'"]),
    "blob": ("BLOB", ["''::BLOB", "'\\x00\\xFF'::BLOB", "'a'::BLOB"]),
    "boolean": ("BOOLEAN", ["true", "false"]),
    "date": ("DATE", ["'2024-02-29'", "'-0044-03-15'::DATE"]),
    "timestamp": ("TIMESTAMP", ["'2024-02-29 12:30:00.000001'", "'1970-01-01'"]),
    "timestamptz": ("TIMESTAMPTZ", ["'2024-02-29 12:30:00+02'", "'1970-01-01 00:00:00Z'"]),
    "uuid": ("UUID", ["'3f2504e0-4f89-11d3-9a0c-0305e82c3301'", "uuid()"]),
    "enum": ("ENUM('x', 'y')", ["'x'", "'y'"]),
}


@pytest.mark.parametrize("kind", KEYS)
def test_every_kind_of_key(path: Path, kind: str) -> None:
    declared, values = KEYS[kind]
    run(
        path,
        f'CREATE TABLE docs (id {declared}, "second part" INTEGER, title VARCHAR, body VARCHAR,'
        ' PRIMARY KEY (id, "second part"))',
        *(f"INSERT INTO docs VALUES ({value}, 7, {value}, 'b')" for value in values),
    )
    record = bind(path)
    drain(record)
    with databases.ends(record) as (source, table):
        stored = table.fingerprints()
        assert len(stored) == len(values) == source.count()
        assert set(source.read(list(stored))) == set(stored)
        # In plain SQL the rows are joined by their own columns.
        joined = run(
            path,
            "SELECT count(DISTINCT d.id) FROM docs d JOIN likewise.docs v ON v.id = d.id AND"
            ' v."second part" = d."second part"',
        )
        assert joined == [(len(values),)]
    run(path, "UPDATE docs SET body = 'changed' WHERE id = (SELECT min(id) FROM docs)")
    assert any("changed" in text for text in drain(record).texts)
    run(path, "DELETE FROM docs")
    drain(record)
    assert run(path, "SELECT * FROM likewise.docs") == []


def test_what_an_application_does_works_as_before(path: Path) -> None:
    """Upserts, REPLACE, MERGE, COPY, appends, ALTER: triggers would break or miss some of them."""
    run(path, DOCS, "INSERT INTO docs VALUES (1, 'one', 'b', 0), (2, 'two', 'b', 0)")
    record = bind(path)
    drain(record)
    run(
        path,
        "INSERT INTO docs VALUES (1, 'uno', 'b', 0) ON CONFLICT DO UPDATE SET title ="
        " excluded.title",
        "INSERT OR REPLACE INTO docs VALUES (2, 'dos', 'b', 0)",
        "INSERT OR IGNORE INTO docs VALUES (2, 'never', 'b', 0)",
        "MERGE INTO docs USING (SELECT 3 AS id, 'tres' AS title) AS s USING (id) WHEN NOT MATCHED"
        " THEN INSERT (id, title, body) VALUES (s.id, s.title, 'b')",
        f"COPY (SELECT 4, 'quattro', 'b', 0) TO '{path}.csv' (HEADER false)",
        f"COPY docs FROM '{path}.csv' (HEADER false)",
        "ALTER TABLE docs ADD COLUMN more INTEGER DEFAULT 5",
        "INSERT INTO docs BY NAME SELECT 5 AS id, 'cinco' AS title RETURNING id",
    )
    # What stands in the old texts too ("b") isn't embedded again.
    embedded = drain(record).texts
    assert sorted(embedded) == ["cinco", "dos", "quattro", "tres", "uno"]
    run(path, "UPDATE docs SET other = other + 1, more = 6")
    assert drain(record).texts == []


def test_views_queries_and_schemas(path: Path) -> None:
    run(
        path,
        "CREATE SCHEMA sales",
        "CREATE TABLE sales.docs (id INTEGER PRIMARY KEY, title VARCHAR, body VARCHAR)",
        "INSERT INTO sales.docs VALUES (1, 'a', 'b'), (2, NULL, NULL)",
        "CREATE VIEW shown AS SELECT * FROM sales.docs WHERE id < 10",
    )
    assert bind(path, table="SALES.Docs").spec.table == "sales.docs"
    bound: dict[str, dict[str, Any]] = {
        "seen": {"table": "shown", "key": ("ID",)},
        "asked": {"table": "", "query": "SELECT * FROM sales.docs -- all", "key": ("id",)},
    }
    for name, what in bound.items():
        spec = BindingSpec(name, f"duckdb:{path}", text="{title}|{body}", **what)
        record = databases.create(spec, SPACE)
        drain(record)
        rows = run(path, f"SELECT id, chunk, text, fresh FROM likewise.{name} ORDER BY ALL")
        assert rows == [(1, 0, "a", True), (1, 1, "b", True)]


def test_rows_without_a_name_and_names_twice(path: Path) -> None:
    run(
        path,
        "CREATE TABLE docs (id INTEGER, title VARCHAR, body VARCHAR)",
        "INSERT INTO docs VALUES (1, 'a', 'b'), (NULL, 'c', 'd')",
    )
    with pytest.raises(NoKey, match=r"no primary key .* --key; it has id, title, body"):
        bind(path)
    record = bind(path, key=("id",))
    drain(record)
    with databases.ends(record) as (source, table):
        assert (source.count(), source.unnamed()) == (2, 1)
        run(path, "INSERT INTO docs VALUES (1, 'again', 'b')")
        with pytest.raises(NoKey, match=r"several rows with the same id: 1\."):
            list(source.differences(table))
        # What is stored stays until it is known again which row is meant.
        assert list(table.fingerprints()) == [(1,)]


@pytest.mark.parametrize(
    ("what", "error", "said"),
    [
        ({"table": "doc"}, SchemaDrift, r"no table 'doc' \(did you mean 'docs'"),
        ({"text": "{titel}"}, SchemaDrift, r"no column 'titel' \(did you mean 'title'"),
        ({"table": "", "query": "SELEC", "key": ("id",)}, LikewiseError, "syntax"),
        (
            {"table": "", "query": "SELECT 1 x; SELECT 2", "key": ("x",)},
            SettingsError,
            "one SELECT",
        ),
        ({"table": "", "query": "DELETE FROM docs", "key": ("x",)}, SettingsError, "one SELECT"),
        (
            {
                "table": "",
                "query": "SELECT 1 x) t; COMMIT; DROP TABLE docs; BEGIN; SELECT * FROM (SELECT 1",
                "key": ("x",),
            },
            LikewiseError,
            "syntax",
        ),
        ({"table": "likewise.meta"}, SettingsError, "isn't an application's"),
    ],
)
def test_what_cannot_be_bound(
    path: Path, what: dict[str, Any], error: type[Exception], said: str
) -> None:
    run(path, DOCS)
    with pytest.raises(error, match=said):
        bind(path, **what)
    assert run(path, "SELECT table_name FROM duckdb_tables()") == [("docs",)]


def test_drift_is_said_and_mended(path: Path) -> None:
    run(path, DOCS, "INSERT INTO docs VALUES (1, 'a', 'b', 0)")
    record = bind(path)
    drain(record)
    run(path, "ALTER TABLE docs RENAME title TO heading")
    with databases.ends(record) as (source, _), pytest.raises(SchemaDrift, match="'title'"):
        source.attach()
    run(path, "ALTER TABLE docs RENAME heading TO title", "UPDATE docs SET title = 'c'")
    assert drain(record).texts == ["c"]


def test_files_that_are_no_database(tmp_path: Path) -> None:
    with pytest.raises(DatabaseMissing, match="no such database file"):
        bind(tmp_path / "none.duckdb")
    assert not (tmp_path / "none.duckdb").exists()
    (tmp_path / "text.duckdb").write_text("no database at all\n" * 500)
    with pytest.raises(DatabaseCorrupt, match="isn't a DuckDB database"):
        bind(tmp_path / "text.duckdb")


@pytest.mark.parametrize("name", ["meta", "binding"])
def test_names_that_are_ours(path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="choose another"):
        BindingSpec(name, f"duckdb:{path}", "docs", "{title}")


@pytest.fixture
def holder(path: Path) -> Iterator[Callable[..., Any]]:
    held: list[Any] = []

    def hold(**options: Any) -> Any:
        process: Any = spawn(HOLDER, path=path, **options)
        held.append(process)
        assert process.stdout.readline() == "open\n"
        return process

    yield hold
    for process in held:
        process.send_signal(signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_that_another_process_has(
    path: Path, holder: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, read_only: bool
) -> None:
    run(path, DOCS, "INSERT INTO docs VALUES (1, 'a', 'b', 0)")
    record = bind(path)
    process = holder(read_only=read_only)
    monkeypatch.setattr(locks, "_set", 0.05)
    with databases.ends(record) as (source, table):
        said = r"another process has it open.*likewise\.bind.*for 0\.05 s, LIKEWISE_LOCK_TIMEOUT"
        with pytest.raises(DatabaseLocked, match=said):
            source.read([(1,)])
        worker = Worker(source, table, Fake(), bars, options=Options(first_delay=0.01))
        stop, told = threading.Event(), threading.Event()
        monkeypatch.setattr(worker, "_note", lambda error: told.set() if error else None)
        thread = threading.Thread(target=worker.run, args=(stop,))
        thread.start()
        assert told.wait(LIMIT)
        # Once it is let go, the worker goes on by itself.
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "closed\n"
        while True:
            try:
                if table.fingerprints() and not table.has_work():
                    break
            except DatabaseLocked:
                continue
        stop.set()
        thread.join(LIMIT)
        assert not thread.is_alive()


def set_back(path: Path, seconds: float) -> None:
    """Let the file, and its log if there is one, have been changed that long ago."""
    for each in (path, Path(f"{path}.wal")):
        if each.exists():
            os.utime(each, (time.time() - seconds,) * 2)


def test_the_file_is_free_while_nothing_happens(path: Path, holder: Callable[..., Any]) -> None:
    """A worker that waits and an index that follows look at the file's times and sizes only."""
    run(path, DOCS, "INSERT INTO docs VALUES (1, 'a', 'b', 0)")
    record = bind(path)
    drain(record)
    with databases.ends(record) as (source, table), databases.bindings_of(f"duckdb:{path}") as all_:
        worker = Worker(source, table, Fake(), bars, options=Options(idle_seconds=0.01))
        version = table.published(0).version

        def look() -> None:
            assert worker.step() == 0
            assert table.published(version).keys == ()
            assert len(all_.generations("docs")) == 1
            assert table.counts().stored == source.count() == 1

        while vars(worker.intake)["_scanned"] is None:
            look()
        set_back(path, 10)
        while source.stamp() != vars(worker.intake)["_scanned"]:
            look()
        look()
        instance = vars(opening)["_instances"][path.resolve()]
        wait_until(lambda: instance.is_closed, what="the file to be let go")
        process = holder()
        for _ in range(20):
            look()
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "closed\n"
        worker.close()


def test_an_application_in_this_process(path: Path) -> None:
    """It shares its file with us, and what it commits is seen without its closing anything."""
    with closing(duckdb.connect(str(path))) as app:
        app.execute(DOCS)
        app.execute("INSERT INTO docs VALUES (1, 'a', 'b', 0)")
        record = bind(path)
        drain(record)
        app.execute("INSERT INTO docs VALUES (2, 'c', 'd', 0)")
        app.execute("BEGIN")
        app.execute("INSERT INTO docs VALUES (3, 'not yet', 'there', 0)")
        assert sorted(drain(record).texts) == ["c", "d"]
        app.execute("COMMIT")
        assert sorted(drain(record).texts) == ["not yet", "there"]
        found = app.execute("SELECT count(*) FROM likewise.docs").fetchall()
        assert found == [(6,)]


def test_a_file_that_can_only_be_read(path: Path, tmp_path: Path) -> None:
    run(path, DOCS, "INSERT INTO docs VALUES (1, 'a', 'b', 0)")
    with closing(duckdb.connect(str(path), read_only=True)):
        with pytest.raises(DatabaseReadOnly, match="can only be read"):
            bind(path)
        # With the vectors elsewhere nothing is written to it.
        before = path.read_bytes()
        drain(bind(path, store=f"sqlite:{tmp_path / 'vectors.db'}"))
    assert path.read_bytes() == before


def test_a_restored_file(path: Path, tmp_path: Path) -> None:
    run(path, DOCS, "INSERT INTO docs VALUES (1, 'a', 'b', 0)")
    record = bind(path)
    drain(record)
    with databases.ends(record) as (source, table):
        version = table.published(0).version
        shutil.copy(path, tmp_path / "backup")
        run(path, "UPDATE docs SET title = 'lost'", "INSERT INTO docs VALUES (2, 'c', 'd', 0)")
        drain(record)
        os.replace(tmp_path / "backup", path)
        feed = table.published(version)
        assert feed.reset, "another file's versions are others"
        run(path, "INSERT INTO docs VALUES (3, 'e', 'f', 0)")
        assert sorted(drain(record).texts) == ["e", "f"]
        assert sorted(table.fingerprints()) == [(1,), (3,)]
        assert source.count() == 2


def test_what_users_query(path: Path) -> None:
    run(path, DOCS, "INSERT INTO docs VALUES (1, 'one', 'uno', 0), (2, 'two', 'dos', 0)")
    record = bind(path)
    drain(record)
    asked = f"{fake_vector('dos').tolist()}::FLOAT[8]"
    found = run(
        path,
        "SELECT d.title, v.text, array_distance(v.vector, "
        f"{asked}) AS far FROM likewise.docs v JOIN docs d USING (id) ORDER BY far LIMIT 1",
    )
    assert found == [("two", "dos", 0.0)]
    with databases.ends(record) as (_, table):
        table.enqueue([(1,)])
    fresh = run(path, "SELECT DISTINCT id, fresh FROM likewise.docs ORDER BY id")
    assert fresh == [(1, False), (2, True)]


def test_drop_leaves_nothing_and_a_users_view_stays(path: Path) -> None:
    run(path, DOCS, "INSERT INTO docs VALUES (1, 'one', 'uno', 0)")
    record = bind(path)
    with pytest.raises(BindingExists):
        bind(path, text="{title}")
    drain(record)
    databases.drop(f"duckdb:{path}", "docs")
    assert run(path, "SELECT schema_name FROM duckdb_schemas() WHERE NOT internal") == []
    assert run(path, "SELECT * FROM docs") == [(1, "one", "uno", 0)]


def test_damage_is_found(path: Path) -> None:
    run(path, DOCS, "INSERT INTO docs VALUES (1, 'a', 'b', 0), (2, 'c', 'd', 0), (3, 'e', 'f', 0)")
    record = bind(path)
    drain(record)
    nan = "list_value('nan'::FLOAT, 0, 0, 0, 0, 0, 0, 0)::FLOAT[8]"
    run(
        path,
        """DELETE FROM likewise."docs.chunk" WHERE key = '[1]' AND chunk = 0""",
        f"""UPDATE likewise."docs.chunk" SET vector = {nan} WHERE key = '[2]' AND chunk = 1""",
        """DELETE FROM likewise."docs.row" WHERE key = '[3]'""",
    )
    with databases.ends(record) as (source, table):
        assert sorted(table.flaws()) == [
            ((1,), "1 chunks of 2"),
            ((2,), "a vector with NaN or Inf"),
            ((3,), "chunks without a row"),
        ]
        assert not verify(source, table).is_clean
    drain(record)
    with databases.ends(record) as (_, table):
        vectors = np.concatenate([block.vectors for block in table.scan()])
        assert vectors.shape == (6, 8) and np.isfinite(vectors).all()


def test_a_memo_holds_until_somebody_commits(path: Path) -> None:
    run(path, DOCS)
    with closing(Database(path)) as database:
        memo, asked = Memo(database), 0

        def ask() -> int:
            nonlocal asked
            asked += 1
            with database.read() as db:
                found = first(db, "SELECT count(*) FROM docs")
            assert found is not None
            return int(found[0])

        assert memo.get("rows", ask) == 0 and asked == 1
        set_back(path, 10)
        memo.get("rows", ask)
        before = asked
        assert [memo.get("rows", ask) for _ in range(5)] == [0] * 5 and asked == before
        run(path, "INSERT INTO docs VALUES (1, 'a', 'b', 0)")
        assert memo.get("rows", ask) == 1
        assert asked == before + 1


def test_a_stamp_differs_once_more_when_a_commit_can_be_seen(path: Path) -> None:
    """The log is on the disk before: who looks in between must look again."""
    run(path, DOCS)
    with closing(Database(path)) as database:
        set_back(path, 10)
        before = database.stamp()
        assert before is not None and database.stamp() == before
        with database.write():
            pass  # writes nothing: the file is as it was
        after = database.stamp()
        assert after is not None and after != before
        with pytest.raises(ZeroDivisionError), database.write():
            raise ZeroDivisionError
        assert database.stamp() not in (None, before, after)


def test_a_stamp_of_a_file_changed_a_moment_ago_isnt_kept_for_long(path: Path) -> None:
    """Another connection of the application's own, whose log takes long to reach the disk."""
    run(path, DOCS)
    with closing(Database(path)) as database:
        now = time.time()
        os.utime(path, (now, now))
        seen = []
        with pytest.MonkeyPatch.context() as patched:
            for age in (0.05, 0.2, 0.4, 0.6, 1.9, 2.1, 3600.0):
                patched.setattr("likewise.sql.duckdb.wall", lambda age=age: now + age)
                seen.append(database.stamp())
    assert seen[0] is None and None not in seen[1:]
    assert seen[1] == seen[2] != seen[3] == seen[4] != seen[5] == seen[6]


@pytest.mark.parametrize("suffix", [".wal", ".wal.checkpoint"])
def test_a_stamp_sees_every_file_that_commits_go_to(path: Path, suffix: str) -> None:
    run(path, DOCS)
    with closing(Database(path)) as database:
        set_back(path, 10)
        before = database.stamp()
        log = Path(f"{path}{suffix}")
        log.touch()
        set_back(log, 5)
        assert database.stamp() not in (None, before)
        log.unlink()


@pytest.mark.parametrize("way", ["link", "folder", "dots"])
def test_a_file_by_another_path(path: Path, tmp_path: Path, way: str) -> None:
    """Two instances in one process would each believe to be alone, and lose the other's commits."""
    run(path, DOCS, "INSERT INTO docs VALUES (1, 'a', 'b', 0)")
    other = tmp_path / "link.duckdb"
    if way == "link":
        other.symlink_to(path)
    elif way == "folder":
        (tmp_path / "linked").symlink_to(tmp_path)
        other = tmp_path / "linked" / path.name
    else:
        (tmp_path / "x").mkdir()
        other = tmp_path / "x" / ".." / path.name
    with closing(duckdb.connect(str(path))) as app:
        record = bind(other)
        drain(record)
        app.execute("INSERT INTO docs VALUES (2, 'c', 'd', 0)")
        assert sorted(drain(record).texts) == ["c", "d"]
        app.execute("CHECKPOINT")
    assert run(path, "SELECT count(*) FROM docs") == [(2,)]
    assert run(path, "SELECT count(*) FROM likewise.docs") == [(4,)]


def test_times_look_the_same_wherever_a_process_runs(path: Path) -> None:
    run(
        path,
        "CREATE TABLE docs (moment TIMESTAMPTZ PRIMARY KEY, title VARCHAR, body TIMESTAMPTZ)",
        "INSERT INTO docs SELECT t, 'a', t FROM range(TIMESTAMPTZ '2024-01-01 00:00:00Z',"
        " TIMESTAMPTZ '2024-01-03 00:00:00Z', INTERVAL 1 DAY) r(t)",
    )
    record = bind(path)
    assert len(drain(record).texts) == 3
    with closing(duckdb.connect(str(path))) as app:
        app.execute("SET GLOBAL TimeZone = 'Asia/Tokyo'")
        app.execute("INSERT INTO docs VALUES ('2024-06-01 00:00:00Z', 'a', NULL)")
        assert drain(record).texts == []
        # Ours are for our own connections.
        assert app.execute("SELECT current_setting('TimeZone')").fetchall() == [("Asia/Tokyo",)]


@pytest.mark.parametrize("how", ["settings", "attach", "prefix"])
def test_a_file_that_this_process_has_open_otherwise(path: Path, how: str) -> None:
    run(path, DOCS)
    settings: dict[str, Any] = {"threads": 1}
    if how == "settings":
        app = duckdb.connect(str(path), config=settings)
    elif how == "prefix":
        app = duckdb.connect(f"duckdb:{path}")
    else:
        app = duckdb.connect()
        app.execute(f"ATTACH '{path}'")
    with closing(app), pytest.raises(DatabaseLocked, match=r"duckdb\.connect\(path\)"):
        bind(path)
    assert bind(path).spec.table == "docs"


def test_keys_that_equal_nothing(path: Path) -> None:
    run(
        path,
        "CREATE TABLE docs (id DOUBLE PRIMARY KEY, title VARCHAR, body VARCHAR)",
        "INSERT INTO docs VALUES ('nan', 'a', 'b'), (-0.0, 'c', 'd')",
    )
    record = bind(path)
    assert sorted(drain(record).texts) == ["c", "d"]
    with databases.ends(record) as (source, _):
        assert (source.count(), source.unnamed()) == (2, 1)


def test_a_worker_whose_binding_was_the_last_one_ends(path: Path) -> None:
    run(path, DOCS, "INSERT INTO docs VALUES (1, 'a', 'b', 0)")
    record = bind(path)
    with databases.ends(record) as (source, table):
        worker = Worker(source, table, Fake(), bars, options=Options(first_delay=0.01))
        worker.drain()
        databases.drop(f"duckdb:{path}", "docs")
        with pytest.raises(BindingNotFound):
            table.has_work()
        worker.run(threading.Event())
        assert worker.error is not None and worker.error.startswith("binding_not_found")


def test_names_that_look_like_tables_of_another(path: Path) -> None:
    run(path, DOCS)
    bind(path)
    for name in ("docs_log", "docs_g2log", "docs_row"):
        databases.create(BindingSpec(name, f"duckdb:{path}", "docs", "{title}"), SPACE)
    assert len(databases.records(f"duckdb:{path}")) == 4


def test_an_overtaken_worker_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes: each knows only of the leases that it has given out itself."""
    run(path, DOCS)
    record = bind(path)
    now = [1000.0]
    tables = [DuckdbTable(record, path, clock=lambda: now[0]) for _ in range(2)]
    known: tuple[dict[Any, Any], dict[Any, Any]] = ({}, {})

    def as_process(number: int) -> DuckdbTable:
        monkeypatch.setattr(duckdb_lease, "_leases", known[number])
        return tables[number]

    assert as_process(0).take_lease("A", seconds=30, is_dead=lambda holder: False)
    tables[0].renew_lease()
    now[0] += 31
    assert as_process(1).take_lease("B", seconds=30, is_dead=lambda holder: False)
    with pytest.raises(LeaseLost, match="B holds the lease, not A"):
        as_process(0).renew_lease()
    as_process(1).renew_lease()
    assert tables[1].counts().holder == "B"
    tables[1].release_lease()
    as_process(0)
    assert tables[0].counts().holder is None
    for each in tables:
        each.close()


FORKED = """
import os, threading
from likewise.base.errors import DatabaseError
from likewise.server.databases import ends, record
with ends(record(f"duckdb:{ARGS['path']}", "docs")) as (source, table):
    table.tail()
    child = os.fork()
    if child == 0:
        try:
            table.enqueue([(1,)])
        except DatabaseError as refused:
            os._exit(0 if "spawn" in str(refused) else 2)
        os._exit(1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    print(table.enqueue([(1,)]), table.tail())
"""


def test_a_forked_process_is_refused(path: Path) -> None:
    run(path, DOCS)
    bind(path)
    out, errors = spawn(FORKED, path=path).communicate(timeout=LIMIT)
    assert out == "0\n1 1\n", errors


def test_names_of_users_in_errors_are_names(path: Path) -> None:
    run(path, DOCS)
    with pytest.raises(SchemaDrift, match="corrupt_docs"), closing(Database(path)) as database:
        with database.read() as db:
            db.execute("SELECT * FROM corrupt_docs")


def test_a_table_is_read_in_pages(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(path, DOCS, "INSERT INTO docs SELECT n, 't' || n, 'b', 0 FROM range(7) r(n)")
    record = bind(path)
    monkeypatch.setattr("likewise.sources.duckdb._PAGE", 3)
    with databases.ends(record) as (source, _):
        rows = {row.key: row.text for row in source.snapshot()}
    assert rows == {(n,): f"t{n}|b" for n in range(7)}
