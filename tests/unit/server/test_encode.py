"""What answers are made of: database values as JSON can hold them, and headers."""

import json
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
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


_ARRAYS = st.integers(0, 20).map(lambda n: np.arange(n * 3, dtype=np.float32).reshape(n, 3))
_ANSWERS = st.recursive(
    st.none() | st.integers(0, 9) | st.text(max_size=3) | st.floats(allow_nan=False) | _ARRAYS,
    lambda inner: (
        st.lists(inner, max_size=40) | st.dictionaries(st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=60,
)


@settings(deadline=None)
@given(answer=_ANSWERS)
def test_an_answer_in_parts_is_the_answer_at_once(answer: Any) -> None:
    whole = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode, "_AT_ONCE", 3)
        patch.setattr(encode, "_MOST_NUMBERS", 6)
        assert encode.to_json(answer) == whole


def test_what_has_no_json_is_refused_in_parts_too() -> None:
    for wrong in ({1: list(range(40))}, [object()] * 40, {"a": {"b": [{3: 1}] * 40}}):
        with pytest.raises(TypeError):
            encode.to_json(wrong)


def test_no_call_writes_more_than_some_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = []
    dumps = orjson.dumps

    def noted(value: Any, **how: Any) -> bytes:
        largest.append(dumps(value, **how))
        return largest[-1]

    monkeypatch.setattr(orjson, "dumps", noted)
    rows = np.ones((2048, 768), np.float32)
    for answer in (
        {"data": [{"embedding": row} for row in rows]},
        {"embeddings": {"float": list(rows)}},
        list(rows),
        [rows[:500], rows[500:900]],
        {"data": [{"data": rows}]},
    ):
        assert len(encode.to_json(answer)) > 900 * 768 * 3
    assert max(map(len, largest)) < 100_000


@given(groups=st.lists(st.lists(st.integers(0, 9) | st.text(max_size=3), max_size=4), max_size=5))
def test_a_list_written_in_groups_is_the_whole_list(groups: list[list[Any]]) -> None:
    whole = [item for group in groups for item in group]
    written = encode.Written.list_of(iter(groups))
    answer = encode.to_json({"a": [written, written], "b": written})
    assert orjson.loads(answer) == {"a": [whole, whole], "b": whole}
