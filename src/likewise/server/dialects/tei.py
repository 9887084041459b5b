"""Text Embeddings Inference's dialect: its routes, and the task that a body is for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec

from likewise.base.errors import LikewiseError
from likewise.runtime.sinks import Times
from likewise.server import body
from likewise.server.dialects import tei_info
from likewise.server.dialects.tei_asking import (
    Ask,
    Done,
    Metered,
    answered,
    decoded,
    endpoint,
    opened,
    require_count,
)
from likewise.server.dialects.tei_scores import Prediction, PredictRequest, predict, rank
from likewise.server.dialects.tei_tokens import DecodeRequest, decode, tokens
from likewise.server.dialects.tei_vectors import (
    EmbedAllRequest,
    EmbedRequest,
    SimilarityRequest,
    SparseValue,
    embed,
    embed_all,
    embed_sparse,
    similarity,
)
from likewise.server.routing import Spoken
from likewise.server.serving import lane_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from likewise.server.dialects.tei_asking import Task


class VertexRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /vertex`: bodies of the model's default task."""

    instances: list[msgspec.Raw]
    model: str | None = None


class VertexAnswer(TypedDict):
    """What each instance got, in order."""

    predictions: list[Any]


class _Shape(msgspec.Struct):
    """As much of a body as tells which task it is for."""

    inputs: msgspec.Raw = msgspec.Raw()
    texts: msgspec.Raw = msgspec.Raw()
    model: str | None = None


_VERTEX = msgspec.json.Decoder(VertexRequest)
_SHAPE = msgspec.json.Decoder(_Shape)


def routes() -> list[Route]:
    """What this dialect answers on paths that it shares with no other."""
    return [
        _post("/embed", embed, EmbedRequest, list[list[float]]),
        _post("/embed_all", embed_all, EmbedAllRequest, list[list[list[float]]]),
        _post("/embed_sparse", embed_sparse, EmbedAllRequest, list[list[SparseValue]]),
        _post("/similarity", similarity, SimilarityRequest, list[float]),
        _post("/predict", predict, PredictRequest, list[Prediction | list[Prediction]]),
        _post("/decode", decode, DecodeRequest, list[str]),
        _post("/vertex", vertex, VertexRequest, VertexAnswer),
        # What body and answer look like depends on the model.
        _post("/", default, dict[str, Any], list[Any]),
        _post("/invocations", default, dict[str, Any], list[Any]),
        *tei_info.routes(),
    ]


def _post(path: str, task: Task, asked: Any, answer: Any) -> Spoken:
    return Spoken(path, endpoint(task), methods=["POST"], dialect="tei", body=asked, answer=answer)


async def rerank(request: Request, raw: bytes) -> Response:
    """The response to a body of `POST /rerank` that has `texts`."""
    return await answered(request, raw, rank)


async def tokenize(request: Request, raw: bytes) -> Response:
    """The response to a body of `POST /tokenize` that has `inputs`."""
    return await answered(request, raw, tokens)


async def default(ask: Ask) -> Done:
    """What the model is for; a body that fits one task alone gets that one.

    `texts` are reranked, and sentences in an object compared; else a model with scores predicts,
    one with sparse vectors alone gives those, and any other gives vectors.
    """
    shape = body.decode(ask.raw, _SHAPE, _Shape.__struct_fields__, allows_twice=True)
    if bytes(shape.texts):
        return await rank(ask)
    if bytes(shape.inputs).startswith(b"{"):
        return await similarity(ask)
    async with opened(ask, shape.model) as model:
        gives = model.info()["gives"]
        if "scores" in gives:
            return await predict(ask)
        is_sparse = "sparse" in gives and "vectors" not in gives
        return await (embed_sparse if is_sparse else embed)(ask)


async def vertex(ask: Ask) -> Done:
    """The default task for each of several bodies; all together, in the lane of so many."""
    asked = decoded(ask, _VERTEX)
    if not asked.instances:
        return Done({"predictions": []})
    require_count(ask, len(asked.instances), "instances")
    lane = lane_of(ask.request, len(asked.instances))
    working = [
        asyncio.ensure_future(default(Ask(ask.request, bytes(one), asked.model, lane)))
        for one in asked.instances
    ]
    try:
        await asyncio.wait(working, return_when=asyncio.FIRST_EXCEPTION)
        done = [_done(one, at) for at, one in enumerate(working) if one.done()]
    finally:
        for one in working:
            one.cancel()
        # The loser of two failures would otherwise be reported as never looked at.
        await asyncio.gather(*working, return_exceptions=True)
    return Done({"predictions": [one.content for one in done]}, _together(done))


def _done(work: asyncio.Future[Done], at: int) -> Done:
    try:
        return work.result()
    except LikewiseError as error:
        raise type(error)(
            f"instances[{at}]: {error}",
            param=error.param,
            inputs=error.inputs,
            retry_after_s=error.retry_after_s,
        ) from error


def _together(done: Sequence[Done]) -> Metered:
    """What all instances took; a position counts instances."""
    metered = [one.metered for one in done if one.metered is not None]
    return Metered(
        sum(one.characters for one in metered),
        sum(one.tokens for one in metered),
        tuple(at for at, one in enumerate(metered) if one.truncated),
        Times.mean([one.times for one in metered]),
        metered[0].runs_on,
    )
