"""The application: routes, error answers and the page put together over models and bindings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from likewise.base.clock import wall
from likewise.base.errors import LikewiseError
from likewise.server import admin, openapi, ops, page, search
from likewise.server.access import Access
from likewise.server.aside import Aside
from likewise.server.body import MAX_BODY_BYTES
from likewise.server.dialects import (
    cohere,
    llama_cpp,
    nim,
    ollama,
    openai,
    rerank,
    shared_paths,
    tei,
    vllm,
)
from likewise.server.dialects.ollama_names import AskedNames
from likewise.server.errors import on_http_error, on_import_error, on_likewise_error
from likewise.server.guard import Guard
from likewise.server.hosts import HostCheck
from likewise.server.limits import Limits
from likewise.server.middleware import Watching
from likewise.server.origin_patterns import DEFAULT_ORIGINS
from likewise.server.origins import Origins
from likewise.server.prefix import Behind, Prefix
from likewise.server.readiness import Readiness
from likewise.server.request_metrics import RequestMetrics
from likewise.server.serving import Fixed
from likewise.server.te_metrics import TeMetrics

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from prometheus_client import CollectorRegistry
    from starlette.types import ASGIApp

    from likewise.server.bindings import LiveBinding
    from likewise.server.serving import Catalogue, Model
    from likewise.server.tracing import Tracer

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "[::1]")

ROOMS = (
    openai,
    tei,
    shared_paths,
    ollama,
    cohere,
    rerank,
    vllm,
    llama_cpp,
    nim,
    admin,
    search,
    ops,
    page,
    openapi,
)
"""What has routes; of two that take the same path and method, the first one answers."""

HANDLERS = {
    LikewiseError: on_likewise_error,
    HTTPException: on_http_error,
    ImportError: on_import_error,
}
"""What answers for errors that a route raises."""


def build(
    models: Mapping[str, Model] | Catalogue,
    bindings: Sequence[LiveBinding] = (),
    *,
    registry: CollectorRegistry | None = None,
    max_body_bytes: int = MAX_BODY_BYTES,
    allowed_hosts: Collection[str] | None = None,
    guard: Guard | None = None,
    tracer: Tracer | None = None,
    behind: Behind | None = None,
) -> Starlette:
    """The ASGI application; it neither starts nor stops what it is given.

    `allowed_hosts` are names that a request may call the server by, beside those of a server on
    loopback (`hosts`), where pages of this machine may use models (`origin_patterns`); None allows
    every name, and no such page. Without a `guard` everybody is let in, within the usual limits.
    Requests are traced where there is a `tracer`. `behind` is what stands before the server.
    """
    from prometheus_client import CollectorRegistry, Counter

    registry = registry or CollectorRegistry()
    routes = [route for room in ROOMS for route in room.routes()]
    guard = guard or Guard()
    catalogue = Fixed(models) if isinstance(models, Mapping) else models
    readiness, te = Readiness(catalogue, bindings), TeMetrics()
    registry.register(te)
    middleware = [
        Middleware(Prefix, behind=behind or Behind()),
        # Behind the prefix, which is believed of who sends, not of who that says it sends for.
        Middleware(_of_proxies),
        Middleware(
            Watching,
            metrics=RequestMetrics(registry),
            routes=routes,
            watchers=(te.saw, readiness.saw),
            tracer=tracer,
            is_draining=lambda: readiness.is_draining,
        ),
        Middleware(Limits, guard=guard),
    ]
    if allowed_hosts is not None:
        middleware.append(Middleware(HostCheck, allowed=allowed_hosts))
    middleware += _guarding(guard, registry, is_local=allowed_hosts is not None)
    middleware.append(Middleware(Aside))
    app = Starlette(
        routes=routes,
        middleware=middleware,
        exception_handlers=dict(HANDLERS),
    )
    app.router.redirect_slashes = False
    app.state.models = catalogue
    app.state.readiness = readiness
    app.state.asked_names = AskedNames()
    app.state.bindings = tuple(bindings)
    app.state.registry = registry
    app.state.max_body_bytes = max_body_bytes
    _remember(app, guard)
    app.state.cut_off = Counter(
        "likewise_http_cut_off",
        "Connections that were ended, or not served, because of what came over them.",
        ("reason",),
        registry=registry,
    )
    app.state.started_at = wall()
    ops.BindingStates(app.state.bindings).register(registry)
    return app


def _of_proxies(app: ASGIApp) -> ASGIApp:
    """What takes the client's address from `X-Forwarded-For` of proxies on this machine."""
    from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

    return cast("ASGIApp", ProxyHeadersMiddleware(cast("Any", app)))


def _remember(app: Starlette, guard: Guard) -> None:
    """Leave what routes look up of the guard."""
    app.state.guard = guard
    app.state.keys = guard.keys
    app.state.max_inputs = guard.max_inputs
    app.state.strict = guard.strict
    app.state.defaults = guard.defaults
    app.state.body_timeout_s = guard.body_timeout_s


def _guarding(guard: Guard, registry: CollectorRegistry, *, is_local: bool) -> list[Middleware]:
    """Who may ask, outermost first."""
    keys = guard.keys
    origins = Middleware(
        Origins,
        allowed=guard.origins,
        has_keys=keys is not None,
        default=DEFAULT_ORIGINS if is_local else (),
    )
    return (
        [origins] if keys is None else [origins, Middleware(Access, keys=keys, registry=registry)]
    )
