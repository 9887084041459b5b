"""Paths that two dialects claim: the keys of a request's body tell which one it speaks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from likewise.base.errors import InputError
from likewise.server import body
from likewise.server.dialects import llama_cpp, openai, tei, vllm, vllm_bodies
from likewise.server.dialects import rerank as rerank_shapes
from likewise.server.dialects.openai_answer import EmbeddingsAnswer
from likewise.server.dialects.openai_request import EmbeddingsRequest
from likewise.server.dialects.tei_scores import Rank, RerankRequest
from likewise.server.dialects.tei_tokens import SimpleToken, TokenizeRequest
from likewise.server.routing import Endpoint, Spoken
from likewise.server.serving import noted

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route


@dataclass(frozen=True, slots=True)
class Shape:
    """A body with `key` speaks `dialect`, and `answer` answers it."""

    key: str
    dialect: str
    answer: Callable[[Request, bytes], Awaitable[Response]]
    whose: str
    """Whose clients send it, for messages."""


_TEI = "Text Embeddings Inference"
RERANK: Sequence[Shape] = (
    Shape("texts", "tei", tei.rerank, _TEI),
    Shape("documents", "vllm", rerank_shapes.rerank, "Cohere, Jina, vLLM, infinity"),
)
TOKENIZE: Sequence[Shape] = (
    Shape("inputs", "tei", tei.tokenize, _TEI),
    Shape("prompt", "vllm", vllm.tokenize, "vLLM"),
    Shape("messages", "vllm", vllm.tokenize, "vLLM"),
)
EMBEDDINGS: Sequence[Shape] = (
    Shape("input", "openai", openai.embedded, "OpenAI"),
    Shape("messages", "openai", openai.embedded, "vLLM"),
    Shape("content", "llamacpp", llama_cpp.embedded, "llama.cpp"),
)
"""Each path's shapes, those that go before others first."""


class _Keys(msgspec.Struct):
    """The keys that tell, and nothing of the rest."""

    texts: msgspec.Raw = msgspec.Raw()
    documents: msgspec.Raw = msgspec.Raw()
    inputs: msgspec.Raw = msgspec.Raw()
    prompt: msgspec.Raw = msgspec.Raw()
    messages: msgspec.Raw = msgspec.Raw()
    input: msgspec.Raw = msgspec.Raw()
    content: msgspec.Raw = msgspec.Raw()


_KEYS = msgspec.json.Decoder(_Keys)


def routes() -> list[Route]:
    """The shared paths."""
    return [
        _route(
            "/rerank",
            rerank,
            (RerankRequest, rerank_shapes.RerankRequest),
            (list[Rank], rerank_shapes.RerankAnswer),
            "vllm",
        ),
        _route(
            "/tokenize",
            tokenize,
            (TokenizeRequest, vllm_bodies.TokenizeRequest),
            (list[list[SimpleToken]], vllm_bodies.Tokens),
            "vllm",
        ),
        Spoken(
            "/embeddings",
            embeddings,
            methods=["POST"],
            dialect="openai",
            also=("llamacpp",),
            body=(EmbeddingsRequest, llama_cpp.EmbeddingRequest),
            answer=(EmbeddingsAnswer, list[llama_cpp.EmbeddingRow]),
            media_types=("application/json", "application/octet-stream"),
        ),
    ]


def _route(path: str, endpoint: Endpoint, asked: Any, answer: Any, also: str) -> Spoken:
    # A body that can't be told, or read, is refused as TEI does it.
    return Spoken(
        path, endpoint, methods=["POST"], dialect="tei", also=(also,), body=asked, answer=answer
    )


async def embeddings(request: Request) -> Response:
    """Vectors, as OpenAI writes them; a body with `content` is answered as llama.cpp does."""
    return await _by_shape(request, EMBEDDINGS)


async def rerank(request: Request) -> Response:
    """Texts by how well they answer a query, best first."""
    return await _by_shape(request, RERANK)


async def tokenize(request: Request) -> Response:
    """The tokens of texts."""
    return await _by_shape(request, TOKENIZE)


async def _by_shape(request: Request, shapes: Sequence[Shape]) -> Response:
    raw = await body.read(request, request.app.state.max_body_bytes)
    shape = _shape(raw, shapes)
    noted(request)["dialect"] = shape.dialect
    return await shape.answer(request, raw)


def _shape(raw: bytes, shapes: Sequence[Shape]) -> Shape:
    """The first whose key the body has; what the others' clients send is unknown to it then."""
    keys = body.decode(raw, _KEYS, _Keys.__struct_fields__, allows_twice=True)
    given = [shape for shape in shapes if bytes(getattr(keys, shape.key))]
    for shape in given:
        if bytes(getattr(keys, shape.key)) != b"null":
            return shape
    if given:
        return given[0]
    known = " or ".join(f"{s.key!r} ({s.whose})" for s in shapes)
    raise InputError(f"the body must have {known}", param=shapes[0].key)
