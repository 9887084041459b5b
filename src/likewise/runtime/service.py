"""The service: a loaded model as an `Embedder`, with its tokenizer, lanes and workers."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from likewise.base.errors import (
    DimensionsError,
    InputError,
    InputTooLong,
    LikewiseError,
    ModelUnsupported,
    Overloaded,
    SettingsError,
)
from likewise.base.log import fields, logger
from likewise.base.names import resolve
from likewise.base.space import Space
from likewise.engines.names import ENGINES
from likewise.models.card import ModelCard, read_card
from likewise.models.digest import weights_digest
from likewise.models.tokenize import Encoded, Tokenizer
from likewise.runtime import metrics, selfcheck
from likewise.runtime.lanes import Lane, Lanes
from likewise.runtime.pace import Pace
from likewise.runtime.pending import Embedded, Pending
from likewise.runtime.split import TokenSplitter
from likewise.runtime.worker import Worker
from likewise.vectors.norm import truncate

if TYPE_CHECKING:
    from likewise.base.precision import Precision
    from likewise.base.types import Kind, Vectors
    from likewise.engines.batch import Engine

Overflow = Literal["cut", "refuse"]

_log = logger("runtime")

SLICE_TEXTS = 256
"""Texts tokenised before they are handed on, so that the engine starts while the rest waits."""
CAPACITY_TOKENS = 1 << 19
"""Tokens that may wait in a lane: some 10,000 texts of ordinary length, 2 MB."""


def load(
    folder: Path,
    *,
    name: str | None = None,
    precision: Precision = "auto",
    threads: int | None = None,
    cache: Path | None = None,
    engine: str = "openvino",
    capacity_tokens: int = CAPACITY_TOKENS,
) -> Service:
    """The model in `folder`, ready to embed; `cache` remembers file digests between starts.

    Raises:
        ModelError: it isn't there, isn't supported, or is damaged.
        EngineError: the engine can't run it.
    """
    card = read_card(folder, name=name)
    tokenizer = Tokenizer(card)
    make = resolve(engine, ENGINES, what="engine", error=ModelUnsupported)
    chosen: Engine = make(card, precision=precision, threads=threads)
    check: dict[str, Any] = {}
    if chosen.precision != "f32":
        full: Engine = make(card, precision="f32", threads=threads)
        chosen, check = _checked(tokenizer, chosen, full, card.name)
    space = Space(
        model=card.name,
        weights=weights_digest(card, cache=cache),
        pooling="+".join(card.pooling.modes),
        dimensions=card.dimensions,
        normalised=card.normalised,
        prompt=card.prompt("document"),
        query_prompt=card.prompt("query"),
        max_tokens=card.max_tokens,
    )
    service = Service(card, tokenizer, chosen, space, check, capacity_tokens=capacity_tokens)
    _log.info(fields("model loaded", **service.info()))
    return service


def _checked(
    tokenizer: Tokenizer, chosen: Engine, full: Engine, model: str
) -> tuple[Engine, dict[str, Any]]:
    """Of the two engines the one to use, and what the comparison showed."""
    verdict = selfcheck.compare(tokenizer, chosen.stream(), full.stream())
    check: dict[str, Any] = {"selfcheck_worst_cosine": verdict.worst_cosine}
    if verdict.is_good:
        full.close()
        return chosen, check
    check["fallback"] = (
        f"{chosen.precision} came only within cosine {verdict.worst_cosine:.6f} of f32 "
        f"(least allowed: {selfcheck.THRESHOLD}); running in f32"
    )
    _log.warning(fields("precision refused", model=model, why=check["fallback"]))
    chosen.close()
    return full, check


class Service:
    """A loaded model. Safe to use from several threads; `close` it when done."""

    def __init__(
        self,
        card: ModelCard,
        tokenizer: Tokenizer,
        engine: Engine,
        space: Space,
        check: dict[str, Any],
        *,
        capacity_tokens: int = CAPACITY_TOKENS,
    ) -> None:
        self.card = card
        self._tokenizer = tokenizer
        self._engine = engine
        self._space = space
        self._check = check
        pace = Pace(largest=engine.budget_tokens)
        self._lanes = Lanes(pace, capacity_tokens=capacity_tokens, streams=engine.streams)
        self._workers = [
            Worker(
                engine.stream(),
                self._lanes,
                pace,
                model=space.model,
                warm_lengths=engine.warm_lengths,
            )
            for _ in range(engine.streams)
        ]
        for worker in self._workers:
            worker.start()
        # A thread inside the engine while the interpreter ends would abort the process, so that
        # a service nobody closed is closed at exit, or when nobody holds it any more.
        self._closing = weakref.finalize(self, _stop, self._lanes, self._workers, engine)

    @property
    def space(self) -> Space:
        """The space its vectors lie in."""
        return self._space

    def embed(
        self,
        texts: Sequence[str],
        *,
        kind: Kind = "document",
        lane: Lane = "bulk",
        overflow: Overflow = "cut",
    ) -> Vectors:
        """Vectors float32 [len(texts), dimensions], in order. Waits while the lane is full.

        Raises:
            InputError: a text can't be embedded, or (`overflow="refuse"`) is too long.
            EngineError: the computation failed.
        """
        future = self._submit(texts, kind, lane, None, overflow, wait=True)
        return future.result().vectors

    def submit(
        self,
        inputs: Sequence[str] | Sequence[Sequence[int]],
        *,
        kind: Kind = "document",
        lane: Lane = "interactive",
        dimensions: int | None = None,
        overflow: Overflow = "cut",
    ) -> Future[Embedded]:
        """Start embedding texts, or texts as token ids; cancelling the future gives the rest up.

        Raises:
            InputError: an input can't be embedded, or (`overflow="refuse"`) is too long.
            DimensionsError: the model has no vectors of that width.
            Overloaded: too much is waiting.
        """
        return self._submit(inputs, kind, lane, dimensions, overflow, wait=False)

    def splitter(self, size: int = 128, overlap: int = 16) -> TokenSplitter:
        """Cuts texts into passages that the model reads whole.

        Raises:
            SettingsError: the model doesn't read that many tokens at once.
        """
        room = self.card.max_tokens - self._tokenizer.overhead(self._space.prompt)
        if not 1 <= size <= room or not 0 <= overlap <= size // 2:
            raise SettingsError(
                f"chunks of {size} tokens overlapping by {overlap}: {self._space.model} reads up "
                f"to {room} tokens at once, and the overlap is at most half of the size",
                param="chunk",
            )
        return TokenSplitter(self._tokenizer, size, overlap)

    def info(self) -> dict[str, Any]:
        """Facts for people and for `/health`."""
        return {
            "model": self._space.model,
            "folder": str(self.card.folder),
            "engine": self._engine.name,
            "precision": self._engine.precision,
            "why": self._engine.why,
            "streams": self._engine.streams,
            "dimensions": self._space.dimensions,
            "max_tokens": self._space.max_tokens,
            "pooling": self._space.pooling,
            "normalised": self._space.normalised,
            "weights": self._space.weights,
            "notes": list(self.card.notes),
            **self._check,
        }

    def close(self) -> None:
        """Stop; what waits fails. Closing twice does nothing more."""
        self._closing()

    def _submit(
        self,
        inputs: Sequence[str] | Sequence[Sequence[int]],
        kind: Kind,
        lane: Lane,
        dimensions: int | None,
        overflow: Overflow,
        *,
        wait: bool,
    ) -> Future[Embedded]:
        if isinstance(inputs, str | bytes):
            raise InputError("give a list of texts, not one text", param="input")
        width = self._space.dimensions
        finish = None
        if dimensions is not None and dimensions != width:
            self._require_dimensions(dimensions)
            finish = functools.partial(truncate, dimensions=dimensions)
        pending = Pending(len(inputs), width, finish)
        try:
            for start in range(0, len(inputs), SLICE_TEXTS):
                encoded = self._encode(inputs[start : start + SLICE_TEXTS], kind, start, overflow)
                self._lanes.put(lane, pending.pieces(encoded, start), wait=wait)
                if pending.is_over:
                    break
        except LikewiseError as refused:
            # What was queued already is dropped when its turn comes.
            pending.fail(refused)
            if isinstance(refused, Overloaded):
                metrics.OVERLOADED.labels(self._space.model, lane).inc()
            raise
        return pending.future

    def _encode(
        self,
        inputs: Sequence[str] | Sequence[Sequence[int]],
        kind: Kind,
        start: int,
        overflow: Overflow,
    ) -> list[Encoded]:
        prompt = self._space.query_prompt if kind == "query" else self._space.prompt
        encoded = self._tokenizer.encode_inputs(inputs, prompt=prompt, first=start)
        cut = [index for index, one in enumerate(encoded) if one.truncated]
        if cut and overflow == "refuse":
            raise InputTooLong(
                f"input {start + cut[0]} has {encoded[cut[0]].total} tokens; {self._space.model} "
                f"reads {self._space.max_tokens}",
                param="input",
            )
        metrics.TRUNCATED.labels(self._space.model).inc(len(cut))
        return encoded

    def _require_dimensions(self, dimensions: int) -> None:
        allowed = (*self.card.matryoshka, self._space.dimensions)
        if dimensions in allowed:
            return
        raise DimensionsError(
            f"{self._space.model} gives vectors of {' or '.join(map(str, allowed))} dimensions, "
            f"not {dimensions}"
            + ("" if self.card.matryoshka else "; it wasn't trained to be cut to fewer"),
            param="dimensions",
        )


def _stop(lanes: Lanes, workers: Sequence[Worker], engine: Engine) -> None:
    lanes.close()
    for worker in workers:
        worker.join()
    engine.close()


__all__ = ["Embedded", "Service", "load"]
