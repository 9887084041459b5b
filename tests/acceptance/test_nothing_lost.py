"""Several applications write at random, workers are killed at random: at rest nothing is lost."""

from __future__ import annotations

import random
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

import pytest

from likewise.base.errors import MassDelete
from tests.acceptance.programs import WORKER, WRITER
from tests.acceptance.rigs import Rig
from tests.support import LIMIT

SECONDS = 4.0
SLOW_SECONDS = {"duckdb": 10.0}
"""Of applications that open their file for every write."""
LEAST = 20
"""Writes of each application, however long they take where much else runs."""


@pytest.mark.parametrize("seed", [31])
def test_whatever_is_killed(rig: Rig, seed: int) -> None:
    sys.stdout.write(f"seed {seed}\n")  # pytest shows it with a failure
    rig.source.attach()
    seconds = SLOW_SECONDS.get(rig.kind, SECONDS)
    writers = [
        rig.process(WRITER, seed=10 * seed + n, seconds=seconds, least=LEAST) for n in (1, 2)
    ]
    kills = kill_at_random(rig, random.Random(seed), writers)
    written = 0
    for writer in writers:
        out, errors = writer.communicate(timeout=LIMIT)
        assert writer.returncode == 0, errors
        written += int(out)
    assert written >= 2 * LEAST
    assert kills >= 2, "too few kills to say anything"
    try:
        rig.drain()
    except MassDelete:
        # Between two comparisons more files may have gone than a folder loses unasked.
        rig.table.allow_deletes(True)
        rig.drain()
    rig.assert_right()
    assert len(rig.app.rows()) > 3


def kill_at_random(rig: Rig, rng: random.Random, writers: Sequence[Any]) -> int:
    """Start two workers at a time and kill them after a moment, until the writers are done."""
    kills = 0
    while any(writer.poll() is None for writer in writers):
        workers = [rig.process(WORKER, slow=0.02) for _ in range(2)]
        for worker in workers:
            assert worker.stdout.readline() == "ready\n", worker.communicate()[1]
        time.sleep(rng.random() * 0.6)  # not a wait: the moment of the kill is the random part
        for worker in workers:
            worker.send_signal(signal.SIGKILL)
            worker.communicate(timeout=LIMIT)
            kills += 1
    return kills
