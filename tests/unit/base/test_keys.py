"""Keys as text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from likewise.base.keys import key_of, key_text, part_of, part_text

PARTS = st.one_of(
    st.integers(), st.floats(allow_nan=False), st.text(st.characters(codec="utf-8")), st.binary()
)
KEYS = st.lists(PARTS, min_size=1, max_size=3).map(tuple)


def typed(key: tuple[object, ...]) -> list[tuple[type, object]]:
    return [(type(part), repr(part)) for part in key]


@given(KEYS)
def test_a_key_comes_back_as_it_was(key: tuple[int | float | str | bytes, ...]) -> None:
    assert typed(key_of(key_text(key))) == typed(key)
    assert typed(tuple(part_of(part_text(part)) for part in key)) == typed(key)


@given(KEYS, KEYS)
def test_different_keys_are_spelt_differently(
    one: tuple[int | float | str | bytes, ...], other: tuple[int | float | str | bytes, ...]
) -> None:
    assert (key_text(one) == key_text(other)) == (typed(one) == typed(other))
