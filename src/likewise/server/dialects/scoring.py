"""How well texts answer others: by a cross-encoder, by MaxSim or by cosine, whichever is meant."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec
import numpy as np

from likewise.base.errors import InputError, ModelUnsupported
from likewise.models.heads import Scores
from likewise.runtime.sinks import Scored
from likewise.server.choosing import TOKENS, VECTORS, reranks
from likewise.server.defaults import overflow, refuse_prompted_pairs
from likewise.server.serving import computed, lane_of, noted
from likewise.vectors.maxsim import maxsim

if TYPE_CHECKING:
    from starlette.requests import Request

    from likewise.runtime.manner import How
    from likewise.server.choosing import Need
    from likewise.server.serving import Model

By = Literal["cross-encoder", "maxsim", "cosine"]
"""What a score is: a number the model gives for the pair, or one made of the vectors of both."""

BY_HEADER = "x-likewise-scored-by"
MAX_PAIRS = 10_000

_NEEDS: dict[By, str] = {"cross-encoder": "scores", "maxsim": "tokens", "cosine": "vectors"}
T = TypeVar("T")


class Options(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Fields that all of vLLM's bodies share.

    `user`, `priority` and `cache_salt` change nothing here.
    """

    model: str | None = None
    user: str | None = None
    request_id: str | None = None
    priority: int | None = None
    cache_salt: str | None = None
    truncate_prompt_tokens: int | None = None
    truncation_side: Literal["left", "right"] | None = None
    add_special_tokens: bool = True

    def how(self, request: Request, *, cuts: bool | None) -> How:
        """How texts that are too long are treated, if `truncate_prompt_tokens` doesn't say.

        `cuts`: whether they are cut; None: as the operator says.

        Raises:
            InputError: a field asks for what isn't done here.
        """
        if not self.add_special_tokens:
            raise InputError(
                "texts are computed with the special tokens that the model was trained with; "
                "'add_special_tokens' can't be false here",
                param="add_special_tokens",
            )
        limit = self.truncate_prompt_tokens
        if limit is not None and limit != -1 and limit < 1:
            raise InputError(
                f"truncate_prompt_tokens is {limit}; it must be at least 1, or -1 for as many as "
                "the model reads",
                param="truncate_prompt_tokens",
            )
        how: How = {"overflow": overflow(request, cuts if limit is None else True)}
        if limit is not None and limit > 0:
            how["limit"] = limit
        if self.truncation_side is not None:
            how["side"] = self.truncation_side
        return how


def needs_of(asked: By | None, *, any_vectors: bool = False) -> Sequence[Need]:
    """What a model has to give to score pairs as was `asked`; `any_vectors` as for `way`."""
    by = {"cross-encoder": reranks, "maxsim": TOKENS, "cosine": VECTORS}
    if asked is not None:
        return (by[asked],)
    return (reranks, TOKENS, VECTORS) if any_vectors else (reranks, TOKENS)


def way(model: Model, asked: By | None, *, any_vectors: bool) -> By:
    """How `model` scores pairs: as was `asked`, else as it was made to.

    A model that gives vectors alone does so by cosine only where `any_vectors` says that the
    request means that.

    Raises:
        ModelUnsupported: it can't, or wasn't made to and nobody asked for it.
    """
    gives = model.card.gives
    if asked is not None:
        if _NEEDS[asked] not in gives:
            raise ModelUnsupported(
                f"{model.name} gives no {_NEEDS[asked]}, which scoring by {asked} needs; "
                f"it gives {', '.join(gives)}",
                param="by",
            )
        return asked
    for by in _NEEDS:
        if _NEEDS[by] in gives and (by != "cosine" or any_vectors):
            return by
    if "vectors" in gives:
        raise ModelUnsupported(
            f"{model.name} is no reranker: it gives a vector for each text. To rank by the cosine "
            'of the vectors, say so: "by": "cosine" in the body, or the header '
            "'x-likewise-rerank: cosine'",
            param="model",
        )
    raise ModelUnsupported(
        f"{model.name} scores no pairs; it gives {', '.join(gives)}", param="model"
    )


def labels(model: Model) -> tuple[str, ...]:
    """The labels of a model that gives scores; none for another."""
    heads = (head for head in model.card.heads if isinstance(head, Scores))
    return next((head.labels for head in heads), ())


