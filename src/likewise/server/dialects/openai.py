"""OpenAI's embeddings dialect: `POST /v1/embeddings` and `GET /v1/models`."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict

import msgspec
from starlette.responses import Response

from likewise.base.clock import wall
from likewise.runtime.naming import client_names
from likewise.server import body, lenient
from likewise.server.choosing import VECTORS
from likewise.server.dialects.openai_answer import EmbeddingsAnswer, answer, form_of
from likewise.server.dialects.openai_inputs import conversations, inputs_of
from likewise.server.dialects.openai_request import EmbeddingsRequest, late_options, options
from likewise.server.dialects.texts import model_named
from likewise.server.errors import json_response
from likewise.server.routing import Endpoint, Spoken
from likewise.server.serving import computed, using

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import Route

    from likewise.runtime.pending import Embedded
    from likewise.server.serving import Catalogue, Listed, Model

_DECODER = msgspec.json.Decoder(EmbeddingsRequest)
_SDK_HEADER = "x-stainless-lang"


class ModelAnswer(TypedDict):
    """A served model, for clients of OpenAI, vLLM and infinity; unloaded ones say less."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    root: str
    parent: None
    state: str
    aliases: list[str]
    max_model_len: NotRequired[int]
    backend: NotRequired[str]
    capabilities: NotRequired[list[str]]
    gives: NotRequired[list[str]]
    dimensions: NotRequired[int]
    max_tokens: NotRequired[int]
    engine: NotRequired[str]
    precision: NotRequired[str]


class ModelsAnswer(TypedDict):
    """All served models."""

    object: Literal["list"]
    data: list[ModelAnswer]


def routes() -> list[Route]:
    """What this dialect answers, with and without `/v1`."""
    return [
        *(
            Spoken(
                path,
                embeddings,
                methods=["POST"],
                dialect="openai",
                body=EmbeddingsRequest,
                answer=EmbeddingsAnswer,
                media_types=("application/json", "application/octet-stream"),
            )
            for path in ("/v1/embeddings", "/embeddings")
        ),
        *(_got(path, models, ModelsAnswer) for path in ("/v1/models", "/models")),
        _got("/v1/models/{name:path}", one_model, ModelAnswer),
    ]


def _got(path: str, endpoint: Endpoint, shape: Any) -> Spoken:
    return Spoken(path, endpoint, methods=["GET"], dialect="openai", answer=shape)


async def embeddings(request: Request) -> Response:
    """Vectors for one or many texts, token lists or conversations."""
    began = time.perf_counter()
    raw = await body.read(request, request.app.state.max_body_bytes)
    asked = lenient.decode(request, raw, _DECODER)
    given: list[Any] = inputs_of(asked) if asked.messages is None else conversations(asked)
    form = form_of(asked, len(given), by_sdk=_SDK_HEADER in request.headers)
    async with using(request, model_named(asked.model), (VECTORS,)) as (name, model):
        found = await _found(request, model, asked, given)
    return answer(
        name,
        found,
        form,
        request_id=f"embd-{asked.request_id or uuid.uuid4().hex}",
        created=int(wall()),
        total_s=time.perf_counter() - began,
    )


async def _found(
    request: Request, model: Model, asked: EmbeddingsRequest, given: list[Any]
) -> Embedded:
    chosen = options(asked, model.prompts, model.space.dimensions)
    if asked.late_chunking:
        chosen = late_options(asked, chosen)
        return await computed(request, model.submit_late, given, **chosen)
    if asked.messages is not None:
        given = await asyncio.to_thread(_written, model, asked, given)
    return await computed(request, model.submit, given, **chosen)


def _written(model: Model, asked: EmbeddingsRequest, given: list[Any]) -> list[str]:
    """Conversations as the model's chat template writes them."""
    return [
        model.chat_text(
            turns,
            generation_prompt=bool(asked.add_generation_prompt),
            variables=asked.chat_template_kwargs,
        )
        for turns in given
    ]


async def models(request: Request) -> Response:
    """The models that are served, each under every name by which clients may look for it."""
    served: Catalogue = request.app.state.models
    created = int(request.app.state.started_at)
    rows = [
        _model(one, created, name)
        for one in served.models()
        for name in client_names(one.name, one.aliases)
    ]
    return json_response({"object": "list", "data": rows})


async def one_model(request: Request) -> Response:
    """One model by name."""
    served: Catalogue = request.app.state.models
    asked = request.path_params["name"]
    full = served.resolve(asked)
    found = next(one for one in served.models() if one.name == full)
    name = asked if asked in client_names(full, found.aliases) else full
    return json_response(_model(found, int(request.app.state.started_at), name))


def _model(one: Listed, created: int, name: str) -> dict[str, Any]:
    facts = one.facts()
    told: dict[str, Any] = {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "likewise",
        "root": one.name,
        "parent": None,
        "state": one.state,
        "aliases": list(one.aliases),
    }
    shared = ("gives", "dimensions", "max_tokens", "engine", "precision")
    told |= {key: facts[key] for key in shared if key in facts}
    renamed = {"max_model_len": "max_tokens", "backend": "engine"}
    told |= {name: facts[key] for name, key in renamed.items() if key in facts}
    if "gives" in facts:
        told["capabilities"] = _capabilities(facts)
    return told


def _capabilities(facts: Mapping[str, Any]) -> list[str]:
    """What infinity calls it: one score for a pair ranks, several classify."""
    scores = "classify" if len(facts.get("labels", ())) > 1 else "rerank"
    named = {"vectors": "embed", "scores": scores}
    return [named[one] for one in facts["gives"] if one in named]
