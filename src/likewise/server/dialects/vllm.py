"""vLLM's pooling dialect: scores, classes, pooled outputs, tokens; infinity's classes too."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from starlette.responses import Response

from likewise.base.clock import wall
from likewise.base.errors import InputError, ModelUnsupported
from likewise.server import body, encode, lenient
from likewise.server.choosing import SCORES, TOKENS, VECTORS, Need
from likewise.server.defaults import unnamed_prompt
from likewise.server.dialects.openai_request import agreed
from likewise.server.dialects.scoring import (
    BY_HEADER,
    MAX_PAIRS,
    Options,
    labels,
    needs_of,
    scored,
    way,
)
from likewise.server.dialects.texts import model_named, text_of
from likewise.server.dialects.vllm_bodies import (
    ClassifyRequest,
    Detokenized,
    DetokenizeRequest,
    Inputs,
    Listing,
    PoolingRequest,
    ScoreRequest,
    Side,
    Task,
    TokenizeRequest,
    Tokens,
)
from likewise.server.errors import json_response
from likewise.server.routing import Endpoint, Spoken
from likewise.server.serving import computed, noted, using
from likewise.vectors.activate import sigmoid, softmax
from likewise.vectors.norm import normalise
from likewise.version import __version__

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import Route

    from likewise.base.types import Vectors
    from likewise.runtime.manner import How
    from likewise.runtime.sinks import Scored
    from likewise.server.serving import Model

_FIRST = ("text_1", "queries", "query", "data_1")
_SECOND = ("text_2", "documents", "items", "data_2")

_NEEDED: Mapping[Task, Sequence[Need]] = {
    "embed": (VECTORS, SCORES, TOKENS),
    "classify": (SCORES,),
    "score": (SCORES,),
    "token_embed": (TOKENS, VECTORS),
    "token_classify": (),
    "plugin": (),
}
"""What a model has to give for a task of `/pooling`."""

_SCORE = msgspec.json.Decoder(ScoreRequest)
_CLASSIFY = msgspec.json.Decoder(ClassifyRequest)
_POOLING = msgspec.json.Decoder(PoolingRequest)
_TOKENIZE = msgspec.json.Decoder(TokenizeRequest)
_DETOKENIZE = msgspec.json.Decoder(DetokenizeRequest)


def routes() -> list[Route]:
    """What this dialect answers."""
    return [
        *(_posted(path, score, ScoreRequest, Listing) for path in ("/score", "/v1/score")),
        *(
            _posted(path, classify, ClassifyRequest, Listing)
            for path in ("/classify", "/v1/classify")
        ),
        _posted("/pooling", pooling, PoolingRequest, Listing),
        _posted("/detokenize", detokenize, DetokenizeRequest, Detokenized),
        Spoken("/version", version, methods=["GET"], dialect="vllm", answer=dict[str, str]),
        Spoken("/load", load, methods=["GET"], dialect="vllm", answer=dict[str, int]),
    ]


def _posted(path: str, endpoint: Endpoint, asked: Any, answer: Any) -> Spoken:
    return Spoken(path, endpoint, methods=["POST"], dialect="vllm", body=asked, answer=answer)


async def _raw(request: Request) -> bytes:
    return await body.read(request, request.app.state.max_body_bytes)


async def score(request: Request) -> Response:
    """A score for each pair of texts."""
    asked = lenient.decode(request, await _raw(request), _SCORE)
    first, second = _side(asked, _FIRST), _side(asked, _SECOND)
    how = asked.how(request, cuts=False)
    async with using(request, asked.model, needs_of(asked.by, any_vectors=True)) as (name, model):
        by = way(model, asked.by, any_vectors=True)
        found = await scored(
            request, model, by, first, second, raw=asked.use_activation is False, **how
        )
    data = [
        {"index": at, "object": "score", "score": float(row[0])}
        for at, row in enumerate(found.scores)
    ]
    return _listed("score", asked, name, data, found.tokens, found.truncated, {BY_HEADER: by})


def _side(asked: ScoreRequest, names: Sequence[str]) -> list[str]:
    """The texts under the one of `names` that is there."""
    given = [name for name in names if getattr(asked, name) is not None]
    if len(given) != 1:
        known = ", ".join(names)
        what = f"{' and '.join(given)} are the same; give one" if given else "a side is missing"
        raise InputError(f"{what} of {known}", param=given[-1] if given else names[0])
    (name,) = given
    side: Side = getattr(asked, name)
    if not isinstance(side, list):
        return [text_of(side, name, name)]
    return [text_of(each, f"{name}[{at}]", name) for at, each in enumerate(side)]


async def classify(request: Request) -> Response:
    """How likely each of the model's labels is, for each text."""
    asked = lenient.decode(request, await _raw(request), _CLASSIFY)
    is_infinity = asked.raw_scores is not None
    if is_infinity:
        noted(request)["dialect"] = "infinity"
    inputs = _inputs(asked.input)
    how = asked.how(request, cuts=None if is_infinity else False)
    async with using(request, model_named(asked.model), (SCORES,)) as (name, model):
        raw = bool(asked.raw_scores) or asked.use_activation is False
        found, rows = await _classes(request, model, inputs, how, raw=raw)
        named = labels(model)
    data: list[Any]
    if is_infinity:
        data = [_ordered(named, row) for row in rows]
    else:
        data = [
            {
                "index": at,
                "label": named[int(row.argmax())],
                "probs": row.tolist(),
                "num_classes": len(named),
            }
            for at, row in enumerate(rows)
        ]
    return _listed("classify", asked, name, data, found.tokens, found.truncated)


