"""Batches hold every text once, within the budget, longest first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from likewise.runtime import pack

LENGTHS = st.lists(st.integers(1, 600), max_size=200)


@given(LENGTHS, st.integers(1, 1000), st.integers(1, 64))
def test_a_plan(lengths: list[int], budget: int, window: int) -> None:
    batches = pack.plan(lengths, budget=budget, window=window)
    flat = [index for batch in batches for index in batch]
    assert sorted(flat) == list(range(len(lengths))), "every text exactly once"
    for batch in batches:
        sizes = [lengths[index] for index in batch]
        assert len(batch) == 1 or sum(sizes) <= budget
        assert len(batch) == 1 or len(sizes) * max(sizes) <= pack.SPREAD * budget
    for start in range(0, len(lengths), window):
        block = flat[start : start + window]
        assert set(block) == set(range(start, min(start + window, len(lengths))))
        assert [lengths[i] for i in block] == sorted((lengths[i] for i in block), reverse=True)


@given(LENGTHS, st.integers(1, 1000))
def test_a_batch_is_as_full_as_it_can_be(lengths: list[int], budget: int) -> None:
    lengths.sort(reverse=True)
    count = pack.fitting(lengths, budget)
    assert (count == 0) == (not lengths)
    if count < len(lengths):
        slots = (count + 1) * lengths[0]
        assert sum(lengths[: count + 1]) > budget or slots > pack.SPREAD * budget


@given(LENGTHS, st.integers(1, 1000), st.floats(0, 1))
def test_beyond_a_small_batch_a_rectangle_is_filled(
    lengths: list[int], budget: int, least_fill: float
) -> None:
    lengths.sort(reverse=True)
    for count, taken in (
        (pack.fitting(lengths, budget, least_fill), slice(None, None)),
        (pack.short(lengths, budget, least_fill), slice(None, None, -1)),
    ):
        chosen = lengths[taken][:count]
        assert (count == 0) == (not lengths)
        if count > 1:
            slots = count * max(chosen)
            assert sum(chosen) <= budget and slots <= pack.SPREAD * budget
            assert sum(chosen) <= pack.SMALLEST_SHARE or sum(chosen) >= least_fill * slots


def test_short_ones_by_hand() -> None:
    assert pack.short([300, 90, 40, 9, 5], 60) == 3
    assert pack.short([300, 90], 60) == 1, "a long one goes alone"
    assert pack.short([], 60) == 0
    assert pack.short([100, 100, 20, 20], 512, 0.75) == 2
    assert pack.fitting([100, 100, 20, 20], 512, 0.75) == 2
    assert pack.fitting([100, 100, 20, 20], 512) == 4


def test_by_hand() -> None:
    assert pack.plan([3, 9, 1, 4, 4], budget=8, window=4) == [[1], [3, 0, 2], [4]]
    assert pack.order([5, 7, 5]) == [1, 0, 2]
