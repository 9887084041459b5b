"""Length: normalising to 1, and cutting to fewer dimensions, which always renormalises."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from likewise.base.errors import DimensionsError

if TYPE_CHECKING:
    from likewise.base.types import Vectors

# As in torch.nn.functional.normalize: lengths below this count as this.
EPSILON = 1e-12


def normalise(vectors: Vectors) -> Vectors:
    """float32 [n, d] with rows of length 1; a row of zeros stays zeros."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, EPSILON), dtype=np.float32)


def truncate(vectors: Vectors, dimensions: int) -> Vectors:
    """The first `dimensions` numbers of each row, renormalised.

    Raises:
        DimensionsError: not between 1 and the width there is.
    """
    width = vectors.shape[-1]
    if not 1 <= dimensions <= width:
        raise DimensionsError(
            f"dimensions must be between 1 and {width}, not {dimensions}", param="dimensions"
        )
    return normalise(vectors[..., :dimensions])
