"""Routes that say which dialect they speak, so that errors, metrics and logs can say it too."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from starlette.routing import Match, Route

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

Endpoint = Callable[["Request"], Awaitable["Response"]]


class Spoken(Route):
    """A route of one dialect, with what its description in the OpenAPI document needs."""

    def __init__(
        self,
        path: str,
        endpoint: Endpoint,
        *,
        methods: Sequence[str],
        dialect: str,
        body: Any = None,
        answer: Any = None,
        query: Any = None,
        also: Sequence[str] = (),
        media_types: Sequence[str] = ("application/json",),
    ) -> None:
        """Answer `methods` at `path`.

        `body` and `answer` are the types of the JSON in a request and in a 200: msgspec structs, or
        any type that `msgspec.json.schema` describes, or a tuple of those that may be; `query` is a
        struct of what may stand in the query string. `also` names dialects that a handler may note
        instead. `media_types` are those of a 200.
        """
        super().__init__(path, endpoint, methods=list(methods))
        self.dialect = dialect
        self.body = body
        self.answer = answer
        self.query = query
        self.also = tuple(also)
        self.media_types = tuple(media_types)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse the method; either way in this dialect."""
        notes: dict[str, Any] = scope.setdefault("likewise", {})
        notes["dialect"] = self.dialect
        notes["route"] = self.path
        await super().handle(scope, receive, send)


def dialect_of_scope(scope: Scope) -> str:
    """The dialect that a request's handler or route noted; before either has, its path's."""
    noted = scope.get("likewise", {}).get("dialect")
    if noted is not None:
        return str(noted)
    route = spoken_at(scope)
    if route is not None:
        return route.dialect
    return "ollama" if str(scope.get("path", "")).startswith("/api/") else "openai"


def spoken_at(scope: Scope) -> Spoken | None:
    """The route that a request would take; one for other methods where there is none for its own.

    None outside of an application, or where no route of a dialect has the path.
    """
    others: Spoken | None = None
    for route in getattr(scope.get("app"), "routes", ()):
        match, _ = route.matches(scope)
        if match is Match.NONE:
            continue
        if match is Match.FULL:
            return route if isinstance(route, Spoken) else others
        others = others or (route if isinstance(route, Spoken) else None)
    return others


def serves_models(scope: Scope) -> bool:
    """Whether the request is for what other servers of models have too.

    Not so are routes of our own, which read databases, bind, and load or unload models.
    """
    route = spoken_at(scope)
    return route is None or route.dialect != "likewise"
