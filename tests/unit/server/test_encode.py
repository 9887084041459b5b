"""Database values as JSON can hold them."""

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from likewise.server import encode

VALUES = (
    st.none()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(st.characters())
    | st.binary()
)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), VALUES))
def test_every_database_value_can_be_sent(row: dict[str, object]) -> None:
    sent = json.loads(encode.to_json(encode.shown(row)))
    assert set(sent) == set(row)
    for name, value in row.items():
        if isinstance(value, int) and abs(value) < 2**53:
            assert sent[name] == value
        elif isinstance(value, int):
            assert sent[name] == str(value)
        elif isinstance(value, float) and np.isfinite(value):
            assert sent[name] == value
        elif isinstance(value, float):
            assert sent[name] in ("nan", "inf", "-inf")


def test_bytes_are_named_as_such() -> None:
    assert encode.shown_value(b"\x00\xff") == {"base64": "AP8="}


def test_text_that_isnt_unicode_is_shown_as_far_as_it_can_be() -> None:
    assert encode.shown_value("a\ud800b") == "a?b"


def test_vectors_of_another_layout_are_sent_right() -> None:
    column_major = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    sent = json.loads(encode.to_json(encode.embeddings(column_major, "float")))
    assert [each["embedding"] for each in sent] == [[0, 1, 2], [3, 4, 5]]
