"""Around every request: seen here and nowhere else, hosts checked, bugs answered and logged."""

from __future__ import annotations

import logging
import time
import uuid
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect

from likewise.base.log import REQUEST_ID, fields, logger, without_words
from likewise.server import notices
from likewise.server.errors import internal_error
from likewise.server.request_metrics import RequestMetrics
from likewise.server.routing import dialect_of_scope
from likewise.server.seen import Seen
from likewise.server.serving import Gone
from likewise.server.slashes import without_doubled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from starlette.routing import Route
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from likewise.server.seen import Watcher
    from likewise.server.tracing import Tracer

_log = logger("server")
_access = logger("server.access")

CLIENT_GONE = 499
"""What a request is counted as when its client hung up first."""
REQUEST_ID_HEADER = "x-request-id"
MAX_REQUEST_ID = 128
_UNKNOWN = "unknown"
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"))


class Watching:
    """Sees each request once: gives it an id, tells the watchers, answers for bugs."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: RequestMetrics,
        routes: Sequence[Route],
        watchers: Sequence[Watcher] = (),
        tracer: Tracer | None = None,
        is_draining: Callable[[], bool] = lambda: False,
    ) -> None:
        """Around `app`; connections are closed after their answer while `is_draining`."""
        self._app = app
        self._metrics = metrics
        self._watchers = (metrics.saw, *watchers, _log_access)
        self._tracer = tracer
        self._is_draining = is_draining
        self._paths = frozenset(route.path for route in routes)
        self._patterns: dict[object, str] = {route.endpoint: route.path for route in routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        without_doubled(scope)
        headers = Headers(scope=scope)
        request_id = _request_id(headers.get(REQUEST_ID_HEADER))
        scope.setdefault("likewise", {})["request_id"] = request_id
        span = None if self._tracer is None else self._tracer.begin(headers)
        answer = _Answer(send, {REQUEST_ID_HEADER: request_id}, scope["likewise"])
        if span is not None:
            answer.headers["traceparent"] = span.traceparent
        if self._is_draining():
            answer.headers["connection"] = "close"
        token = REQUEST_ID.set(request_id)
        self._metrics.running.inc()
        try:
            await self._answered(scope, receive, answer)
        finally:
            self._metrics.running.dec()
            seen = self._seen(scope, began, answer)
            for watcher in self._watchers:
                watcher(seen)
            if span is not None:
                span.end(seen)
            REQUEST_ID.reset(token)

    async def _answered(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        try:
            await self._app(scope, receive, answer.send)
        except (Gone, ClientDisconnect):
            pass
        except Exception as bug:  # noqa: BLE001 - the server's last resort: answer, log, go on
            _log.error(fields("bug", route=self._route(scope)), exc_info=without_words(bug))
            if answer.status == CLIENT_GONE:
                await internal_error(dialect_of_scope(scope))(scope, receive, answer.send)

    def _seen(self, scope: Scope, began: float, answer: _Answer) -> Seen:
        notes: dict[str, Any] = scope["likewise"]
        method = scope["method"]
        route = notes.get("route") or self._route(scope)
        caller = scope.get("state", {}).get("caller", {})
        return Seen(
            method=method if method in _METHODS else "other",
            route=route,
            dialect=notes.get("dialect") or (_UNKNOWN if route == _UNKNOWN else "likewise"),
            status=answer.status,
            began_at=began,
            first_byte_at=answer.first_byte_at,
            ended_at=time.perf_counter(),
            notes=notes,
            error=answer.error,
            caller=caller.get("name"),
        )

    def _route(self, scope: Scope) -> str:
        """The route's pattern, so that made-up paths don't each become a time series."""
        path: str = scope["path"]
        # The router leaves in the scope which endpoint it chose.
        return path if path in self._paths else self._patterns.get(scope.get("endpoint"), _UNKNOWN)


class _Answer:
    """Sends an answer on, with headers of ours, and remembers what it was.

    `notes` are what the request's handlers leave; some of them become headers.
    """

    def __init__(self, send: Send, headers: dict[str, str], notes: Mapping[str, Any]) -> None:
        self._send = send
        self._notes = notes
        self.headers = headers
        self.status = CLIENT_GONE
        self.first_byte_at: float | None = None
        self.error: str | None = None

    async def send(self, message: Message) -> None:
        """One message of the application's."""
        if message["type"] == "http.response.start":
            self.first_byte_at = time.perf_counter()
            self.status = message["status"]
            sent = MutableHeaders(scope=message)
            self.error = sent.get("x-likewise-error")
            sent.update(self.headers)
            sent.update(notices.headers(self._notes))
        await self._send(message)


def _request_id(given: str | None) -> str:
    """The caller's, if it is short and visible; else a new one: it is shown in every log line."""
    if given and len(given) <= MAX_REQUEST_ID and all("!" <= c <= "~" for c in given):
        return given
    return uuid.uuid4().hex


def _log_access(seen: Seen) -> None:
    """One line a request; never a text, a key, or a path as the caller wrote it."""
    if not _access.isEnabledFor(logging.INFO):
        return
    values: dict[str, object] = {
        "method": seen.method,
        "route": seen.route,
        "dialect": seen.dialect,
        "status": seen.status,
        "ms": round(seen.seconds * 1000, 2),
        "inputs": seen.inputs or None,
        "tokens": seen.tokens or None,
        "model": seen.model,
        "lane": seen.lane,
        "caller": seen.caller,
        "error": seen.error,
    }
    _access.info(fields("request", **{k: v for k, v in values.items() if v is not None}))
