"""llama.cpp's own route for embeddings: `POST /embedding`, and `/embeddings` with `content`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import msgspec
from starlette.responses import Response

from likewise.base.errors import InputError
from likewise.server import body, encode, lenient
from likewise.server.choosing import VECTORS
from likewise.server.defaults import overflow, unnamed_prompt
from likewise.server.dialects.openai_inputs import inputs_of
from likewise.server.dialects.openai_request import EmbeddingsRequest, of_length_one
from likewise.server.dialects.texts import model_named
from likewise.server.routing import Spoken
from likewise.server.serving import computed, noted, using

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import Route

Content = str | list[str | int | list[int]]


class EmbeddingRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /embedding`: `content`, or `input` as OpenAI calls it."""

    content: Content | None = None
    input: Content | None = None
    model: str | None = None
    embd_normalize: int | None = None
    encoding_format: Literal["float", "base64"] | None = None
    image_data: list[Any] | None = None
    user: str | None = None


class EmbeddingRow(TypedDict):
    """The vector of one input, as the only row of a list: other poolings would give several."""

    index: int
    embedding: list[list[float] | str]


_DECODER = msgspec.json.Decoder(EmbeddingRequest)


def routes() -> list[Route]:
    """What this dialect answers on a path of its own."""
    return [
        Spoken(
            "/embedding",
            embedding,
            methods=["POST"],
            dialect="llamacpp",
            body=EmbeddingRequest,
            answer=list[EmbeddingRow],
        )
    ]


async def embedding(request: Request) -> Response:
    """Vectors of one or many texts or token lists, as llama.cpp's server writes them."""
    return await embedded(request, await body.read(request, request.app.state.max_body_bytes))


async def embedded(request: Request, raw: bytes) -> Response:
    """The response to a body in llama.cpp's words."""
    began = time.perf_counter()
    noted(request)["dialect"] = "llamacpp"
    asked = lenient.decode(request, raw, _DECODER)
    inputs = _inputs(asked)
    how = _normalised(asked)
    async with using(request, model_named(asked.model), (VECTORS,)) as (_, model):
        how |= unnamed_prompt(request, model)
        how["overflow"] = overflow(request, None)
        found = await computed(request, model.submit, inputs, **how)
    rows = encode.numbers(found.vectors, asked.encoding_format or "float")
    content = [{"index": at, "embedding": [row]} for at, row in enumerate(rows)]
    headers = encode.headers(found, time.perf_counter() - began)
    return Response(encode.to_json(content), 200, headers, "application/json")


def _inputs(asked: EmbeddingRequest) -> list[str] | list[list[int]]:
    if asked.image_data:
        raise InputError("image_data: only texts are read here", param="image_data")
    given = asked.input if asked.content is None else asked.content
    if given is None:
        raise InputError("the field 'content' is missing", param="content")
    if asked.content is not None and asked.input is not None:
        raise InputError("send content or input, not both", param="input")
    items: list[Any] | str = given if isinstance(given, str) else [*given]
    return inputs_of(EmbeddingsRequest(input=items))


def _normalised(asked: EmbeddingRequest) -> dict[str, Any]:
    """What `embd_normalize` asks for, as `submit` takes it.

    Raises:
        InputError: it asks for another norm than that of length 1.
    """
    is_raw = of_length_one(asked.embd_normalize) is False
    return {"unit": not is_raw, "raw": is_raw}
