"""Web pages of other origins: those on a list may ask (CORS), the others are kept out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response

from likewise.base.errors import Forbidden
from likewise.server.access import by_basic
from likewise.server.errors import refusal_of
from likewise.server.hosts import is_doubtful, is_public
from likewise.server.origin_patterns import ANY_ORIGIN, Patterns
from likewise.server.routing import dialect_of_scope, serves_models

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from likewise.server.errors import Refusal

_METHODS = "GET, HEAD, POST, DELETE"
_REMEMBERED_S = "600"
_OF_BROWSERS = frozenset({b"origin", b"sec-fetch-site"})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_NAMES = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~ ,-]{1,2048}")


class Origins:
    """Answers preflights for origins on the list, and lets their pages read answers.

    A page elsewhere can make a browser send requests that it couldn't send itself: to this
    machine's loopback address, or with a key that the browser remembers. So where nothing but the
    browser's word stands for a request, one from an origin that isn't on the list is refused.

    Pages of the origins in `default` may use models: no database, and nothing that changes the
    server. A key that the browser remembers is no use to them.
    """

    def __init__(
        self,
        app: ASGIApp,
        allowed: Patterns,
        *,
        has_keys: bool,
        default: Collection[str] = (),
    ) -> None:
        self._app = app
        self._allowed = allowed
        self._default = Patterns(default)
        self._has_keys = has_keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if not self._allowed and not any(name in _OF_BROWSERS for name, _ in scope["headers"]):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        shown = self._shown_to(origin, scope, headers)
        if shown is not None and _is_preflight(scope, headers):
            await _preflight(shown, headers)(scope, receive, send)
            return
        if shown is None and self._is_foreign(scope, headers, origin):
            answer = self._refused(origin).response(dialect_of_scope(scope))
            await answer(scope, receive, send)
            return

        async def showing(message: Message) -> None:
            if message["type"] == "http.response.start" and (self._allowed or self._default):
                _show(MutableHeaders(scope=message), shown)
            await send(message)

        await self._app(scope, receive, showing)

    def _shown_to(self, origin: str | None, scope: Scope, headers: Headers) -> str | None:
        """What `Access-Control-Allow-Origin` says to `origin`; None when it isn't on the list."""
        if origin is None:
            return None
        if self._allowed.has_any:
            return ANY_ORIGIN
        is_let_in = self._allowed.match(origin) or (
            self._default.match(origin)
            and not by_basic(headers)
            and (serves_models(scope) or is_public(scope))
        )
        return origin if is_let_in else None

    def _is_foreign(self, scope: Scope, headers: Headers, origin: str | None) -> bool:
        if self._has_keys and not by_basic(headers):
            return False
        if origin is not None:
            return is_doubtful(scope) or not _is_own(origin, headers.get("host", ""))
        site = headers.get("sec-fetch-site", "same-origin")
        return scope["method"] not in _SAFE and site not in ("same-origin", "none")

    def _refused(self, origin: str | None) -> Refusal:
        what = "use more of this server than its models"
        if origin is None or not self._default.match(origin):
            what = "use this server"
        return refusal_of(
            Forbidden(
                f"pages of {(origin or 'another origin')[:200]!r} may not {what}; allow them with "
                f"--cors-origin or server.cors_origins"
            )
        )


def _is_own(origin: str, host: str) -> bool:
    """Whether the page came from this server; a proxy before it may have spoken https."""
    return origin.lower().partition("://")[2] == host.lower() != ""


def _is_preflight(scope: Scope, headers: Headers) -> bool:
    return scope["method"] == "OPTIONS" and "access-control-request-method" in headers


def _preflight(shown: str, headers: Headers) -> Response:
    """What the browser may send; keys are never sent by it on its own, for want of credentials."""
    answer = Response(status_code=204)
    _show(answer.headers, shown)
    answer.headers["access-control-allow-methods"] = _METHODS
    answer.headers["access-control-max-age"] = _REMEMBERED_S
    asked = headers.get("access-control-request-headers", "")
    # Every header that is asked for, Authorization and those of clients' libraries among them: the
    # origin is trusted, and `*` wouldn't cover Authorization.
    if _NAMES.fullmatch(asked):
        answer.headers["access-control-allow-headers"] = asked
    if headers.get("access-control-request-private-network") == "true":
        answer.headers["access-control-allow-private-network"] = "true"
    return answer


def _show(headers: MutableHeaders, shown: str | None) -> None:
    headers.add_vary_header("Origin")
    if shown is not None:
        headers["access-control-allow-origin"] = shown
        headers["access-control-expose-headers"] = "*"
