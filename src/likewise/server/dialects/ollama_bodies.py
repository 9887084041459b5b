"""Bodies of Ollama's dialect, read as Go reads JSON where that costs nothing.

Names of fields count in any case of letters, bytes and escapes that are no character become U+FFFD,
and what stands behind the object is left out. What was changed is said in a header; a server that
was started with `--strict` refuses it. A name that stands twice is refused, as everywhere.
"""

from __future__ import annotations

import codecs
import itertools
import re
from typing import TYPE_CHECKING, TypeVar

import msgspec

from likewise.base.errors import InputError
from likewise.base.names import nearest
from likewise.server import body, lenient, notices

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request

T = TypeVar("T", bound=msgspec.Struct)

_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_JSON = msgspec.json.Encoder()
_TRAILING = re.compile(r"trailing characters \(byte (\d+)\)")
_ESCAPED = re.compile(rb"[0-9a-fA-F]{4}")
_BLOCK = 1 << 16
"""Bytes that are gone over in one go; between two of them other threads have their turn."""
_MOST_SLASHES = 1_000
_MOST_ESCAPES = 10_000
"""Halves of surrogate pairs that are looked at one by one; a body with more stays as it is."""
_TEXTS = (
    "prompt", "input", "inputs", "text", "texts", "content", "contents", "query", "queries",
    "sentence", "sentences", "document", "documents", "messages",
)  # fmt: skip
"""What other servers call the field of the texts."""


async def read(request: Request, decoder: msgspec.json.Decoder[T]) -> T:
    """The body as the decoder's type.

    Raises:
        InputError: there is none, it isn't JSON, or not of the shape.
        HTTPException: it is too large, or came too slowly.
    """
    raw = await body.read(request, request.app.state.max_body_bytes)
    if not raw.strip():
        raise InputError("missing request body")
    fields: tuple[str, ...] = decoder.type.__struct_fields__
    try:
        return body.decode(raw, decoder, fields)
    except InputError as wrong:
        if getattr(request.app.state, "strict", False):
            raise
        rest = _TRAILING.search(str(wrong))
    if rest:
        notices.warn(request, "what stands behind the JSON object was ignored")
        raw = raw[: int(rest[1]) - 1]
    tidied = _in_characters(raw)
    if tidied != raw:
        notices.warn(request, "bytes or escapes that are no character were read as U+FFFD")
    return lenient.decode(request, _in_lower_case(tidied, fields), decoder)


def require_texts(request: Request, field: str, given: object) -> None:
    """Refuse a request whose texts stand in a field that isn't read.

    Without texts a request only loads the model, so that a program would go on without vectors.

    Raises:
        InputError: `given`, the value of `field`, is nothing, and another field looks like it.
    """
    if given is not None:
        return
    for name in notices.names_ignored(request):
        if name in _TEXTS or nearest(name, [field]):
            raise InputError(
                f"invalid input type: unknown field {name!r} (did you mean {field!r}?); without "
                f"{field!r} a request only loads the model",
                param=name,
            )


def _in_characters(raw: bytes) -> bytes:
    """`raw` in UTF-8, with U+FFFD for what is no character."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    parts = [decoder.decode(raw[at : at + _BLOCK]).encode() for at in range(0, len(raw), _BLOCK)]
    tidied = b"".join([*parts, decoder.decode(b"", final=True).encode()])
    halves = _lone_halves(tidied)
    if not halves:
        return tidied
    pieces = [tidied[before + 6 : at] for before, at in itertools.pairwise([-6, *halves])]
    return rb"\ufffd".join([*pieces, tidied[halves[-1] + 6 :]])


def _lone_halves(raw: bytes) -> list[int]:
    """Where escapes of six bytes begin that are half of a surrogate pair, with no other half."""
    found: dict[int, bool] = {}
    for begin in (rb"\ud", rb"\uD"):
        for at in _places(raw, begin):
            unit = _ESCAPED.match(raw, at + 2)
            if unit is not None and int(unit[0], 16) >= 0xD800 and _is_escape(raw, at):
                found[at] = int(unit[0], 16) < 0xDC00
        if len(found) >= _MOST_ESCAPES:
            return []
    lone: list[int] = []
    paired = -1
    for at in sorted(found):
        is_first = found[at]
        if is_first and found.get(at + 6) is False:
            paired = at + 6
        elif at != paired:
            lone.append(at)
    return lone


def _places(raw: bytes, begin: bytes) -> Iterator[int]:
    """Where `begin` stands, at most so often as is looked at."""
    at, count = 0, 0
    while at < len(raw) and count < _MOST_ESCAPES:
        found = raw.find(begin, at, at + _BLOCK)
        if found >= 0:
            yield found
            count += 1
        at = found + len(begin) if found >= 0 else at + _BLOCK - len(begin) + 1


def _is_escape(raw: bytes, at: int) -> bool:
    """Whether the backslash at `at` isn't itself escaped by one before it.

    Not told where more stand in a row than anybody writes.
    """
    run = raw[max(0, at - _MOST_SLASHES) : at]
    count = len(run) - len(run.rstrip(b"\\"))
    return count < _MOST_SLASHES and count % 2 == 0


def _in_lower_case(raw: bytes, fields: tuple[str, ...]) -> bytes:
    try:
        given = _OBJECT.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return raw  # whoever reads it next says what is wrong
    names = {name: _own_name(name, fields) for name in given}
    if all(name == own for name, own in names.items()):
        return raw
    body.refuse_twice(raw, fields)  # `given` holds only the last of them
    pairs = (_JSON.encode(names[name]) + b":" + bytes(value) for name, value in given.items())
    return b"{%s}" % b",".join(pairs)


def _own_name(name: str, fields: tuple[str, ...]) -> str:
    if name in fields:
        return name
    return next((field for field in fields if field == name.lower()), name)
