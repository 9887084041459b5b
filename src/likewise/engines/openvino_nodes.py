"""What a graph for OpenVINO is put together from: its inputs, its constants, small numbers."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from likewise.engines.openvino_weights import constant
from likewise.engines.quiet import opset

if TYPE_CHECKING:
    from likewise.base.types import Vectors
    from likewise.engines.spread import Entry
    from likewise.models.weights import Weights

T = TypeVar("T")

MASKED = np.float32(-1e9)
"""Far below any score, and still finite in every precision."""


class Nodes:
    """A graph being written; `inputs` are those it came to need, in order."""

    def __init__(self, weights: Weights, *, longest: int) -> None:
        """Read constants from `weights`; no text has more than `longest` tokens, rounded up."""
        self._weights = weights
        self._longest = longest
        self._made: dict[Hashable, Any] = {}
        self.inputs: dict[Entry, Any] = {}

    def release(self) -> None:
        """Let the pages of weights go that were read; they come back when they are read again."""
        self._weights.release()

    def rms_norm(self, x: Any, name: str, *, epsilon: float, offset: float = 0.0) -> Any:
        """Divided by the root mean square, scaled."""
        mean = opset.reduce_mean(opset.multiply(x, x), ints(-1), True)
        y = opset.multiply(x, opset.divide(float_(1), opset.sqrt(opset.add(mean, float_(epsilon)))))
        weight = self._weights[f"{name}.weight"]
        return opset.multiply(y, self._constant(weight + np.float32(offset) if offset else weight))

    def _upright(self, x: Any, matrix: Vectors, *, key: str) -> Any:
        """Products with the columns of `matrix` [width of `x`, outputs]; `key` names it."""
        del key
        return opset.matmul(x, self._constant(matrix), False, False)

    def _matrix(self, parts: Sequence[Vectors], *, key: str | None = None) -> Any:
        """What multiplies: matrices one above the other; `key` names a table used elsewhere too."""
        del key
        return self._constant(joined(parts))

    def _constant(self, values: Vectors) -> Any:
        return constant(values)

    def _input(self, entry: Entry, shape: list[int], dtype: type) -> Any:
        if entry not in self.inputs:
            self.inputs[entry] = opset.parameter(shape, dtype, str(entry))
        return self.inputs[entry]

    def _indices(self, entry: Entry, rank: int = 1) -> Any:
        return self._input(entry, [-1] * rank, np.int32)

    def _once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What every layer shares is made when the first one asks."""
        if key not in self._made:
            self._made[key] = make()
        made: T = self._made[key]
        return made


def joined(parts: Sequence[Vectors]) -> Vectors:
    """Matrices one above the other."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def int_(value: int) -> Any:
    """A whole number."""
    return opset.constant(np.int32(value))


def ints(*values: int) -> Any:
    """Whole numbers."""
    return opset.constant(np.array(values, np.int32))


def float_(value: float | np.float32) -> Any:
    """A number."""
    return opset.constant(np.float32(value))
