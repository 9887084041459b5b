"""Text Embeddings Inference's tasks that give scores: `/predict` and `/rerank`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict

import msgspec
import numpy as np

from likewise.base.errors import InputEmpty, InputError, ModelUnsupported
from likewise.server.choosing import SCORES, VECTORS, reranks
from likewise.server.defaults import refuse_prompted_pairs, unnamed_prompt
from likewise.server.dialects.tei_asking import (
    Ask,
    Asked,
    Done,
    Tally,
    cutting,
    decoded,
    opened,
    require_count,
    shortest,
    submitted,
)
from likewise.server.serving import lane_of, noted
from likewise.vectors.activate import sigmoid, softmax

if TYPE_CHECKING:
    from likewise.base.types import Vectors
    from likewise.server.serving import Model

Function = Literal["softmax", "sigmoid", "none"]
Single = str | tuple[str, str]
"""A text by itself, or a pair."""


class PredictParameters(msgspec.Struct, forbid_unknown_fields=True):
    """What Hugging Face's client calls a text classification's parameters."""

    function_to_apply: Function | None = None
    top_k: int | None = None


class PredictRequest(Asked, kw_only=True):
    """The body of `POST /predict`. A list of two strings is one pair."""

    inputs: str | list[str | list[str]]
    raw_scores: bool = False
    parameters: PredictParameters | None = None


class Prediction(TypedDict):
    """A label and how well it fits."""

    score: float
    label: str


class RerankRequest(Asked, kw_only=True):
    """The body of `POST /rerank` with `texts`. `top_n` and `by` are ours."""

    query: str
    texts: list[str]
    raw_scores: bool = False
    return_text: bool = False
    top_n: int | None = None
    by: Literal["cosine"] | None = None


class Rank(TypedDict):
    """A text's place among `texts`, and how well it answers."""

    index: int
    text: NotRequired[str]
    score: float


_PREDICT = msgspec.json.Decoder(PredictRequest)
_RERANK = msgspec.json.Decoder(RerankRequest)


async def predict(ask: Ask) -> Done:
    """The model's labels with their scores, best first, for one text or pair or for many."""
    asked = decoded(ask, _PREDICT)
    inputs, is_batch = _singles(ask, asked.inputs)
    parameters = asked.parameters or PredictParameters()
    if asked.raw_scores and parameters.function_to_apply not in (None, "none"):
        raise InputError(
            "raw_scores and parameters.function_to_apply contradict each other", param="raw_scores"
        )
    _require_positive(parameters.top_k, "top_k")
    async with opened(ask, asked.model, (SCORES,)) as model:
        tally = Tally()
        raw = await _raw_scores(ask, model, inputs, asked, tally)
        chosen = "none" if asked.raw_scores else parameters.function_to_apply
        scores = _applied(raw, chosen or _function(model, raw.shape[1]))
        labels = model.info()["labels"]
        rows = [_ranked(each, labels, parameters.top_k) for each in scores]
        # The client that sends `parameters` takes the first of a list of lists.
        content = rows if is_batch or asked.parameters is not None else rows[0]
        return Done(content, tally.metered(model))


def _singles(ask: Ask, given: str | list[str | list[str]]) -> tuple[list[Single], bool]:
    """The texts and pairs in `inputs`, and whether they were sent as a batch."""
    if isinstance(given, str):
        return [_single([given], "inputs")], False
    require_count(ask, len(given), "inputs")
    texts = [each for each in given if isinstance(each, str)]
    if texts:
        if len(texts) < len(given):
            raise InputError(
                "inputs mixes texts with lists; a batch is a list of lists of one or two texts",
                param="inputs",
            )
        return [_single(texts, "inputs")], False
    noted(ask.request)["te_method"] = "batch"
    return [_single(list(each), f"inputs[{at}]") for at, each in enumerate(given)], True


def _single(texts: list[str], where: str) -> Single:
    if len(texts) == 2:
        return texts[0], texts[1]
    if len(texts) > 2:
        raise InputError(
            f"{where} has {len(texts)} texts: one is classified by itself, two as a pair, and a "
            'batch is a list of such lists, [["a"], ["b"], ["c"]]',
            param="inputs",
        )
    if not texts or not texts[0]:
        raise InputEmpty(f"{where} is empty", param="inputs")
    return texts[0]


