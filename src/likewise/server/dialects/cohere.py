"""Cohere's embeddings dialect: `POST /v1/embed` and `POST /v2/embed`."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict

import msgspec
from starlette.responses import Response

from likewise.base.errors import DimensionsError, InputError
from likewise.server import body, encode, lenient
from likewise.server.choosing import VECTORS
from likewise.server.defaults import overflow, prompt_for, unnamed_prompt
from likewise.server.dialects.texts import text_of
from likewise.server.routing import Spoken
from likewise.server.serving import computed, using
from likewise.vectors import quantize

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import Route

    from likewise.base.types import Kind, Vectors
    from likewise.runtime.pending import Embedded
    from likewise.server.serving import Model

MAX_INPUTS = 2048

EmbeddingType = Literal["float", "int8", "uint8", "binary", "ubinary", "base64"]
InputType = Literal["search_query", "search_document", "classification", "clustering", "image"]
Truncate = Literal["END", "START", "NONE"]


class EmbedV1Request(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body of `POST /v1/embed`."""

    texts: list[str] | None = None
    images: list[str] | None = None
    model: str | None = None
    input_type: InputType | None = None
    embedding_types: list[EmbeddingType] | None = None
    truncate: Truncate | None = None


class EmbedV2Request(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The body of `POST /v2/embed`; `priority` changes nothing here."""

    input_type: InputType
    texts: list[str] | None = None
    images: list[str] | None = None
    inputs: list[dict[str, Any]] | None = None
    model: str | None = None
    embedding_types: list[EmbeddingType] | None = None
    output_dimension: int | None = None
    truncate: Truncate | None = None
    max_tokens: int | None = None
    priority: int | None = None


class EmbedV1Answer(TypedDict):
    """What `POST /v1/embed` answers; `embeddings` by type where types were asked for."""

    response_type: Literal["embeddings_floats", "embeddings_by_type"]
    id: str
    embeddings: list[list[float]] | dict[str, list[Any]]
    texts: list[str]
    meta: dict[str, Any]
    truncated: NotRequired[list[int]]


class EmbedV2Answer(TypedDict):
    """What `POST /v2/embed` answers."""

    response_type: Literal["embeddings_by_type"]
    id: str
    embeddings: dict[str, list[Any]]
    texts: list[str]
    meta: dict[str, Any]
    truncated: NotRequired[list[int]]


_V1 = msgspec.json.Decoder(EmbedV1Request)
_V2 = msgspec.json.Decoder(EmbedV2Request)

_KINDS: Mapping[str, Kind] = {"search_query": "query", "search_document": "document"}
_BY_TYPE: Mapping[EmbeddingType, Callable[[Vectors], Sequence[Any]]] = {
    "float": lambda vectors: encode.numbers(vectors, "float"),
    "base64": lambda vectors: encode.numbers(vectors, "base64"),
    "int8": lambda vectors: list(quantize.int8(vectors)),
    "uint8": lambda vectors: list(quantize.uint8(vectors)),
    "binary": lambda vectors: list(quantize.binary(vectors)),
    "ubinary": lambda vectors: list(quantize.ubinary(vectors)),
}


def routes() -> list[Route]:
    """What this dialect answers."""
    return [
        Spoken(
            "/v1/embed",
            embed_v1,
            methods=["POST"],
            dialect="cohere",
            body=EmbedV1Request,
            answer=EmbedV1Answer,
        ),
        Spoken(
            "/v2/embed",
            embed_v2,
            methods=["POST"],
            dialect="cohere",
            body=EmbedV2Request,
            answer=EmbedV2Answer,
        ),
    ]


async def embed_v1(request: Request) -> Response:
    """Vectors of texts, as a list, or by type where types are asked for."""
    raw = await body.read(request, request.app.state.max_body_bytes)
    asked = lenient.decode(request, raw, _V1)
    _check_kind(asked.input_type, asked.images)
    texts = _checked(asked.texts, "texts")
    found = await _embedded(request, asked.model, texts, asked.input_type, asked.truncate)
    answer = _answer(found, texts, asked.embedding_types, "1")
    if not asked.embedding_types:
        answer |= {
            "embeddings": answer["embeddings"]["float"],
            "response_type": "embeddings_floats",
        }
    return _response(answer, found)


async def embed_v2(request: Request) -> Response:
    """Vectors of texts, by type."""
    raw = await body.read(request, request.app.state.max_body_bytes)
    asked = lenient.decode(request, raw, _V2)
    _check_kind(asked.input_type, asked.images)
    texts = _texts(asked)
    if asked.output_dimension is not None and asked.output_dimension < 1:
        raise DimensionsError("output_dimension must be at least 1", param="output_dimension")
    if asked.max_tokens is not None and asked.max_tokens < 1:
        raise InputError("max_tokens must be at least 1", param="max_tokens")
    found = await _embedded(
        request,
        asked.model,
        texts,
        asked.input_type,
        asked.truncate,
        dimensions=asked.output_dimension,
        limit=asked.max_tokens,
    )
    return _response(_answer(found, texts, asked.embedding_types, "2"), found)


async def _embedded(
    request: Request,
    name: str | None,
    texts: Sequence[str],
    input_type: InputType | None,
    truncate: Truncate | None,
    **options: Any,
) -> Embedded:
    options["overflow"] = overflow(request, None if truncate is None else truncate != "NONE")
    options["side"] = "left" if truncate == "START" else "right"
    async with using(request, name, (VECTORS,)) as (_, model):
        words = _words(model, input_type) or unnamed_prompt(request, model)
        return await computed(request, model.submit, texts, unit=True, **words, **options)


def _words(model: Model, input_type: InputType | None) -> dict[str, Any]:
    """Which prompt the request names, as options of `submit`; nothing where it names none."""
    if input_type is None:
        return {}
    prompts = model.card.prompts
    if input_type in prompts:
        return {"prompt_name": input_type}
    kind = _KINDS.get(input_type)
    return {} if kind is None else prompt_for(kind, prompts)


def _check_kind(input_type: InputType | None, images: list[str] | None) -> None:
    if images or input_type == "image":
        raise InputError(
            "images aren't embedded here, only texts", param="images" if images else "input_type"
        )


def _texts(asked: EmbedV2Request) -> list[str]:
    if asked.inputs is None:
        return _checked(asked.texts, "texts")
    if asked.texts:
        raise InputError("give 'texts' or 'inputs', not both", param="inputs")
    found = [text_of(each, f"inputs[{at}]", "inputs") for at, each in enumerate(asked.inputs)]
    return _checked(found, "inputs")


def _checked(texts: list[str] | None, param: str) -> list[str]:
    """`texts`, if there are some, not too many, and none is empty."""
    if not texts:
        raise InputError(f"{param} is missing or empty; send at least one text", param=param)
    if len(texts) > MAX_INPUTS:
        raise InputError(
            f"{len(texts)} texts in one request; the most is {MAX_INPUTS}", param=param
        )
    if empty := [str(at) for at, text in enumerate(texts) if not text]:
        raise InputError(f"empty text at position {', '.join(empty[:20])} of {param}", param=param)
    return texts


def _answer(
    found: Embedded, texts: list[str], types: list[EmbeddingType] | None, version: str
) -> dict[str, Any]:
    meta: dict[str, Any] = {
        "api_version": {"version": version},
        "billed_units": {"input_tokens": int(sum(found.tokens))},
    }
    answer: dict[str, Any] = {
        "response_type": "embeddings_by_type",
        "id": str(uuid.uuid4()),
        "embeddings": {kind: _BY_TYPE[kind](found.vectors) for kind in types or ["float"]},
        "texts": texts,
        "meta": meta,
    }
    if cut := [int(at) for at in found.truncated]:
        answer["truncated"] = cut
        meta["warnings"] = [f"texts were cut: {len(cut)} of {len(texts)}"]
    return answer


def _response(answer: dict[str, Any], found: Embedded) -> Response:
    headers = encode.truncation_headers([int(at) for at in found.truncated])
    return Response(encode.to_json(answer), 200, headers, "application/json")
