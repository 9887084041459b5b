"""The worker is killed between every two steps; what is left to do is done by the next."""

from __future__ import annotations

import signal

import pytest

from tests.acceptance.programs import WORKER
from tests.acceptance.rigs import Rig
from tests.support import LIMIT

STEPS = {
    "log": (),
    "outbox": ("captured", "relayed", "taken off"),
    "scan": ("noted",),
}
EVERYWHERE = (
    "attached",
    "leased",
    "compared",
    "claimed",
    "read",
    "planned",
    "embedded",
    "published",
    "released",
)


def run(rig: Rig, **options: object) -> int:
    process = rig.process(WORKER, drain=True, **options)
    _, errors = process.communicate(timeout=LIMIT)
    assert process.returncode in {0, -signal.SIGKILL}, errors
    return int(process.returncode)


@pytest.mark.parametrize("step", [*EVERYWHERE, *STEPS["outbox"], *STEPS["scan"]])
def test_killed_at(rig: Rig, step: str) -> None:
    if step not in (*EVERYWHERE, *STEPS[rig.capture]):
        pytest.skip(f"a source of the kind {rig.capture} has no such step")
    rig.source.attach()
    rig.app.write({number: f"t{number}|{number}" for number in range(1, 41)})
    assert run(rig, kill_at=step) == -signal.SIGKILL
    # Meanwhile the application goes on, also with rows that were in hand.
    rig.app.write({number: "later" for number in range(3, 41, 3)})
    rig.app.remove(*range(5, 41, 5))
    for number in range(7, 41, 7):
        rig.app.move(number, 100 + number)
    assert run(rig) == 0
    rig.assert_right()
