"""The calls of `tei.v1`: each is a request to the HTTP route that does the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likewise.base.errors import InputError
from likewise.server.grpc import proto_file

if TYPE_CHECKING:
    from likewise.server.grpc.inner_http import Answer

PROTO = proto_file.load(Path(__file__).with_name("tei.proto"))
_MESSAGES = PROTO.messages

_TYPES = {"embedding": 0, "classifier": 1, "reranker": 2}
_NUMBERS = (
    "max_concurrent_requests",
    "max_input_length",
    "max_batch_tokens",
    "max_batch_requests",
    "max_client_batch_size",
    "tokenization_workers",
)
_TEXTS = ("version", "sha", "docker_label", "model_id", "model_sha", "model_dtype")


@dataclass(frozen=True)
class Call:
    """How one call is answered over HTTP."""

    method: str
    path: str
    body: Callable[[Any], Any]
    """The JSON of a request message, None for no body; raises `InputError` where there is none."""
    fill: Callable[[Any, Any], None]
    """Puts the JSON of a 200 into a response message."""


def metadata(answer: Answer, began: float) -> Any:
    """What an answer took; `began` is on the performance counter."""
    times = answer.times()
    return _MESSAGES["Metadata"](
        compute_chars=int(answer.headers.get("x-compute-characters", 0)),
        compute_tokens=int(answer.headers.get("x-compute-tokens", 0)),
        total_time_ns=_ns(time.perf_counter() - began),
        tokenization_time_ns=_ns(times.tokenise_s),
        queue_time_ns=_ns(times.queue_s),
        inference_time_ns=_ns(times.compute_s),
    )


def _ns(seconds: float) -> int:
    return max(0, round(seconds * 1e9))


def _cut(message: Any) -> dict[str, Any]:
    direction = "Left" if message.truncation_direction else "Right"
    return {"truncate": message.truncate, "truncation_direction": direction}


def _prompt(message: Any) -> dict[str, Any]:
    return {"prompt_name": message.prompt_name} if message.HasField("prompt_name") else {}


def _embed(message: Any) -> dict[str, Any]:
    body = {"inputs": message.inputs, **_cut(message), **_prompt(message)}
    body["normalize"] = message.normalize if message.HasField("normalize") else True
    if message.HasField("dimensions"):
        body["dimensions"] = message.dimensions
    return body


def _per_token(message: Any) -> dict[str, Any]:
    return {"inputs": message.inputs, **_cut(message), **_prompt(message)}


def _predict(message: Any) -> dict[str, Any]:
    return {"inputs": message.inputs, "raw_scores": message.raw_scores, **_cut(message)}


def _predict_pair(message: Any) -> dict[str, Any]:
    pair = list(message.inputs)
    if len(pair) != 2:
        raise InputError(f"`inputs` has {len(pair)} texts; a pair has two", param="inputs")
    return {"inputs": [pair], "raw_scores": message.raw_scores, **_cut(message)}


def _rerank(message: Any) -> dict[str, Any]:
    return {
        "query": message.query,
        "texts": list(message.texts),
        "raw_scores": message.raw_scores,
        "return_text": message.return_text,
        **_cut(message),
    }


def _tokenize(message: Any) -> dict[str, Any]:
    return {
        "inputs": message.inputs,
        "add_special_tokens": message.add_special_tokens,
        **_prompt(message),
    }


def _decode(message: Any) -> dict[str, Any]:
    return {"ids": [list(message.ids)], "skip_special_tokens": message.skip_special_tokens}


def _fill_info(response: Any, facts: Mapping[str, Any]) -> None:
    for name in (*_TEXTS, *_NUMBERS):
        if facts.get(name) is not None:
            setattr(response, name, facts[name])
    response.model_type = next(_TYPES[kind] for kind in facts["model_type"])


def _fill_vector(response: Any, rows: Any) -> None:
    response.embeddings.extend(rows[0])


def _fill_states(response: Any, rows: Any) -> None:
    for state in rows[0]:
        response.token_embeddings.add(embeddings=state)


def _fill_sparse(response: Any, rows: Any) -> None:
    for entry in rows[0]:
        response.sparse_embeddings.add(index=entry["index"], value=entry["value"])


def _fill_predictions(response: Any, rows: Any) -> None:
    flat = rows[0] if rows and isinstance(rows[0], list) else rows
    for entry in flat:
        response.predictions.add(score=entry["score"], label=entry["label"])


def _fill_ranks(response: Any, rows: Any) -> None:
    for entry in rows:
        rank = response.ranks.add(index=entry["index"], score=entry["score"])
        if entry.get("text") is not None:
            rank.text = entry["text"]


def _fill_tokens(response: Any, rows: Any) -> None:
    for entry in rows[0]:
        token = response.tokens.add(id=entry["id"], text=entry["text"], special=entry["special"])
        if entry["start"] is not None:
            token.start, token.stop = entry["start"], entry["stop"]


def _fill_text(response: Any, rows: Any) -> None:
    response.text = rows[0]


CALLS: Mapping[str, Call] = {
    "Info": Call("GET", "/info", lambda message: None, _fill_info),
    "Embed": Call("POST", "/embed", _embed, _fill_vector),
    "EmbedSparse": Call("POST", "/embed_sparse", _per_token, _fill_sparse),
    "EmbedAll": Call("POST", "/embed_all", _per_token, _fill_states),
    "Predict": Call("POST", "/predict", _predict, _fill_predictions),
    "PredictPair": Call("POST", "/predict", _predict_pair, _fill_predictions),
    "Rerank": Call("POST", "/rerank", _rerank, _fill_ranks),
    "Tokenize": Call("POST", "/tokenize", _tokenize, _fill_tokens),
    "Decode": Call("POST", "/decode", _decode, _fill_text),
}
"""By the call's name; `EmbedStream` and its like are many of `Embed`."""


def call_of(method: proto_file.Method) -> Call:
    """What answers one message of `method`."""
    return CALLS[method.name.removesuffix("Stream")]


def gathered(messages: list[Any]) -> Any:
    """The one request that the messages of `RerankStream` are together."""
    first = messages[0]
    return _MESSAGES["RerankRequest"](
        query=first.query,
        texts=[each.text for each in messages],
        truncate=first.truncate,
        raw_scores=first.raw_scores,
        return_text=first.return_text,
        truncation_direction=first.truncation_direction,
    )
