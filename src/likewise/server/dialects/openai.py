"""OpenAI's embeddings dialect: `POST /v1/embeddings` and `GET /v1/models`."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response

from likewise.base.clock import wall
from likewise.server import body, lenient
from likewise.server.choosing import VECTORS
from likewise.server.dialects import models_list
from likewise.server.dialects.openai_answer import EmbeddingsAnswer, answer, form_of
from likewise.server.dialects.openai_inputs import conversations, inputs_of
from likewise.server.dialects.openai_request import EmbeddingsRequest, late_options, options
from likewise.server.dialects.openai_words import understood
from likewise.server.dialects.texts import model_named
from likewise.server.routing import Spoken
from likewise.server.serving import computed, using

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import Route

    from likewise.runtime.pending import Embedded
    from likewise.server.serving import Model

_DECODER = msgspec.json.Decoder(EmbeddingsRequest)
_SDK_HEADER = "x-stainless-lang"


PATHS = (
    "/v1/embeddings",
    "/openai/v1/embeddings",
    "/openai/deployments/{deployment}/embeddings",
)
"""OpenAI's path, and Azure's two: the path names the model in the last."""


def routes() -> list[Route]:
    """What this dialect answers."""
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
            for path in PATHS
        ),
        *models_list.routes(),
    ]


async def embeddings(request: Request) -> Response:
    """Vectors for one or many texts, token lists or conversations."""
    return await embedded(request, await body.read(request, request.app.state.max_body_bytes))


async def embedded(request: Request, raw: bytes) -> Response:
    """The response to a body of `POST /v1/embeddings`."""
    began = time.perf_counter()
    asked = understood(lenient.decode(request, raw, _DECODER))
    given: list[Any] = inputs_of(asked) if asked.messages is None else conversations(asked)
    form = form_of(asked, len(given), by_sdk=_SDK_HEADER in request.headers)
    # Clients of Azure send a model too, which Azure doesn't look at.
    wanted = request.path_params.get("deployment") or model_named(asked.model)
    async with using(request, wanted, (VECTORS,)) as (name, model):
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
    chosen = options(request, asked, model)
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
