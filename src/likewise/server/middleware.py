"""Around every request: counted here and nowhere else, hosts checked, bugs answered and logged."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect

from likewise.base.log import fields, logger, without_values
from likewise.server.errors import Refusal, internal_error
from likewise.server.routing import dialect_of_scope
from likewise.server.serving import Gone

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from prometheus_client import CollectorRegistry
    from starlette.routing import Route
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_log = logger("server")

CLIENT_GONE = 499
"""What a request is counted as when its client hung up first."""
_UNKNOWN = "unknown"
_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Counting:
    """Counts each request by route, method and status, with its time; answers for bugs."""

    def __init__(self, app: ASGIApp, registry: CollectorRegistry, routes: Sequence[Route]) -> None:
        from prometheus_client import Counter, Gauge, Histogram

        self._app = app
        self._paths = frozenset(route.path for route in routes)
        self._patterns: dict[object, str] = {route.endpoint: route.path for route in routes}
        self._requests = Counter(
            "likewise_http_requests",
            "Requests answered.",
            ("route", "method", "status"),
            registry=registry,
        )
        self._seconds = Histogram(
            "likewise_http_request_seconds",
            "Time from the request's head to the answer's last byte.",
            ("route",),
            buckets=_BUCKETS_S,
            registry=registry,
        )
        self._running = Gauge(
            "likewise_http_requests_running", "Requests being answered.", registry=registry
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = CLIENT_GONE

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._running.inc()
        try:
            await self._app(scope, receive, noting)
        except (Gone, ClientDisconnect):
            pass
        except Exception as bug:  # noqa: BLE001 - the server's last resort: answer, log, go on
            _log.error("%s\n%s", fields("bug", route=self._route(scope)), without_values(bug))
            if status == CLIENT_GONE:
                await internal_error(dialect_of_scope(scope))(scope, receive, noting)
        finally:
            self._running.dec()
            route = self._route(scope)
            self._requests.labels(route, scope["method"], str(status)).inc()
            self._seconds.labels(route).observe(time.perf_counter() - began)

    def _route(self, scope: Scope) -> str:
        """The route's pattern, so that made-up paths don't each become a time series."""
        path: str = scope["path"]
        # The router leaves in the scope which endpoint it chose.
        return path if path in self._paths else self._patterns.get(scope.get("endpoint"), _UNKNOWN)


class HostCheck:
    """Refuses requests meant for other hosts.

    A server on the loopback address is open to every web page in a browser on this machine unless
    it looks at the name it was called by (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, allowed: Collection[str]) -> None:
        self._app = app
        self._allowed = frozenset(allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "http":
            host = Headers(scope=scope).get("host", "")
            name = host.rpartition(":")[0] if _has_port(host) else host
            if name.lower() not in self._allowed:
                message = (
                    f"this server doesn't answer for the host {name!r}; "
                    f"allow it with --allow-host or server.allowed_hosts"
                )
                refusal = Refusal(421, "invalid_request_error", message, "host_not_allowed")
                await refusal.response(dialect_of_scope(scope))(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _has_port(host: str) -> bool:
    return host.rpartition(":")[2].isdecimal() and not host.endswith("]")
