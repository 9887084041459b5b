"""Requests that no handler should see: heads too large, ambiguous framing, coded bodies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from likewise.server.errors import Refusal
from likewise.server.routing import dialect_of_scope

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from likewise.server.guard import Guard

_WATCHED = frozenset({b"host", b"transfer-encoding", b"content-encoding", b"content-type"})
_VERSIONS = frozenset({"1.0", "1.1"})


class Limits:
    """Refuses what is too large, or could be read in two ways."""

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self._app = app
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "http":
            watched, size = _watched(scope)
            refusal = self._too_large(scope, size) or _ambiguous(scope, watched) or _coded(watched)
            if refusal is not None:
                answer = refusal.response(dialect_of_scope(scope))
                # What follows may be anything: another request in disguise, or a bomb.
                answer.headers["connection"] = "close"
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _too_large(self, scope: Scope, size: int) -> Refusal | None:
        guard = self._guard
        url = len(scope.get("raw_path", b"")) + len(scope.get("query_string", b""))
        if url > guard.max_url_bytes:
            return _no(414, "uri_too_long", f"the URL is longer than {guard.max_url_bytes} bytes")
        if len(scope["headers"]) > guard.max_headers:
            return _no(431, "headers_too_large", f"there are more than {guard.max_headers} headers")
        if size > guard.max_header_bytes:
            return _no(
                431,
                "headers_too_large",
                f"the headers are longer than {guard.max_header_bytes} bytes",
            )
        return None


def _watched(scope: Scope) -> tuple[dict[bytes, list[bytes]], int]:
    """The headers that are looked at here, and how long all are."""
    watched: dict[bytes, list[bytes]] = {}
    size = 0
    for name, value in scope["headers"]:
        size += len(name) + len(value)
        if name in _WATCHED:
            watched.setdefault(name, []).append(value.strip().lower())
    return watched, size


def _ambiguous(scope: Scope, watched: dict[bytes, list[bytes]]) -> Refusal | None:
    """The parser refuses most of what a proxy may read in another way; this is the rest."""
    version = scope.get("http_version", "1.1")
    if version not in _VERSIONS:
        return _no(400, "bad_request", "this server speaks HTTP/1.1")
    if len(watched.get(b"host", ())) > 1:
        return _no(400, "bad_request", "there is more than one Host header")
    codings = watched.get(b"transfer-encoding")
    if codings is not None and (codings != [b"chunked"] or version != "1.1"):
        return _no(400, "bad_request", "the only Transfer-Encoding is chunked, in HTTP/1.1")
    return None


def _coded(watched: dict[bytes, list[bytes]]) -> Refusal | None:
    """A small compressed body can become any size: bodies come as they are."""
    codings = watched.get(b"content-encoding", ())
    if any(coding not in (b"", b"identity") for coding in codings):
        return _no(415, "unsupported_media_type", "send the body without a Content-Encoding")
    if any(kind.startswith(b"multipart/") for kind in watched.get(b"content-type", ())):
        return _no(415, "unsupported_media_type", "send JSON, not a multipart form")
    return None


def _no(status: int, code: str, message: str) -> Refusal:
    return Refusal(status, "invalid_request_error", message, code)
