"""One suite for every cache of vectors; a dict that forgets what is oldest is the oracle."""

from __future__ import annotations

import gc
import hashlib
import logging
import threading
import tracemalloc
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from likewise.runtime import cache_file, metrics
from likewise.runtime.cache import MemoryCache, Size
from likewise.runtime.cache_file import SqliteCache
from tests.support import LIMIT, wait_until

WIDTH = 16
PLENTY = 1 << 24
KINDS = ("memory", "file")


def key(name: object) -> bytes:
    """A key."""
    return hashlib.sha256(repr(name).encode()).digest()


def row(seed: int, width: int = WIDTH) -> Any:
    """A vector."""
    return np.random.default_rng(seed).normal(size=width).astype(np.float32)


class Caches:
    """Opens caches of one kind, and closes them."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.folder = folder
        self.made: list[MemoryCache | SqliteCache] = []

    def open(self, max_bytes: int = PLENTY, name: str = "kept.db") -> MemoryCache | SqliteCache:
        """Another one; those in files share the file of that name."""
        made: MemoryCache | SqliteCache = (
            MemoryCache(max_bytes)
            if self.kind == "memory"
            else SqliteCache(self.folder / "deep" / name, max_bytes)
        )
        self.made.append(made)
        return made

    def close(self) -> None:
        """All of them."""
        for one in self.made:
            one.close()


@pytest.fixture(params=KINDS)
def caches(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Caches]:
    made = Caches(request.param, tmp_path)
    yield made
    made.close()


def settle(cache: MemoryCache | SqliteCache) -> None:
    """Let what waits to be written be written."""
    if isinstance(cache, SqliteCache):
        cache.flush()


def has(cache: MemoryCache | SqliteCache, name: object, value: Any) -> bool:
    """Whether exactly `value` is kept; it is used now."""
    found = cache.find([key(name)])
    return key(name) in found and np.array_equal(found[key(name)], value)


def test_what_is_kept_is_found_at_once_and_later(caches: Caches) -> None:
    cache = caches.open()
    assert cache.find([key(1)]) == {} and cache.find([]) == {}
    cache.keep(key(1), row(1))
    assert has(cache, 1, row(1))
    settle(cache)
    assert has(cache, 1, row(1))
    found = cache.find([key(1), key(2), key(1)])
    assert list(found) == [key(1)]
    assert found[key(1)].dtype == np.float32 and found[key(1)].shape == (WIDTH,)


def test_nobody_can_change_what_is_kept(caches: Caches) -> None:
    cache, mine = caches.open(), row(1)
    cache.keep(key(1), mine)
    mine[:] = 0
    found = cache.find([key(1)])[key(1)]
    with pytest.raises(ValueError, match="read-only"):
        found[:] = 0
    settle(cache)
    assert has(cache, 1, row(1))


def test_rows_of_other_widths_and_views(caches: Caches) -> None:
    cache, whole = caches.open(), np.stack([row(n, 9) for n in range(4)])
    cache.keep(key("view"), whole[2])
    cache.keep(key("strided"), whole[:, 3])
    settle(cache)
    assert has(cache, "view", whole[2]) and has(cache, "strided", whole[:, 3])


def test_the_last_one_counts(caches: Caches) -> None:
    cache = caches.open()
    for seed in (1, 2):
        cache.keep(key(1), row(seed, 4 * seed))
        settle(cache)
    assert has(cache, 1, row(2, 8))
    assert cache.size() == Size(1, cache.cost(row(2, 8)))


def test_one_larger_than_everything_is_not_kept(caches: Caches) -> None:
    cache = caches.open(max_bytes=3 * MemoryCache.cost(row(1)) + 3 * SqliteCache.cost(row(1)))
    cache.keep(key(1), row(1))
    cache.keep(key(2), row(2, 4000))
    settle(cache)
    assert has(cache, 1, row(1)) and not cache.find([key(2)])


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["keep", "find"]), st.lists(st.integers(0, 6), min_size=1, max_size=4)
    ),
    min_size=5,
    max_size=25,
)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=40)
@given(steps=STEPS, room=st.integers(0, 5))
def test_it_forgets_what_was_used_longest_ago(
    kind: str, tmp_path_factory: pytest.TempPathFactory, steps: list[Any], room: int
) -> None:
    caches = Caches(kind, tmp_path_factory.mktemp("kept"))
    cost = (MemoryCache if kind == "memory" else SqliteCache).cost(row(0))
    cache = caches.open(max_bytes=room * cost + cost // 2)
    model: OrderedDict[int, int] = OrderedDict()
    try:
        for seed, (what, names) in enumerate(steps):
            if what == "keep":
                for name in names if room else ():
                    model.pop(name, None)
                    model[name] = seed
                    while len(model) > room:
                        model.popitem(last=False)
                for name in names:
                    cache.keep(key(name), row(seed))
                    settle(cache)
                continue
            found = cache.find([key(name) for name in names])
            settle(cache)
            for name in names:
                assert (key(name) in found) == (name in model)
                if name in model:
                    model.move_to_end(name)
                    assert np.array_equal(found[key(name)], row(model[name]))
        assert cache.size() == Size(len(model), len(model) * cost)
        assert {*cache.find([key(n) for n in range(7)])} == {key(name) for name in model}
    finally:
        caches.close()


def test_many_threads_at_once(caches: Caches) -> None:
    cache = caches.open(max_bytes=100 * SqliteCache.cost(row(0)))
    wrong: list[int] = []

    def work(start: int) -> None:
        for step in range(150):
            name = (start * 31 + step * 7) % 120
            found = cache.find([key(name), key(name + 1)])
            for one, at in ((key(name), name), (key(name + 1), name + 1)):
                if one in found and not np.array_equal(found[one], row(at)):
                    wrong.append(at)
            cache.keep(key(name), row(name))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    settle(cache)
    assert not wrong
    kept, held = cache.size()
    assert held == kept * cache.cost(row(0)) and 0 < kept


def test_closing_lets_go_and_twice_does_nothing_more(caches: Caches) -> None:
    cache = caches.open()
    cache.keep(key(1), row(1))
    cache.close()
    cache.close()
    cache.keep(key(2), row(2))
    assert cache.size().vectors <= 1
    if caches.kind == "file":
        assert cache.find([key(1)]) == {} and cache.size() == Size(0, 0)


def test_metrics_show_what_is_held(caches: Caches) -> None:
    first, second = caches.open(), caches.open(name="other.db")
    gc.collect()

    def shown(name: str) -> float:
        return metrics.REGISTRY.get_sample_value(name, {"cache": caches.kind}) or 0.0

    before = shown("likewise_cache_vectors"), shown("likewise_cache_bytes")
    for cache in (first, second, first):
        metrics.CACHES.watch(cache)
        cache.keep(key(id(cache)), row(1))
        settle(cache)
    assert shown("likewise_cache_vectors") == before[0] + 2
    assert shown("likewise_cache_bytes") == before[1] + 2 * first.cost(row(1))


# --- in memory -----------------------------------------------------------------------------------


def test_memory_counts_no_less_than_it_takes() -> None:
    cache = MemoryCache(1 << 30)
    rows = [(key(n), row(n, 384)) for n in range(3000)]
    tracemalloc.start()
    for name, one in rows:
        cache.keep(bytes(bytearray(name)), one)
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert 0.8 * cache.size().bytes < taken < cache.size().bytes


# --- in a file -----------------------------------------------------------------------------------


def test_another_start_and_another_process_find_it(tmp_path: Path) -> None:
    path = tmp_path / "kept.db"
    first, beside = SqliteCache(path, PLENTY), SqliteCache(path, PLENTY)
    first.keep(key(1), row(1))
    first.flush()
    assert has(beside, 1, row(1))
    beside.keep(key(2), row(2))
    beside.close()
    assert has(first, 2, row(2))
    first.close()
    again = SqliteCache(path, PLENTY)
    assert has(again, 1, row(1)) and has(again, 2, row(2))
    again.close()


def test_use_is_remembered_over_starts(tmp_path: Path) -> None:
    path, cost = tmp_path / "kept.db", SqliteCache.cost(row(0))
    first = SqliteCache(path, PLENTY)
    for name in (1, 2, 3):
        first.keep(key(name), row(name))
    first.flush()
    assert has(first, 1, row(1))
    first.close()
    again = SqliteCache(path, 2 * cost)
    again.keep(key(4), row(4))
    again.flush()
    assert list(again.find([key(n) for n in (1, 2, 3, 4)])) == [key(1), key(4)]
    again.close()


def test_the_file_stays_near_what_is_counted(tmp_path: Path) -> None:
    path, most = tmp_path / "kept.db", 400 * SqliteCache.cost(row(0, 384))
    cache = SqliteCache(path, most)
    for name in range(3000):
        cache.keep(key(name), row(name % 50, 384))
        if name % 200 == 0:
            cache.flush()
    cache.close()
    assert 0.5 * most < path.stat().st_size < 1.6 * most


DAMAGE = {
    "digest": "UPDATE likewise_kept_vector SET digest = zeroblob(8)",
    "number": "UPDATE likewise_kept_vector SET vector = zeroblob(64)",
    "length": "UPDATE likewise_kept_vector SET vector = substr(vector, 1, 60)",
    "type": "UPDATE likewise_kept_vector SET vector = 'text'",
    "key": "UPDATE likewise_kept_vector SET key = randomblob(32)",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_vector_is_not_handed_on_and_is_replaced(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "kept.db"
    cache = SqliteCache(path, PLENTY)
    cache.keep(key(1), row(1))
    cache.flush()
    db = apsw.Connection(str(path))
    db.execute(DAMAGE[damage])
    assert db.changes() == 1
    db.close()
    assert cache.find([key(1)]) == {}
    cache.keep(key(1), row(1))
    cache.flush()
    assert has(cache, 1, row(1))
    cache.close()


def test_numbers_that_are_none_are_not_handed_on(tmp_path: Path) -> None:
    cache = SqliteCache(tmp_path / "kept.db", PLENTY)
    cache.keep(key(1), np.full(4, np.nan, np.float32))
    cache.flush()
    assert cache.find([key(1)]) == {}
    cache.close()


class Elapsed:
    """Time that goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


