"""Search over bindings: `GET|POST /search` and `GET /bindings`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec
from anyio import CapacityLimiter, to_thread
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from likewise.base.errors import BindingNotFound, InputError, Overloaded
from likewise.base.names import nearest
from likewise.base.types import Freshness
from likewise.client.names import is_remote
from likewise.server import body, encode
from likewise.server.bindings import WAIT_S
from likewise.server.routing import Spoken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.routing import Route

    from likewise.base.types import Result
    from likewise.server.bindings import LiveBinding

DEFAULT_K = 10
LONGEST_WAIT_MS = 60_000
MOST_WAITING = 32
"""Searches at a time that wait for changes; and as many for models behind endpoints."""


class SearchRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /search`; `GET /search` takes the same names in its query string."""

    q: str
    binding: str | None = None
    k: int = DEFAULT_K
    freshness: Freshness = "any"
    wait_ms: int = int(1000 * WAIT_S)


class Passage(TypedDict):
    """Where in the text the passage is that was found: characters, half open."""

    start: int
    end: int


class Found(TypedDict):
    """One row, as the source has it now."""

    score: float
    table: str
    key: list[Any]
    row: dict[str, Any]
    text: Any
    passage: Passage
    fresh: bool


class SearchAnswer(TypedDict):
    """What a search found, best first."""

    binding: str
    q: str
    k: int
    freshness: Freshness
    results: list[Found]
    took_ms: float


class BindingsAnswer(TypedDict):
    """The state of each binding."""

    bindings: list[dict[str, Any]]


_DECODER = msgspec.json.Decoder(SearchRequest)
_FIELDS = SearchRequest.__struct_fields__


def routes() -> list[Route]:
    """What this dialect answers."""
    return [
        Spoken(
            "/search",
            search,
            methods=["GET", "POST"],
            dialect="likewise",
            body=SearchRequest,
            query=SearchRequest,
            answer=SearchAnswer,
        ),
        Spoken("/bindings", bindings, methods=["GET"], dialect="likewise", answer=BindingsAnswer),
    ]


def find(live: Sequence[LiveBinding], name: str | None) -> LiveBinding:
    """The binding called `name`; the only one when None.

    Raises:
        BindingNotFound: there is none of that name; the message lists those there are.
        InputError: None, and there are several.
    """
    names = [binding.name for binding in live]
    for binding in live:
        if name == binding.name or (name is None and len(live) == 1):
            return binding
    shown = ", ".join(names)
    if name is None and live:
        raise InputError(f"'binding' is missing; there are: {shown}", param="binding")
    if not live:
        raise BindingNotFound(
            "this server has no bindings; name their database with 'likewise serve --db'",
            param="binding",
        )
    hint = nearest(str(name), names)
    raise BindingNotFound(f"no binding {name!r} here{hint}; there are: {shown}", param="binding")


async def search(request: Request) -> Response:
    """Rows of the source nearest to a question."""
    if request.method == "POST":
        raw = await body.read(request, request.app.state.max_body_bytes)
        asked = body.decode(raw, _DECODER, _FIELDS)
    else:
        asked = _from_query(request)
    began = time.perf_counter()
    binding = find(request.app.state.bindings, asked.binding)
    if not 0 <= asked.wait_ms <= LONGEST_WAIT_MS:
        raise InputError(
            f"wait_ms must be between 0 and {LONGEST_WAIT_MS}, not {asked.wait_ms}", param="wait_ms"
        )

    def found() -> list[Result]:
        wait_s = asked.wait_ms / 1000
        return binding.search(asked.q, asked.k, freshness=asked.freshness, wait_s=wait_s)

    results = await to_thread.run_sync(found, limiter=_limiter(request, binding, asked.freshness))
    took_ms = (time.perf_counter() - began) * 1000
    content = answer_of(binding, asked.q, asked.k, asked.freshness, results)
    content["took_ms"] = round(took_ms, 2)
    return Response(encode.to_json(content), media_type="application/json")


def _limiter(
    request: Request, binding: LiveBinding, freshness: Freshness
) -> CapacityLimiter | None:
    """Threads for searches that may stand still, apart from those of all others, which don't.

    Some wait for changes, some for another server's model.

    Raises:
        Overloaded: all of them are taken.
    """
    if freshness != "wait" and not is_remote(binding.record.spec.model):
        return None
    state = request.app.state
    if not hasattr(state, "waiting"):
        state.waiting = {name: CapacityLimiter(MOST_WAITING) for name in ("wait", "remote")}
    limiter: CapacityLimiter = state.waiting["wait" if freshness == "wait" else "remote"]
    if limiter.available_tokens < 1:
        what = "for changes" if freshness == "wait" else "for models behind endpoints"
        raise Overloaded(f"{MOST_WAITING} searches wait {what} already; try again in a moment")
    return limiter


def _from_query(request: Request) -> SearchRequest:
    """The query string as a request, refused in the same words as a body."""
    given = dict(request.query_params)
    for name in given:
        if name not in _FIELDS:
            known = ", ".join(_FIELDS)
            raise InputError(
                f"unknown parameter {name!r}{nearest(name, _FIELDS)}; known: {known}", param=name
            )
    try:
        return msgspec.convert(given, SearchRequest, strict=False)
    except msgspec.ValidationError as wrong:
        raise body.explained(str(wrong), _FIELDS) from wrong


def answer_of(
    binding: LiveBinding, q: str, k: int, freshness: Freshness, results: Sequence[Result]
) -> dict[str, Any]:
    """What a search found, as JSON can hold it."""
    found = [as_json(result, binding.table_name) for result in results]
    return {"binding": binding.name, "q": q, "k": k, "freshness": freshness, "results": found}


def as_json(result: Result, table: str) -> dict[str, Any]:
    """One result: the row as it is now, and the passage that was found in its text."""
    chunk, text = result.hit.chunk, result.row.text
    return {
        "score": result.hit.score,
        "table": table,
        "key": [encode.shown_value(part) for part in result.hit.key],
        "row": encode.shown(result.row.values),
        "text": encode.shown_value(text),
        "passage": {"start": min(chunk.start, len(text)), "end": min(chunk.end, len(text))},
        "fresh": result.fresh,
    }


async def bindings(request: Request) -> Response:
    """Each binding's state: rows, how many are current, pending or parked, and the lag."""
    live: Sequence[LiveBinding] = request.app.state.bindings
    states = [await run_in_threadpool(binding.state) for binding in live]
    return Response(encode.to_json({"bindings": states}), media_type="application/json")
