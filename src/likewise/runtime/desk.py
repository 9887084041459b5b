"""The desk: takes requests of every kind, reads them and queues them as work for the lanes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from likewise.base.errors import (
    DimensionsError,
    InputError,
    InputTooLong,
    LikewiseError,
    Overloaded,
)
from likewise.runtime import metrics
from likewise.runtime.pending import Embedded, Pending, Piece, Positions, embedding
from likewise.runtime.reading import Inputs, Reader, expect
from likewise.runtime.sinks import Answered, Rows, Scored
from likewise.vectors.activate import ACTIVATIONS
from likewise.vectors.norm import truncate

if TYPE_CHECKING:
    from likewise.base.types import Kind
    from likewise.models.card import ModelCard
    from likewise.models.tokenize import Encoded
    from likewise.runtime.lanes import Lane, Lanes

Overflow = Literal["cut", "refuse"]
T = TypeVar("T")

SLICE_TEXTS = 256
"""Texts tokenised before they are handed on, so that the engine starts while the rest waits."""


class Desk:
    """Where requests for one model come in. Safe to use from several threads."""

    def __init__(self, card: ModelCard, reader: Reader, lanes: Lanes) -> None:
        self._card = card
        self._reader = reader
        self._lanes = lanes

    def vectors(
        self,
        inputs: Inputs,
        prompt: str,
        lane: Lane,
        dimensions: int | None,
        overflow: Overflow,
        *,
        wait: bool,
        force: bool = False,
    ) -> Future[Embedded]:
        """Queue texts that become vectors, cut to `dimensions`; `force` allows any smaller."""
        self._reader.require("vectors")
        width = self._card.dimensions
        finish = None
        if dimensions is not None and dimensions != width:
            self._require_dimensions(dimensions, force)
            finish = functools.partial(truncate, dimensions=dimensions)
        inputs = listed(inputs)
        pending = embedding(len(inputs), width, finish)

        def read(start: int, end: int) -> list[Piece]:
            encoded = self._reader.texts(inputs[start:end], start, prompt)
            return pending.pieces(self._counted(encoded, start, overflow), start)

        return self._queue(pending, len(inputs), read, lane, wait=wait)

    def pairs(
        self,
        pairs: Sequence[tuple[str, str]],
        prompt: str | None,
        raw: bool,
        lane: Lane,
        overflow: Overflow,
        *,
        wait: bool,
    ) -> Future[Scored]:
        """Queue pairs that become scores; `raw` ones without their activation."""
        head = self._reader.scores
        finish = ACTIVATIONS["identity" if raw else head.activation]
        rows = Rows(len(pairs), len(head.labels))

        def made(tokens: Positions, truncated: Positions) -> Scored:
            return Scored(finish(rows.result()), tokens, truncated)

        pending = Pending(len(pairs), {"scores": rows}, made)

        def read(start: int, end: int) -> list[Piece]:
            encoded = self._reader.pairs(pairs[start:end], start, prompt)
            return pending.pieces(self._counted(encoded, start, overflow), start)

        return self._queue(pending, len(pairs), read, lane, wait=wait)

    def outputs(
        self,
        texts: Sequence[str],
        gives: Sequence[str],
        kind: Kind,
        prompt: str,
        lane: Lane,
        overflow: Overflow,
        *,
        wait: bool,
    ) -> Future[Answered]:
        """Queue texts that become all that is in `gives`, in one pass."""
        self._reader.require(*gives)
        texts = listed(texts)
        sinks = self._reader.sinks(gives, len(texts))

        def made(tokens: Positions, truncated: Positions) -> Answered:
            found = {sink.gives: sink.result() for sink in sinks.values()}
            return Answered(
                found.get("vectors"), found.get("sparse"), found.get("tokens"), tokens, truncated
            )

        pending = Pending(len(texts), sinks, made)

        def read(start: int, end: int) -> list[Piece]:
            late = self._reader.late(
                texts[start:end], start, kind, prompt, is_late="tokens" in gives
            )
            expect(sinks, late, start)
            encoded = self._counted([one.encoded for one in late], start, overflow)
            return pending.pieces(encoded, start, [one.attended for one in late])

        return self._queue(pending, len(texts), read, lane, wait=wait)

    def _queue(
        self,
        pending: Pending[T],
        count: int,
        read: Callable[[int, int], list[Piece]],
        lane: Lane,
        *,
        wait: bool,
    ) -> Future[T]:
        """Put what `read` makes of inputs `start` to `end` into the lane, a slice at a time."""
        try:
            for start in range(0, count, SLICE_TEXTS):
                self._lanes.put(lane, read(start, min(start + SLICE_TEXTS, count)), wait=wait)
                if pending.is_over:
                    break
        except LikewiseError as refused:
            # What was queued already is dropped when its turn comes.
            pending.fail(refused)
            if isinstance(refused, Overloaded):
                metrics.OVERLOADED.labels(self._card.name, lane).inc()
            raise
        return pending.future

    def _counted(self, encoded: list[Encoded], start: int, overflow: Overflow) -> list[Encoded]:
        """`encoded`, those that were cut counted; or refused, if that was asked for."""
        cut = [index for index, one in enumerate(encoded) if one.truncated]
        if cut and overflow == "refuse":
            raise InputTooLong(
                f"input {start + cut[0]} has {encoded[cut[0]].total} tokens; {self._card.name} "
                f"reads {len(encoded[cut[0]].ids)}",
                param="input",
            )
        metrics.TRUNCATED.labels(self._card.name).inc(len(cut))
        return encoded

    def _require_dimensions(self, dimensions: int, force: bool) -> None:
        card, width = self._card, self._card.dimensions
        is_free = force or card.any_width
        if dimensions in card.matryoshka or (is_free and 1 <= dimensions < width):
            return
        widths = f"1 to {width}" if is_free else " or ".join(map(str, (*card.matryoshka, width)))
        raise DimensionsError(
            f"{card.name} gives vectors of {widths} dimensions, not {dimensions}"
            + ("" if is_free or card.matryoshka else "; it wasn't trained to be cut to fewer"),
            param="dimensions",
        )


def listed(inputs: Any) -> Any:
    """`inputs`; raises `InputError` when it is one text and not a list of them."""
    if isinstance(inputs, str | bytes):
        raise InputError("give a list of texts, not one text", param="input")
    return inputs
