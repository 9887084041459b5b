"""Keys on their way to Postgres and back: arrays of parts, a column each, by their kinds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from likewise.base.keys import part_of, part_text
from likewise.base.types import Key, KeyPart
from likewise.sql.postgres_arrays import Array

ARRAYS = {
    "int": "bigint[]",
    "real": "double precision[]",
    "text": "text[]",
    "bytes": "bytea[]",
}
"""In what arrays keys of a kind are carried; others as `text[]`."""
_PLAIN = frozenset(("int", "real", "text"))
"""Kinds that the driver gives as they are."""


def given(kinds: Sequence[str], *more: str) -> str:
    """Keys as parameters: `unnest(%s::bigint[], …) AS k(k1, …)`; see `arrays`.

    `more`: array types of further columns, which are called m1, m2 and so on; see `Array`.
    """
    types = [ARRAYS.get(kind, "text[]") for kind in kinds]
    marks = ", ".join(f"%s::{each}" for each in (*types, *more))
    names = [f"k{number}" for number in range(1, len(kinds) + 1)]
    names += [f"m{number}" for number in range(1, len(more) + 1)]
    return f"unnest({marks}) AS k({', '.join(names)})"


def arrays(keys: Sequence[Key], kinds: Sequence[str]) -> list[Array]:
    """The parameters of `given`: an array a column."""
    return [
        Array(one(kind), [carried(kind, key[place]) for key in keys])
        for place, kind in enumerate(kinds)
    ]


def carried(kind: str, part: KeyPart) -> KeyPart:
    """A part as it crosses."""
    return part_text(part) if kind == "any" else part


def back(kind: str, expression: str) -> str:
    """A carried part as the key column's own type."""
    if kind.startswith("cast:"):
        return f"{expression}::{kind.removeprefix('cast:').replace('%', '%%')}"
    return expression


def one(kind: str) -> str:
    """The type of a single part as a parameter."""
    return ARRAYS.get(kind, "text[]").removesuffix("[]")


def key_from(values: Sequence[Any], kinds: Sequence[str]) -> Key:
    """A key as the driver gave its parts."""
    if _PLAIN.issuperset(kinds):
        return tuple(values)
    return tuple(_part(kind, value) for kind, value in zip(kinds, values, strict=True))


def _part(kind: str, value: Any) -> KeyPart:
    if kind == "any":
        return part_of(value)
    made: KeyPart = bytes(value) if isinstance(value, memoryview) else value
    return made
