"""The k highest scores, in an order that never depends on chance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


def top_k(scores: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.intp]:
    """Positions of the `k` highest of `scores` (float [n]), best first; equal scores by position.

    Gives all of them when k >= n; none when k < 1.
    """
    count = len(scores)
    if k < 1 or count == 0:
        return np.empty(0, dtype=np.intp)
    if k < count:
        # All that reach the k-th score are kept, so that equal scores at the edge are decided by
        # position and not by argpartition's inner order.
        edge = np.partition(scores, count - k)[count - k]
        kept = np.flatnonzero(scores >= edge)
    else:
        kept = np.arange(count)
    order = np.lexsort((kept, -scores[kept]))
    return kept[order][:k]
