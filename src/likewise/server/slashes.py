"""Paths with a doubled slash, which many clients make of a base address that ends with one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from likewise.server.routing import spoken_at

if TYPE_CHECKING:
    from starlette.types import Scope

_SEVERAL = re.compile(r"//+")
_SEVERAL_RAW = re.compile(rb"//+")


def without_doubled(scope: Scope) -> None:
    """Let a request reach the route of its path without doubled slashes.

    A path that has a route as it is stays: names of models may hold two slashes. Routes of our own
    are left alone, so that what a proxy forbids under `/admin` has no second spelling, and so are
    slashes that were escaped.
    """
    raw: bytes = scope.get("raw_path", b"").partition(b"?")[0]
    if b"//" not in raw or spoken_at(scope) is not None:
        return
    path = _SEVERAL.sub("/", scope["path"])
    route = spoken_at({**scope, "path": path})
    if route is not None and route.dialect != "likewise":
        scope["path"] = path
        scope["raw_path"] = _SEVERAL_RAW.sub(b"/", raw)
