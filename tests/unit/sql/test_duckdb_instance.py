"""A DuckDB file that processes take in turns: nobody goes on from a state that is no more."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from subprocess import PIPE
from typing import Any

import duckdb
import pytest

from likewise.base import locks
from likewise.base.errors import DatabaseCorrupt, DatabaseLocked
from likewise.sql import duckdb_instance
from likewise.sql.duckdb import Database, make_file
from likewise.sql.duckdb_header import Header
from tests.support import LIMIT, started

INSERT = "INSERT INTO seen VALUES (?)"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "app.duckdb"
    elsewhere(made, "CREATE TABLE seen (n INTEGER)")
    return made


def elsewhere(path: Path, sql: str) -> str:
    """Run SQL in another process; the errors it ended with, else nothing."""
    program = (
        "import duckdb, sys\nwith duckdb.connect(sys.argv[1]) as db:\n  db.execute(sys.argv[2])\n"
    )
    argv = [sys.executable, "-c", program, str(path), sql]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=LIMIT)
    return done.stderr


def seen(path: Path) -> list[int]:
    with closing(duckdb.connect(str(path))) as db:
        return [n for (n,) in db.execute("SELECT n FROM seen ORDER BY n").fetchall()]


def meddle(monkeypatch: pytest.MonkeyPatch, then: Callable[[str], None], times: int) -> list[str]:
    """Do that after the file was opened here, for the first few times; all that were opened."""
    connect, opened = duckdb.connect, []

    def connecting(path: str, *values: Any, **options: Any) -> duckdb.DuckDBPyConnection:
        made = connect(path, *values, **options)
        opened.append(path)
        try:
            if len(opened) <= times:
                then(path)
        except duckdb.Error:
            made.close()  # the error would keep it
            raise
        return made

    monkeypatch.setattr(duckdb, "connect", connecting)
    return opened


def commit_under(path: str) -> None:
    """Another process commits to a file that is open here, which has its old state from then on."""
    os.close(os.open(path, os.O_RDONLY))  # all this process's locks on it are gone with that
    assert elsewhere(Path(path), "INSERT INTO seen VALUES (1)") == ""


def test_a_state_that_was_overtaken_while_opening_isnt_used(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What DuckDB 2.0.1 has opened when others come between its look at the header and its lock."""
    opened = meddle(monkeypatch, commit_under, times=2)
    with closing(Database(path)) as database, database.write() as db:
        db.execute(INSERT, [2])
    assert len(opened) == 3
    monkeypatch.undo()
    assert seen(path) == [1, 1, 2]


