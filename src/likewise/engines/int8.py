"""The profile `small` on OpenVINO: matrices and tables in int8, a scale for each few numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from likewise.engines.openvino_ops import OpenVinoOps
from likewise.engines.quiet import opset, ov

if TYPE_CHECKING:
    import numpy.typing as npt

    from likewise.base.types import Vectors

    Bytes = npt.NDArray[np.int8]

GROUP = 64
"""Neighbouring weights of a row that share a scale; as many activations do, where the CPU computes
products in int8. A scale a row would be worst: cosine 0.9959 to float32 instead of 0.9992."""

_LARGEST = np.float32(127)
_SMALLEST_SIZE = 1 << 14
"""Numbers below which a matrix stays float32: there is nothing to save."""
_BLOCK = 1 << 20
"""Numbers turned at a time, so that no second copy of a large matrix is ever held."""


def _in_memory(shape: tuple[int, ...]) -> Bytes:
    return np.empty(shape, np.int8)


class Int8Ops(OpenVinoOps):
    """Writes the same graph over int8 weights.

    The scale comes after the conversion to float32, where the CPU plugin looks for compressed
    weights: it keeps the int8 and multiplies inside the product.
    """

    def embedding(self, table: str, indices: Any) -> Any:
        """Rows of a weight."""
        matrix = self._weights[table]
        if matrix.size < _SMALLEST_SIZE:
            return super().embedding(table, indices)
        values, scales = self._once(("int8", table), lambda: self._quantised([matrix]))
        zero = opset.constant(np.int32(0))
        rows = opset.convert(opset.gather(values, indices, zero), np.float32)
        rows = opset.multiply(rows, opset.gather(scales, indices, zero))
        return opset.reshape(rows, opset.constant([-1, matrix.shape[1]], np.int32), False)

    def _matrix(self, parts: Sequence[Vectors], *, key: str | None = None) -> Any:
        if sum(part.size for part in parts) < _SMALLEST_SIZE:
            return super()._matrix(parts, key=key)
        if key is None:
            values, scales = self._quantised(parts)
        else:
            values, scales = self._once(("int8", key), lambda: self._quantised(parts))
        unpacked = opset.multiply(opset.convert(values, np.float32), scales)
        return opset.reshape(unpacked, opset.constant([0, -1], np.int32), True)

    def _products(self, x: Any, names: Sequence[str]) -> Any:
        matrix = self._matrix([self._weights[name] for name in names], key=" ".join(names))
        return opset.matmul(x, matrix, False, True)

    def _upright(self, x: Any, matrix: Vectors, *, key: str) -> Any:
        # Scales go along what is added up, which must be the rows.
        turned = np.ascontiguousarray(matrix.T)
        return opset.matmul(x, self._matrix([turned], key=key), False, True)

    def _quantised(self, parts: Sequence[Vectors]) -> tuple[Any, Any]:
        values, scales = quantise(parts, self.spill.empty)
        self.release()
        return ov.op.Constant(values, shared_memory=True), ov.op.Constant(scales)


def quantise(
    parts: Sequence[Vectors], empty: Callable[[tuple[int, ...]], Bytes] = _in_memory
) -> tuple[Bytes, Vectors]:
    """Matrices one above the other, int8 [rows, groups, of], and scales [rows, groups, 1].

    Symmetric: a group's largest number becomes 127 or -127, and `values * scales` comes within half
    a scale of what was given. A group of zeros has a scale of 1. A row whose width isn't a multiple
    of `GROUP` is one group. The int8 go where `empty` finds room.
    """
    height, width = sum(len(part) for part in parts), parts[0].shape[1]
    groups = width // GROUP if width % GROUP == 0 else 1
    values = empty((height, groups, width // groups))
    scales = np.empty((height, groups, 1), np.float32)
    step, row = max(1, _BLOCK // width), 0
    for part in parts:
        for start in range(0, len(part), step):
            block = part[start : start + step].reshape(-1, groups, width // groups)
            end = row + len(block)
            scale = np.abs(block).max(axis=2, keepdims=True) / _LARGEST
            scale[scale == 0] = 1
            np.rint(block / scale, out=values[row:end], casting="unsafe")
            scales[row:end] = scale
            row = end
    return values, scales


def quantises_activations() -> bool:
    """Whether this CPU computes products with int8 activations, found by computing one.

    Where it can't (no VNNI), the plugin multiplies float32 activations by the unpacked weights,
    and the product is that of float32 but for its rounding.
    """
    pick = np.random.default_rng(0)
    x, matrix = (pick.normal(size=(rows, GROUP)).astype(np.float32) for rows in (8, 64))
    values, scales = (part[:, 0] for part in quantise([matrix]))
    feed = opset.parameter([-1, GROUP], np.float32)
    weight = opset.multiply(opset.convert(ov.op.Constant(values), np.float32), scales)
    graph = ov.Model([opset.matmul(feed, weight, False, True)], [feed])
    settings = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": GROUP}
    found = ov.Core().compile_model(graph, "CPU", settings)([x])[0]
    exact = x @ (values * scales).T
    return bool(np.abs(found - exact).max() > 1e-3 * np.abs(exact).max())
