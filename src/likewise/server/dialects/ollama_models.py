"""Ollama's dialect, what it tells: `/api/tags`, `/api/show`, `/api/ps` and `/api/version`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec

from likewise.models.short_names import tagged
from likewise.runtime.naming import client_names
from likewise.server import body
from likewise.server.dialects.ollama_facts import Details, Told
from likewise.server.dialects.ollama_names import served_name
from likewise.server.errors import json_response
from likewise.server.routing import Endpoint, Spoken
from likewise.version import __version__

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from likewise.server.serving import Catalogue

OLLAMA_VERSION = "0.33.0"
"""The version whose routes these are: clients ask for a least one."""


class ShowRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /api/show`; `name` is what `model` was called once."""

    model: str | None = None
    name: str | None = None
    verbose: bool | None = None


class Tag(TypedDict):
    """One name of one model."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: Details
    capabilities: list[str]


class TagsAnswer(TypedDict):
    """The answer of `GET /api/tags`."""

    models: list[Tag]


class Process(TypedDict):
    """A model that is loaded."""

    name: str
    model: str
    size: int
    digest: str
    details: Details
    expires_at: str
    size_vram: int
    context_length: int


class PsAnswer(TypedDict):
    """The answer of `GET /api/ps`."""

    models: list[Process]


class ShowAnswer(TypedDict):
    """The answer of `POST /api/show`."""

    license: str
    modelfile: str
    parameters: str
    template: str
    details: Details
    model_info: dict[str, Any]
    capabilities: list[str]
    modified_at: str


class VersionAnswer(TypedDict):
    """The answer of `GET /api/version`; `likewise` is ours."""

    version: str
    likewise: str


_SHOW = msgspec.json.Decoder(ShowRequest)


def routes() -> list[Route]:
    """What only tells."""
    return [
        _get("/api/tags", tags, TagsAnswer),
        _get("/api/ps", ps, PsAnswer),
        _get("/api/version", version, VersionAnswer),
        Spoken(
            "/api/show",
            show,
            methods=["POST"],
            dialect="ollama",
            body=ShowRequest,
            answer=ShowAnswer,
        ),
    ]


def _get(path: str, endpoint: Endpoint, answer: Any) -> Spoken:
    return Spoken(path, endpoint, methods=["GET"], dialect="ollama", answer=answer)


async def version(request: Request) -> Response:
    """Which Ollama this is like, and which Likewise it is."""
    del request
    return json_response({"version": OLLAMA_VERSION, "likewise": __version__})


async def tags(request: Request) -> Response:
    """All models that are served, under every name by which Ollama's clients may look for one."""
    return json_response(await asyncio.to_thread(_tags, request.app.state.models))


def _tags(catalogue: Catalogue) -> TagsAnswer:
    newest_first = sorted(map(Told, catalogue.models()), key=lambda one: -one.stamp)
    return {"models": [_tag(one, name) for one in newest_first for name in _names(one)]}


def _names(one: Told) -> list[str]:
    """The full name first; then others, as Ollama shows a model that was copied."""
    return list(dict.fromkeys(map(tagged, client_names(one.name, one.aliases))))


def _tag(one: Told, name: str) -> Tag:
    return {
        "name": name,
        "model": name,
        "modified_at": one.modified_at,
        "size": one.size,
        "digest": one.digest,
        "details": one.details(),
        "capabilities": one.capabilities,
    }


async def ps(request: Request) -> Response:
    """The models that are loaded, each under every name by which clients may look for it."""
    return json_response(await asyncio.to_thread(_ps, request.app.state.models))


def _ps(catalogue: Catalogue) -> PsAnswer:
    loaded = [Told(one) for one in catalogue.models() if one.state == "loaded"]
    return {"models": [_process(one, name) for one in loaded for name in _names(one)]}


def _process(one: Told, name: str) -> Process:
    return {
        "name": name,
        "model": name,
        "size": one.resident,
        "digest": one.digest,
        "details": one.details(),
        "expires_at": one.expires_at,
        "size_vram": int(one.facts.get("vram_bytes", 0)),
        "context_length": one.context_length or 0,
    }


async def show(request: Request) -> Response:
    """All about one model."""
    raw = await body.read(request, request.app.state.max_body_bytes)
    asked = body.decode(raw, _SHOW, ShowRequest.__struct_fields__)
    catalogue: Catalogue = request.app.state.models
    name = served_name(catalogue, asked.name if asked.model is None else asked.model)
    return json_response(await asyncio.to_thread(_show, catalogue, name))


def _show(catalogue: Catalogue, name: str) -> ShowAnswer:
    one = Told(next(each for each in catalogue.models() if each.name == name))
    length = one.context_length
    return {
        "license": one.licence(),
        "modelfile": f"FROM {name}\n",
        "parameters": "" if length is None else f"num_ctx                        {length}",
        "template": "{{ .Prompt }}",
        "details": one.details(),
        "model_info": one.model_info(),
        "capabilities": one.capabilities,
        "modified_at": one.modified_at,
    }
