"""Pairing texts with texts, and two pieces of work awaited as one."""

from concurrent.futures import CancelledError, Future

import pytest
from hypothesis import given
from hypothesis import strategies as st

from likewise.base.errors import EngineError, InputError
from likewise.server.dialects.scoring import joined, paired

SIDES = st.lists(st.text(), max_size=6)


@given(SIDES, SIDES)
def test_pairs(first: list[str], second: list[str]) -> None:
    if not first or not second or len(first) not in (1, len(second)):
        with pytest.raises(InputError):
            paired(first, second)
        return
    found = paired(first, second)
    assert [pair[1] for pair in found] == second
    assert [pair[0] for pair in found] == (first * len(second) if len(first) == 1 else first)


def parts() -> tuple[Future[int], Future[int]]:
    return Future(), Future()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_both_results_when_both_are_there(order: tuple[int, int]) -> None:
    both = parts()
    whole = joined(*both)
    for at in order:
        assert not whole.done()
        both[at].set_result(at)
    assert whole.result(0) == (0, 1)


def test_one_failure_ends_it_and_cancels_the_other() -> None:
    first, second = parts()
    whole = joined(first, second)
    second.set_exception(EngineError("broken"))
    with pytest.raises(EngineError):
        whole.result(0)
    assert first.cancelled()


def test_giving_up_cancels_both() -> None:
    first, second = parts()
    whole = joined(first, second)
    assert whole.cancel()
    assert first.cancelled() and second.cancelled()


def test_a_part_that_was_cancelled_cancels_the_whole() -> None:
    first, second = parts()
    whole = joined(first, second)
    first.cancel()
    with pytest.raises(CancelledError):
        whole.result(0)
    assert second.cancelled()
