"""`GET /v1/models`: what clients of OpenAI, vLLM, infinity and Cohere read of served models."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict

from likewise.runtime import metrics
from likewise.runtime.naming import client_names
from likewise.server.described import described
from likewise.server.errors import json_response
from likewise.server.routing import Endpoint, Spoken

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from likewise.server.serving import Catalogue, Listed

QUEUE_TEXTS = 32_000
"""Waiting texts that infinity's `queue_fraction` counts as a full queue."""


class Stats(TypedDict):
    """What infinity says of a model's queue."""

    queue_fraction: float
    queue_absolute: int
    results_pending: int
    batch_size: int


class CohereModel(TypedDict):
    """A served model, as Cohere lists it."""

    name: str
    endpoints: list[str]
    finetuned: bool
    context_length: NotRequired[int]


class ModelAnswer(TypedDict):
    """A served model, for clients of OpenAI, vLLM, infinity and Cohere; unloaded ones say less."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    root: str
    parent: None
    state: str
    aliases: list[str]
    stats: Stats
    name: str
    endpoints: list[str]
    finetuned: bool
    context_length: NotRequired[int]
    max_model_len: NotRequired[int]
    backend: NotRequired[str]
    capabilities: NotRequired[list[str]]
    gives: NotRequired[list[str]]
    dimensions: NotRequired[int]
    max_tokens: NotRequired[int]
    engine: NotRequired[str]
    precision: NotRequired[str]


class ModelsAnswer(TypedDict):
    """All served models: `data` for clients of OpenAI, vLLM and infinity, `models` for Cohere's."""

    object: Literal["list"]
    data: list[ModelAnswer]
    models: list[CohereModel]


def routes() -> list[Route]:
    """The list and its entries."""
    return [
        *(_got(path, models, ModelsAnswer) for path in ("/v1/models", "/models")),
        _got("/v1/models/{name:path}", one_model, ModelAnswer),
    ]


def _got(path: str, endpoint: Endpoint, shape: Any) -> Spoken:
    return Spoken(path, endpoint, methods=["GET"], dialect="openai", answer=shape)


async def models(request: Request) -> Response:
    """The models that are served, each under every name by which clients may look for it."""
    served: Catalogue = request.app.state.models
    created = int(request.app.state.started_at)
    rows = await asyncio.to_thread(_rows, served, created, request.app.state.max_inputs)
    wanted = request.query_params.get("endpoint")
    if not request.url.path.endswith("/v1/models"):
        # infinity's client takes no other owner at its own path.
        rows = [{**row, "owned_by": "infinity"} for row in rows]
    listed = [_cohere(row) for row in rows if wanted is None or wanted in row["endpoints"]]
    return json_response({"object": "list", "data": rows, "models": listed})


def _rows(served: Catalogue, created: int, most: int) -> list[dict[str, Any]]:
    waiting = _waiting()
    return [
        _model(one, name, created, most, waiting.get(one.name, 0))
        for one in served.models()
        for name in client_names(one.name, one.aliases)
    ]


async def one_model(request: Request) -> Response:
    """One model by name."""
    served: Catalogue = request.app.state.models
    asked = request.path_params["name"]
    full = served.resolve(asked)
    found = next(one for one in served.models() if one.name == full)
    name = asked if asked in client_names(full, found.aliases) else full
    created = int(request.app.state.started_at)
    most, waiting = request.app.state.max_inputs, _waiting().get(full, 0)
    return json_response(await asyncio.to_thread(_model, found, name, created, most, waiting))


def _waiting() -> dict[str, int]:
    """How many texts wait, by model."""
    found: dict[str, int] = {}
    for family in metrics.LIVE.collect():
        if family.name == "likewise_waiting_texts":
            for sample in family.samples:
                name = sample.labels["model"]
                found[name] = found.get(name, 0) + int(sample.value)
    return found


def _model(one: Listed, name: str, created: int, most: int, waiting: int) -> dict[str, Any]:
    facts = described(one)
    told: dict[str, Any] = {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "likewise",
        "root": one.name,
        "parent": None,
        "state": one.state,
        "aliases": list(one.aliases),
        "stats": {
            "queue_fraction": min(1.0, waiting / QUEUE_TEXTS),
            "queue_absolute": waiting,
            "results_pending": waiting,
            "batch_size": most,
        },
        "name": name,
        "endpoints": _capabilities(facts),
        "finetuned": False,
    }
    shared = ("gives", "dimensions", "max_tokens", "engine", "precision")
    told |= {key: facts[key] for key in shared if key in facts}
    renamed = {"max_model_len": "max_tokens", "context_length": "max_tokens", "backend": "engine"}
    told |= {name: facts[key] for name, key in renamed.items() if key in facts}
    if "gives" in facts:
        told["capabilities"] = _capabilities(facts)
    return told


def _cohere(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in CohereModel.__annotations__ if key in row}


def _capabilities(facts: Mapping[str, Any]) -> list[str]:
    """What infinity and Cohere call it: one score for a pair ranks, several classify."""
    scores = "classify" if len(facts.get("labels", ())) > 1 else "rerank"
    named = {"vectors": "embed", "scores": scores}
    return [named[one] for one in facts.get("gives", ()) if one in named]
