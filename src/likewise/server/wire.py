"""HTTP/1.1 on one connection: uvicorn's, with limits in time and size, and one answer a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from likewise.server.errors import RETRY_AFTER_S, Refusal
from likewise.server.routing import dialect_of_scope

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from starlette.types import Receive, Scope, Send

    from likewise.server.guard import Guard

_OVERHEAD_BYTES = 1024
_BACKSTOP_S = 10.0
"""How much longer than its handler the connection waits for a body: the handler answers better."""
_UNASKED = 64 * 1024
"""Bytes of a body that may come without any content: chunk extensions and trailers."""
_HOP = frozenset({b"connection", b"upgrade", b"http2-settings"})

_SLOW_HEAD = Refusal(
    408, "invalid_request_error", "the request's head came too slowly", "request_timeout"
)
_SLOW_BODY = Refusal(
    408, "invalid_request_error", "the request's body came too slowly", "request_timeout"
)
_LARGE_HEAD = Refusal(
    431, "invalid_request_error", "the request's head is too large", "headers_too_large"
)
_MALFORMED = Refusal(400, "invalid_request_error", "this isn't an HTTP request", "bad_request")
_FULL = Refusal(
    503,
    "server_error",
    "too many connections are open already",
    "overloaded",
    retry_after_s=RETRY_AFTER_S,
)


class Wire(HttpToolsProtocol):
    """One connection.

    Where uvicorn waits for ever, keeps what never ends, or answers 400 beside an answer that is
    already on its way, this cuts the client off.
    """

    def __init__(
        self, *args: Any, guard: Guard, cut_off: Callable[[str], None], **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self._guard = guard
        self._cut_off = cut_off
        self._loaded_app = self.app
        self._max_head = guard.max_header_bytes + guard.max_url_bytes + _OVERHEAD_BYTES
        self._in_body = False
        self._unasked = 0
        self._running: Any = None
        self._phase = 0
        self._timed_phase = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there."""
        super().connection_made(transport)
        self._wait(self._guard.head_timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone: with requests in a row, the one that is being answered has to know too."""
        self._wait(None)
        if self._running is not None and self._running is not self.cycle:
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """More of the head, or of the body."""
        self._unset_keepalive_if_required()
        self._unasked += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._read_on(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(_MALFORMED, "malformed")
        if not self._in_body and self._unasked > self._max_head:
            self._refuse(_LARGE_HEAD, "head_too_large")
        elif self._unasked > self._max_head + _UNASKED:
            self._refuse(_MALFORMED, "malformed")
        self._watch()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; not what stands behind a chunked body, which no proxy has looked at."""
        if not self._in_body:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        if self.parser.should_upgrade():
            return
        if len(self.connections) > self._guard.max_connections:
            self.app = _full
            self._cut_off("connections")
        try:
            super().on_headers_complete()
        finally:
            self.app = self._loaded_app
        if len(self.connections) > self._guard.max_connections:
            self.cycle.keep_alive = False
        self._in_body = True
        self._unasked = 0
        self._phase += 1

    def on_body(self, body: bytes) -> None:
        """Some of the body."""
        self._unasked = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self.parser.should_upgrade():
            return
        self._in_body = False
        self._unasked = 0
        self._phase += 1
        super().on_message_complete()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._running = cycle

        async def unless_refused(scope: Scope, receive: Receive, send: Send) -> None:
            # What is wrong with a request may be seen between its head and this.
            if not cycle.disconnected:
                await app(scope, receive, send)

        super()._start_asgi_task(cycle, cast("Any", unless_refused))

    def _read_on(self, rest: bytes) -> None:
        """Read a request that asked for another protocol as if it hadn't, and the last one here.

        The parser stops where the other protocol would begin and takes no body; clients that offer
        HTTP/2 with their first request do send one.
        """
        if self.parser.get_method() == b"CONNECT":
            self._refuse(_MALFORMED, "malformed")
            return
        line = b"%s %s HTTP/%s" % (
            self.parser.get_method(),
            self.url,
            self.parser.get_http_version().encode("ascii"),
        )
        kept = [b"%s: %s" % pair for pair in self.headers if pair[0] not in _HOP]
        self.parser = httptools.HttpRequestParser(self)
        try:
            self.parser.feed_data(b"\r\n".join([line, *kept, b"connection: close", b"", rest]))
        except httptools.HttpParserError:
            self._refuse(_MALFORMED, "malformed")

    def _watch(self) -> None:
        """Time what has begun and isn't whole; a request that came in one piece needs no timer."""
        if self._timer is not None and self._timed_phase == self._phase:
            return
        self._timed_phase = self._phase
        if self.transport.is_closing():
            self._wait(None)
        elif self._in_body:
            self._wait(self._guard.body_timeout_s + _BACKSTOP_S)
        else:
            self._wait(self._guard.head_timeout_s if self._unasked else None)

    def _wait(self, seconds: float | None) -> None:
        """Be patient for so long, from now on; None is for ever."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._too_slow)

    def _too_slow(self) -> None:
        self._timer = None
        if not self._in_body:
            self._refuse(_SLOW_HEAD, "slow_head")
        elif self.pipeline:
            # It is we who don't read: the request before it is still being answered.
            self._wait(self._guard.body_timeout_s)
        else:
            self._refuse(_SLOW_BODY, "slow_body")

    def _refuse(self, refusal: Refusal, reason: str) -> None:
        """End the connection, with `refusal` where it is the answer to what came last.

        A client must never get it as the answer to another request, nor as a second one.
        """
        if self.transport.is_closing():
            return
        self._wait(None)
        cycle = self.cycle
        if not self._in_body:
            if cycle is None or cycle.response_complete:
                self._end(refusal, reason)
            else:
                cycle.keep_alive = False
        elif self.pipeline:
            cycle.keep_alive = False
            self.pipeline[0] = (cycle, cast("Any", refusal.response()))
        elif cycle.response_complete:
            self._end(None, reason)
        elif cycle.response_started:
            cycle.keep_alive = False
        else:
            self._end(refusal, reason)

    def _end(self, refusal: Refusal | None, reason: str) -> None:
        self._cut_off(reason)
        if refusal is not None:
            answer = refusal.response()
            head = [STATUS_LINE[refusal.status].rstrip(b"\r\n")]
            own = [*self.server_state.default_headers, *answer.raw_headers]
            head += [b"%s: %s" % pair for pair in own]
            head += [b"connection: close", b"", bytes(answer.body)]
            self.transport.write(b"\r\n".join(head))
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()


async def _full(scope: Scope, receive: Receive, send: Send) -> None:
    await _FULL.response(dialect_of_scope(scope))(scope, receive, send)
