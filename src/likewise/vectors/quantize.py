"""Vectors in fewer bytes: integers of 8 bits, single bits, and floats of 16 bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from likewise.base.errors import InputError

if TYPE_CHECKING:
    import numpy.typing as npt

    from likewise.base.types import Vectors

Quantised = Literal["int8", "uint8", "binary", "ubinary"]
FloatType = Literal["float32", "float16", "bfloat16"]
ByteOrder = Literal["little", "big"]

SCALE = 127
"""What 1 becomes: a number of a vector of length 1 is never larger."""


def int8(vectors: Vectors) -> npt.NDArray[np.int8]:
    """`round(127 v)`, half to even, as int8 [n, d]: -127 to 127, beyond which numbers are clipped.

    The scale is the same for all vectors, so that those of different requests can be compared.
    """
    return np.clip(np.rint(vectors * SCALE), -SCALE, SCALE).astype(np.int8)


def uint8(vectors: Vectors) -> npt.NDArray[np.uint8]:
    """`round(127 v) + 128` as uint8 [n, d]: 1 to 255, and 128 stands for 0."""
    return (int8(vectors).astype(np.int16) + 128).astype(np.uint8)


def ubinary(vectors: Vectors) -> npt.NDArray[np.uint8]:
    """A bit for each number, 1 where it is above 0, as uint8 [n, ceil(d / 8)].

    The first number is the highest bit of the first byte; what is left of the last byte is 0.
    """
    return np.packbits(vectors > 0, axis=-1)


def binary(vectors: Vectors) -> npt.NDArray[np.int8]:
    """`ubinary` minus 128, as int8."""
    return (ubinary(vectors).astype(np.int16) - 128).astype(np.int8)


QUANTISERS: dict[Quantised, Callable[[Vectors], npt.NDArray[Any]]] = {
    "int8": int8,
    "uint8": uint8,
    "binary": binary,
    "ubinary": ubinary,
}
"""Each kind of integers by the name that requests have for it."""


def as_bytes(
    vectors: Vectors, dtype: FloatType = "float32", order: ByteOrder = "little"
) -> npt.NDArray[np.uint8]:
    """The bytes of each row, uint8 [n, d * bytes of a number].

    Raises:
        InputError: a number is too large for float16.
    """
    if dtype == "bfloat16":
        numbers: npt.NDArray[Any] = _bfloat16(vectors)
    elif dtype == "float16":
        with np.errstate(over="ignore"):
            numbers = vectors.astype(np.float16)
        if not np.isfinite(numbers).all():
            raise InputError("a number is too large for float16", param="embed_dtype")
    else:
        numbers = np.asarray(vectors, np.float32)
    swapped = numbers.astype(numbers.dtype.newbyteorder("<" if order == "little" else ">"))
    return np.ascontiguousarray(swapped).view(np.uint8).reshape(len(vectors), -1)


def _bfloat16(vectors: Vectors) -> npt.NDArray[np.uint16]:
    """The upper half of each float32, rounded half to even, as its bits."""
    bits = np.ascontiguousarray(vectors, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
