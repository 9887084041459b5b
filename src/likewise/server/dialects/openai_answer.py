"""Answers to requests for embeddings: JSON with numbers or base64, or bytes alone."""

from __future__ import annotations

import base64
import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict

from starlette.responses import Response

from likewise.base.errors import InputError
from likewise.server import encode
from likewise.server.dialects.openai_request import agreed, wants_raw
from likewise.vectors.quantize import QUANTISERS, as_bytes

if TYPE_CHECKING:
    from likewise.base.types import Vectors
    from likewise.runtime.pending import Embedded
    from likewise.server.dialects.openai_request import EmbeddingsRequest, Output
    from likewise.vectors.quantize import ByteOrder, FloatType

MOST_DESCRIBED = 256
"""Vectors that the header of a `bytes` answer describes; clients refuse headers much longer."""


class Usage(TypedDict):
    """What was computed."""

    prompt_tokens: int
    total_tokens: int


class Embedding(TypedDict):
    """The vector of one input."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str | dict[str, list[float] | str]


class EmbeddingsAnswer(TypedDict):
    """The answer of `POST /v1/embeddings` in JSON."""

    id: str
    object: Literal["list"]
    created: int
    model: str
    data: list[Embedding]
    usage: Usage
    truncated: NotRequired[list[int]]


@dataclass(frozen=True, slots=True)
class Form:
    """How vectors are to be written."""

    outputs: tuple[Output, ...] = ("float",)
    encoding: Literal["float", "base64", "bytes", "bytes_only"] = "float"
    dtype: FloatType = "float32"
    order: ByteOrder = "little"


def form_of(asked: EmbeddingsRequest, count: int, *, by_sdk: bool) -> Form:
    """The form that a request for `count` vectors asks for.

    `by_sdk`: whether it comes from OpenAI's own library, which asks for base64 unless told
    otherwise, and takes whatever bytes come for float32.

    Raises:
        InputError: its fields contradict each other.
    """
    named = agreed(asked, "embedding_type", "embedding_types", "output_dtype")
    if named == []:
        raise InputError("embedding_type names no type", param="embedding_type")
    outputs = (named,) if isinstance(named, str) else tuple(named or ["float"])
    integers = [one for one in outputs if one in QUANTISERS]
    encoding = asked.encoding_format or "float"
    if encoding.startswith("bytes"):
        _check_bytes(encoding, outputs, count)
    if integers and asked.embed_dtype not in (None, "float32"):
        raise InputError(f"embed_dtype is for floats, not for {integers[0]!r}", param="embed_dtype")
    if integers and encoding == "base64" and by_sdk:
        raise InputError(
            f"OpenAI's library would take the bytes of {integers[0]!r} for float32; send "
            'encoding_format: "float" for lists of integers',
            param="encoding_format",
        )
    unit = not wants_raw(asked)
    if not unit and (scaled := [one for one in integers if one in ("int8", "uint8")]):
        raise InputError(
            f"{scaled[0]!r} is made of vectors of length 1; leave out `normalize: false`",
            param="normalize",
        )
    order = asked.endianness or "little"
    return Form(
        outputs,
        encoding,
        asked.embed_dtype or "float32",
        sys.byteorder if order == "native" else order,
    )


def _check_bytes(encoding: str, outputs: tuple[Output, ...], count: int) -> None:
    if outputs != ("float",):
        raise InputError(
            f"encoding_format {encoding!r} gives floats, in embed_dtype; not {', '.join(outputs)}",
            param="encoding_format",
        )
    if encoding == "bytes" and count > MOST_DESCRIBED:
        raise InputError(
            f"encoding_format 'bytes' describes each vector in a header, which {count} would make "
            f"too long; the most is {MOST_DESCRIBED}. 'bytes_only' has no such header",
            param="encoding_format",
        )


def answer(
    model: str, found: Embedded, form: Form, *, request_id: str, created: int, total_s: float
) -> Response:
    """What was found, in the form that was asked for."""
    tokens = int(sum(found.tokens))
    usage: Usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    about = {"id": request_id, "created": created, "model": model}
    headers = encode.headers(found, total_s)
    if form.encoding.startswith("bytes"):
        block = as_bytes(found.vectors, form.dtype, form.order)
        if form.encoding == "bytes":
            data = _described(found.vectors.shape, block.shape[1], form)
            described = {**about, "data": data, "usage": usage}
            headers["metadata"] = json.dumps(described, separators=(",", ":"))
        return Response(block.tobytes(), 200, headers, "application/octet-stream")
    rows = [
        {"object": "embedding", "index": index, "embedding": row}
        for index, row in enumerate(_rows(found.vectors, form))
    ]
    content: dict[str, Any] = {**about, "object": "list", "data": rows, "usage": usage}
    if found.truncated:
        content["truncated"] = [int(at) for at in found.truncated]
    return Response(encode.to_json(content), 200, headers, "application/json")


def _described(shape: tuple[int, ...], size: int, form: Form) -> list[dict[str, Any]]:
    """Where each vector lies in the bytes, of which each has `size`."""
    count, width = shape
    return [
        {
            "index": index,
            "embed_dtype": form.dtype,
            "endianness": form.order,
            "start": index * size,
            "end": (index + 1) * size,
            "shape": [width],
        }
        for index in range(count)
    ]


def _rows(vectors: Vectors, form: Form) -> list[Any]:
    """What stands for each vector: as it is for one kind of output, by name for several."""
    columns = {one: _written(vectors, one, form) for one in form.outputs}
    if len(columns) == 1:
        return next(iter(columns.values()))
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _written(vectors: Vectors, output: Output, form: Form) -> list[Any]:
    if output in QUANTISERS:
        numbers = QUANTISERS[output](vectors)
        return _base64(numbers) if form.encoding == "base64" else list(numbers)
    if output == "base64" or form.encoding == "base64":
        return _base64(as_bytes(vectors, form.dtype, form.order))
    return encode.numbers(vectors, "float")


def _base64(rows: Any) -> list[str]:
    return [base64.b64encode(row).decode("ascii") for row in rows]
