"""Answers as bytes: vectors as JSON numbers or base64 of little-endian float32."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import orjson

if TYPE_CHECKING:
    from likewise.base.types import Vectors

Encoding = Literal["float", "base64"]

_LISTED_POSITIONS = 100


def embeddings(vectors: Vectors, encoding: Encoding) -> list[dict[str, Any]]:
    """The `data` list of an OpenAI answer."""
    rows = numbers(vectors, encoding)
    return [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(rows)]


def numbers(rows: Sequence[Vectors] | Vectors, encoding: Encoding) -> list[Any]:
    """Each of `rows`, arrays of any shape, as numbers or as base64 of little-endian float32."""
    if encoding == "base64":
        little = (np.asarray(row, dtype="<f4").tobytes() for row in rows)
        return [base64.b64encode(row).decode("ascii") for row in little]
    return [np.ascontiguousarray(row, dtype=np.float32) for row in rows]


def truncation_headers(cut: Sequence[int]) -> dict[str, str]:
    """The headers that name the inputs that were cut, the first 100 of them; none if none was."""
    if not cut:
        return {}
    return {
        "x-likewise-truncated": ",".join(map(str, cut[:_LISTED_POSITIONS])),
        "x-likewise-truncated-count": str(len(cut)),
    }


def to_json(body: object) -> bytes:
    """`body`, which may hold numpy arrays, as JSON."""
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


def shown(values: Mapping[str, object]) -> dict[str, object]:
    """A row's values as JSON can hold them: bytes become `{"base64": ...}`, NaN and Inf strings."""
    return {name: shown_value(value) for name, value in values.items()}


def shown_value(value: object) -> object:
    """One database value as JSON can hold it."""
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode("ascii")}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int) and not -(2**53) < value < 2**53:
        # JavaScript, and with it the page, would round it.
        return str(value)
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode() if _has_surrogate(value) else value
    return value


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= c <= "\udfff" for c in text) if not text.isascii() else False
