"""Bodies of the dialects of other servers, read as leniently as those servers read them.

Fields that the type doesn't know are ignored and named in a header; `null` in a field that may be
left out means that it is left out; 512.0 is 512. A struct with `IS_CONTENT = True` holds what is to
be embedded: there an unknown field that isn't null is refused, because it could be a part of the
text or of an image. Routes of our own read their bodies with
`body.decode`, which refuses all of these: a mistyped name there changes what is done.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec import inspect

from likewise.base.errors import BodyMalformed
from likewise.base.names import nearest
from likewise.server import body, notices, scan

if TYPE_CHECKING:
    from starlette.requests import Request

MOST_MENDED = 100_000
"""Entries of one list or object that are looked at one by one; longer ones are left as they are."""

_T = TypeVar("_T", bound=msgspec.Struct)

_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][+-]?\d{1,3})?")
_LARGEST = 2**53
_EMPTY = b"[]"


@dataclass(frozen=True)
class Plan:
    """What may be mended in a value: in an object by field, in a list, in a number."""

    fields: Mapping[str, Field] = field(default_factory=dict)
    items: Plan | None = None
    is_object: bool = False
    is_content: bool = False
    is_whole: bool = False
    """Whether a number is an integer here."""

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to mend."""
        return not (self.is_object or self.items or self.is_whole)


@dataclass(frozen=True)
class Field:
    """A field of an object."""

    plan: Plan
    drops_null: bool
    """Whether it may be left out and takes no null itself."""
    is_settings: bool
    """Whether it is an object that may be left out: PHP writes an empty one as `[]`."""


@dataclass
class _Mended:
    """What was found on the way."""

    ignored: dict[str, None] = field(default_factory=dict)
    """Paths of unknown fields, in their order."""
    names: set[str] = field(default_factory=set)
    """Their last names."""
    changes: int = 0


def decode(request: Request, raw: bytes, decoder: msgspec.json.Decoder[_T]) -> _T:
    """`raw` as the decoder's type; unknown fields are ignored and named in a header.

    A server that was started with `--strict` refuses unknown fields.

    Raises:
        InputError: as `body.decode` raises it, for everything else that doesn't fit.
    """
    fields = decoder.type.__struct_fields__
    try:
        return body.decode(raw, decoder, fields)
    except BodyMalformed:
        notices.unread(request)
        raise
    except body.ShapeError:
        mended, tidied = _tidied(raw, decoder.type)
        is_strict = bool(getattr(request.app.state, "strict", False))
        if not mended.changes or (mended.ignored and is_strict):
            notices.unread(request)
            raise
    try:
        decoded = body.decode(tidied, decoder, fields)
    except body.ShapeError as refused:
        notices.unread(request)
        raise _with_ignored(refused, mended) from None
    body.refuse_twice(raw, fields, exempt=frozenset(mended.names))
    notices.ignored(request, mended.ignored, fields)
    return decoded


def _with_ignored(refused: body.ShapeError, mended: _Mended) -> body.ShapeError:
    """The refusal, which names the unknown field that may be the one that is missing."""
    param = refused.param or ""
    for name in mended.ignored:
        if param and nearest(name, [param]):
            return body.ShapeError(
                f"{refused}; unknown field {name!r}: did you mean {param!r}?", param=name
            )
    return refused


def _tidied(raw: bytes, kind: Any) -> tuple[_Mended, bytes]:
    mended = _Mended()
    try:
        return mended, _value(raw.strip(), plan_of(kind), "", mended)
    except msgspec.DecodeError as wrong:
        raise BodyMalformed(f"the body isn't valid JSON: {wrong}") from wrong
    except RecursionError:
        # What the decoder stopped at is the reason to give.
        return _Mended(), raw


@functools.cache
def plan_of(kind: Any) -> Plan:
    """The plan for values of a struct type."""
    return _plan(inspect.type_info(kind))


def _plan(kind: inspect.Type) -> Plan:
    """The plan of one type; of a union, those of its members together."""
    if isinstance(kind, inspect.StructType):
        fields = {one.encode_name: _field(one) for one in kind.fields}
        return Plan(fields, is_object=True, is_content=getattr(kind.cls, "IS_CONTENT", False))
    if isinstance(kind, inspect.ListType | inspect.VarTupleType):
        items = _plan(kind.item_type)
        return Plan(items=None if items.is_idle else items)
    if isinstance(kind, inspect.IntType):
        return Plan(is_whole=True)
    if not isinstance(kind, inspect.UnionType):
        return Plan()
    plans = [_plan(one) for one in kind.types]
    has_float = any(isinstance(one, inspect.FloatType) for one in kind.types)
    an_object = next((one for one in plans if one.is_object), Plan())
    return Plan(
        an_object.fields,
        next((one.items for one in plans if one.items is not None), None),
        an_object.is_object,
        an_object.is_content,
        any(one.is_whole for one in plans) and not has_float,
    )


def _field(one: inspect.Field) -> Field:
    kinds = one.type.types if isinstance(one.type, inspect.UnionType) else (one.type,)
    takes_null = any(isinstance(each, inspect.NoneType | inspect.AnyType) for each in kinds)
    takes_null = takes_null or any(isinstance(each, inspect.RawType) for each in kinds)
    plan = _plan(one.type)
    is_settings = plan.is_object and plan.items is None and not one.required
    return Field(plan, drops_null=not one.required and not takes_null, is_settings=is_settings)


def _value(raw: bytes, plan: Plan, path: str, mended: _Mended) -> bytes:
    """A value as it is meant, in JSON."""
    if plan.is_object and raw.startswith(b"{"):
        return _object(raw, plan, path, mended) if _is_small(raw, b":") else raw
    if plan.items is not None and raw.startswith(b"["):
        return _list(raw, plan.items, path, mended) if _is_small(raw, b",") else raw
    if plan.is_whole and _NUMBER.fullmatch(raw):
        number = float(raw)
        if not raw.lstrip(b"-").isdigit() and number.is_integer() and abs(number) < _LARGEST:
            mended.changes += 1
            return b"%d" % int(number)
    return raw


def _object(raw: bytes, plan: Plan, path: str, mended: _Mended) -> bytes:
    pairs = []
    for name, given in _OBJECT.decode(raw).items():
        value, known = bytes(given), plan.fields.get(name)
        here = f"{path}.{name}" if path else name
        if known is None and plan.is_content and value != b"null":
            pairs.append(b"%s:%s" % (msgspec.json.encode(name), value))
        elif known is None:
            mended.ignored[here] = None
            mended.names.add(name)
            mended.changes += 1
        elif (known.drops_null and value == b"null") or (known.is_settings and value == _EMPTY):
            mended.changes += 1
        else:
            pairs.append(b'"%s":%s' % (name.encode(), _value(value, known.plan, here, mended)))
    return b"{%s}" % b",".join(pairs)


def _list(raw: bytes, items: Plan, path: str, mended: _Mended) -> bytes:
    values = [_value(bytes(one), items, f"{path}[]", mended) for one in _LIST.decode(raw)]
    return b"[%s]" % b",".join(values)


def _is_small(raw: bytes, separator: bytes) -> bool:
    """Whether there are few entries: each takes far more memory by itself than in the body."""
    return scan.count(raw, separator, MOST_MENDED) <= MOST_MENDED
