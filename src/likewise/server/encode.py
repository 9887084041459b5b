"""Answers as bytes: vectors and database values as JSON, headers about how they were made."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import orjson

if TYPE_CHECKING:
    from likewise.base.types import Vectors
    from likewise.runtime.sinks import Times

Encoding = Literal["float", "base64"]

_LISTED_POSITIONS = 100
_AT_ONCE = 16
"""Items of a list that are written in one call, which holds the interpreter: vectors, mostly."""
_MOST_NUMBERS = 16_384
"""Numbers of an array that are written in one call: half a millisecond."""


@dataclass(frozen=True, slots=True)
class Written:
    """A value of an answer that is JSON already, as parts that follow one another."""

    parts: Sequence[bytes]

    @classmethod
    def list_of(cls, groups: Iterable[Sequence[object]]) -> Written:
        """The list of all items of `groups`, each of which is written as it comes."""
        parts = [b"["]
        for group in groups:
            if group:
                parts += (orjson.dumps(group)[1:-1], b",")
        return cls([*parts[:-1], b"]"] if len(parts) > 1 else [b"[]"])


class Found(Protocol):
    """What a model gave for a request, whatever it was asked for."""

    @property
    def truncated(self) -> Sequence[int]:
        """Positions of inputs that were cut."""
        ...

    @property
    def times(self) -> Times:
        """Where the time went."""
        ...


def headers(found: Found, total_s: float | None = None) -> dict[str, str]:
    """The headers that go with an answer: those about time, and about texts that were cut."""
    return truncation_headers(found.truncated) | timing_headers(found.times, total_s)


def truncation_headers(truncated: Sequence[int]) -> dict[str, str]:
    """Which inputs were cut: the first hundred positions, and how many there are; else nothing."""
    if not truncated:
        return {}
    return {
        "x-likewise-truncated": ",".join(str(int(at)) for at in truncated[:_LISTED_POSITIONS]),
        "x-likewise-truncated-count": str(len(truncated)),
    }


def timing_headers(times: Times, total_s: float | None = None) -> dict[str, str]:
    """Where the time went, in whole milliseconds, by the names that TEI has for it.

    Without `total_s` the total is the sum of the parts.
    """
    parts = (times.tokenise_s, times.queue_s, times.compute_s)
    named = {
        "x-total-time": sum(parts) if total_s is None else total_s,
        "x-tokenization-time": times.tokenise_s,
        "x-queue-time": times.queue_s,
        "x-inference-time": times.compute_s,
    }
    return {name: str(round(seconds * 1000)) for name, seconds in named.items()}


def numbers(rows: Sequence[Vectors] | Vectors, encoding: Encoding) -> list[Any]:
    """Each of `rows`, arrays of any shape, as numbers or as base64 of little-endian float32."""
    if encoding == "base64":
        little = (np.asarray(row, dtype="<f4").tobytes() for row in rows)
        return [base64.b64encode(row).decode("ascii") for row in little]
    return [np.ascontiguousarray(row, dtype=np.float32) for row in rows]


def to_json(body: object) -> bytes:
    """`body`, which may hold numpy arrays, as JSON.

    Long lists are written a few items at a time, between which other threads have their turn.
    """
    parts: list[bytes] = []
    _write(body, parts)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _write(value: Any, parts: list[bytes]) -> None:
    if isinstance(value, Written):
        parts += value.parts
    elif not _is_heavy(value):
        parts.append(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))
    elif isinstance(value, dict):
        before = b"{"
        for name, inner in value.items():
            # As the name in an object of its own: what isn't a name is refused as it would be.
            parts += (before, orjson.dumps({name: None})[1:-5])
            _write(inner, parts)
            before = b","
        parts.append(b"}")
    else:
        before = b"["
        for at in range(0, len(value), _AT_ONCE):
            some = value[at : at + _AT_ONCE]
            if any(map(_is_heavy, some)):
                for inner in some:
                    parts.append(before)
                    _write(inner, parts)
                    before = b","
            else:
                written = orjson.dumps(some, option=orjson.OPT_SERIALIZE_NUMPY)
                parts += (before, written[1:-1])
                before = b","
        parts.append(b"]")


def _is_heavy(value: Any) -> bool:
    """Whether there are so many items in it that they are written a few at a time."""
    if isinstance(value, Written):
        return True
    if isinstance(value, np.ndarray):
        return value.size > _MOST_NUMBERS and value.ndim > 0
    if isinstance(value, dict):
        return any(map(_is_heavy, value.values()))
    return isinstance(value, list | tuple) and (len(value) > _AT_ONCE or any(map(_is_heavy, value)))


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
