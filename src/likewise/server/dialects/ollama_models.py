"""Ollama's dialect, what it tells: `/api/tags`, `/api/show`, `/api/ps` and `/api/version`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import msgspec

from likewise.server.dialects import ollama_bodies
from likewise.server.dialects.ollama_facts import Details, Tensor, Told
from likewise.server.dialects.ollama_names import AskedNames, chosen_name, shown_names
from likewise.server.errors import json_response
from likewise.server.routing import Endpoint, Spoken
from likewise.version import __version__

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from likewise.server.serving import Catalogue

VERSION_HEADER = "x-likewise-version"
OLLAMA_VERSION = "0.33.0"
"""The version whose routes these are: clients ask for a least one."""


class ShowRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /api/show`; `name` is what `model` was called once.

    Ollama's own client sends all of these; the last three change nothing of an embedding model.
    """

    model: str | None = None
    name: str | None = None
    verbose: bool | None = None
    system: str | None = None
    template: str | None = None
    options: dict[str, Any] | None = None


class Tag(TypedDict):
    """One name of one model."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: Details


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
    """The answer of `POST /api/show`; what isn't known is left out, as Ollama does."""

    license: NotRequired[str]
    modelfile: str
    parameters: NotRequired[str]
    template: str
    details: Details
    model_info: dict[str, Any]
    tensors: list[Tensor]
    capabilities: list[str]
    modified_at: str


class VersionAnswer(TypedDict):
    """The answer of `GET /api/version`."""

    version: str


class Cloud(TypedDict):
    """Whether models are asked elsewhere; `source` names what settled it."""

    disabled: bool
    source: str


class StatusAnswer(TypedDict):
    """The answer of `GET /api/status`."""

    cloud: Cloud


_SHOW = msgspec.json.Decoder(ShowRequest)


def routes() -> list[Route]:
    """What only tells."""
    return [
        _get("/api/tags", tags, TagsAnswer),
        _get("/api/ps", ps, PsAnswer),
        _get("/api/version", version, VersionAnswer),
        _get("/api/status", status, StatusAnswer),
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
    """Which Ollama this is like; a header says which Likewise it is."""
    del request
    return json_response({"version": OLLAMA_VERSION}, headers={VERSION_HEADER: __version__})


async def status(request: Request) -> Response:
    """That no model of this server runs elsewhere."""
    del request
    return json_response({"cloud": {"disabled": True, "source": "none"}})


async def tags(request: Request) -> Response:
    """All models that are served, under every name by which Ollama's clients may look for one."""
    return json_response(await asyncio.to_thread(_tags, request.app.state.models))


def _tags(catalogue: Catalogue) -> TagsAnswer:
    newest_first = sorted(map(Told, catalogue.models()), key=lambda one: -one.stamp)
    return {
        "models": [
            _tag(one, name) for one in newest_first for name in shown_names(one.name, one.aliases)
        ]
    }


def _tag(one: Told, name: str) -> Tag:
    return {
        "name": name,
        "model": name,
        "modified_at": one.modified_at,
        "size": one.size,
        "digest": one.digest,
        "details": one.details(),
    }


async def ps(request: Request) -> Response:
    """The models that are loaded, each under the names by which clients asked for it.

    One that nobody asked for in this dialect is shown under every name that it has.
    """
    state = request.app.state
    return json_response(await asyncio.to_thread(_ps, state.models, state.asked_names))


def _ps(catalogue: Catalogue, asked: AskedNames) -> PsAnswer:
    found: list[Process] = []
    for each in catalogue.models():
        if each.state != "loaded":
            asked.forget(each.name)
            continue
        one = Told(each)
        names = asked.of(one.name) or shown_names(one.name, one.aliases)
        found += [_process(one, name) for name in names]
    return {"models": found}


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
    asked = await ollama_bodies.read(request, _SHOW)
    catalogue: Catalogue = request.app.state.models
    name = chosen_name(request, asked.model or asked.name, is_plain=True)
    return json_response(await asyncio.to_thread(_show, catalogue, name))


def _show(catalogue: Catalogue, name: str) -> ShowAnswer:
    one = Told(next(each for each in catalogue.models() if each.name == name))
    found: ShowAnswer = {
        "modelfile": f"FROM {name}\n",
        "template": "{{ .Prompt }}",
        "details": one.details(),
        "model_info": one.model_info(),
        "tensors": one.tensors(),
        "capabilities": one.capabilities,
        "modified_at": one.modified_at,
    }
    if licence := one.licence():
        found["license"] = licence
    if length := one.context_length:
        found["parameters"] = f"num_ctx                        {length}"
    return found
