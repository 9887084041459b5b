"""Many values as one parameter: the binary form of Postgres's arrays of plain types.

The driver writes an array as text, value by value, which took longer than most statements.
"""

from __future__ import annotations

import array
from collections.abc import Sequence
from itertools import chain
from struct import Struct
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import psycopg
    from psycopg import DataError
    from psycopg.abc import Buffer
    from psycopg.adapt import Dumper

    Connection = psycopg.Connection[Any]
else:
    try:
        from psycopg import DataError
        from psycopg.adapt import Dumper
    except ImportError:  # said when a database is opened
        DataError = Dumper = object

_BINARY = 1
_TYPES = {"int": 23, "bigint": 20, "double precision": 701, "text": 25, "bytea": 17}
"""What their elements are called in Postgres's catalog (src/include/catalog/pg_type.dat)."""
_NUMBERS = {"int": ("i", ">i4"), "bigint": ("q", ">i8"), "double precision": ("d", ">f8")}
"""As `array` checks them, and as they cross."""
_EMPTY, _HEAD, _LENGTH = Struct(">iiI"), Struct(">iiIii"), Struct(">i")
_NULL = _LENGTH.pack(-1)


class Array:
    """Values on their way, as a parameter `%s::{kind}[]`; None is NULL."""

    def __init__(self, kind: str, values: Sequence[Any]) -> None:
        self.kind, self.values = kind, values

    def to_bytes(self) -> bytes:
        """As `array_recv` reads it (src/backend/utils/adt/arrayfuncs.c).

        dimensions of the array, whether it holds NULLs, type of its elements, length, first index;
        then of each element its size, or -1, and its bytes: numbers big-endian.

        Raises:
            DataError: a value isn't of that kind, a number is too large for it, or a text holds NUL
                or a lone surrogate.
        """
        values, kind = self.values, self.kind
        if not values:
            return _EMPTY.pack(0, 0, _TYPES[kind])
        try:
            body = _numbers(kind, values) if kind in _NUMBERS else _sized(kind, values)
        except (OverflowError, TypeError, AttributeError, UnicodeEncodeError) as wrong:
            raise DataError(f"a value that is no {kind} for Postgres: {wrong}") from wrong
        return _HEAD.pack(1, int(None in values), _TYPES[kind], len(values), 1) + body


def _numbers(kind: str, values: Sequence[Any]) -> bytes:
    code, crossing = _NUMBERS[kind]
    checked = array.array(code, [each for each in values if each is not None])
    number = np.dtype(crossing)
    made = np.empty(len(checked), dtype=[("size", ">i4"), ("number", number)])
    made["size"], made["number"] = number.itemsize, checked
    body = made.tobytes()
    if len(checked) == len(values):
        return body
    left = (body[at : at + made.itemsize] for at in range(0, len(body), made.itemsize))
    return b"".join(_NULL if each is None else next(left) for each in values)


def _sized(kind: str, values: Sequence[Any]) -> bytes:
    if kind == "text":
        values = [None if each is None else each.encode("utf-8") for each in values]
        if any(each is not None and b"\0" in each for each in values):
            raise TypeError("a text holds NUL")
    return b"".join(
        chain.from_iterable(
            (_NULL, b"") if each is None else (_LENGTH.pack(len(each)), each) for each in values
        )
    )


class BinaryDumper(Dumper):
    """For a parameter that writes itself, by `to_bytes`, in the binary form of its type."""

    format: Any = _BINARY

    def dump(self, obj: Any) -> Buffer | None:
        """As it crosses."""
        made: bytes = obj.to_bytes()
        return made


def register(db: Connection) -> None:
    """Let `db` take an `Array` as a parameter."""
    db.adapters.register_dumper(Array, BinaryDumper)
