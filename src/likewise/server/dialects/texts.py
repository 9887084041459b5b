"""Texts as clients write them, bare, in objects or in parts; what isn't text is refused by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from likewise.base.errors import InputError

Written = str | dict[str, Any]
"""A text, `{"text": ...}`, or `{"content": ...}` with a text or one part of type `text`."""

INFINITY_DEFAULT = "default/not-specified"
"""What infinity's client sends where no model was named."""


def model_named(name: str | None) -> str | None:
    """The model that was asked for, None where the client only says that none was."""
    return None if name in ("", INFINITY_DEFAULT) else name


def text_of(given: Written, where: str, param: str) -> str:
    """The text of `given`, which the request has at `where`, in the field `param`.

    Raises:
        InputError: there is none, there are several, or there is something else beside it.
    """
    if isinstance(given, str):
        return given
    for key in ("text", "content"):
        if isinstance(text := given.get(key), str):
            return text
    if isinstance(parts := given.get("content"), list):
        return _only_text(parts, f"{where}.content", param)
    raise InputError(
        f"{where} has no text, only {', '.join(map(repr, given)) or 'nothing'}; send a string or "
        '{"text": "..."}',
        param=param,
    )


def _only_text(parts: Sequence[Any], where: str, param: str) -> str:
    kinds = [str(part.get("type")) if isinstance(part, Mapping) else "?" for part in parts]
    if other := sorted({*kinds} - {"text"}):
        raise InputError(
            f"{where} has a part of type {', '.join(other)}; only text is read here", param=param
        )
    if len(parts) != 1 or not isinstance(parts[0].get("text"), str):
        raise InputError(f"{where} has {len(parts)} parts; send one, with its 'text'", param=param)
    return str(parts[0]["text"])