async def _classes(
    request: Request, model: Model, inputs: Sequence[Any], how: How, *, raw: bool
) -> tuple[Scored, Vectors]:
    """What the model gave, and its numbers as shares of the labels unless `raw`."""
    prompt = unnamed_prompt(request, model)
    found = await computed(request, model.submit_labels, inputs, raw=True, **prompt, **how)
    return found, found.scores if raw else _shares(found.scores, model.card.config)


def _shares(scores: Vectors, config: Mapping[str, Any]) -> Vectors:
    """As transformers' text classification: by what it was trained for, else by the labels."""
    problem = config.get("problem_type")
    if problem == "regression":
        return scores
    if problem == "multi_label_classification" or scores.shape[-1] == 1:
        return sigmoid(scores)
    return softmax(scores)


def _ordered(named: Sequence[str], row: Vectors) -> list[dict[str, Any]]:
    """Labels and their scores, the highest first."""
    order = np.argsort(-row, kind="stable")
    return [{"score": float(row[at]), "label": named[at]} for at in order]


def _inputs(given: Inputs) -> list[str] | list[list[int]]:
    """A list of texts, or of texts as token ids."""
    if isinstance(given, str):
        return [given]
    if not given or len(given) > MAX_PAIRS:
        raise InputError(
            f"{len(given)} inputs in one request; send 1 to {MAX_PAIRS}", param="input"
        )
    texts = [one for one in given if isinstance(one, str)]
    lists = [one for one in given if isinstance(one, list)]
    if len(texts) == len(given):
        return texts
    if len(lists) == len(given):
        return lists
    if texts or lists:
        raise InputError("input mixes texts and token ids", param="input")
    return [[one for one in given if isinstance(one, int)]]


async def pooling(request: Request) -> Response:
    """Vectors, classes, or a vector for each token."""
    asked = lenient.decode(request, await _raw(request), _POOLING)
    for name in ("messages", "data"):
        if getattr(asked, name) is not None:
            raise InputError(f"{name!r} isn't read here; send 'input'", param=name)
    if asked.input is None:
        raise InputError("the field 'input' is missing", param="input")
    inputs = _inputs(asked.input)
    how = asked.how(request, cuts=False)
    async with using(request, asked.model, _NEEDED[asked.task or "embed"]) as (name, model):
        task = asked.task or _task(model)
        if asked.dimensions is not None and task != "embed":
            raise InputError(f"'dimensions' is for the task embed, not {task}", param="dimensions")
        rows, tokens, cut = await _pooled(request, model, task, inputs, asked, how)
    packed = encode.numbers(rows, asked.encoding_format)
    data = [
        {"index": at, "object": "pooling", "data": row if isinstance(row, str) else row.tolist()}
        for at, row in enumerate(packed)
    ]
    return _listed("pool", asked, name, data, tokens, cut)


def _task(model: Model) -> Task:
    """What the model was made for."""
    gives = model.card.gives
    if "vectors" in gives:
        return "embed"
    return "classify" if "scores" in gives else "token_embed"