def test_a_file_that_others_always_overtake_is_said_to_be_busy(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_set", 0.01)
    meddle(monkeypatch, commit_under, times=1000)
    with (
        closing(Database(path)) as database,
        pytest.raises(DatabaseLocked, match="others changed the file"),
        database.read(),
    ):
        pass


def test_an_error_about_a_state_that_was_overtaken_isnt_believed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of an old header may hold anything by now."""

    def fail_once(path: str) -> None:
        commit_under(path)
        raise duckdb.IOException("Corrupt database file: computed checksum 1, stored checksum 0")

    opened = meddle(monkeypatch, fail_once, times=1)
    with closing(Database(path)) as database, database.read() as db:
        assert db.execute("SELECT n FROM seen").fetchall() == [(1,)]
    assert len(opened) == 2


def test_damage_is_damage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: str) -> None:
        raise duckdb.IOException("Corrupt database file: computed checksum 1, stored checksum 0")

    meddle(monkeypatch, fail, times=1)
    with (
        closing(Database(path)) as database,
        pytest.raises(DatabaseCorrupt, match="restore it from a backup"),
        database.read(),
    ):
        pass


def test_closing_leaves_no_log_and_the_file_locked_until_its_header_is_old(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has read the header of before must find the lock, and so look again."""
    log = path.with_name(f"{path.name}.wal")
    told: list[tuple[bool, str, float]] = []
    left = duckdb_instance.Instance._unsettled_seconds

    def unsettled(self: Any) -> float:
        seconds = left(self)
        told.append((log.exists(), elsewhere(path, "SELECT 1"), seconds))
        return 0.0

    monkeypatch.setattr(duckdb_instance.Instance, "_unsettled_seconds", unsettled)
    monkeypatch.setattr(duckdb_instance, "wall", lambda: path.stat().st_mtime + 0.01)
    with closing(Database(path)) as database:
        with database.write() as db:
            db.execute(INSERT, [1])
        assert log.exists()
    ((has_log, refused, seconds),) = told
    assert not has_log
    assert "Could not set lock" in refused
    assert seconds == pytest.approx(0.04, abs=0.001)
    assert seen(path) == [1]


def test_a_log_that_cannot_be_moved_stays_and_is_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing isn't what moves it, so a killed process's log is left as it is too."""
    monkeypatch.setattr(duckdb_instance.Instance, "_tidy", lambda self: None)
    with closing(Database(path)) as database, database.write() as db:
        db.execute(INSERT, [1])
    assert path.with_name(f"{path.name}.wal").stat().st_size > 0
    assert seen(path) == [1]
    assert not path.with_name(f"{path.name}.wal").exists(), "the application's close moves it"


def test_an_application_in_this_process_keeps_its_lock_and_its_ways(path: Path) -> None:
    """Closing any descriptor of a file ends all locks that the process has on it."""
    with closing(duckdb.connect(str(path))) as app:
        for n in (1, 2):
            with closing(Database(path)) as database, database.write() as db:
                db.execute(INSERT, [n])
        assert "Could not set lock" in elsewhere(path, "SELECT 1")
        # Its own closing moves its log into the file.
        app.execute(INSERT, [3])
    assert not path.with_name(f"{path.name}.wal").exists()
    assert seen(path) == [1, 2, 3]


def descriptors(path: Path) -> int:
    """How often this process has the file open."""
    wanted, count = os.stat(path), 0
    for name in os.listdir("/dev/fd"):
        with suppress(OSError):  # the listing's own
            count += os.path.samestat(os.fstat(int(name)), wanted)
    return count


def test_descriptors_are_given_back(path: Path) -> None:
    for _ in range(3):
        with closing(Database(path)) as database, database.read():
            assert descriptors(path) == 2
    assert descriptors(path) == 0
    # One that had to stay open is used again, and closed once it can be.
    for _ in range(3):
        with (
            closing(duckdb.connect(str(path))),
            closing(Database(path)) as database,
            database.read(),
        ):
            assert descriptors(path) == 2
        assert descriptors(path) == 1
    with closing(Database(path)) as database, database.read():
        assert descriptors(path) == 2
    assert descriptors(path) == 0


def test_a_header_is_that_of_the_file_that_the_path_names(path: Path, tmp_path: Path) -> None:
    header = Header(path)
    first = header.read()
    assert first is not None and first[8:12] == b"DUCK"
    assert header.read() == first and header.is_of_the_file()
    elsewhere(path, "INSERT INTO seen VALUES (1)")
    second = header.read()
    assert second not in (None, first)
    other = tmp_path / "other.duckdb"
    elsewhere(other, "CREATE TABLE other (n INTEGER)")
    os.replace(other, path)
    assert not header.is_of_the_file()
    assert header.read() not in (None, first, second)
    path.unlink()
    assert header.read() is None
    header.close()


def test_a_file_that_somebody_makes_meanwhile_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "new.duckdb"
    opened = meddle(
        monkeypatch, lambda _: assert_made(elsewhere(path, "CREATE TABLE mine (n INTEGER)")), 1
    )
    make_file(path)
    assert opened != [str(path)], "it appears whole"
    assert os.listdir(tmp_path) == ["new.duckdb"]
    with closing(duckdb.connect(str(path))) as db:
        assert db.execute("SHOW TABLES").fetchall() == [("mine",)]


def assert_made(errors: str) -> None:
    assert errors == ""


def test_a_log_of_another_state_is_named(path: Path, tmp_path: Path) -> None:
    """A backup that was put in place of a file whose log is left, as by a process killed."""
    program = (
        "import duckdb, os, shutil, sys\npath = sys.argv[1]\n"
        "shutil.copy(path, path + '.backup')\n"
        "db = duckdb.connect(path)\nfor n in (1, 2):\n"
        "  db.execute('INSERT INTO seen VALUES (?)', [n])\n  if n == 1: db.execute('CHECKPOINT')\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=False, timeout=LIMIT)
    os.replace(f"{path}.backup", path)
    said = "nothing"
    with closing(Database(path)) as database, suppress(DatabaseCorrupt):
        try:
            with database.read():
                pass
        except DatabaseCorrupt as refused:
            said = str(refused)
            raise
    if duckdb.__version__ >= "2":  # 1.x reads it, whatever it is of
        assert "restore the log as well, or remove it" in said


HOLD = """
import duckdb, sys
with duckdb.connect(sys.argv[1]) as db:
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_file_whose_holder_is_killed_is_opened_and_not_fought_for_before(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused opening takes DuckDB some ms; while the lock is held, none is tried."""
    tried: list[str] = []
    connect = duckdb.connect

    def connecting(path: str, *values: Any, **options: Any) -> duckdb.DuckDBPyConnection:
        tried.append(path)
        return connect(path, *values, **options)

    looks = 0
    is_locked = Header.is_locked
    many = threading.Event()

    def looking(header: Header) -> bool:
        nonlocal looks
        looks += 1
        if looks == 10:
            many.set()
        return is_locked(header)

    monkeypatch.setattr(Header, "is_locked", looking)
    with started([sys.executable, "-c", HOLD, str(path)], stdin=PIPE, stdout=PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        monkeypatch.setattr(duckdb, "connect", connecting)
        with closing(Database(path)) as database, ThreadPoolExecutor(1) as pool:

            def write() -> None:
                with database.write() as db:
                    db.execute(INSERT, [1])

            writing = pool.submit(write)
            assert many.wait(LIMIT)
            assert tried == [], "it knows without trying that the file is locked"
            holder.kill()
            writing.result(LIMIT)
    monkeypatch.undo()
    assert seen(path) == [1]


@pytest.mark.skipif(sys.platform != "linux", reason="what a lock looks like is known for Linux")
def test_a_lock_of_another_process_is_seen_and_ones_own_is_not(path: Path) -> None:
    header = Header(path)
    assert not header.is_locked()
    with started([sys.executable, "-c", HOLD, str(path)], stdin=PIPE, stdout=PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert header.is_locked()
        holder.communicate(b"\n", timeout=LIMIT)
    assert not header.is_locked()
    with closing(duckdb.connect(str(path))):
        assert not header.is_locked()
    header.close()


LEAVES = """
import atexit, sys, threading
def look():
    print([each.name for each in threading.enumerate() if "duckdb" in each.name])
atexit.register(look)  # before, and so called after, what ours registers
from likewise.sql.duckdb import Database
database = Database(sys.argv[1])
with database.write() as db:
    db.execute("INSERT INTO seen VALUES (1)")
print("written")
"""


def test_a_program_that_ends_without_closing_it_leaves_no_thread_within_duckdb(path: Path) -> None:
    """Ended there by the interpreter, it would abort the process: `exception not rethrown`."""
    with started([sys.executable, "-c", LEAVES, str(path)], stdout=PIPE, stderr=PIPE) as process:
        out, errors = process.communicate(timeout=LIMIT)
    assert (process.returncode, errors) == (0, b"")
    assert out.split() == [b"written", b"[]"]
    wal = Path(f"{path}.wal")
    assert not wal.exists() or not wal.stat().st_size, "its log was moved into it"
    assert seen(path) == [1]