async def _raw_scores(
    ask: Ask, model: Model, inputs: list[Single], asked: PredictRequest, tally: Tally
) -> Vectors:
    """What the model gives for texts and pairs, float32 [inputs, labels], in their order."""
    lane = ask.lane or lane_of(ask.request, len(inputs))
    rows: dict[int, Vectors] = {}
    for submit, kind in ((model.submit_labels, str), (model.submit_pairs, tuple)):
        places = [at for at, each in enumerate(inputs) if isinstance(each, kind)]
        if not places:
            continue
        some = [inputs[at] for at in places]
        prompt = unnamed_prompt(ask.request, model) if kind is str else {}
        if kind is tuple:
            refuse_prompted_pairs(ask.request)
        found = await submitted(
            ask, submit, some, raw=True, lane=lane, **prompt, **cutting(ask, asked)
        )
        tally.add(some, found.tokens, found, places)
        rows |= zip(places, found.scores, strict=True)
    return np.stack([rows[at] for at in range(len(inputs))])


def _function(model: Model, labels: int) -> Function:
    """Labels of a model trained for several at once don't share one probability."""
    several = model.card.config.get("problem_type") == "multi_label_classification"
    return "sigmoid" if several or labels == 1 else "softmax"


def _applied(raw: Vectors, function: Function) -> Vectors:
    if function == "none":
        return raw
    return softmax(raw) if function == "softmax" else sigmoid(raw)


def _ranked(scores: Vectors, labels: list[str], top_k: int | None) -> list[Prediction]:
    order = np.argsort(-scores, kind="stable")[:top_k]
    return [{"score": shortest(scores[at]), "label": labels[at]} for at in order]


async def rank(ask: Ask) -> Done:
    """Texts by how well they answer a query, best first."""
    asked = decoded(ask, _RERANK)
    require_count(ask, len(asked.texts), "texts")
    if not asked.query and not all(asked.texts):
        raise InputEmpty("`query` and a text are both empty", param="query")
    _require_positive(asked.top_n, "top_n")
    needs = (VECTORS,) if asked.by == "cosine" else (reranks,)
    async with opened(ask, asked.model, needs) as model:
        tally = Tally()
        answer = _cosines if asked.by == "cosine" else _relevance
        scores = await answer(ask, model, asked, tally)
        order = np.argsort(-scores, kind="stable")[: asked.top_n]
        ranks: list[Rank] = [{"index": int(at), "score": shortest(scores[at])} for at in order]
        if asked.return_text:
            ranks = [
                {"index": one["index"], "text": asked.texts[one["index"]], "score": one["score"]}
                for one in ranks
            ]
        return Done(ranks, tally.metered(model))


async def _relevance(ask: Ask, model: Model, asked: RerankRequest, tally: Tally) -> Vectors:
    labels = model.info().get("labels", ())
    if len(labels) != 1:
        gives = f"{len(labels)} labels" if labels else " and ".join(model.info()["gives"])
        raise ModelUnsupported(
            f"model is not a re-ranker model: {model.name} gives {gives}"
            + ('; "by": "cosine" ranks by its vectors' if "vectors" in gives else ""),
            param="model",
        )
    refuse_prompted_pairs(ask.request)
    pairs = [(asked.query, text) for text in asked.texts]
    found = await submitted(ask, model.submit_pairs, pairs, raw=True, **cutting(ask, asked))
    tally.add(pairs, found.tokens, found)
    raw = found.scores[:, 0]
    return raw if asked.raw_scores else sigmoid(raw)


async def _cosines(ask: Ask, model: Model, asked: RerankRequest, tally: Tally) -> Vectors:
    lane = ask.lane or lane_of(ask.request, len(asked.texts))
    how = {"unit": True, "lane": lane, **cutting(ask, asked)}
    query = await submitted(ask, model.submit, [asked.query], kind="query", **how)
    texts = await submitted(ask, model.submit, asked.texts, kind="document", **how)
    tally.add(asked.texts, texts.tokens, texts)
    tally.add([asked.query], query.tokens, query)
    if query.truncated:
        # Every score is of the cut query.
        tally.truncated.update(range(len(asked.texts)))
    return np.asarray(texts.vectors @ query.vectors[0], np.float32)


def _require_positive(count: int | None, param: str) -> None:
    if count is not None and count < 1:
        raise InputError(f"{param} must be at least 1", param=param)
