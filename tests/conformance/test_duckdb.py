"""DuckDB as a source and as a store: keys of every type, files that others hold, plain SQL."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from likewise.base.bound import BindingRecord
from likewise.base.errors import (
    BindingExists,
    DatabaseCorrupt,
    DatabaseLocked,
    DatabaseMissing,
    DatabaseReadOnly,
    LikewiseError,
    NoKey,
    SchemaDrift,
    SettingsError,
)
from likewise.base.spec import BindingSpec
from likewise.binding.reconcile import verify
from likewise.binding.worker import Options, Worker
from likewise.server import databases
from likewise.sql import duckdb as opening
from likewise.sql.duckdb import Database, Memo, first
from tests.binding_kit import SPACE, Fake, bars, fake_vector, spawn

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
    for name, what in {
        "seen": {"table": "shown", "key": ("ID",)},
        "asked": {"query": "SELECT * FROM sales.docs -- all", "key": ("id",)},
    }.items():
        spec = BindingSpec(
            name,
            f"duckdb:{path}",
            text="{title}|{body}",
            **({"table": ""} | what),  # type: ignore[arg-type]  # strings and tuples as they come
        )
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
        ({"table": "", "query": "SELECT 1 x; SELECT 2", "key": ("x",)}, LikewiseError, "syntax"),
        ({"table": "likewise.meta"}, SettingsError, "isn't an application's"),
    ],
)
def test_what_cannot_be_bound(
    path: Path, what: dict[str, Any], error: type[Exception], said: str
) -> None:
    run(path, DOCS)
    with pytest.raises(error, match=said):
        bind(path, **what)
    assert run(path, "SELECT count(*) FROM duckdb_tables() WHERE schema_name = 'likewise'") == [
        (0,)
    ]


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
    monkeypatch.setattr(opening, "BUSY_SECONDS", 0.05)
    with databases.ends(record) as (source, table):
        with pytest.raises(DatabaseLocked, match=r"another process has it open.*likewise\.bind"):
            source.read([(1,)])
        worker = Worker(source, table, Fake(), bars, options=Options(first_delay=0.01))
        stop, told = threading.Event(), threading.Event()
        monkeypatch.setattr(worker, "_note", lambda error: told.set() if error else None)
        thread = threading.Thread(target=worker.run, args=(stop,))
        thread.start()
        assert told.wait(30)
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
        thread.join(30)
        assert not thread.is_alive()


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

        while vars(source)["_database"].stamp() is None or vars(worker.intake)["_scanned"] is None:
            look()
        while source.stamp() != vars(worker.intake)["_scanned"]:
            look()
        look()
        while vars(opening)["_instances"][path.absolute()]._base is not None:
            threading.Event().wait(0.01)  # nothing tells that it was closed
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
        """DELETE FROM likewise.docs_chunk WHERE key = '[1]' AND chunk = 0""",
        f"""UPDATE likewise.docs_chunk SET vector = {nan} WHERE key = '[2]' AND chunk = 1""",
        """DELETE FROM likewise.docs_row WHERE key = '[3]'""",
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

        while database.stamp() is None:
            assert memo.get("rows", ask) == 0
        memo.get("rows", ask)
        before = asked
        assert [memo.get("rows", ask) for _ in range(5)] == [0] * 5 and asked == before
        run(path, "INSERT INTO docs VALUES (1, 'a', 'b', 0)")
        assert memo.get("rows", ask) == 1
        assert asked == before + 1