def spoil(path: Path, how: str) -> None:
    """Make of `path` something that is no cache."""
    if how == "garbage":
        path.write_bytes(b"not a database, but long enough to be taken for one" * 100)
    elif how == "folder":
        path.mkdir()
    else:
        db = apsw.Connection(str(path))
        db.execute("CREATE TABLE likewise_kept_use (x)")
        if how == "newer":
            db.execute("CREATE TABLE likewise_kept (schema, vectors, bytes)")
            db.execute("INSERT INTO likewise_kept VALUES (99, 0, 0)")
        db.close()


@pytest.mark.parametrize("how", ["garbage", "folder", "newer", "incomplete"])
def test_a_file_that_is_no_cache_knows_nothing_and_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    path, elapsed = tmp_path / "kept.db", Elapsed()
    spoil(path, how)
    with caplog.at_level(logging.WARNING):
        cache = SqliteCache(path, PLENTY, elapsed=elapsed)
        for _ in range(5):
            cache.keep(key(1), row(1))
            assert cache.find([key(2)]) == {} and cache.size() == Size(0, 0)
            cache.flush()
            elapsed.now += 100
    told = [one.getMessage() for one in caplog.records if "no vectors are kept" in one.getMessage()]
    assert len(told) == 1 and str(path) in told[0]
    if how == "folder":
        path.rmdir()
    else:
        for one in tmp_path.iterdir():
            one.unlink()
    cache.keep(key(1), row(1))
    cache.flush()
    assert has(cache, 1, row(1)), "once it is gone, another is made"
    cache.close()


