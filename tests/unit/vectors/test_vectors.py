"""Stored bytes, length and top-k: checked against the plainest way to say the same."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from likewise.base.errors import DimensionsError
from likewise.vectors.activate import softmax
from likewise.vectors.codec import decode, encode
from likewise.vectors.norm import normalise, truncate
from likewise.vectors.topk import top_k

MATRICES = hnp.arrays(
    np.float32,
    st.tuples(st.integers(0, 6), st.integers(1, 9)),
    elements=st.floats(-1e3, 1e3, width=32),
)


@given(MATRICES)
def test_codec_round_trip(vectors: np.ndarray) -> None:
    blobs = encode(vectors)
    assert [struct.unpack(f"<{vectors.shape[1]}f", b) for b in blobs] == [
        tuple(row) for row in vectors.tolist()
    ]
    np.testing.assert_array_equal(decode(blobs, vectors.shape[1]), vectors)


def test_a_vector_of_another_width_is_refused() -> None:
    with pytest.raises(DimensionsError, match="8 bytes, not the 12"):
        decode([b"\0" * 8], 3)


@given(MATRICES)
def test_normalise(vectors: np.ndarray) -> None:
    lengths = np.linalg.norm(normalise(vectors), axis=1)
    for before, after in zip(np.linalg.norm(vectors, axis=1), lengths, strict=True):
        assert after == pytest.approx(1, abs=1e-4) if before > 1e-6 else after <= 1.001


def test_truncate_renormalises_and_checks() -> None:
    cut = truncate(np.array([[3.0, 4.0, 12.0]], dtype=np.float32), 2)
    np.testing.assert_allclose(cut, [[0.6, 0.8]], rtol=1e-6)
    for wrong in (0, 4):
        with pytest.raises(DimensionsError):
            truncate(np.ones((1, 3), dtype=np.float32), wrong)


@given(st.lists(st.integers(-3, 3), max_size=40), st.integers(-1, 45))
def test_top_k_is_a_stable_sort(scores: list[int], k: int) -> None:
    expected = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[: max(k, 0)]
    assert top_k(np.array(scores, dtype=np.float32), k).tolist() == expected


@given(hnp.arrays(np.float32, (3, 4), elements=st.floats(-80, 80, width=32)))
def test_softmax(scores: np.ndarray) -> None:
    exact = np.exp(scores.astype(np.float64))
    np.testing.assert_allclose(
        softmax(scores), exact / exact.sum(axis=-1, keepdims=True), rtol=1e-4, atol=1e-30
    )


def test_softmax_of_large_numbers() -> None:
    found = softmax(np.array([[3e38, 3e38, -3e38]], np.float32))
    assert found.tolist() == [[0.5, 0.5, 0.0]]