def paired(first: Sequence[T], second: Sequence[T]) -> list[tuple[T, T]]:
    """Pairs of one with one, one with many, or as many with as many.

    Raises:
        InputError: there is nothing on a side, they don't match, or they are too many.
    """
    if not first or not second:
        raise InputError("there is nothing to score: a side is an empty list", param="text_1")
    if len(first) not in (1, len(second)):
        raise InputError(
            f"{len(first)} texts can't be paired with {len(second)}; send one and one, one and "
            "many, or as many and as many",
            param="text_1",
        )
    if len(second) > MAX_PAIRS:
        raise InputError(
            f"{len(second)} texts to score in one request; the most is {MAX_PAIRS}", param="text_2"
        )
    return list(zip(first if len(first) > 1 else [first[0]] * len(second), second, strict=True))


async def scored(
    request: Request,
    model: Model,
    by: By,
    first: Sequence[str],
    second: Sequence[str],
    *,
    raw: bool = False,
    prompt: str | None = None,
    **how: Any,
) -> Scored:
    """A score for each pair of `first`, the queries, and `second`, the documents (`paired`).

    Raises:
        ModelUnsupported: the model has several labels, or can't be given a prompt.
        LikewiseError: whatever `computed` raises.
    """
    pairs = paired(first, second)
    how["lane"] = lane_of(request, len(pairs))
    if by == "cross-encoder":
        named = labels(model)
        if len(named) != 1:
            raise ModelUnsupported(
                f"{model.name} gives {len(named)} numbers for a pair ({', '.join(named)}), not one "
                "score; /classify gives them all for a text",
                param="model",
            )
        refuse_prompted_pairs(request)
        return await computed(request, model.submit_pairs, pairs, raw=raw, prompt=prompt, **how)
    if prompt is not None:
        raise ModelUnsupported(
            f"{model.name} reads queries and documents apart; 'instruction' is for models that "
            "read them together",
            param="instruction",
        )
    if by == "cosine":
        found = await _cosines(request, model, first, second, **how)
    else:
        found = await _maxsims(request, model, first, second, **how)
    noted(request)["computed"] = found
    return found


async def _cosines(
    request: Request, model: Model, first: Sequence[str], second: Sequence[str], **how: Any
) -> Scored:
    apart = _apart(model.submit, len(first))
    queries, documents = await computed(request, apart, [*first, *second], unit=True, **how)
    products = (queries.vectors * documents.vectors).sum(axis=-1, dtype=np.float64)
    return Scored(
        products.astype(np.float32)[:, None],
        (*queries.tokens, *documents.tokens),
        _cut(queries.truncated, documents.truncated, len(first), len(second)),
        documents.times,
    )


async def _maxsims(
    request: Request, model: Model, first: Sequence[str], second: Sequence[str], **how: Any
) -> Scored:
    apart = _apart(model.submit_all, len(first))
    queries, documents = await computed(request, apart, [*first, *second], gives=("tokens",), **how)
    sides = paired(queries.tokens or (), documents.tokens or ())
    scores = await asyncio.to_thread(lambda: [maxsim(*side) for side in sides])
    return Scored(
        np.array(scores, np.float32)[:, None],
        (*queries.token_counts, *documents.token_counts),
        _cut(queries.truncated, documents.truncated, len(first), len(second)),
        documents.times,
    )


def _cut(
    queries: Sequence[int], documents: Sequence[int], count: int, pairs: int
) -> tuple[int, ...]:
    """Positions of pairs of which a text was cut; all, where it is the only query."""
    if count == 1 and queries:
        return tuple(range(pairs))
    return tuple(sorted({*queries, *documents}))


def _apart(submit: Callable[..., Future[T]], at: int) -> Callable[..., Future[tuple[T, T]]]:
    """Submits the first `at` inputs as queries, the others as documents: one piece of work."""

    def both(inputs: Sequence[str], **options: Any) -> Future[tuple[T, T]]:
        first = submit(inputs[:at], kind="query", **options)
        try:
            second = submit(inputs[at:], kind="document", **options)
        except BaseException:
            first.cancel()
            raise
        return joined(first, second)

    return both


def joined(first: Future[T], second: Future[T]) -> Future[tuple[T, T]]:
    """Both results. The first failure ends it; whatever ends it early cancels the other part."""
    whole: Future[tuple[T, T]] = Future()
    lock = threading.Lock()
    left = 2

    def over(part: Future[T]) -> None:
        nonlocal left
        with lock:
            left -= 1
            is_last = left == 0
        try:
            if part.cancelled():
                whole.cancel()
            elif (error := part.exception()) is not None:
                whole.set_exception(error)
            elif is_last and not whole.done():
                whole.set_result((first.result(), second.result()))
        except InvalidStateError:
            return

    def ended(_: Future[tuple[T, T]]) -> None:
        first.cancel()
        second.cancel()

    whole.add_done_callback(ended)
    first.add_done_callback(over)
    second.add_done_callback(over)
    return whole
