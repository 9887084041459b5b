"""The desk: takes requests of every kind, reads them and queues them as work for the lanes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from likewise.base.errors import (
    DimensionsError,
    InputError,
    InputTooLong,
    LikewiseError,
    Overloaded,
)
from likewise.models.parts import scales
from likewise.models.tokenize import Cut
from likewise.runtime import metrics
from likewise.runtime.pending import Embedded, Facts, Pending, Piece, embedding
from likewise.runtime.reading import Inputs, Reader, expect
from likewise.runtime.sinks import Answered, Rows, Scored
from likewise.runtime.together import pieces, require_means, require_whole
from likewise.vectors.activate import ACTIVATIONS
from likewise.vectors.norm import normalise, truncate

if TYPE_CHECKING:
    from likewise.base.types import Kind, Vectors
    from likewise.engines.batch import Output
    from likewise.models.card import ModelCard
    from likewise.models.tokenize import Encoded
    from likewise.runtime.inflight import Inflight
    from likewise.runtime.lanes import Lanes
    from likewise.runtime.manner import Manner

T = TypeVar("T")

Length = Literal["own", "unit", "raw"]
"""How long vectors are: as the model's own modules leave them; 1; or as they are before the modules
at the end that only scale them to 1."""

_NOT_TRAINED = (
    "; its files don't say that it was trained to be cut to fewer. If it was, tell the server: "
    '--matryoshka WIDTHS, or matryoshka in the table [models."NAME"] of likewise.toml'
)
SLICE_TEXTS = 256
"""Texts tokenised before they are handed on, so that the engine starts while the rest waits."""


class Desk:
    """Where requests for one model come in. Safe to use from several threads."""

    def __init__(self, card: ModelCard, reader: Reader, lanes: Lanes, inflight: Inflight) -> None:
        self._card = card
        self._reader = reader
        self._lanes = lanes
        self._inflight = inflight

    def vectors(
        self,
        inputs: Inputs,
        prompt: str,
        dimensions: int | None,
        manner: Manner,
        *,
        wait: bool,
        force: bool = False,
        length: Length = "own",
        special: bool = True,
    ) -> Future[Embedded]:
        """Queue texts that become vectors, cut to `dimensions` (`force`: to any smaller).

        Without `special` no special tokens are added.
        """
        self._reader.require("vectors")
        inputs = listed(inputs)
        finish = self._finish(dimensions, force=force, length=length)
        is_raw = length == "raw" and scales(self._card.steps)
        output: Output = "raw" if is_raw else "vectors"
        pending = embedding(len(inputs), self._card.dimensions, finish, manner, output=output)

        cut = _cut(manner, special)

        def read(start: int, end: int) -> list[Piece]:
            with pending.tokenising():
                encoded = self._reader.texts(inputs[start:end], start, prompt, cut)
            encoded = self._counted(encoded, start, manner)
            # Only vectors as the model gives them are shared and kept.
            if is_raw:
                return pending.pieces(encoded, start)
            return self._inflight.pieces(encoded, start, pending, manner.lane)

        return self._queue(pending, len(inputs), read, wait=wait)

    def chunks(
        self,
        chunks: Inputs,
        prompt: str,
        dimensions: int | None,
        manner: Manner,
        *,
        length: Length = "own",
    ) -> Future[Embedded]:
        """Queue the chunks of one document, which are read together and become a vector each."""
        self._reader.require("vectors", "states")
        require_means(self._card)
        chunks = listed(chunks)
        after = self._finish(dimensions, force=False, length=length)
        scales = self._card.normalised and length != "raw"

        def finish(means: Vectors) -> Vectors:
            return after(normalise(means) if scales else means)

        pending = embedding(len(chunks), self._card.dimensions, finish, manner)

        def read(start: int, end: int) -> list[Piece]:
            del start, end
            with pending.tokenising():
                windows = self._reader.together(chunks, prompt, _cut(manner))
            if manner.overflow == "refuse":
                require_whole(windows, self._card.name, self._reader.limit(_cut(manner)))
            for window in windows:
                pending.note(self._counted([*window.chunks], window.first, manner), window.first)
            return pieces(windows, pending)

        return self._queue(pending, min(1, len(chunks)), read, wait=False)

    def pairs(
        self,
        pairs: Sequence[tuple[str, str]],
        prompt: str | None,
        raw: bool,
        manner: Manner,
        *,
        wait: bool,
    ) -> Future[Scored]:
        """Queue pairs that become scores; `raw` ones without their activation."""
        pending = self._scoring(len(pairs), raw, manner)

        def read(start: int, end: int) -> list[Piece]:
            with pending.tokenising():
                encoded = self._reader.pairs(pairs[start:end], start, prompt, _cut(manner))
            return pending.pieces(self._counted(encoded, start, manner), start)

        return self._queue(pending, len(pairs), read, wait=wait)

    def labels(
        self, inputs: Inputs, prompt: str, raw: bool, manner: Manner, *, wait: bool
    ) -> Future[Scored]:
        """Queue texts by themselves, after `prompt`, that become scores of the model's labels."""
        self._reader.require_single()
        inputs = listed(inputs)
        pending = self._scoring(len(inputs), raw, manner)

        def read(start: int, end: int) -> list[Piece]:
            with pending.tokenising():
                encoded = self._reader.texts(inputs[start:end], start, prompt, _cut(manner))
            return pending.pieces(self._counted(encoded, start, manner), start)

        return self._queue(pending, len(inputs), read, wait=wait)

    def outputs(
        self,
        inputs: Inputs,
        gives: Sequence[str],
        kind: Kind,
        prompt: str,
        manner: Manner,
        *,
        wait: bool,
    ) -> Future[Answered]:
        """Queue texts that become all that is in `gives`, in one pass."""
        self._reader.require(*gives)
        inputs = listed(inputs)
        sinks = self._reader.sinks(gives, len(inputs))

        def made(facts: Facts) -> Answered:
            found = {sink.gives: sink.result() for sink in sinks.values()}
            return Answered(
                found.get("vectors"),
                found.get("sparse"),
                found.get("tokens"),
                facts.tokens,
                facts.truncated,
                facts.times,
                found.get("states"),
            )

        pending = Pending(len(inputs), sinks, made, manner)

        def read(start: int, end: int) -> list[Piece]:
            is_late, cut = "tokens" in gives, _cut(manner)
            with pending.tokenising():
                late = self._reader.late(
                    inputs[start:end], start, kind, prompt, is_late=is_late, cut=cut
                )
            expect(sinks, late, start)
            encoded = self._counted([one.encoded for one in late], start, manner)
            return pending.pieces(encoded, start, [one.attended for one in late])

        return self._queue(pending, len(inputs), read, wait=wait)

    def _scoring(self, count: int, raw: bool, manner: Manner) -> Pending[Scored]:
        head = self._reader.scores
        finish = ACTIVATIONS["identity" if raw else head.activation]
        rows = Rows(count, len(head.labels))

        def made(facts: Facts) -> Scored:
            return Scored(finish(rows.result()), facts.tokens, facts.truncated, facts.times)

        return Pending(count, {"scores": rows}, made, manner)

    def _queue(
        self,
        pending: Pending[T],
        count: int,
        read: Callable[[int, int], list[Piece]],
        *,
        wait: bool,
    ) -> Future[T]:
        """Put what `read` makes of inputs `start` to `end` into the lane, a slice at a time."""
        lane = pending.manner.lane
        try:
            for start in range(0, count, SLICE_TEXTS):
                if work := read(start, min(start + SLICE_TEXTS, count)):
                    self._put(work, pending, wait=wait)
                if pending.is_over:
                    break
        except LikewiseError as refused:
            # What was queued already is dropped when its turn comes.
            pending.fail(refused)
            if isinstance(refused, Overloaded):
                metrics.REJECTED.labels(self._card.name, lane, pending.dialect, refused.code).inc()
            raise
        metrics.TOKENISE_SECONDS.labels(self._card.name, lane).observe(pending.tokenise_s)
        return pending.future

    def _put(self, work: Sequence[Piece], pending: Pending[Any], *, wait: bool) -> None:
        manner = pending.manner
        try:
            self._lanes.put(manner.lane, work, wait=wait, deadline=manner.deadline)
        except LikewiseError:
            self._inflight.withdraw(work)
            raise
        self._inflight.queued(work)

    def _finish(
        self, dimensions: int | None, *, force: bool, length: Length
    ) -> Callable[[Vectors], Vectors]:
        """What is done with a request's vectors when all are there."""
        width, normalised = self._card.dimensions, self._card.normalised
        cuts = dimensions if dimensions is not None and dimensions != width else None
        if cuts is not None:
            self._require_dimensions(cuts, force)

        def finish(vectors: Vectors) -> Vectors:
            if cuts is not None and length == "raw":
                return np.ascontiguousarray(vectors[:, :cuts])
            if cuts is not None:
                return truncate(vectors, cuts)
            return normalise(vectors) if length == "unit" and not normalised else vectors

        return finish

    def _counted(self, encoded: list[Encoded], start: int, manner: Manner) -> list[Encoded]:
        """`encoded`, those that were cut counted; or refused, if that was asked for."""
        cut = [index for index, one in enumerate(encoded) if one.truncated]
        if cut and manner.overflow == "refuse":
            first = encoded[cut[0]]
            count = f"at least {first.total}" if first.at_least else str(first.total)
            raise InputTooLong(
                f"input {start + cut[0]} has {count} tokens; {self._card.name} "
                f"reads {len(first.ids)}",
                param="input",
                inputs=tuple(start + at for at in cut),
                tokens=encoded[cut[0]].total,
                limit=len(encoded[cut[0]].ids),
            )
        if cut:
            lost = sum(encoded[at].total - len(encoded[at].ids) for at in cut)
            metrics.TRUNCATED.labels(self._card.name, manner.dialect).inc(len(cut))
            metrics.DROPPED_TOKENS.labels(self._card.name, manner.dialect).inc(lost)
        return encoded

    def _require_dimensions(self, dimensions: int, force: bool) -> None:
        card, width = self._card, self._card.dimensions
        is_free = force or card.any_width
        if dimensions in card.matryoshka or (is_free and 1 <= dimensions < width):
            return
        widths = f"1 to {width}" if is_free else " or ".join(map(str, (*card.matryoshka, width)))
        raise DimensionsError(
            f"{card.name} gives vectors of {widths} dimensions, not {dimensions}"
            + ("" if is_free or card.matryoshka else _NOT_TRAINED),
            param="dimensions",
        )


def _cut(manner: Manner, special: bool = True) -> Cut | None:
    """What the caller wants cut otherwise than the model's files say."""
    if manner.limit is None and manner.side is None and special:
        return None
    return Cut(manner.limit, manner.side, special)


def listed(inputs: Any) -> Any:
    """`inputs`; raises `InputError` when it is one text and not a list of them."""
    if isinstance(inputs, str | bytes):
        raise InputError("give a list of texts, not one text", param="input")
    return inputs
