"""Vectors of length 1 in fewer bits: int8, uint8, and one bit a number, packed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from likewise.base.types import Vectors

_LARGEST = 127


def int8(vectors: Vectors) -> npt.NDArray[np.int8]:
    """Each number times 127, rounded, in -127 to 127."""
    return np.clip(np.rint(vectors * _LARGEST), -_LARGEST, _LARGEST).astype(np.int8)


def uint8(vectors: Vectors) -> npt.NDArray[np.uint8]:
    """As `int8`, plus 128: 1 to 255."""
    return (int8(vectors).astype(np.int16) + 128).astype(np.uint8)


def ubinary(vectors: Vectors) -> npt.NDArray[np.uint8]:
    """A bit for each number, 1 where it is above 0, the first the highest of its byte.

    A width that isn't a multiple of 8 is filled up with zeros.
    """
    return np.packbits(vectors > 0, axis=-1)


def binary(vectors: Vectors) -> npt.NDArray[np.int8]:
    """As `ubinary`, each byte less 128."""
    return (ubinary(vectors).astype(np.int16) - 128).astype(np.int8)
