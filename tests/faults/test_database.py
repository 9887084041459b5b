"""The database is locked, read-only, full, changed, rebuilt or put back: named errors, no loss."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import apsw
import pytest

from likewise.base.errors import (
    BindingNotFound,
    DatabaseCorrupt,
    DatabaseError,
    DatabaseFull,
    DatabaseMissing,
    LeaseLost,
    LikewiseError,
    SchemaDrift,
)
from likewise.binding.reconcile import verify
from likewise.binding.status import status
from likewise.sources.sqlite import SqliteSource
from likewise.sql.sqlite import ERRORS, Database, connect, mapped
from likewise.stores.sqlite import SqliteTable
from tests.binding_kit import (
    DOCS,
    JOURNALS,
    App,
    Barrier,
    Bound,
    Fake,
    assert_right,
    drop_binding,
    list_bindings,
    outside,
    running,
    spawn,
)
from tests.support import BUSY_MS, LIMIT, wait_until

HOLD = """
import sqlite3
db = sqlite3.connect(ARGS["path"], isolation_level=None)
db.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.readline()
db.execute("COMMIT")
"""


@pytest.fixture(params=JOURNALS)
def bound(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bound]:
    app = App(tmp_path / "app.db", request.param, DOCS)
    made = Bound(app)
    made.source.attach()
    app("INSERT INTO docs VALUES (1, 'a', 'one', 'b'), (2, 'b', 'two', 'b')")
    yield made
    made.close()
    app.close()


def test_another_program_holds_the_file_locked(bound: Bound) -> None:
    worker = bound.another(first_delay=0.01)
    worker._source._database._busy_seconds = 0.05  # type: ignore[attr-defined]
    worker._table._database._busy_seconds = 0.05  # type: ignore[attr-defined]
    holder = spawn(HOLD, path=bound.app.path)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with running(worker):
        wait_until(lambda: "database_locked" in (worker.error or ""), what="the lock to be told")
        holder.communicate("go\n", timeout=LIMIT)
        wait_until(lambda: bound.log() == [], what="the log to be empty")
    wait_until(lambda: bound.table.counts().holder is None, what="the lease to be given back")
    assert_right(bound)


FULL = """
import resource, signal
from tests.binding_kit import *
from likewise.base.errors import DatabaseError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path(ARGS["path"])
app = App(path, ARGS["journal"], DOCS)
bound = Bound(app)
app("BEGIN")
for i in range(3, 2000):
    app("INSERT INTO docs VALUES (?, ?, ?, ?)", [i, i, f"t{i}|{i}", "b" * 50])
