"""How many rows a worker takes at a time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from likewise.binding.batches import BatchRows


def grown(speed: float, *, least: int = 128, most: int = 512, batches: int = 20) -> int:
    """Rows in a batch after some batches of a model that embeds `speed` rows a second."""
    size = BatchRows(least, most, seconds=1.5)
    for _ in range(batches):
        size.took(size.rows, size.rows / speed)
    return size.rows


@pytest.mark.parametrize(
    ("speed", "rows"), [(1, 128), (100, 128), (170, 128), (171, 256), (342, 512), (9999, 512)]
)
def test_it_grows_as_far_as_the_time_allows(speed: float, rows: int) -> None:
    assert grown(speed) == rows


def test_it_shrinks_again_when_the_model_becomes_slower() -> None:
    size = BatchRows(128, 512, seconds=1.5)
    for _ in range(3):
        size.took(size.rows, 0.1)
    assert size.rows == 512
    size.took(512, 1.6)
    assert size.rows == 256
    size.took(256, 60.0)
    size.took(128, 60.0)
    assert size.rows == 128


def test_a_few_rows_say_little_of_many() -> None:
    size = BatchRows(128, 512, seconds=1.5)
    size.took(0, 0.0)
    size.took(1, 0.1)
    assert size.rows == 128


@given(st.lists(st.tuples(st.integers(0, 600), st.floats(0, 100)), max_size=50))
def test_it_stays_within_its_bounds(took: list[tuple[int, float]]) -> None:
    size = BatchRows(100, 450, seconds=1.5)
    for rows, seconds in took:
        size.took(rows, seconds)
        assert 100 <= size.rows <= 450


def test_what_it_begins_with_is_never_undercut() -> None:
    assert BatchRows(600, 512, seconds=1.5).rows == 600
    assert grown(1, least=600) == grown(9999, least=600) == 600