def test_a_file_that_another_program_locks_costs_no_request_its_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, elapsed = tmp_path / "kept.db", Elapsed()
    cache = SqliteCache(path, PLENTY, elapsed=elapsed)
    cache.keep(key(1), row(1))
    cache.flush()
    monkeypatch.setattr(cache._file._writing, "_busy_seconds", 0.01)
    cache._file._writing.close()
    db = apsw.Connection(str(path))
    db.execute("BEGIN IMMEDIATE")
    with caplog.at_level(logging.WARNING):
        assert has(cache, 1, row(1)), "a writer keeps nobody from reading"
        cache.keep(key(2), row(2))
        cache.flush()
    assert "locked" in caplog.text
    db.execute("ROLLBACK")
    db.close()
    elapsed.now += 100
    cache.keep(key(3), row(3))
    cache.flush()
    assert has(cache, 3, row(3)) and not cache.find([key(2)])
    cache.close()


def test_a_file_that_is_deleted_meanwhile_is_made_anew(tmp_path: Path) -> None:
    path, elapsed = tmp_path / "kept.db", Elapsed()
    cache = SqliteCache(path, PLENTY, elapsed=elapsed)
    cache.keep(key(1), row(1))
    cache.flush()
    for one in tmp_path.iterdir():
        one.unlink()
    assert cache.find([key(1)]) == {}
    elapsed.now += 100
    cache.keep(key(2), row(2))
    cache.flush()
    assert has(cache, 2, row(2)) and path.exists()
    cache.close()


def test_keeping_returns_while_the_disk_is_slow_and_what_waits_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = SqliteCache(tmp_path / "kept.db", PLENTY)
    monkeypatch.setattr(cache_file, "_MOST_WAITING", 10 * cache.cost(row(0)))
    go, writes = threading.Event(), list[int]()
    write = cache._file.write

    def slow(rows: Any, stamps: Any, most: int) -> None:
        writes.append(len(rows))
        assert go.wait(LIMIT)
        write(rows, stamps, most)

    monkeypatch.setattr(cache._file, "write", slow)
    cache.keep(key("first"), row(0))
    wait_until(lambda: writes)
    assert has(cache, "first", row(0)), "it is found while it is being written"
    with caplog.at_level(logging.INFO):
        for name in range(30):
            cache.keep(key(name), row(name))
    assert caplog.text.count("faster than they can be kept") == 1
    found = cache.find([key(name) for name in range(30)])
    assert list(found) == [key(name) for name in range(10)]
    go.set()
    cache.flush()
    assert cache.size().vectors == 11 and writes == [1, 10]
    cache.close()


def test_a_cache_that_nobody_closed_is_written_when_nobody_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "kept.db"
    cache: SqliteCache | None = SqliteCache(path, PLENTY)
    assert cache is not None
    cache.keep(key(1), row(1))
    cache = None
    gc.collect()
    again = SqliteCache(path, PLENTY)
    assert has(again, 1, row(1))
    again.close()
