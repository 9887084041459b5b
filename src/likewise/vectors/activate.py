"""Activations of scores, number by number, as torch computes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from likewise.base.types import Vectors


def sigmoid(x: Vectors) -> Vectors:
    """1 / (1 + exp -x), without overflow at either end."""
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1, small) / (1 + small), np.float32)


def softmax(x: Vectors) -> Vectors:
    """Shares of the sum of exp x over the last axis, without overflow."""
    wide = x.astype(np.float64)
    grown = np.exp(wide - wide.max(axis=-1, keepdims=True))
    return np.asarray(grown / grown.sum(axis=-1, keepdims=True), np.float32)


ACTIVATIONS: Mapping[str, Callable[[Vectors], Vectors]] = {
    "identity": lambda x: x,
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, np.float32(0)),
}
"""Those that scores may have; each takes and gives float32 of any shape."""
