"""Tables of what depends on places alone: the turns of rotary heads, biases by distance."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from likewise.base.types import Vectors
    from likewise.nets.ops import Disentangled, Relative, Rotary


def turns(rotary: Rotary, places: int) -> tuple[Vectors, Vectors]:
    """Cosine and sine for places 0 to `places` - 1, each float32 [places, 2 x frequencies].

    Column i belongs to number i of the head (RoFormer, https://arxiv.org/abs/2104.09864, eq. 34).
    """
    angles = np.outer(np.arange(places, dtype=np.float64), np.array(rotary.frequencies))
    if rotary.interleaved:
        wide = np.repeat(angles, 2, axis=1)
    else:
        wide = np.concatenate([angles, angles], axis=1)
    cos, sin = np.cos(wide) * rotary.scale, np.sin(wide) * rotary.scale
    return cos.astype(np.float32), sin.astype(np.float32)


def relative_bias(bias: Relative, table: Vectors, longest: int) -> Vectors:
    """The learned number for each head and distance: float32 [heads, 2 x longest - 1].

    Column `longest - 1 + d` is for a key `d` places after its query. Buckets as in T5
    (https://arxiv.org/abs/1910.10683, section 2.1): half of them for each direction, the nearer
    half of those one distance each, the others logarithmic up to `furthest`.
    """
    after = np.arange(-(longest - 1), longest)
    side = bias.buckets // 2
    exact = side // 2
    far = np.abs(after)
    # float32, as in torch: at the edge of a bucket the rounding decides.
    steps = np.log(np.maximum(far, 1).astype(np.float32) / np.float32(exact))
    steps = steps / np.float32(np.log(bias.furthest / exact)) * np.float32(side - exact)
    beyond = np.minimum(exact + steps.astype(np.int64), side - 1)
    buckets = np.where(far < exact, far, beyond) + np.where(after > 0, side, 0)
    return np.ascontiguousarray(table[buckets].T.astype(np.float32))


def distance_rows(bias: Disentangled, longest: int) -> npt.NDArray[np.int32]:
    """The row of the table for each distance: int32 [2 x longest - 1].

    Number `longest - 1 + d` is for a key `d` places after its query.
    """
    before = -np.arange(-(longest - 1), longest)
    row = before
    if bias.furthest is not None:
        middle = bias.span // 2
        far = np.where(np.abs(before) < middle, middle - 1, np.abs(before)).astype(np.float32)
        # float32, as in torch: at the edge of a bucket the rounding decides.
        steps = np.log(far / np.float32(middle))
        steps = steps / np.log(np.float32((bias.furthest - 1) / middle)) * np.float32(middle - 1)
        row = (np.ceil(steps) + np.float32(middle)).astype(np.int64) * np.sign(before)
        row = np.where(far <= middle, before, row)
    return np.clip(row + bias.span, 0, 2 * bias.span - 1).astype(np.int32)


def distance_vectors(
    bias: Disentangled, layer: str, heads: int, weight: Callable[[str], Vectors]
) -> Vectors:
    """The vectors of all distances for each head: float32 [heads, 2 x span, width of a head].

    `layer` is what they are taken through; `weight` gives weights by name.
    """
    rows = weight(bias.table)[: 2 * bias.span].astype(np.float64)
    if bias.norm is not None:
        rows = rows - rows.mean(axis=1, keepdims=True)
        rows = rows / np.sqrt(np.square(rows).mean(axis=1, keepdims=True) + bias.epsilon)
        rows = rows * weight(f"{bias.norm}.weight") + weight(f"{bias.norm}.bias")
    taken = rows @ weight(f"{layer}.weight").T.astype(np.float64) + weight(f"{layer}.bias")
    apart = taken.reshape(len(rows), heads, -1).transpose(1, 0, 2)
    return np.ascontiguousarray(apart, dtype=np.float32)
