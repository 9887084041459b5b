"""Who asks: every request but a few for probes must come with a key that is known here."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from starlette.datastructures import Headers

from likewise.base.clock import monotonic, wall
from likewise.base.errors import LikewiseError, RateLimited, Unauthorised
from likewise.runtime import metrics
from likewise.server.errors import refusal_of
from likewise.server.keys import Bucket
from likewise.server.routing import dialect_of_scope

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Literal

    from prometheus_client import CollectorRegistry
    from starlette.types import ASGIApp, Receive, Scope, Send

    from likewise.base.clock import Clock
    from likewise.server.keys import Key, KeyRing
    from likewise.server.seen import Run

    Why = Literal["missing", "unknown", "expired"]

PUBLIC = frozenset(
    {
        ("GET", "/health"), ("GET", "/ready"), ("GET", "/ping"), ("HEAD", "/"),
        ("HEAD", "/health"), ("HEAD", "/ready"), ("HEAD", "/ping"),
    }
)  # fmt: skip
"""What needs no key: methods and exact paths."""

_WHY: dict[Why, str] = {
    "missing": "this server wants a key: send 'Authorization: Bearer KEY' or 'api-key: KEY'",
    "unknown": "the key isn't known here",
    "expired": "the key has expired",
}


def by_basic(headers: Headers) -> bool:
    """Whether the key comes as a browser keeps it, which any page can make a browser send."""
    return headers.get("authorization", "").lower().startswith("basic ")


def presented(headers: Headers) -> str | None:
    """The key that came with a request: `Authorization` goes before the other headers."""
    scheme, _, given = headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer":
        return given.strip() or None
    if scheme.lower() == "basic":
        try:
            decoded = base64.b64decode(given.strip(), validate=True).decode("utf-8")
        except (binascii.Error, ValueError):
            return ""
        return decoded.partition(":")[2]
    return headers.get("api-key") or headers.get("x-api-key")


class Access:
    """Refuses requests without a known key, and those of keys that ask for too much.

    It leaves in the scope's `state` who asks, as `caller`: the key's name and lane, and whether it
    is an admin's.
    """

    def __init__(
        self,
        app: ASGIApp,
        keys: KeyRing,
        registry: CollectorRegistry,
        *,
        now: Clock = wall,
        clock: Clock = monotonic,
    ) -> None:
        from prometheus_client import Counter

        self._app = app
        self._keys = keys
        self._now = now
        self._limits = _Limits(clock)
        self._unauthorised = Counter(
            "likewise_http_unauthorised",
            "Requests refused because of their key: missing, unknown, expired.",
            ("reason",),
            registry=registry,
        )
        self._requests = Counter(
            "likewise_key_requests", "Requests let in, by key.", ("key",), registry=registry
        )
        self._tokens = Counter(
            "likewise_key_tokens", "Tokens computed, by key.", ("key",), registry=registry
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        key, why = self._known(presented(headers))
        if key is None or why is not None:
            if (scope["method"], scope["path"]) in PUBLIC:
                await self._app(scope, receive, send)
                return
            self._unauthorised.labels(why).inc()
            challenge = _challenge(headers)
            await _refuse(Unauthorised(_WHY[why or "unknown"]), scope, receive, send, challenge)
            return
        scope.setdefault("state", {})["caller"] = {
            "name": key.name,
            "lane": key.lane,
            "is_admin": key.admin,
        }
        try:
            self._limits.admit(key)
        except RateLimited as refused:
            dialect = dialect_of_scope(scope)
            metrics.REJECTED.labels("", key.lane or "", dialect, refused.code).inc()
            await _refuse(refused, scope, receive, send)
            return
        self._requests.labels(key.name).inc()
        try:
            await self._app(scope, receive, send)
        finally:
            tokens = _tokens_of(scope)
            self._tokens.labels(key.name).inc(tokens)
            self._limits.charge(key, tokens)

    def _known(self, key: str | None) -> tuple[Key | None, Why | None]:
        """Whose key it is, or why it doesn't count."""
        if key is None:
            return None, "missing"
        found = self._keys.find(key)
        if found is None:
            return None, "unknown"
        return (found, None) if not found.is_expired(self._now()) else (None, "expired")


def _tokens_of(scope: Scope) -> int:
    """What was computed for a request, as far as its handler noted it."""
    runs: Sequence[Run] = scope.get("likewise", {}).get("runs", ())
    return int(sum(sum(run.tokens) for run in runs))


def _challenge(headers: Headers) -> Mapping[str, str]:
    """How to come back: a browser that opens the page asks its user, where it is told so."""
    wants_page = "text/html" in headers.get("accept", "")
    scheme = "Basic" if wants_page else "Bearer"
    return {"www-authenticate": f'{scheme} realm="likewise"', "vary": "accept"}


async def _refuse(
    error: LikewiseError,
    scope: Scope,
    receive: Receive,
    send: Send,
    headers: Mapping[str, str] | None = None,
) -> None:
    answer = refusal_of(error).response(dialect_of_scope(scope))
    answer.headers.update(headers or {})
    await answer(scope, receive, send)


class _Limits:
    """What each key may still ask for in this minute."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: dict[tuple[str, str], Bucket] = {}

    def admit(self, key: Key) -> None:
        """Count one request.

        Tokens are known once they are computed: a request is let in while there are any left, and
        what it overdrew is waited for by the next ones.

        Raises:
            RateLimited: the key has had its share; nothing is counted.
        """
        requests = self._bucket(key, "requests", key.requests_per_minute)
        tokens = self._bucket(key, "tokens", key.tokens_per_minute)
        for bucket, what in ((requests, "requests"), (tokens, "tokens")):
            if bucket is not None and (wait := bucket.wait_s(1)) > 0:
                raise RateLimited(
                    f"the key {key.name!r} may ask for {bucket.per_minute:,} {what} a minute",
                    retry_after_s=wait,
                )
        if requests is not None:
            requests.take(1)

    def charge(self, key: Key, tokens: int) -> None:
        """Count what was computed."""
        bucket = self._bucket(key, "tokens", key.tokens_per_minute)
        if bucket is not None:
            bucket.take(tokens)

    def _bucket(self, key: Key, what: str, per_minute: int | None) -> Bucket | None:
        if per_minute is None:
            return None
        bucket = self._buckets.get((key.name, what))
        # A limit that was changed begins anew.
        if bucket is None or bucket.per_minute != per_minute:
            bucket = self._buckets[key.name, what] = Bucket(per_minute, self._clock)
        return bucket
