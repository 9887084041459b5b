"""Rows change while the model is at them: a barrier in the embedder says exactly when."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.acceptance.rigs import Rig
from tests.binding_kit import Barrier, Fake
from tests.support import LIMIT

AGAIN = pytest.mark.parametrize("again", [False, True], ids=["first", "again"])


def during(rig: Rig, change: Callable[[], object]) -> None:
    """Work off what waits; `change` happens while the embedder works on it first."""
    barrier = Barrier()
    worker = rig.worker(Fake(barrier))
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(worker.step)
        assert barrier.entered.wait(LIMIT)
        change()
        barrier.go.set()
        run.result(LIMIT)
    worker.close()


def begun(rig: Rig, *, again: bool) -> None:
    rig.drain()
    if again:
        rig.app.write({1: "zero"})
        rig.drain()
    rig.app.write({1: "one"})


@AGAIN
def test_an_edit_meanwhile(rig: Rig, again: bool) -> None:
    begun(rig, again=again)
    during(rig, lambda: rig.app.write({1: "two"}))
    rig.drain()
    rig.assert_right()


@AGAIN
def test_a_delete_meanwhile(rig: Rig, again: bool) -> None:
    begun(rig, again=again)
    during(rig, lambda: rig.app.remove(1))
    rig.drain()
    rig.assert_right()
    assert dict(rig.table.fingerprints()) == {}


@AGAIN
def test_an_edit_there_and_back(rig: Rig, again: bool) -> None:
    begun(rig, again=again)

    def there_and_back() -> None:
        rig.app.write({1: "zero"})
        rig.app.write({1: "one"})

    during(rig, there_and_back)
    rig.drain()
    rig.assert_right()


def test_a_key_that_moves_meanwhile(rig: Rig) -> None:
    begun(rig, again=True)
    during(rig, lambda: rig.app.move(1, 9))
    rig.drain()
    rig.assert_right()
    assert set(rig.table.fingerprints()) == {rig.key_of(9)}


def test_everything_removed_meanwhile(rig: Rig) -> None:
    begun(rig, again=True)
    during(rig, rig.app.clear)
    rig.drain()
    rig.assert_right()


def test_a_row_that_changes_before_it_is_read_and_goes_before_it_is_published(rig: Rig) -> None:
    """What was read isn't what a comparison saw; when it goes, that must be seen all the same."""
    changes: dict[str, Callable[[], None]] = {
        "claimed": lambda: rig.app.write({1: "two"}),
        "planned": lambda: rig.app.remove(1),
    }

    def at(step: str) -> None:
        if rig.table.pending() == {rig.key_of(1)}:
            changes.pop(step, lambda: None)()

    rig.app.write({2: "stays"})  # an empty folder could be one that isn't mounted
    rig.drain()
    rig.app.write({1: "one"})
    worker = rig.worker(at=at)
    worker.drain()
    assert changes == {}
    rig.drain()
    rig.assert_right()


def test_a_worker_that_stands_still_while_another_goes_on(rig: Rig) -> None:
    """Its lease runs out although it lives; what it made is of a text that is gone by then."""
    begun(rig, again=False)
    barrier = Barrier()
    slow = rig.worker(Fake(barrier), lease_seconds=0.05)
    # A process that the system doesn't let run can't prolong anything.
    hold = stalled(slow._ledger.hold)
    slow._ledger.hold = hold  # type: ignore[method-assign] # only this one worker's
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(attempt, slow.step)
        assert barrier.entered.wait(LIMIT)
        rig.app.write({1: "two"})
        rig.drain()
        barrier.go.set()
        run.result(LIMIT)
    slow.close()
    rig.drain()
    rig.assert_right()


def stalled(hold: Callable[[], bool]) -> Callable[[], bool]:
    held = False

    def once() -> bool:
        nonlocal held
        held = held or hold()
        return held

    return once


def attempt(step: Callable[[], int]) -> None:
    from likewise.base.errors import LeaseLost

    try:
        step()
    except LeaseLost:
        pass
