"""A process that keeps vectors is killed at any moment: what is found afterwards is right."""

from __future__ import annotations

import hashlib
import random
import signal
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest

from likewise.runtime.cache_file import SqliteCache
from tests.binding_kit import spawn
from tests.support import LIMIT

WIDTH = 96
MOST = 300 * 1024

# `kill_after`: how many rows are written before the process kills itself, between the rows of one
# transaction. `slots`: names are used again, so that rows are replaced, used, evicted.
KEEPER = """
import os, signal
from pathlib import Path
from likewise.runtime import cache_file
from likewise.sql import kept
from tests.faults.test_kept_vectors import key, row
cache_file._GATHER_SECONDS = 0.001
passed, replace = 0, kept._replace
def counted(*values):
    global passed
    replace(*values)
    passed += 1
    if passed == ARGS["kill_after"]:
        os.kill(os.getpid(), signal.SIGKILL)
kept._replace = counted
cache = cache_file.SqliteCache(Path(ARGS["path"]), ARGS["most"])
print("ready", flush=True)
for step in range(1 << 40):
    name = ARGS["seed"] * 7919 + step % 1500
    cache.keep(key(name), row(name))
    cache.find([key(name - 5), key(name - 400)])
    if step % 500 == 499:
        cache.flush()
        print(step, flush=True)
"""


def key(name: int) -> bytes:
    """A key."""
    return hashlib.sha256(str(name).encode()).digest()


def row(name: int) -> Any:
    """The one vector that belongs to it."""
    return np.random.default_rng(name).normal(size=WIDTH).astype(np.float32)


def assert_right(path: Path, seeds: list[int]) -> int:
    """Everything found is right, and so are the books; how much there is."""
    cache = SqliteCache(path, MOST)
    names = {seed * 7919 + step for seed in seeds for step in range(-400, 1500)}
    found = cache.find([key(name) for name in names])
    by_key = {key(name): name for name in names}
    for one, vector in found.items():
        assert np.array_equal(vector, row(by_key[one]))
    size = cache.size()
    assert size.vectors == len(found) and size.bytes == size.vectors * cache.cost(row(0)) <= MOST
    # It goes on being a cache.
    cache.keep(key(-1), row(1))
    cache.flush()
    assert np.array_equal(cache.find([key(-1)])[key(-1)], row(1))
    cache.close()
    db = apsw.Connection(str(path))
    assert db.pragma("integrity_check") == "ok"
    for table in ("likewise_kept_use", "likewise_kept_vector"):
        ((odd,),) = db.execute(
            f"SELECT count(*) FROM {table} WHERE id NOT IN (SELECT id FROM likewise_kept_use) "
            "OR id NOT IN (SELECT id FROM likewise_kept_vector)"
        )
        assert odd == 0
    db.close()
    return len(found)


@pytest.mark.parametrize("kill_after", [1, 2, 40, 700])
def test_killed_between_two_rows(tmp_path: Path, kill_after: int) -> None:
    path = tmp_path / "kept.db"
    process = spawn(KEEPER, path=path, most=MOST, seed=1, kill_after=kill_after)
    _, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == -signal.SIGKILL, errors
    found = assert_right(path, [1])
    # The first transaction has at least one row, and at most some hundred.
    assert found == 0 if kill_after == 1 else found > 0 or kill_after < 700


def test_two_processes_share_it_and_are_killed_at_any_moment(tmp_path: Path) -> None:
    path, rng = tmp_path / "kept.db", random.Random(5)
    found = 0
    for turn in range(4):
        both = [
            spawn(KEEPER, path=path, most=MOST, seed=seed, kill_after=rng.randrange(600, 4000))
            for seed in (1, 2)
        ]
        for process in both:
            _, errors = process.communicate(timeout=LIMIT)
            assert process.returncode == -signal.SIGKILL, errors
        found = assert_right(path, [1, 2])
        assert found > 0, turn
