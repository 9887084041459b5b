"""Paths that two dialects claim: the keys of a request's body tell which one it speaks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from likewise.base.errors import InputError
from likewise.server import body
from likewise.server.dialects import rerank as rerank_shapes
from likewise.server.dialects import tei, vllm, vllm_bodies
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
"""Each path's shapes; a body with the keys of two is refused."""


class _Keys(msgspec.Struct):
    """The keys that tell, and nothing of the rest."""

    texts: msgspec.Raw = msgspec.Raw()
    documents: msgspec.Raw = msgspec.Raw()
    inputs: msgspec.Raw = msgspec.Raw()
    prompt: msgspec.Raw = msgspec.Raw()
    messages: msgspec.Raw = msgspec.Raw()


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
    ]


def _route(path: str, endpoint: Endpoint, asked: Any, answer: Any, also: str) -> Spoken:
    # A body that can't be told, or read, is refused as TEI does it.
    return Spoken(
        path, endpoint, methods=["POST"], dialect="tei", also=(also,), body=asked, answer=answer
    )


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
    keys = body.decode(raw, _KEYS, _Keys.__struct_fields__, allows_twice=True)
    fitting = [shape for shape in shapes if bytes(getattr(keys, shape.key))]
    if len(fitting) > 1:
        fitting = [each for each in fitting if bytes(getattr(keys, each.key)) != b"null"]
    if len({shape.dialect for shape in fitting}) == 1:
        return fitting[0]
    known = " or ".join(f"{s.key!r} ({s.whose})" for s in shapes)
    if not fitting:
        raise InputError(f"the body must have {known}", param=shapes[0].key)
    both = " and ".join(repr(shape.key) for shape in fitting)
    raise InputError(f"the body has {both}; send one of {known}", param=fitting[1].key)
