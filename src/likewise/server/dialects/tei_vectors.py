"""Text Embeddings Inference's tasks that give vectors: of texts, of tokens, sparse, compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

import msgspec
import numpy as np

from likewise.base.errors import DimensionsError, InputError
from likewise.server.choosing import SPARSE, VECTORS
from likewise.server.dialects.tei_asking import (
    Ask,
    Asked,
    Direction,
    Done,
    Tally,
    cutting,
    decoded,
    listed,
    opened,
    prompt_of,
    require_count,
    submitted,
)
from likewise.server.notices import ignored
from likewise.server.serving import noted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from likewise.base.types import Vectors
    from likewise.runtime.sinks import Answered
    from likewise.server.serving import Model

Inputs = str | list[str | int | list[int]]


class EmbedParameters(msgspec.Struct, forbid_unknown_fields=True):
    """The same fields a level deeper, where some versions of Hugging Face's clients put them."""

    normalize: bool | None = None
    truncate: bool | None = None
    truncation_direction: Direction | None = None
    prompt_name: str | None = None
    dimensions: int | None = None


class EmbedRequest(Asked, kw_only=True):
    """The body of `POST /embed`."""

    inputs: Inputs
    prompt_name: str | None = None
    normalize: bool = True
    dimensions: int | None = None
    encoding_format: Literal["float", "base64"] | None = None
    parameters: EmbedParameters | None = None


class EmbedAllRequest(Asked, kw_only=True):
    """The body of `POST /embed_all` and `POST /embed_sparse`."""

    inputs: Inputs
    prompt_name: str | None = None


class SimilarityInputs(msgspec.Struct, forbid_unknown_fields=True):
    """A sentence, and those it is compared with."""

    source_sentence: str
    sentences: list[str]


class SimilarityParameters(msgspec.Struct, forbid_unknown_fields=True):
    """How the sentences are read."""

    truncate: bool | None = None
    truncation_direction: Direction | None = None
    prompt_name: str | None = None


class SimilarityRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /similarity`."""

    inputs: SimilarityInputs
    parameters: SimilarityParameters | None = None
    model: str | None = None


class SparseValue(TypedDict):
    """A token of the vocabulary and its weight."""

    index: int
    value: float


_EMBED = msgspec.json.Decoder(EmbedRequest)
_EMBED_ALL = msgspec.json.Decoder(EmbedAllRequest)
_SIMILARITY = msgspec.json.Decoder(SimilarityRequest)


async def embed(ask: Ask) -> Done:
    """A vector for each input."""
    asked = _with_parameters(decoded(ask, _EMBED))
    inputs = listed(ask, asked.inputs)
    if asked.encoding_format == "base64":
        # huggingface_hub's client asks for it; TEI gives lists all the same.
        ignored(ask.request, ["encoding_format"])
    if asked.dimensions is not None and asked.dimensions < 1:
        raise DimensionsError("dimensions must be at least 1", param="dimensions")
    async with opened(ask, asked.model, (VECTORS, SPARSE)) as model:
        if not asked.normalize and asked.dimensions is None and _is_sparse(model):
            prompt, tally = prompt_of(ask, model, asked.prompt_name), Tally()
            rows = await _dense(ask, model, inputs, tally, prompt=prompt, **cutting(ask, asked))
            return Done(rows, tally.metered(model))
        found = await submitted(
            ask,
            model.submit,
            inputs,
            prompt=prompt_of(ask, model, asked.prompt_name),
            dimensions=asked.dimensions,
            unit=asked.normalize,
            raw=not asked.normalize,
            **cutting(ask, asked),
        )
        tally = Tally()
        tally.add(inputs, found.tokens, found)
        return Done(np.ascontiguousarray(found.vectors, np.float32), tally.metered(model))


def _with_parameters(asked: EmbedRequest) -> EmbedRequest:
    """`asked` with its `parameters` where they belong; raises where two values contradict."""
    if asked.parameters is None:
        return asked
    unsaid = EmbedRequest(inputs="")
    changes = {}
    for name, value in msgspec.structs.asdict(asked.parameters).items():
        if value is None:
            continue
        if getattr(asked, name) not in (getattr(unsaid, name), value):
            raise InputError(f"{name} and parameters.{name} contradict each other", param=name)
        changes[name] = value
    return msgspec.structs.replace(asked, **changes)


async def embed_all(ask: Ask) -> Done:
    """The hidden states of every token of each input, special ones included."""

    def rows(found: Answered) -> Any:
        return [np.ascontiguousarray(each, np.float32) for each in found.states or ()]

    return await _per_token(ask, "states", rows)


async def embed_sparse(ask: Ask) -> Done:
    """For each input the tokens of the vocabulary that matter, with their weights."""

    def rows(found: Answered) -> Any:
        return [
            [
                {"index": index, "value": value}
                for index, value in zip(ids.tolist(), weights, strict=True)
            ]
            for ids, weights in found.sparse or ()
        ]

    return await _per_token(ask, "sparse", rows)


async def _per_token(ask: Ask, gives: str, rows: Callable[[Answered], Any]) -> Done:
    asked = decoded(ask, _EMBED_ALL)
    inputs = listed(ask, asked.inputs)
    needs = (SPARSE,) if gives == "sparse" else (VECTORS,)
    async with opened(ask, asked.model, needs) as model:
        found = await submitted(
            ask,
            model.submit_all,
            inputs,
            gives=(gives,),
            prompt=prompt_of(ask, model, asked.prompt_name),
            **cutting(ask, asked),
        )
        tally = Tally()
        tally.add(inputs, found.token_counts, found)
        return Done(rows(found), tally.metered(model))


async def similarity(ask: Ask) -> Done:
    """The cosine of a sentence with each of others."""
    asked = decoded(ask, _SIMILARITY)
    given, parameters = asked.inputs, asked.parameters or SimilarityParameters()
    require_count(ask, len(given.sentences), "sentences")
    noted(ask.request)["te_inputs"] = 0
    texts = listed(ask, [given.source_sentence, *given.sentences])
    async with opened(ask, asked.model, (VECTORS, SPARSE)) as model:
        prompt, tally = prompt_of(ask, model, parameters.prompt_name), Tally()
        if _is_sparse(model):
            rows = await _dense(ask, model, texts, tally, prompt=prompt, **cutting(ask, parameters))
        else:
            found = await submitted(
                ask, model.submit, texts, prompt=prompt, unit=True, **cutting(ask, parameters)
            )
            tally.add(texts, found.tokens, found)
            rows = found.vectors
        return Done(_cosines(rows), tally.metered(model))


def _cosines(rows: Vectors) -> Vectors:
    """The cosine of the first row with each of the others; 1 for itself, 0 beside a row of zeros.

    In float64, because the lengths of float32 vectors are off by some 1e-7.
    """
    wide = rows.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1)
    products = wide[1:] @ wide[0]
    scale = lengths[1:] * lengths[0]
    found = np.divide(products, scale, out=np.zeros_like(products), where=scale > 0)
    return np.asarray(np.clip(found, -1, 1), np.float32)


def _is_sparse(model: Model) -> bool:
    """Whether it gives a weight for each token of its vocabulary, and no other vectors."""
    return "sparse" in model.card.gives and "vectors" not in model.card.gives


async def _dense(
    ask: Ask, model: Model, inputs: Sequence[Any], tally: Tally, **how: Any
) -> Vectors:
    """Sparse vectors with all their zeros, float32 [inputs, vocabulary]."""
    found = await submitted(ask, model.submit_all, inputs, gives=("sparse",), **how)
    tally.add(inputs, found.token_counts, found)
    rows = np.zeros((len(inputs), int(model.card.config["vocab_size"])), np.float32)
    for row, (ids, weights) in zip(rows, found.sparse or (), strict=True):
        row[ids] = weights
    return rows
