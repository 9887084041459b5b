"""Keys as text: one spelling a key, whatever the types of its parts, and back again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from likewise.base.types import Key, KeyPart


def key_text(key: Key) -> str:
    """A key as a JSON list; two keys have one spelling only if they are equal and of equal types.

    Numbers and strings stand as they are, a float that JSON has no number for and bytes in an
    object: `[1, "a", {"bytes": "00ff"}]`.
    """
    return json.dumps([_written(part) for part in key], ensure_ascii=False)


def key_of(text: str) -> Key:
    """The key that `key_text` wrote."""
    return tuple(_read(part) for part in json.loads(text))


def part_text(part: KeyPart) -> str:
    """One part of a key as JSON, for columns that hold parts of any type."""
    return json.dumps(_written(part), ensure_ascii=False)


def part_of(text: str) -> KeyPart:
    """The part that `part_text` wrote."""
    return _read(json.loads(text))


def _written(part: KeyPart) -> object:
    if isinstance(part, bytes):
        return {"bytes": part.hex()}
    if isinstance(part, float) and (part != part or part in (float("inf"), float("-inf"))):
        return {"real": repr(part)}
    return part


def _read(part: Any) -> KeyPart:
    if isinstance(part, dict):
        return bytes.fromhex(part["bytes"]) if "bytes" in part else float(part["real"])
    made: KeyPart = part
    return made
