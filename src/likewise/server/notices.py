"""What an answer says beside its body: request fields that were ignored, and warnings."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from likewise.base.names import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, MutableMapping

    from starlette.requests import HTTPConnection

IGNORED_HEADER = "x-likewise-ignored"
WARNING_HEADER = "x-likewise-warning"

MOST_IGNORED = 20
"""Names that the header lists; more of them are counted."""
_LONGEST_NAME = 80
_LONGEST_WARNING = 400
_MOST_WARNINGS = 5
# Names come from outside, and a header is one line of ASCII in which commas separate names.
_NOT_IN_NAME = re.compile(r"[^!-~]|,")
_NOT_IN_TEXT = re.compile(r"[^ -~]")


def warn(request: HTTPConnection, text: str) -> None:
    """Add `text` to the header `X-Likewise-Warning` of the answer, once.

    Every character outside of printable ASCII becomes `?`.
    """
    warnings: list[str] = _notes(request.scope).setdefault("warnings", [])
    short = _NOT_IN_TEXT.sub("?", text)[:_LONGEST_WARNING]
    if short not in warnings:
        warnings.append(short)


def ignored(request: HTTPConnection, names: Iterable[str], known: Iterable[str] = ()) -> None:
    """Name request fields that were not followed in the header `X-Likewise-Ignored`.

    A name that is close to one of `known` is probably mistyped; a warning says so.
    """
    told: list[str] = _notes(request.scope).setdefault("ignored", [])
    fields = tuple(known)
    for name in names:
        if name in told:
            continue
        told.append(name)
        if hint := nearest(name, fields):
            warn(request, f"the field {name!r} was ignored{hint}")


def names_ignored(request: HTTPConnection) -> tuple[str, ...]:
    """The fields that were named by `ignored` so far."""
    return tuple(_notes(request.scope).get("ignored", ()))


def unread(request: HTTPConnection) -> None:
    """Note that the body couldn't be read: TEI's metrics don't count such a request."""
    _notes(request.scope)["te_failure"] = ""


def headers(notes: Mapping[str, Any]) -> dict[str, str]:
    """The headers that `notes`, those of one request, ask for."""
    found: dict[str, str] = {}
    if names := notes.get("ignored"):
        shown = [_NOT_IN_NAME.sub("?", name)[:_LONGEST_NAME] for name in names[:MOST_IGNORED]]
        more = len(names) - MOST_IGNORED
        found[IGNORED_HEADER] = ", ".join(shown) + (f", and {more} more" if more > 0 else "")
    if warnings := notes.get("warnings"):
        found[WARNING_HEADER] = "; ".join(warnings[:_MOST_WARNINGS])
    return found


def _notes(scope: MutableMapping[str, Any]) -> dict[str, Any]:
    notes: dict[str, Any] = scope.setdefault("likewise", {})
    return notes
