"""Bodies of Ollama's dialect, read as Go reads JSON where that costs nothing.

Names of fields count in any case of letters, bytes and escapes that are no character become U+FFFD,
and what stands behind the object is left out. What was changed is said in a header; a server that
was started with `--strict` refuses it. A name that stands twice is refused, as everywhere.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

import msgspec

from likewise.base.errors import InputError
from likewise.base.names import nearest
from likewise.server import body, lenient, notices

if TYPE_CHECKING:
    from starlette.requests import Request

T = TypeVar("T", bound=msgspec.Struct)

_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_JSON = msgspec.json.Encoder()
_TRAILING = re.compile(r"trailing characters \(byte (\d+)\)")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(?P<half>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
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
    except InputError:
        if getattr(request.app.state, "strict", False):
            raise
    return lenient.decode(request, _tidied(request, raw, fields), decoder)


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


def _tidied(request: Request, raw: bytes, fields: tuple[str, ...]) -> bytes:
    """The body in plain JSON, with the fields' own names."""
    tidied = _in_characters(request, raw)
    tidied = _without_rest(request, tidied)
    return _in_lower_case(tidied, fields)


def _in_characters(request: Request, raw: bytes) -> bytes:
    tidied = raw
    try:
        raw.decode()
    except UnicodeDecodeError:
        tidied = raw.decode(errors="replace").encode()
    if _SURROGATE.search(tidied):
        tidied = _ESCAPE.sub(
            lambda found: rb"\ufffd" if found["half"] is not None else found[0], tidied
        )
    if tidied is not raw and tidied != raw:
        notices.warn(request, "bytes or escapes that are no character were read as U+FFFD")
    return tidied


def _without_rest(request: Request, raw: bytes) -> bytes:
    try:
        msgspec.json.decode(raw, type=msgspec.Raw)
    except msgspec.DecodeError as wrong:
        if found := _TRAILING.search(str(wrong)):
            notices.warn(request, "what stands behind the JSON object was ignored")
            return raw[: int(found[1]) - 1]
    except RecursionError:
        pass  # whoever reads it next says so
    return raw


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
