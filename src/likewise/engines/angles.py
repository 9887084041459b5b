"""Tables of what depends on places alone: the turns of rotary heads, biases by distance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from likewise.base.types import Vectors
    from likewise.nets.ops import Relative, Rotary


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
