"""NVIDIA NIM's route for rerankers: `POST /v1/ranking`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypedDict

import msgspec
import numpy as np
from starlette.responses import Response

from likewise.base.errors import InputError
from likewise.server import body, encode, lenient
from likewise.server.dialects.scoring import BY_HEADER, MAX_PAIRS, needs_of, scored, way
from likewise.server.dialects.texts import Written, model_named, text_of
from likewise.server.routing import Spoken
from likewise.server.serving import using

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import Route


class RankingRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /v1/ranking`; `user` changes nothing here."""

    query: str | dict[str, Any]
    passages: list[str | dict[str, Any]]
    model: str | None = None
    truncate: Literal["NONE", "START", "END"] = "NONE"
    user: str | None = None


class Ranked(TypedDict):
    """A passage's place, and the number that the model gives for it, of any size."""

    index: int
    logit: float


class RankingAnswer(TypedDict):
    """Passages, those that answer best first."""

    rankings: list[Ranked]
    usage: dict[str, int]


_DECODER = msgspec.json.Decoder(RankingRequest)


def routes() -> list[Route]:
    """What this dialect answers, with and without `/v1`."""
    return [
        Spoken(
            path,
            ranking,
            methods=["POST"],
            dialect="nim",
            body=RankingRequest,
            answer=RankingAnswer,
        )
        for path in ("/v1/ranking", "/ranking")
    ]


async def ranking(request: Request) -> Response:
    """Passages by how well they answer a query, best first, with the model's plain numbers."""
    raw = await body.read(request, request.app.state.max_body_bytes)
    asked = lenient.decode(request, raw, _DECODER)
    query = text_of(asked.query, "query", "query")
    passages = _passages(asked.passages)
    if not query:
        raise InputError("query is empty", param="query")
    if asked.truncate == "NONE":
        how: dict[str, Any] = {"overflow": "refuse"}
    else:
        how = {"overflow": "cut", "side": "left" if asked.truncate == "START" else "right"}
    async with using(request, model_named(asked.model), needs_of(None)) as (_, model):
        by = way(model, None, any_vectors=False)
        found = await scored(request, model, by, [query], passages, raw=True, **how)
    logits = found.scores[:, 0]
    tokens = int(sum(found.tokens))
    content: RankingAnswer = {
        "rankings": [
            {"index": int(at), "logit": float(logits[at])}
            for at in np.argsort(-logits, kind="stable")
        ],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    cut = [int(at) for at in found.truncated]
    headers = {BY_HEADER: by, **encode.truncation_headers(cut)}
    return Response(encode.to_json(content), 200, headers, "application/json")


def _passages(given: list[Written]) -> list[str]:
    if not given:
        raise InputError("passages is an empty list; send at least one", param="passages")
    if len(given) > MAX_PAIRS:
        raise InputError(
            f"{len(given)} passages in one request; the most is {MAX_PAIRS}", param="passages"
        )
    return [text_of(one, f"passages[{at}]", "passages") for at, one in enumerate(given)]
