"""Activations of scores, against numbers worked out by hand."""

import numpy as np

from likewise.vectors.activate import sigmoid, softmax


def test_softmax_shares_each_row_and_never_overflows() -> None:
    raw = np.array([[0, 1.0986123], [1000, 1000], [-1000, 1000]], np.float32)
    found = softmax(raw)
    expected = np.array([[0.25, 0.75], [0.5, 0.5], [0, 1]], np.float32)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.dtype == np.float32


def test_sigmoid_never_overflows() -> None:
    found = sigmoid(np.array([-1000, 0, 1000], np.float32))
    np.testing.assert_allclose(found, [0, 0.5, 1], atol=1e-6)
