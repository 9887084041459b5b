"""Request bodies: read up to a limit, decoded into a declared shape, refused in plain words."""

from __future__ import annotations

import asyncio
import functools
import json
import re
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from starlette.exceptions import HTTPException

from likewise.base.errors import BodyMalformed, InputError
from likewise.base.names import nearest
from likewise.server import scan

if TYPE_CHECKING:
    from starlette.requests import Request

MAX_BODY_BYTES = 32 * 1024 * 1024
TIMEOUT_S = 60.0
"""How long a body may take to come, where the server doesn't say."""

MAX_CONTAINERS = 100_000
"""Lists and objects in one body: empty ones take thirty times the memory of their two bytes."""

MAX_VALUES = 1_000_000
"""Values in one body, such as token ids: decoding so many holds up everybody for some 30 ms."""

T = TypeVar("T", bound=msgspec.Struct)


class ShapeError(InputError):
    """A body is JSON and hasn't the shape that is expected."""


_NAME = re.compile(rb'"([^"\\]*)"\s*:')
_SHORT = 4096
_UNKNOWN = re.compile(r"unknown field `(?P<name>.*)`", re.DOTALL)
_MISSING = re.compile(r"missing required field `(?P<name>[^`]*)`")
_WHERE = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")


async def read(request: Request, limit: int) -> bytes:
    """The whole body.

    Raises:
        HTTPException: 413, it is longer than `limit` bytes; 408, it didn't come in time.
    """
    seconds: float = getattr(request.app.state, "body_timeout_s", TIMEOUT_S)
    try:
        async with asyncio.timeout(seconds):
            return await _read(request, limit)
    except TimeoutError:
        message = f"the body didn't come within {seconds:g} s"
        raise HTTPException(408, message, {"connection": "close"}) from None


async def _read(request: Request, limit: int) -> bytes:
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


def decode(
    body: bytes,
    decoder: msgspec.json.Decoder[T],
    fields: tuple[str, ...],
    *,
    allows_twice: bool = False,
) -> T:
    """`body` as the decoder's type; `fields` are the names that a mistyped one is compared with.

    `allows_twice` is for a first look at a body that is decoded a second time.

    Raises:
        InputError: not UTF-8, not JSON, not of the shape, or a field is there twice.
    """
    if scan.is_blank(body):
        raise BodyMalformed("the body is empty; a JSON object is expected")
    wrong_at = scan.invalid_utf8_at(body)
    if wrong_at is not None:
        raise BodyMalformed(f"the body isn't valid UTF-8 (byte {wrong_at})")
    _refuse_many(body)
    try:
        decoded = decoder.decode(body)
        if not allows_twice:
            refuse_twice(body, fields)
    except msgspec.ValidationError as wrong:
        raise explained(str(wrong), fields) from wrong
    except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
        raise BodyMalformed(f"the body isn't valid JSON: {wrong}") from wrong
    except RecursionError:
        # Its traceback is as deep as the body.
        raise InputError("the body is nested too deeply") from None
    return decoded


def _refuse_many(body: bytes) -> None:
    """Refuse more lists and objects than any request has, before memory is taken for them."""
    if scan.count(body, b"[{", MAX_CONTAINERS) > MAX_CONTAINERS:
        raise InputError(f"the body has more than {MAX_CONTAINERS:,} lists and objects")
    if scan.count(body, b",", MAX_VALUES) > MAX_VALUES:
        raise InputError(
            f"the body has more than {MAX_VALUES:,} values; send fewer inputs at a time"
        )


def refuse_twice(
    body: bytes, fields: tuple[str, ...], *, exempt: frozenset[str] = frozenset()
) -> None:
    """Refuse a name that stands twice in an object: who looked at the first saw another request.

    Only bodies in which a name is seen twice are read a second time. Names in `exempt` are ignored
    and may stand twice.

    Raises:
        InputError: a name stands twice.
    """
    if len(body) <= _SHORT:
        names = _NAME.findall(body)
        is_suspect = len(names) != len(set(names))
    else:
        is_suspect = scan.has_twice(body, fields)
    if is_suspect:
        json.loads(body, object_pairs_hook=functools.partial(_once, exempt))


def _once(exempt: frozenset[str], pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen and name not in exempt:
            raise InputError(f"the field {name!r} is there twice", param=name)
        seen.add(name)


def explained(message: str, fields: tuple[str, ...]) -> ShapeError:
    """Msgspec's message in our words, naming the field."""
    where = _WHERE.search(message)
    path = where["path"] if where else ""
    if unknown := _UNKNOWN.search(_WHERE.sub("", message)):
        name = unknown["name"]
        if path:
            return ShapeError(f"{path}: unknown field {name!r}", param=f"{path}.{name}")
        known = ", ".join(fields)
        return ShapeError(
            f"unknown field {name!r}{nearest(name, fields)}; known: {known}", param=name
        )
    if missing := _MISSING.search(message):
        return ShapeError(f"the field {missing['name']!r} is missing", param=missing["name"])
    text = _WHERE.sub("", message).replace("`", "")
    text = text[:1].lower() + text[1:]
    return ShapeError(f"{path}: {text}" if path else text, param=path or None)


def _too_large(limit: int) -> HTTPException:
    shown = f"{limit // 2**20} MiB" if limit >= 2**20 else f"{limit} bytes"
    return HTTPException(
        413, f"the body is larger than {shown} (max_body_mib); send fewer inputs at a time"
    )
