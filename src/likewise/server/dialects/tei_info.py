"""Text Embeddings Inference's `/info`, with how a model runs here beside it, and `/ping`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypedDict

from likewise.server import ops
from likewise.server.defaults import overflow
from likewise.server.dialects.tei_asking import Ask, opened
from likewise.server.errors import json_response
from likewise.server.routing import Spoken
from likewise.version import __version__

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from likewise.server.guard import Guard
    from likewise.server.serving import Model

_DTYPES = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}
_POOLINGS = {"lasttoken": "last_token"}
_WORKERS = min(32, (os.cpu_count() or 1) + 4)
"""Threads that much text is cut into tokens in: as many as asyncio starts for such work."""
_OURS = (
    "gives",
    "dimensions",
    "normalised",
    "engine",
    "engine_version",
    "engine_why",
    "slow",
    "slow_because",
    "precision",
    "why",
    "profile",
    "selfcheck_worst_cosine",
    "selfcheck_least_cosine",
    "fallback",
    "notes",
)


class Info(TypedDict):
    """TEI's fields; what this server says of a model beside them is in `docs/tei.md`."""

    model_id: str
    model_sha: str | None
    model_dtype: str
    served_model_name: str
    model_type: dict[str, dict[str, Any]]
    max_concurrent_requests: int
    max_input_length: int
    max_batch_tokens: int
    max_batch_requests: int | None
    max_client_batch_size: int
    auto_truncate: bool
    tokenization_workers: int
    version: str
    sha: str | None
    docker_label: str | None


def routes() -> list[Route]:
    """`/info` and `/ping`."""
    return [
        Spoken("/info", info, methods=["GET"], dialect="tei", answer=Info),
        Spoken("/ping", ping, methods=["GET"], dialect="tei", answer=dict[str, Any]),
    ]


async def ping(request: Request) -> Response:
    """As `/health`, under the name by which SageMaker asks."""
    return await ops.health(request)


async def info(request: Request) -> Response:
    """What the model is, how it is read, and how it runs; `?model=` names one of several."""
    async with opened(Ask(request, b""), None) as model:
        facts = model.info()
        ours = {name: facts[name] for name in _OURS if name in facts}
        return json_response({**_described(request, model, facts), **ours})


def _described(request: Request, model: Model, facts: dict[str, Any]) -> Info:
    guard: Guard = request.app.state.guard
    precision = facts["precision"]
    return {
        "model_id": model.name,
        "model_sha": facts.get("weights"),
        "model_dtype": _DTYPES.get(precision, precision),
        "served_model_name": model.name,
        "model_type": _type(facts),
        # Work is admitted by tokens, not by requests: connections are what is limited.
        "max_concurrent_requests": guard.max_connections,
        "max_input_length": facts["max_tokens"],
        "max_batch_tokens": facts.get("batch_tokens") or facts["max_tokens"],
        "max_batch_requests": None,
        "max_client_batch_size": guard.max_inputs,
        "auto_truncate": overflow(request, None) == "cut",
        "tokenization_workers": _WORKERS,
        "version": __version__,
        "sha": None,
        "docker_label": None,
    }


def _type(facts: dict[str, Any]) -> dict[str, Any]:
    """One key: what the model is."""
    if "scores" in facts["gives"]:
        labels = facts["labels"]
        named = {
            "id2label": {str(at): label for at, label in enumerate(labels)},
            "label2id": {label: at for at, label in enumerate(labels)},
        }
        return {"reranker" if len(labels) == 1 else "classifier": named}
    if "vectors" in facts["gives"]:
        pooling = "+".join(_POOLINGS.get(one, one) for one in facts["pooling"].split("+"))
        return {"embedding": {"pooling": pooling}}
    return {"embedding": {"pooling": "splade" if "sparse" in facts["gives"] else "multi_vector"}}
