"""The OpenAPI document, made from the routes: what they take, what they answer, how they refuse."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import msgspec
import orjson
from starlette.responses import Response

from likewise.server.errors import STATUS, STATUS_BY_DIALECT
from likewise.server.prefix import prefix_of
from likewise.server.routing import Spoken
from likewise.version import __version__

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

_REF = "#/components/schemas/{name}"
# Said of any request: paths, methods, bodies, hosts, keys, and bugs.
_ALWAYS = frozenset({400, 401, 403, 404, 405, 408, 413, 415, 421, 431, 500})
_WORDS = {
    400: "The request can't be answered as it was sent.",
    401: "There is no key with the request, or it isn't known here.",
    403: "The key is known and may not do this.",
    404: "No such model, binding or path.",
    405: "Another method is meant.",
    408: "The body didn't come in time.",
    409: "What is there contradicts what was asked.",
    413: "The body is too large.",
    415: "The body isn't JSON as it stands.",
    421: "This server doesn't answer for that host.",
    422: "The request can't be answered as it was sent.",
    424: "The model can't do this, or failed.",
    429: "Too much was asked; try again later.",
    431: "The request's head is too large.",
    500: "The server failed; its log has the details.",
    501: "A part that this needs isn't installed.",
    502: "A model's endpoint refused, or answered what can't be understood.",
    503: "Too busy, or not ready; try again later.",
    507: "The disk is full.",
}


class OpenAIErrorBody(TypedDict):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None
    inputs: NotRequired[list[int]]


class OpenAIError(TypedDict):
    """A refusal as OpenAI writes it, as Jina and Voyage do in `detail`, and TEI in the rest."""

    error: OpenAIErrorBody
    detail: NotRequired[str]
    message: NotRequired[str]
    code: NotRequired[int]
    type: NotRequired[str]


class TeiError(TypedDict):
    """A refusal as Text Embeddings Inference writes it."""

    error: str
    error_type: str


class OllamaError(TypedDict):
    """A refusal as Ollama writes it."""

    error: str


class CohereError(TypedDict):
    """A refusal as Cohere writes it, and as OpenAI does: clients of both come here."""

    message: str
    error: OpenAIErrorBody
    detail: NotRequired[str]
    code: NotRequired[int]
    type: NotRequired[str]


class LlamaErrorBody(TypedDict):
    """What went wrong; `code` is the status."""

    code: int
    message: str
    type: str


class LlamaError(TypedDict):
    """A refusal as llama.cpp writes it."""

    error: LlamaErrorBody
    detail: str


ERRORS: Mapping[str, Any] = {
    "tei": TeiError,
    "ollama": OllamaError,
    "cohere": CohereError,
    "llamacpp": LlamaError,
}
"""The shape of a dialect's errors; OpenAI's where none is named."""


def routes() -> list[Spoken]:
    """Where the document is."""
    return [
        Spoken(path, openapi, methods=["GET"], dialect="likewise", answer=dict[str, Any])
        for path in ("/openapi.json", "/api-doc/openapi.json")
    ]


async def openapi(request: Request) -> Response:
    """What every route takes and answers, as OpenAPI 3.1."""
    made = await described(request)
    if prefix := prefix_of(request.scope):
        made = {**made, "servers": [{"url": prefix}]}
    return Response(orjson.dumps(made), media_type="application/json")


async def described(request: Request) -> dict[str, Any]:
    """The document for the application's routes, made once."""
    made: dict[str, Any] | None = getattr(request.app.state, "openapi", None)
    if made is None:
        # It takes a while, in which others are answered.
        made = await asyncio.to_thread(document, request.app.routes)
        request.app.state.openapi = made
    return made


def document(routes: Sequence[BaseRoute]) -> dict[str, Any]:
    """The document for `routes`, those of them that say what they speak."""
    spoken = [route for route in routes if isinstance(route, Spoken)]
    schemas, components = _schemas(spoken)
    paths: dict[str, dict[str, Any]] = {}
    for route in spoken:
        path = route.path.replace(":path", "")
        for method in sorted(route.methods or ()):
            if method != "HEAD":
                paths.setdefault(path, {})[method.lower()] = _operation(route, method, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Likewise",
            "version": __version__,
            "description": "Embeddings, scores and searches, in the dialects that clients speak.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}, {}],
    }


def statuses(dialect: str) -> frozenset[int]:
    """Those that a route of `dialect` may refuse with."""
    own = STATUS_BY_DIALECT.get(dialect, {})
    return _ALWAYS | {own.get(code, status) for code, (status, _) in STATUS.items()}


def _schemas(routes: Sequence[Spoken]) -> tuple[dict[Any, Any], dict[str, Any]]:
    """The schema of each type by its identity, and what they refer to."""
    types = list(_types(routes))
    made, components = msgspec.json.schema_components(types, ref_template=_REF)
    return {id(kind): schema for kind, schema in zip(types, made, strict=True)}, components


def _types(routes: Sequence[Spoken]) -> Iterator[Any]:
    yield OpenAIError
    yield from ERRORS.values()
    seen: set[int] = set()
    for route in routes:
        for kind in (*_each(route.body), *_each(route.answer), *_each(route.query)):
            if id(kind) not in seen:
                seen.add(id(kind))
                yield kind


def _each(kinds: Any) -> tuple[Any, ...]:
    """The types of what may have one of several, or one, or none."""
    return () if kinds is None else kinds if isinstance(kinds, tuple) else (kinds,)


def _schema(kinds: Any, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    each: list[dict[str, Any]] = [schemas[id(kind)] for kind in _each(kinds)]
    return each[0] if len(each) == 1 else {"anyOf": each}


def _operation(route: Spoken, method: str, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    summary, _, more = (inspect.getdoc(route.endpoint) or "").partition("\n")
    operation: dict[str, Any] = {"summary": summary, "tags": [route.dialect]}
    if more.strip():
        operation["description"] = more.strip()
    takes_body = route.body is not None and method != "GET"
    if parameters := [*_in_path(route), *(() if takes_body else _in_query(route))]:
        operation["parameters"] = parameters
    if takes_body:
        content = {"application/json": {"schema": _schema(route.body, schemas)}}
        operation["requestBody"] = {"required": True, "content": content}
    operation["responses"] = {"200": _success(route, schemas), **_refusals(route, schemas)}
    return operation


def _success(route: Spoken, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    schema = {} if route.answer is None else {"schema": _schema(route.answer, schemas)}
    content = {media: schema if media == "application/json" else {} for media in route.media_types}
    return {"description": "Done.", "content": content} if content else {"description": "Done."}


def _refusals(route: Spoken, schemas: Mapping[Any, Any]) -> dict[str, Any]:
    dialects = (route.dialect, *route.also)
    shapes = tuple(dict.fromkeys(ERRORS.get(each, OpenAIError) for each in dialects))
    content = {"application/json": {"schema": _schema(shapes, schemas)}}
    return {
        str(status): {"description": _WORDS[status], "content": content}
        for status in sorted(frozenset().union(*map(statuses, dialects)))
    }


def _in_path(route: Spoken) -> Iterator[dict[str, Any]]:
    for name in route.param_convertors:
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _in_query(route: Spoken) -> Iterator[dict[str, Any]]:
    if route.query is None:
        return
    _, components = msgspec.json.schema_components([route.query], ref_template=_REF)
    own = components[route.query.__name__]
    for name, schema in own["properties"].items():
        required = name in own.get("required", ())
        yield {"name": name, "in": "query", "required": required, "schema": schema}
