"""What answers are made of: database values as JSON can hold them, and headers."""

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from likewise.runtime.pending import Embedded
from likewise.runtime.sinks import Times
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
    sent = json.loads(encode.to_json(encode.numbers(column_major, "float")))
    assert sent == [[0, 1, 2], [3, 4, 5]]


def test_times_are_whole_milliseconds_and_add_up() -> None:
    times = Times(tokenise_s=0.0014, queue_s=0.02, compute_s=0.1)
    named = {"x-tokenization-time": "1", "x-queue-time": "20", "x-inference-time": "100"}
    assert encode.timing_headers(times) == {"x-total-time": "121", **named}
    assert encode.timing_headers(times, 0.5) == {"x-total-time": "500", **named}


def test_only_the_first_hundred_positions_are_named() -> None:
    assert encode.truncation_headers(()) == {}
    assert encode.truncation_headers((2, 5)) == {
        "x-likewise-truncated": "2,5",
        "x-likewise-truncated-count": "2",
    }
    many = encode.truncation_headers(range(150))
    assert many["x-likewise-truncated"].split(",")[-1] == "99"
    assert many["x-likewise-truncated-count"] == "150"


def test_headers_are_both() -> None:
    found = Embedded(np.zeros((1, 2), np.float32), (3,), (0,), Times(compute_s=0.002))
    got = encode.headers(found)
    assert got["x-likewise-truncated"] == "0"
    assert got["x-inference-time"] == got["x-total-time"] == "2"