app("COMMIT")
worker = bound.worker(commit_rows=64)
ballast = path.with_name("ballast")
if ARGS["how"] == "limit":
    size = max(each.stat().st_size for each in path.parent.iterdir())
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 40_000, resource.RLIM_INFINITY))
else:
    with open(ballast, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            file.truncate(file.tell() - 60_000)
try:
    while worker.step():
        pass
    sys.stdout.write("never full\\n")
except DatabaseError as error:
    sys.stdout.write(f"{type(error).__name__} {error}\\n")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
ballast.unlink(missing_ok=True)
worker.drain()
assert_right(bound)
sys.stdout.write("right\\n")
"""


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a file system can't be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def fill_up(path: Path, journal: str, how: str) -> str:
    """Run a worker into the limit; gives the error it met. The rest went well."""
    process = spawn(FULL, path=path, journal=journal, how=how)
    try:
        out, errors = process.communicate(timeout=LIMIT)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    first, last = out.splitlines()
    assert last == "right"
    return first


@pytest.mark.parametrize("journal", JOURNALS)
def test_a_full_disk_loses_nothing(tiny_disk: Path, journal: str) -> None:
    assert fill_up(tiny_disk / "app.db", journal, "disk").startswith("DatabaseFull")


@pytest.mark.parametrize("journal", JOURNALS)
def test_a_file_size_limit_loses_nothing(tmp_path: Path, journal: str) -> None:
    assert "file-size limit" in fill_up(tmp_path / "app.db", journal, "limit")


def _journal(path: Path) -> str:
    db = apsw.Connection(str(path))
    try:
        return str(db.pragma("journal_mode"))
    finally:
        db.close()


def test_a_page_limit_is_a_full_disk(bound: Bound) -> None:
    with (
        pytest.raises(DatabaseFull, match="make room"),
        cast(SqliteTable, bound.table)._database.write() as db,
    ):
        db.pragma("max_page_count", db.pragma("page_count"))
        db.execute("CREATE TABLE big AS SELECT zeroblob(1000000)")
    assert bound.table.fingerprints() == {}


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_a_file_that_may_not_be_written(bound: Bound) -> None:
    # pytest's own folders are closed to other users.
    path = Path(tempfile.mkdtemp()) / "app.db"
    bound.drain()
    bound.app("UPDATE docs SET title = 'u'")
    bound.app("VACUUM INTO ?", [str(path)])
    path.chmod(0o444)
    path.parent.chmod(0o555)
    program = (
        "import os\n"
        "from pathlib import Path\n"
        "from tests.binding_kit import *\n"
        "from likewise.base.errors import DatabaseReadOnly\n"
        "from likewise.binding.ledger import new_holder\n"
        "from likewise.server.databases import open_ends, records\n"
        "record = records('sqlite:' + ARGS['path'])[0]\n"
        "new_holder()  # loads what the other user may not read\n"
        "os.setuid(65534)\n"
        "source, table = open_ends(record)\n"
        "assert source.count() == 2 and len(table.fingerprints()) == 2\n"
        "worker = Worker(source, table, Fake(), bars)\n"
        "try:\n"
        "    worker.step()\n"
        "except DatabaseReadOnly as error:\n"
        "    print(error)\n"
    )
    process = spawn(program, path=path)
    out, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, errors
    assert "check the permissions" in out
    shutil.rmtree(path.parent)


def test_no_such_file_is_made(tmp_path: Path) -> None:
    with pytest.raises(DatabaseMissing, match=r"nope\.db"):
        list_bindings(tmp_path / "nope.db")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "text.db"
    path.write_text("no database at all " * 100, encoding="ascii")
    with pytest.raises(DatabaseCorrupt):
        list_bindings(path)


def test_a_damaged_file(bound: Bound) -> None:
    bound.drain()
    bound.app("PRAGMA wal_checkpoint(TRUNCATE)")
    bound.close()
    bound.app.close()
    path = bound.app.path
    content = bytearray(path.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    path.write_bytes(content)
    database = Database(path)
    with pytest.raises(DatabaseCorrupt), database.read() as db:
        db.execute("SELECT * FROM likewise_docs_row").fetchall()
    database.close()


def test_a_file_open_through_another_copy_of_sqlite(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE t (a)")
    other.commit()
    with pytest.raises(DatabaseError, match="sqlite3 module"):
        connect(path)
    other.close()
    connect(path).close()


def test_every_error_of_apsw_is_mapped() -> None:
    kinds = [
        kind
        for kind in vars(apsw).values()
        if isinstance(kind, type) and issubclass(kind, apsw.Error)
    ]
    assert len(kinds) > 25
    for kind in kinds:
        error = mapped(kind("words"), Path("x.db"))
        assert isinstance(error, LikewiseError)
        assert "x.db" in str(error)
    assert set(ERRORS) <= set(kinds)


def test_dropped_triggers_are_put_back_and_what_was_missed_is_found(bound: Bound) -> None:
    worker = bound.worker()
    worker.drain()
    for suffix in ("ai", "au", "ad", "bi1", "bu1"):
        bound.app(f"DROP TRIGGER likewise_docs_{suffix}")
    bound.app("UPDATE docs SET title = 'unseen' WHERE id = 1")
    bound.app("DELETE FROM docs WHERE id = 2")
    bound.app("INSERT INTO docs VALUES (3, 'c', 'unseen', 'b')")
    assert bound.log() == []
    worker.drain()
    assert_right(bound)
    bound.app("UPDATE docs SET title = 'seen' WHERE id = 1")
    assert len(bound.log()) == 1


def test_a_rebuilt_table(bound: Bound) -> None:
    """Create new, copy, drop, rename: the way migration tools go. No delete trigger fires."""
    worker = bound.worker()
    worker.drain()
    bound.app(
        "BEGIN; CREATE TABLE fresh (id INTEGER PRIMARY KEY, slug TEXT UNIQUE, title TEXT,"
        " body TEXT, extra); INSERT INTO fresh SELECT id + 1, slug, title, body, 1 FROM docs;"
        " DROP TABLE docs; ALTER TABLE fresh RENAME TO docs; COMMIT"
    )
    worker.drain()
    assert_right(bound)
    assert set(bound.table.fingerprints()) == {(2,), (3,)}


def test_a_new_unique_index_is_guarded(bound: Bound) -> None:
    worker = bound.worker()
    worker.drain()
    bound.app("CREATE UNIQUE INDEX by_title ON docs (title)")
    worker.drain()
    bound.app("REPLACE INTO docs VALUES (9, 'z', 'one', 'b')")
    worker.drain()
    assert_right(bound)


def test_a_bound_column_that_goes_pauses_the_binding(bound: Bound) -> None:
    bound.drain()
    with pytest.raises(apsw.SQLError, match="trigger"):
        bound.app("ALTER TABLE docs DROP COLUMN title")  # SQLite itself protects it
    bound.app("ALTER TABLE docs RENAME COLUMN title TO heading")
    worker = bound.another(idle_seconds=0.05, first_delay=0.01, longest_delay=0.05)
    with running(worker):
        wait_until(lambda: "schema_drift" in (worker.error or ""), what="the drift to be told")
        told = wait_until(lambda: bound.table.counts().error, what="the drift to be noted")
        assert "no column 'title'" in (told or "")
        bound.app("ALTER TABLE docs RENAME COLUMN heading TO title")
        wait_until(lambda: worker.error is None, what="the binding to go on")
        bound.app("UPDATE docs SET title = 'again'")
        wait_until(lambda: not bound.table.has_work(), what="the work to be done")
    assert_right(bound)


def test_a_dropped_table_pauses_the_binding(bound: Bound) -> None:
    worker = bound.worker()
    worker.drain()
    bound.app("DROP TABLE docs")
    with pytest.raises(SchemaDrift, match="docs"):
        worker.step()
    with pytest.raises(SchemaDrift, match="docs"):
        bound.source.count()
    with pytest.raises(SchemaDrift, match="docs"):
        bound.source.read([(1,)])
    bound.app(DOCS)
    bound.app("INSERT INTO docs VALUES (2, 'b', 'two', 'b'), (7, 'c', 'seven', 'b')")
    worker.drain()
    assert_right(bound)


def test_another_key_is_told(bound: Bound) -> None:
    bound.drain()
    bound.app("DROP TABLE docs")
    bound.app("CREATE TABLE docs (slug TEXT PRIMARY KEY NOT NULL, title TEXT, body TEXT)")
    source = SqliteSource(bound.spec)
    with pytest.raises(SchemaDrift, match="was made when it was id"):
        source.attach()
    source.close()


@pytest.mark.parametrize("how", ["file", "backup"])
def test_an_older_copy_put_in_its_place(bound: Bound, tmp_path: Path, how: str) -> None:
    worker = bound.worker()
    worker.drain()
    copy = tmp_path / "copy.db"
    bound.app("VACUUM INTO '" + str(copy) + "'")
    bound.app("UPDATE docs SET title = 'later'")
    bound.app("INSERT INTO docs VALUES (3, 'c', 'later', 'b')")
    worker.drain()
    version = bound.table.published(bound.table.published(-1).version).version
    if how == "file":
        bound.app.close()
        for extra in tmp_path.glob("app.db-*"):
            extra.unlink()
        os.replace(copy, bound.app.path)
    else:
        older = apsw.Connection(str(copy))
        with bound.app.db.backup("main", older, "main") as backup:
            backup.step()
        older.close()
        bound.app.close()
    bound.app.db = apsw.Connection(str(bound.app.path))
    bound.app.db.set_busy_timeout(BUSY_MS)
    bound.app("UPDATE docs SET title = 'other' WHERE id = 1")
    worker.drain()
    assert_right(bound)
    # As many versions as before, of another history.
    bound.app("UPDATE docs SET title = 'more'")
    worker.drain()
    bound.app("UPDATE docs SET title = 'yet more'")
    worker.drain()
    feed = bound.table.published(version)
    assert feed.reset
    assert_right(bound)


def test_a_dropped_binding_ends_the_worker(bound: Bound) -> None:
    worker = bound.worker(idle_seconds=0.01)
    with running(worker) as run:
        wait_until(lambda: bound.log() == [], what="the log to be empty")
        drop_binding(bound.app.path, "docs")
        run.result(LIMIT)
    assert "binding_not_found" in (worker.error or "")
    left = bound.app("SELECT name FROM sqlite_schema WHERE name LIKE '%likewise%'")
    assert left == []
    with pytest.raises(BindingNotFound):
        drop_binding(bound.app.path, "docs")


DAMAGE = [
    ("DELETE FROM likewise_docs_chunk WHERE key_id = 1", "stale"),
    ("UPDATE likewise_docs_chunk SET vector = x'00' WHERE key_id = 1 AND chunk = 0", "stale"),
    (
        "UPDATE likewise_docs_chunk SET vector = x'0000c07f' || zeroblob(28) WHERE key_id = 1",
        "stale",
    ),
    ("UPDATE likewise_docs_row SET fingerprint = zeroblob(32) WHERE key_id = 1", "stale"),
    ("DELETE FROM likewise_docs_row WHERE key_id = 1", "missing"),
    (
        "INSERT INTO likewise_docs_row (key_id, fingerprint, status, chunks, seq, at)"
        " VALUES (99, x'', 'current', 0, 0, 0)",
        "orphan",
    ),
    (
        "INSERT INTO likewise_docs_chunk VALUES (99, 0, 0, 1, zeroblob(32), NULL, NULL)",
        "orphan",
    ),
]


@pytest.mark.parametrize(("damage", "kind"), DAMAGE)
def test_verify_finds_damage_and_has_it_mended(bound: Bound, damage: str, kind: str) -> None:
    bound.drain()
    bound.app(damage)
    found = verify(bound.source, bound.table, repair=False)
    assert getattr(found, kind) == 1, found
    assert found.missing + found.stale + found.orphan == 1
    assert found.repaired == 0
    assert len(found.details) == 1
    assert bound.log() == []
    assert verify(bound.source, bound.table).repaired == 1
    bound.drain()
    assert_right(bound)


def test_vectors_in_plain_sql_with_sqlite_vec(bound: Bound) -> None:
    bound.drain()
    found = cast(SqliteTable, bound.table)._database
    with found.read() as db:
        query = (
            "SELECT d.id, d.title, vec_distance_cosine(c.vector, :q) AS distance FROM docs d"
            " JOIN likewise_docs_chunk c ON c.key_id = d.id ORDER BY distance LIMIT 1"
        )
        vector = next(iter(bound.table.scan(keys=[(2,)]))).vectors[0]
        ((key, title, distance),) = db.execute(query, {"q": vector.tobytes()}).fetchall()
    assert (key, title) == (2, "two")
    assert distance == pytest.approx(0, abs=1e-6)


def test_two_bindings_on_one_table(bound: Bound) -> None:
    second = Bound(bound.app, name="docs_titles", text="{title}")
    bound.drain()
    second.drain()
    bound.app("UPDATE docs SET body = 'c'")
    assert (len(bound.log()), len(second.log())) == (2, 0)
    bound.app("REPLACE INTO docs VALUES (8, 'a', 'x', 'y')")
    bound.drain()
    second.drain()
    assert_right(bound)
    assert_right(second)
    names = [record.spec.name for record in list_bindings(bound.app.path)]
    assert names == ["docs", "docs_titles"]
    second.close()
    drop_binding(bound.app.path, "docs")
    left = bound.app("SELECT name FROM sqlite_schema WHERE name LIKE 'likewise_docs_%'")
    assert left
    assert all(name.startswith(("likewise_docs_titles_",)) for (name,) in left)
    drop_binding(bound.app.path, "docs_titles")


def test_plain_sqlite3_reads_and_writes_a_bound_file(bound: Bound) -> None:
    bound.drain()
    bound.close()
    bound.app.close()
    outside(bound.app.path, "UPDATE docs SET title = 'theirs'; PRAGMA integrity_check;")
    shown = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); sys.stdout.write(str("
            "db.execute('SELECT count(*) FROM likewise_docs_log').fetchone()))",
            str(bound.app.path),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert shown == "(2,)"
    app = App(bound.app.path, _journal(bound.app.path))
    again = Bound(app)
    assert status(again.source, again.table).pending == 2
    again.drain()
    assert_right(again)
    again.close()
    app.close()


def put_in_place(bound: Bound, copy: Path) -> None:
    """As a restore does: the file at the path is another one from now on."""
    bound.app.close()
    for extra in ("app.db-wal", "app.db-shm"):
        copy.with_name(extra).unlink(missing_ok=True)
    os.replace(copy, bound.app.path)
    bound.app.db = apsw.Connection(str(bound.app.path))
    bound.app.db.set_busy_timeout(BUSY_MS)


def test_an_idle_worker_notices_another_file(bound: Bound, tmp_path: Path) -> None:
    worker = bound.worker(idle_seconds=1000.0)
    with running(worker):
        wait_until(lambda: not bound.table.has_work(), what="the first rows")
        wait_until(lambda: bound.table.counts().holder is None, what="the worker to rest")
        bound.app("VACUUM INTO ?", [str(tmp_path / "copy.db")])
        put_in_place(bound, tmp_path / "copy.db")
        bound.app("UPDATE docs SET title = 'in the other file'")
        wait_until(lambda: not bound.table.has_work(), what="the change in the other file")
    assert_right(bound)


def test_another_file_while_the_model_works(bound: Bound, tmp_path: Path) -> None:
    """The copy even has the same lease in it; what was computed was of another history."""
    bound.drain()  # so that the step below writes nothing while the file is being put in place
    before = dict(bound.table.fingerprints())
    bound.app("UPDATE docs SET title = 'in hand'")
    barrier = Barrier()
    worker = bound.another(Fake(barrier))
    with ThreadPoolExecutor(1) as pool:
        step = pool.submit(worker.step)
        assert barrier.entered.wait(LIMIT)
        bound.app("VACUUM INTO ?", [str(tmp_path / "copy.db")])
        put_in_place(bound, tmp_path / "copy.db")
        barrier.go.set()
        with pytest.raises(LeaseLost, match="replaced"):
            step.result(LIMIT)
    assert dict(bound.table.fingerprints()) == before
    worker.drain()
    assert_right(bound)
