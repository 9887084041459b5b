"""Every reader of a feed is told that what it has followed is of another history."""

from __future__ import annotations

from pathlib import Path

import apsw
import duckdb
import pytest

from likewise.base.spec import BindingSpec
from likewise.binding.arrival import newest
from likewise.binding.worker import Options, Worker
from likewise.search.exact import ExactIndex
from likewise.search.follow import Follower
from likewise.server import databases
from likewise.sql import duckdb_instance as opening
from likewise.stores.stamps import Stamps
from tests.binding_kit import SPACE, Fake, bars, fake_vector
from tests.support import wait_until


def test_two_readers_and_a_history_as_long_as_the_other() -> None:
    stamps = Stamps()
    feed = {1: 10, 2: 20, 3: 30}

    def place(after: int, top: int = 3) -> tuple[int, bool]:
        found = stamps.place(after, file=0, top=top, oldest=1, stamp_of=feed.get)
        return found.base + (top if found.is_lost else found.version), found.is_lost

    assert place(3) == (3, False)
    stamps.remember(3, 30)
    feed[3] = 31
    one, is_lost = place(3)
    assert is_lost and one > 3
    # The second is told too, though the first has been; and the first only once.
    assert place(3) == (one, True)
    assert place(one) == (one, False)
    assert place(-1) == (one, True)
    # A history that is shorter.
    later, is_lost = place(one, top=2)
    assert is_lost and later > one


def execute(kind: str, path: Path, sql: str) -> None:
    db = apsw.Connection(str(path)) if kind == "sqlite" else duckdb.connect(str(path))
    db.execute(sql)
    db.close()


def copy(kind: str, source: Path, target: Path) -> None:
    """Into the very file, as backup programs do it."""
    if kind == "duckdb":
        # Who puts a file in place sees to it that nobody has it open.
        wait_until(lambda: all(each.is_closed for each in opening._instances.values()))
        target.write_bytes(source.read_bytes())
        return
    one, other = apsw.Connection(str(source)), apsw.Connection(str(target))
    with other.backup("main", one, "main") as backup:
        backup.step()
    one.close()
    other.close()


@pytest.mark.parametrize("lost", [1, 3], ids=["as long", "longer"])
@pytest.mark.parametrize("kind", ["sqlite", "duckdb"])
def test_a_file_that_is_put_back_in_place(tmp_path: Path, kind: str, lost: int) -> None:
    path, kept = tmp_path / f"app.{kind}", tmp_path / f"backup.{kind}"
    execute(kind, path, "CREATE TABLE docs (id INTEGER PRIMARY KEY, title TEXT)")
    execute(kind, path, "INSERT INTO docs VALUES (1, 'one')")
    record = databases.create(BindingSpec("docs", f"{kind}:{path}", "docs", "{title}"), SPACE)

    def drain() -> None:
        with databases.ends(record) as (source, table):
            worker = Worker(source, table, Fake(), bars, options=Options(reconcile_seconds=None))
            worker.drain()
            worker.close()

    drain()
    copy(kind, path, kept)
    with databases.ends(record) as (_, table):
        index = ExactIndex(SPACE)
        follower = Follower(table, index)
        for number in range(lost):
            execute(kind, path, f"INSERT INTO docs VALUES ({10 + number}, 'lost {number}')")
        drain()
        follower.catch_up()
        copy(kind, kept, path)
        execute(kind, path, "INSERT INTO docs VALUES (3, 'new')")
        drain()
        # What a search that waits does: until then the index holds rows that never were.
        wanted = newest(table, follower.version)
        assert follower.version < wanted
        follower.catch_up()
        assert follower.version == wanted
        found = index.search(fake_vector("new"), k=9)
        assert sorted(hit.key for hit in found) == [(1,), (3,)] == sorted(table.fingerprints())
