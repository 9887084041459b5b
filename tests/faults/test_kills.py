"""The worker is killed between every two steps, and inside the one that publishes."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.binding_kit import DOCS, App, Bound, assert_right, spawn
from tests.faults.programs import WORKER
from tests.support import LIMIT

STEPS = [
    "attached",
    "leased",
    "compared",
    "claimed",
    "read",
    "planned",
    "embedded",
    "inside",
    "published",
    "released",
]


def worker(path: Path, **options: object) -> int:
    process = spawn(WORKER, path=path, drain=True, **options)
    _, errors = process.communicate(timeout=LIMIT)
    assert process.returncode in {0, -signal.SIGKILL}, errors
    return process.returncode


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("passed", [0, 1])
def test_killed_at(tmp_path: Path, step: str, passed: int) -> None:
    path = tmp_path / "app.db"
    app = App(path, "wal", DOCS)
    Bound(app).close()
    app(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40)"
        " INSERT INTO docs SELECT i, i, 't' || i || '|' || i, 'b' FROM n"
    )
    app.close()
    killed = worker(path, kill_at=step, kill_after=passed)
    # Some steps are passed only once.
    assert killed == -signal.SIGKILL or (passed == 1 and step in {"released", "compared"})
    app = App(path, "wal")
    # Meanwhile the application goes on, also with rows that were in hand.
    app("UPDATE docs SET title = 'later' WHERE id % 3 = 0")
    app("DELETE FROM docs WHERE id % 5 = 0")
    app("UPDATE docs SET id = 100 + id WHERE id % 7 = 0")
    app.close()
    assert worker(path) == 0
    app = App(path, "wal")
    bound = Bound(app)
    assert_right(bound)
    bound.close()
    app.close()
