"""Reranking in the shapes of Cohere v1 and v2, Jina, vLLM, infinity and Voyage."""

from __future__ import annotations

import asyncio
import math
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict

import msgspec
import numpy as np
from starlette.responses import Response

from likewise.base.clock import wall
from likewise.base.errors import InputError
from likewise.server import body, encode, lenient
from likewise.server.dialects.scoring import (
    BY_HEADER,
    MAX_PAIRS,
    By,
    Options,
    needs_of,
    scored,
    way,
)
from likewise.server.dialects.texts import Written, model_named, text_of
from likewise.server.routing import Spoken
from likewise.server.serving import noted, using
from likewise.vectors.topk import top_k

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.routing import Route

    from likewise.models.tokenize import Token
    from likewise.runtime.sinks import Scored
    from likewise.server.serving import Model

ASKING_HEADER = "x-likewise-rerank"
"""For clients that can't add the field `by`."""

_UNIT_DOCUMENTS = 100
"""Documents in what Cohere calls a search unit."""


class RerankRequest(Options, kw_only=True):
    """The body of every route that reranks; `by` is ours."""

    query: str | dict[str, Any]
    documents: list[str | dict[str, Any]]
    top_n: int | None = None
    top_k: int | None = None
    truncation: bool | None = None
    return_documents: bool | None = None
    rank_fields: list[str] | None = None
    max_chunks_per_doc: int | None = None
    max_tokens_per_doc: int | None = None
    raw_scores: bool | None = None
    use_activation: bool | None = None
    instruction: str | None = None
    by: By | None = None


class RerankResult(TypedDict):
    """A document's place and score."""

    index: int
    relevance_score: float
    document: NotRequired[dict[str, Any] | str | None]


class RerankAnswer(TypedDict):
    """What every route that reranks answers."""

    id: str
    object: Literal["list", "rerank"]
    created: int
    model: str
    usage: dict[str, int]
    results: list[RerankResult]
    data: NotRequired[list[RerankResult]]
    meta: dict[str, Any]
    truncated: NotRequired[list[int]]


_DECODER = msgspec.json.Decoder(RerankRequest)


@dataclass(frozen=True)
class _Shape:
    """What the answers of a path have of their own."""

    version: str
    returns_documents: bool
    has_data: bool = False
    """Whether clients of Voyage may have sent it."""


_SHAPES = {
    "/rerank": _Shape("1", returns_documents=True),
    "/v1/rerank": _Shape("1", returns_documents=True, has_data=True),
    "/v2/rerank": _Shape("2", returns_documents=False),
}


def routes() -> list[Route]:
    """What this dialect answers."""
    return [_route("/v1/rerank", "cohere"), _route("/v2/rerank", "cohere")]


def _route(path: str, dialect: str) -> Spoken:
    async def answer(request: Request) -> Response:
        raw = await body.read(request, request.app.state.max_body_bytes)
        return await _reranked(request, raw, _SHAPES[path])

    return Spoken(
        path,
        answer,
        methods=["POST"],
        dialect=dialect,
        also=("infinity",),
        body=RerankRequest,
        answer=RerankAnswer,
    )


async def rerank(request: Request, raw: bytes) -> Response:
    """Answers `POST /rerank` for a body that has `documents`."""
    noted(request)["dialect"] = "vllm"
    return await _reranked(request, raw, _SHAPES["/rerank"])


async def _reranked(request: Request, raw: bytes, shape: _Shape) -> Response:
    asked = lenient.decode(request, raw, _DECODER)
    if asked.raw_scores is not None:
        noted(request)["dialect"] = "infinity"
    query = text_of(asked.query, "query", "query")
    if not query:
        raise InputError("query is empty", param="query")
    texts = _texts(asked)
    _check_counts(asked)
    how = asked.how(request, cuts=asked.truncation)
    by = _asked_by(request, asked)
    async with using(request, model_named(asked.model), needs_of(by)) as (name, model):
        chosen = way(model, by, any_vectors=False)
        read, shortened = await _shortened(model, texts, asked.max_tokens_per_doc)
        found = await scored(
            request,
            model,
            chosen,
            [query],
            read,
            raw=bool(asked.raw_scores) or asked.use_activation is False,
            prompt=asked.instruction,
            **how,
        )
    cut = sorted({*shortened, *map(int, found.truncated)})
    content = _answer(name, asked, texts, found, cut, shape)
    headers = {BY_HEADER: chosen, **encode.truncation_headers(cut)}
    return Response(encode.to_json(content), 200, headers, "application/json")


def _asked_by(request: Request, asked: RerankRequest) -> By | None:
    """How to score, if the request says so; the body goes before the header."""
    if asked.by is not None:
        return asked.by
    written = request.headers.get(ASKING_HEADER)
    if written is None:
        return None
    for by in ("cross-encoder", "maxsim", "cosine"):
        if written == by:
            return by
    raise InputError(
        f"{ASKING_HEADER} is {written[:40]!r}; known: cross-encoder, maxsim, cosine",
        param=ASKING_HEADER,
    )


