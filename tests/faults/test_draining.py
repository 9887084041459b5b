"""Working until nothing is left ends also where looking takes longer than the pause between looks.

So it is on a busy machine; here the pause is shorter than any look.
"""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import pytest

from likewise.base.spec import BindingSpec
from likewise.binding.status import Status
from likewise.binding.worker import Worker
from tests.acceptance.applications import open_application
from tests.acceptance.rigs import NAME, RIGS, Rig

ALWAYS = 1e-5
"""Seconds; by a clock that counts such pauses it is time to look again whenever one has looked."""
MANY = 200
"""Rounds in which nothing was to do: an end takes a handful."""


def rig_of(kind: str, folder: Path, request: pytest.FixtureRequest) -> Rig:
    made = RIGS[kind](folder, request.getfixturevalue)
    if kind not in ("files", "duckdb-sqlite"):
        return made
    made.close()
    spec = dataclasses.replace(made.spec, name="often", every=ALWAYS)
    return Rig(made.kind, made.where, spec, made.key_of)


@pytest.mark.parametrize("kind", ["files", "duckdb", "duckdb-sqlite", "sqlite-apart"])
def test_it_ends(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    rig = rig_of(kind, tmp_path, request)
    try:
        rig.source.attach()
        worker = rig.worker(idle_seconds=0.0, poll_seconds=0.0)
        drain_and_look(rig, worker, {1: "one|1", 2: "two"})
        # The same worker again: what has come since is taken in, though it looked before.
        drain_and_look(rig, worker, {2: "two|2", 3: "three"})
    finally:
        rig.close()


def test_a_query_of_postgres(database: str) -> None:
    open_application("postgres", database).close()
    query = "SELECT id, body FROM docs"
    spec = BindingSpec(NAME, database, "", "{body}", ("id",), query=query, every=ALWAYS)
    rig = Rig("postgres", database, spec)
    try:
        worker = rig.worker(poll_seconds=0.0)
        drain_and_look(rig, worker, {1: "one|1", 2: "two"})
        drain_and_look(rig, worker, {2: "two|2", 3: "three"})
    finally:
        rig.close()


def drain_and_look(rig: Rig, worker: Worker, rows: dict[int, str]) -> None:
    rig.app.write(rows)
    gave_up = threading.Event()
    rounds = 0

    def count(now: Status) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == MANY:
            gave_up.set()

    worker.drain(count, stop=gave_up)
    assert not gave_up.is_set(), "it never came to an end"
    rig.assert_right()
