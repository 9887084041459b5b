"""OpenAI's embeddings dialect: `POST /v1/embeddings` and `GET /v1/models`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
from starlette.responses import Response

from likewise.base.errors import DimensionsError, InputError
from likewise.server import body, encode
from likewise.server.errors import json_response
from likewise.server.routing import Endpoint, Spoken
from likewise.server.serving import computed, using

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import Route

    from likewise.runtime.pending import Embedded
    from likewise.server.serving import Catalogue

MAX_INPUTS = 2048


class EmbeddingsRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /v1/embeddings`. `truncate` and `input_type` are ours."""

    input: str | list[str | int | list[int]]
    model: str | None = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: str | None = None
    truncate: bool = True
    input_type: Literal["document", "query"] = "document"


_DECODER = msgspec.json.Decoder(EmbeddingsRequest)
_FIELDS = EmbeddingsRequest.__struct_fields__


def routes() -> list[Route]:
    """What this dialect answers, with and without `/v1`."""
    return [
        *(
            Spoken(path, embeddings, methods=["POST"], dialect="openai", body=EmbeddingsRequest)
            for path in ("/v1/embeddings", "/embeddings")
        ),
        *(_route(path, models, "GET") for path in ("/v1/models", "/models")),
        _route("/v1/models/{name:path}", one_model, "GET"),
    ]


def _route(path: str, endpoint: Endpoint, method: str) -> Spoken:
    return Spoken(path, endpoint, methods=[method], dialect="openai")


async def embeddings(request: Request) -> Response:
    """Vectors for one or many texts or token lists."""
    raw = await body.read(request, request.app.state.max_body_bytes)
    asked = body.decode(raw, _DECODER, _FIELDS)
    inputs = _inputs(asked.input)
    if asked.dimensions is not None and asked.dimensions < 1:
        raise DimensionsError("dimensions must be at least 1", param="dimensions")
    async with using(request, asked.model) as (name, model):
        found = await computed(
            request,
            model.submit,
            inputs,
            kind=asked.input_type,
            dimensions=asked.dimensions,
            overflow="cut" if asked.truncate else "refuse",
        )
    return _answer(name, found, asked.encoding_format)


def _answer(name: str, computed: Embedded, encoding: encode.Encoding) -> Response:
    tokens = int(sum(computed.tokens))
    content: dict[str, object] = {
        "object": "list",
        "data": encode.embeddings(computed.vectors, encoding),
        "model": name,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    if cut := [int(at) for at in computed.truncated]:
        content["truncated"] = cut
    return Response(encode.to_json(content), 200, encode.headers(computed), "application/json")


def _inputs(given: str | list[str | int | list[int]]) -> list[str] | list[list[int]]:
    """Always a list of inputs, of one sort."""
    if isinstance(given, str):
        return _texts([given])
    if not given:
        raise InputError("input is an empty list; send at least one text", param="input")
    if isinstance(given[0], int):
        given = [[at for at in given if isinstance(at, int)]] if _all(given, int) else given
    if len(given) > MAX_INPUTS:
        raise InputError(
            f"{len(given)} inputs in one request; the most is {MAX_INPUTS}", param="input"
        )
    if _all(given, str):
        return _texts([text for text in given if isinstance(text, str)])
    if _all(given, list):
        return _token_lists([ids for ids in given if isinstance(ids, list)])
    raise InputError(
        "input mixes texts and token ids; send a string, a list of strings, a list of token ids, "
        "or a list of lists of token ids",
        param="input",
    )


def _all(given: list[str | int | list[int]], kind: type) -> bool:
    return all(isinstance(item, kind) for item in given)


def _texts(texts: list[str]) -> list[str]:
    if empty := [str(at) for at, text in enumerate(texts) if not text]:
        raise InputError(f"empty text at input position {', '.join(empty[:20])}", param="input")
    return texts


def _token_lists(lists: list[list[int]]) -> list[list[int]]:
    if empty := [str(at) for at, ids in enumerate(lists) if not ids]:
        raise InputError(f"no token ids at input position {', '.join(empty[:20])}", param="input")
    return lists


async def models(request: Request) -> Response:
    """The models that are served."""
    served: Catalogue = request.app.state.models
    created = int(request.app.state.started_at)
    data = [_model(one.name, created, dict(one.facts())) for one in served.models()]
    return json_response({"object": "list", "data": data})


async def one_model(request: Request) -> Response:
    """One model by name."""
    served: Catalogue = request.app.state.models
    name = served.resolve(request.path_params["name"])
    facts = next(one.facts() for one in served.models() if one.name == name)
    return json_response(_model(name, int(request.app.state.started_at), dict(facts)))


def _model(name: str, created: int, info: dict[str, object]) -> dict[str, object]:
    own = {"id": name, "object": "model", "created": created, "owned_by": "likewise"}
    shared = ("gives", "dimensions", "max_tokens", "engine", "precision")
    return own | {key: info[key] for key in shared if key in info}