async def _pooled(
    request: Request,
    model: Model,
    task: Task,
    inputs: Sequence[Any],
    asked: PoolingRequest,
    how: How,
) -> tuple[Sequence[Vectors] | Vectors, Sequence[int], Sequence[int]]:
    """A row or several for each input, the tokens of each, and which were cut."""
    is_raw = agreed(asked, "normalize", "use_activation") is False
    if task == "embed":
        found = await computed(
            request,
            model.submit,
            inputs,
            unit=not is_raw,
            raw=is_raw,
            dimensions=asked.dimensions,
            **unnamed_prompt(request, model),
            **how,
        )
        return found.vectors, found.tokens, found.truncated
    if task == "classify":
        scores, rows = await _classes(request, model, inputs, how, raw=is_raw)
        return rows, scores.tokens, scores.truncated
    if task == "token_embed":
        gives = "tokens" if "tokens" in model.card.gives else "states"
        _require_raw(is_raw and gives in model.card.of_length_one, model)
        prompt = unnamed_prompt(request, model)
        given = await computed(request, model.submit_all, inputs, gives=(gives,), **prompt, **how)
        each = (given.tokens if gives == "tokens" else given.states) or ()
        rows_of = each if is_raw else [normalise(one) for one in each]
        return rows_of, given.token_counts, given.truncated
    elsewhere = "; /score scores pairs of texts" if task == "score" else ""
    raise ModelUnsupported(
        f"the task {task} isn't computed here; known: embed, classify, token_embed{elsewhere}",
        param="task",
    )


def _require_raw(is_asked_in_vain: bool, model: Model) -> None:
    if is_asked_in_vain:
        raise ModelUnsupported(
            f"{model.name} gives vectors of length 1 by itself; 'use_activation' can't be false",
            param="use_activation",
        )


def _listed(
    kind: str,
    asked: Options,
    name: str,
    data: list[Any],
    tokens: Sequence[int],
    truncated: Sequence[int],
    headers: Mapping[str, str] | None = None,
) -> Response:
    is_infinity = isinstance(asked, ClassifyRequest) and asked.raw_scores is not None
    count, cut = int(sum(tokens)), [int(at) for at in truncated]
    answer: Listing = {
        "id": f"{kind}-{asked.request_id or uuid.uuid4().hex}",
        "object": "classify" if is_infinity else "list",
        "created": int(wall()),
        "model": name,
        "data": data,
        "usage": {"prompt_tokens": count, "total_tokens": count, "completion_tokens": 0},
    }
    if cut:
        answer["truncated"] = cut
    told = {**(headers or {}), **encode.truncation_headers(cut)}
    return Response(encode.to_json(answer), 200, told, "application/json")


async def tokenize(request: Request, raw: bytes) -> Response:
    """Answers `POST /tokenize` for a body that has `prompt` or `messages`."""
    noted(request)["dialect"] = "vllm"
    asked = lenient.decode(request, raw, _TOKENIZE)
    if asked.messages is not None:
        raise InputError("'messages' isn't read here; send 'prompt'", param="messages")
    if asked.prompt is None:
        raise InputError("the field 'prompt' is missing", param="prompt")
    async with using(request, asked.model) as (_, model):
        prompt, special = asked.prompt, asked.add_special_tokens

        def found() -> tuple[list[int], list[str]]:
            ids, words = [], []
            for tokens in model.token_parts(prompt, special=special):
                ids += [token.id for token in tokens]
                words += [token.text for token in tokens]
            return ids, words

        ids, words = await asyncio.to_thread(found)
        longest = model.card.max_tokens
    answer: Tokens = {
        "count": len(ids),
        "max_model_len": longest,
        "tokens": ids,
        "token_strs": words if asked.return_token_strs else None,
    }
    return Response(encode.to_json(answer), 200, None, "application/json")


async def detokenize(request: Request) -> Response:
    """The text that token ids stand for, special tokens included."""
    asked = lenient.decode(request, await _raw(request), _DETOKENIZE)
    async with using(request, asked.model) as (_, model):
        answer: Detokenized = {
            "prompt": await asyncio.to_thread(model.text, asked.tokens, skip_special=False)
        }
    return json_response(answer)


async def version(request: Request) -> Response:
    """The version of Likewise."""
    del request
    return json_response({"version": __version__})


async def load(request: Request) -> Response:
    """How many requests are being answered beside this one."""
    running = request.app.state.registry.get_sample_value("likewise_http_requests_running")
    return json_response({"server_load": max(0, int(running or 0) - 1)})
