"""Request bodies: read up to a limit, decoded into a declared shape, refused in plain words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

import msgspec
from starlette.exceptions import HTTPException

from likewise.base.errors import InputError
from likewise.base.names import nearest

if TYPE_CHECKING:
    from starlette.requests import Request

MAX_BODY_BYTES = 32 * 1024 * 1024

T = TypeVar("T", bound=msgspec.Struct)

_UNKNOWN = re.compile(r"unknown field `(?P<name>.*)`", re.DOTALL)
_MISSING = re.compile(r"missing required field `(?P<name>[^`]*)`")
_WHERE = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")


async def read(request: Request, limit: int) -> bytes:
    """The whole body.

    Raises:
        HTTPException: 413, it is longer than `limit` bytes.
    """
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def decode(body: bytes, decoder: msgspec.json.Decoder[T], fields: tuple[str, ...]) -> T:
    """`body` as the decoder's type; `fields` are the names that a mistyped one is compared with.

    Raises:
        InputError: not UTF-8, not JSON, or not of the shape.
    """
    if not body.strip():
        raise InputError("the body is empty; a JSON object is expected")
    try:
        body.decode()
    except UnicodeDecodeError as wrong:
        raise InputError(f"the body isn't valid UTF-8 (byte {wrong.start})") from wrong
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as wrong:
        raise explained(str(wrong), fields) from wrong
    except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
        raise InputError(f"the body isn't valid JSON: {wrong}") from wrong


def explained(message: str, fields: tuple[str, ...]) -> InputError:
    """Msgspec's message in our words, naming the field."""
    where = _WHERE.search(message)
    path = where["path"] if where else ""
    if unknown := _UNKNOWN.search(_WHERE.sub("", message)):
        name = unknown["name"]
        if path:
            return InputError(f"{path}: unknown field {name!r}", param=f"{path}.{name}")
        known = ", ".join(fields)
        return InputError(
            f"unknown field {name!r}{nearest(name, fields)}; known: {known}", param=name
        )
    if missing := _MISSING.search(message):
        return InputError(f"the field {missing['name']!r} is missing", param=missing["name"])
    text = _WHERE.sub("", message).replace("`", "")
    text = text[:1].lower() + text[1:]
    return InputError(f"{path}: {text}" if path else text, param=path or None)


def _too_large(limit: int) -> HTTPException:
    shown = f"{limit // 2**20} MiB" if limit >= 2**20 else f"{limit} bytes"
    return HTTPException(413, f"the body is larger than {shown}; send fewer inputs at a time")