def _check_counts(asked: RerankRequest) -> None:
    if asked.top_k is not None and asked.top_n not in (None, asked.top_k):
        raise InputError("top_n and top_k mean the same and differ; send one", param="top_k")
    for name, least in (
        ("top_n", 0),
        ("top_k", 1),
        ("max_chunks_per_doc", 1),
        ("max_tokens_per_doc", 1),
    ):
        value = getattr(asked, name)
        if value is not None and value < least:
            raise InputError(f"{name} is {value}; it must be at least {least}", param=name)


def _texts(asked: RerankRequest) -> list[str]:
    """What is read of each document."""
    if not asked.documents:
        raise InputError("documents is an empty list; send at least one", param="documents")
    if len(asked.documents) > MAX_PAIRS:
        raise InputError(
            f"{len(asked.documents)} documents in one request; the most is {MAX_PAIRS}",
            param="documents",
        )
    if asked.rank_fields is not None:
        return [
            _fields(document, asked.rank_fields, f"documents[{at}]")
            for at, document in enumerate(asked.documents)
        ]
    return [
        text_of(document, f"documents[{at}]", "documents")
        for at, document in enumerate(asked.documents)
    ]


def _fields(document: Written, names: Sequence[str], where: str) -> str:
    """The value of the one field named, or a line `name: value` for each of several."""
    if not names:
        raise InputError("rank_fields is an empty list; name a field", param="rank_fields")
    if isinstance(document, str):
        raise InputError(
            f"{where} is a text; 'rank_fields' is for documents that are objects",
            param="rank_fields",
        )
    values = []
    for name in names:
        value = document.get(name)
        if not isinstance(value, str | int | float):
            has = ", ".join(map(repr, document)) or "nothing"
            raise InputError(
                f"{where} has no text or number called {name!r}; it has {has}", param="rank_fields"
            )
        written = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        values.append(written)
    if len(values) == 1:
        return values[0]
    return "\n".join(f"{name}: {value}" for name, value in zip(names, values, strict=True))


async def _shortened(
    model: Model, texts: list[str], most: int | None
) -> tuple[list[str], list[int]]:
    """`texts` cut to `most` tokens, and which were."""
    if most is None:
        return texts, []
    read = await asyncio.to_thread(lambda: [_first_tokens(model, text, most) for text in texts])
    return read, [at for at, text in enumerate(texts) if len(read[at]) < len(text)]


def _first_tokens(model: Model, text: str, most: int) -> str:
    tokens: list[Token] = []
    for part in model.token_parts(text, special=False):
        tokens += part
        if len(tokens) > most:
            break
    else:
        return text
    # A special token that is written out in the text has no span of its own.
    return text[: max((token.span[1] for token in tokens[:most] if token.span), default=0)]


def _answer(
    name: str,
    asked: RerankRequest,
    texts: Sequence[str],
    found: Scored,
    cut: list[int],
    shape: _Shape,
) -> RerankAnswer:
    is_infinity = asked.raw_scores is not None
    scores = np.ascontiguousarray(found.scores[:, 0])
    returns = asked.return_documents
    if returns is None:
        returns = shape.returns_documents and not is_infinity
    results: list[RerankResult] = []
    for at in map(int, top_k(scores, asked.top_n or asked.top_k or len(scores))):
        result: RerankResult = {"index": at, "relevance_score": float(scores[at])}
        if returns:
            result["document"] = (
                texts[at] if is_infinity else _returned(asked.documents[at], texts[at])
            )
        elif is_infinity:
            result["document"] = None
        results.append(result)
    tokens = int(sum(found.tokens))
    meta: dict[str, Any] = {
        "api_version": {"version": shape.version},
        "billed_units": {"search_units": math.ceil(len(scores) / _UNIT_DOCUMENTS)},
        "tokens": {"input_tokens": tokens, "output_tokens": 0},
    }
    answer: RerankAnswer = {
        "id": f"rerank-{asked.request_id or uuid.uuid4().hex}",
        "object": "rerank" if is_infinity else "list",
        "created": int(wall()),
        "model": name,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "results": results,
        "meta": meta,
    }
    if _is_voyage(asked, shape):
        answer["data"] = [_for_voyage(one, asked, texts) for one in results]
    if cut:
        answer["truncated"] = cut
        meta["warnings"] = [f"documents were cut: {len(cut)} of {len(scores)}"]
    return answer


def _is_voyage(asked: RerankRequest, shape: _Shape) -> bool:
    """Whether a client of Voyage may read the answer: it says `top_k`, and never `top_n`."""
    says_so = asked.top_k is not None or asked.truncation is not None
    return says_so or (shape.has_data and asked.top_n is None and asked.raw_scores is None)


def _for_voyage(result: RerankResult, asked: RerankRequest, texts: Sequence[str]) -> RerankResult:
    """The result as Voyage writes it: the document is a text, and is there when asked for."""
    told: RerankResult = {"index": result["index"], "relevance_score": result["relevance_score"]}
    if asked.return_documents:
        told["document"] = texts[result["index"]]
    return told


def _returned(document: Written, text: str) -> dict[str, Any]:
    """The document as it goes back: its own fields, and always a `text`."""
    if isinstance(document, str) or "content" in document:
        return {"text": text}
    return {**document, "text": document.get("text", text)}
