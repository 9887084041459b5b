"""Stored bytes of a vector: little-endian float32, nothing before or after (docs/format.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from likewise.base.errors import DimensionsError

if TYPE_CHECKING:
    from likewise.base.types import Vectors

BYTES_PER_NUMBER = 4


def encode(vectors: Vectors) -> list[bytes]:
    """One `bytes` of 4 x dimensions for each row of float32 [n, dimensions]."""
    block = np.ascontiguousarray(vectors, dtype="<f4")
    return [row.tobytes() for row in block]


def decode(blobs: Sequence[bytes], dimensions: int) -> Vectors:
    """float32 [len(blobs), dimensions].

    Raises:
        DimensionsError: a blob has another length.
    """
    width = dimensions * BYTES_PER_NUMBER
    for at, blob in enumerate(blobs):
        if len(blob) != width:
            raise DimensionsError(
                f"stored vector {at} has {len(blob)} bytes, not the {width} of {dimensions} numbers"
            )
    return np.frombuffer(b"".join(blobs), dtype="<f4").astype(np.float32).reshape(-1, dimensions)
