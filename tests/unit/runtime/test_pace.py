"""Bulk batches shrink while queries come in, to what the measured speed allows."""

from __future__ import annotations

import pytest

from likewise.runtime.pace import (
    HOLD_UP_SECONDS,
    QUIET_AFTER_SECONDS,
    QUIET_BUDGET,
    SMALLEST_BUDGET,
    Pace,
)


class Hand:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_quiet_means_large() -> None:
    clock = Hand()
    pace = Pace(clock)
    pace.saw_batch(500, 1.0)
    assert pace.budget() == QUIET_BUDGET
    pace.saw_query()
    assert pace.budget() == SMALLEST_BUDGET
    clock.now += QUIET_AFTER_SECONDS + 0.1
    assert pace.budget() == QUIET_BUDGET


@pytest.mark.parametrize(
    ("tokens_per_second", "budget"),
    [(1_000, SMALLEST_BUDGET), (8_000, int(8_000 * HOLD_UP_SECONDS)), (1e6, QUIET_BUDGET)],
)
def test_the_budget_follows_the_measured_speed(tokens_per_second: float, budget: int) -> None:
    pace = Pace(Hand())
    pace.saw_query()
    for _ in range(50):
        pace.saw_batch(400, 400 / tokens_per_second)
        pace.saw_batch(5, 10.0)
    assert pace.budget() == pytest.approx(budget, abs=1)
