"""The service: a loaded model as an `Embedder`, with its tokenizer, lanes and workers."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from likewise.base.chunking import DEFAULT_CHUNK
from likewise.base.errors import ModelUnsupported
from likewise.base.log import fields, logger
from likewise.base.names import resolve
from likewise.base.space import Space
from likewise.engines.choose import choose
from likewise.engines.names import AUTO, ENGINES, EXTRAS
from likewise.models.about import overridden
from likewise.models.card import NOTHING_SAID, ModelCard, read_card
from likewise.models.digest import outputs_digest, weights_digest
from likewise.models.locate import finder
from likewise.models.overrides import Overrides
from likewise.models.static_tokens import tokenizer_for
from likewise.runtime import metrics
from likewise.runtime.calls import Calls
from likewise.runtime.desk import Desk
from likewise.runtime.inflight import Inflight
from likewise.runtime.lanes import Lanes
from likewise.runtime.pace import Pace
from likewise.runtime.pending import Embedded
from likewise.runtime.reading import Reader
from likewise.runtime.ready import ready
from likewise.runtime.worker import Worker
from likewise.text.split import TextSplitter, splitter

if TYPE_CHECKING:
    from likewise.base.precision import Precision
    from likewise.engines.batch import Engine
    from likewise.models.tokenize import Tokenizer
    from likewise.runtime.cache import VectorCache

_log = logger("runtime")

CAPACITY_TOKENS = 1 << 19
"""Tokens that may wait in a lane: some 10,000 texts of ordinary length, 2 MB."""


def load(
    folder: Path,
    *,
    name: str | None = None,
    precision: Precision = "auto",
    threads: int | None = None,
    cache: Path | None = None,
    engine: str = AUTO,
    capacity_tokens: int = CAPACITY_TOKENS,
    kept: VectorCache | None = None,
    overrides: Overrides = NOTHING_SAID,
) -> Service:
    """The model in `folder`, ready; `cache` remembers digests and self-checks between starts.

    What `overrides` say counts instead of what the folder says. Vectors go into `kept`, and are
    taken from there.

    Raises:
        ModelError: it isn't there, isn't supported, or is damaged.
        EngineError: the engine can't run it; `NotFinite` if it gives NaN or Inf even in float32.
        MissingExtra: the engine that it needs isn't installed.
    """
    find = None if cache is None else finder(cache)
    card = read_card(folder, name=name, find=find, overrides=overrides)
    tokenizer = tokenizer_for(card)
    choice = choose(card, engine)
    make = resolve(choice.engine, ENGINES, what="engine", extras=EXTRAS, error=ModelUnsupported)
    weights = weights_digest(card, cache=cache)
    found = ready(
        card,
        tokenizer,
        lambda precision: make(card, precision=precision, threads=threads),
        precision=precision,
        outputs=outputs_digest(card, weights, cache=cache),
        cache=cache,
    )
    space = _space(card, weights) if card.steps else None
    facts = {"weights": weights, **choice.facts(), **found.facts()}
    service = Service(
        card,
        tokenizer,
        found.engine,
        space,
        facts,
        capacity_tokens=capacity_tokens,
        kept=kept,
    )
    _log.info(fields("model loaded", **service.info()))
    return service


def _space(card: ModelCard, weights: str) -> Space:
    return Space(
        model=card.name,
        weights=weights,
        pooling="+".join(card.pooling.modes),
        dimensions=card.dimensions,
        normalised=card.normalised,
        prompt=card.prompt("document"),
        query_prompt=card.prompt("query"),
        max_tokens=card.max_tokens,
    )


class Service(Calls):
    """A loaded model. Safe to use from several threads; `close` it when done."""

    def __init__(
        self,
        card: ModelCard,
        tokenizer: Tokenizer,
        engine: Engine,
        space: Space | None,
        check: dict[str, Any],
        *,
        capacity_tokens: int = CAPACITY_TOKENS,
        kept: VectorCache | None = None,
    ) -> None:
        """Serve `card` with `engine`; `space` is None for a model that gives no vectors.

        Vectors go into `kept`, and are taken from there.
        """
        self.card = card
        self._tokenizer = tokenizer
        self._engine = engine
        self._space = space
        self._check = check
        pace = Pace(largest=engine.budget_tokens)
        self._reader = Reader(card, tokenizer, engine)
        self._lanes = Lanes(
            pace,
            capacity_tokens=capacity_tokens,
            streams=engine.streams,
            least_fill=engine.least_fill,
        )
        holds_for = "" if space is None else f"{space.fingerprint} {engine.name} {engine.precision}"
        inflight = Inflight(card.name, cache=kept if space else None, cache_key=holds_for)
        self._desk = Desk(card, self._reader, self._lanes, inflight)
        self._workers = [
            Worker(
                engine.stream(),
                self._lanes,
                pace,
                model=card.name,
                warm_lengths=engine.warm_lengths,
                is_nimble=index >= (engine.streams + 1) // 2,
            )
            for index in range(engine.streams)
        ]
        for worker in self._workers:
            worker.start()
        metrics.LIVE.watch(card.name, self._lanes)
        if kept is not None:
            metrics.CACHES.watch(kept)
        # A thread inside the engine while the interpreter ends would abort the process, so that
        # a service nobody closed is closed at exit, or when nobody holds it any more.
        self._closing = weakref.finalize(self, _stop, self._lanes, self._workers, engine)

    @property
    def space(self) -> Space:
        """The space its vectors lie in.

        Raises:
            ModelUnsupported: it gives no vectors.
        """
        self._reader.require("vectors")
        assert self._space is not None, "vectors without a space: this is a bug"
        return self._space

    def splitter(self, chunk: str = DEFAULT_CHUNK) -> TextSplitter:
        """Cuts texts into passages that the model reads whole, as `chunk` says.

        Raises:
            SettingsError: it isn't known, or the model doesn't read that many tokens at once.
        """
        room = self.card.max_tokens - self._tokenizer.overhead(self.space.prompt)
        return splitter(chunk, self._tokenizer.spans, room=room, model=self.name)

    def info(self) -> dict[str, Any]:
        """Facts for people and for `/health`."""
        return {
            "model": self.name,
            "folder": str(self.card.folder),
            "gives": list(self.card.gives),
            "engine": self._engine.name,
            "engine_version": self._engine.version,
            "precision": self._engine.precision,
            "why": self._engine.why,
            "streams": self._engine.streams,
            "batch_tokens": self._engine.budget_tokens,
            "max_tokens": self.card.max_tokens,
            **self._about_outputs(),
            "notes": list(self.card.notes),
            **overridden(self.card),
            **self._check,
        }

    def _about_outputs(self) -> dict[str, Any]:
        about: dict[str, Any] = {}
        if self._space is not None:
            about |= {
                "dimensions": self._space.dimensions,
                "pooling": self._space.pooling,
                "normalised": self._space.normalised,
                "weights": self._space.weights,
            }
        if "scores" in self.card.gives:
            head = self._reader.scores
            about |= {"labels": list(head.labels), "activation": head.activation}
        return about

    def close(self) -> None:
        """Stop; what waits fails. Closing twice does nothing more."""
        self._closing()

    def __enter__(self) -> Self:
        """For `with likewise.load() as model`, which closes it at the end."""
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()


def _stop(lanes: Lanes, workers: Sequence[Worker], engine: Engine) -> None:
    lanes.close()
    for worker in workers:
        worker.join()
    engine.close()


__all__ = ["Embedded", "Service", "load"]
