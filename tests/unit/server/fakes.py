"""A model to compute by hand: a text is (length, vowels, spaces, 1), scaled to length 1."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from likewise.base.errors import InputTooLong, LikewiseError
from likewise.base.space import Space
from likewise.base.types import Chunk
from likewise.runtime.pending import Embedded
from likewise.runtime.sinks import Answered

if TYPE_CHECKING:
    from likewise.base.protocols import Splitter
    from likewise.base.types import Vectors
    from likewise.runtime.service import Service as Base
else:
    Base = object

MAX_TOKENS = 8
DIMENSIONS = 4


def by_hand(text: str) -> Vectors:
    numbers = (len(text), sum(text.count(v) for v in "aeiou"), text.count(" "), 1)
    vector = np.array(numbers, dtype=np.float32)
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


@dataclass
class FakeModel(Base):
    """Words are tokens. It fails with `fails`, and holds its answers back while `held`."""

    fails: LikewiseError | None = None
    held: threading.Event | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)
    futures: list[Future[Embedded]] = field(default_factory=list)

    @property
    def space(self) -> Space:
        return Space("fake/lengths", "00", "none", DIMENSIONS, True, max_tokens=MAX_TOKENS)

    def submit(
        self, inputs: Sequence[str] | Sequence[Sequence[int]], **options: Any
    ) -> Future[Embedded]:
        self.asked.append({"inputs": list(inputs), **options})
        if self.fails is not None:
            raise self.fails
        words = [len(t.split()) if isinstance(t, str) else len(t) for t in inputs]
        cut = tuple(at for at, count in enumerate(words) if count > MAX_TOKENS)
        if cut and options.get("overflow") == "refuse":
            raise InputTooLong(f"input {cut[0]} has {words[cut[0]]} tokens", param="input")
        vectors = np.stack([by_hand(t if isinstance(t, str) else "x" * len(t)) for t in inputs])
        future: Future[Embedded] = Future()
        self.futures.append(future)
        embedded = Embedded(vectors, tuple(min(count, MAX_TOKENS) for count in words), cut)
        if self.held is None:
            future.set_result(embedded)
        else:
            threading.Thread(target=self._later, args=(future, embedded), daemon=True).start()
        return future

    def _later(self, future: Future[Embedded], embedded: Embedded) -> None:
        assert self.held is not None
        self.held.wait(30)
        if future.set_running_or_notify_cancel():
            future.set_result(embedded)

    def submit_all(
        self, inputs: Sequence[str] | Sequence[Sequence[int]], **options: Any
    ) -> Future[Any]:
        answered: Future[Any] = Future()

        def done(found: Future[Embedded]) -> None:
            if found.cancelled() or (failed := found.exception()) is not None:
                answered.set_exception(CancelledError() if found.cancelled() else failed)
                return
            one = found.result()
            answered.set_result(
                Answered(one.vectors, None, None, one.tokens, one.truncated, one.times)
            )

        self.submit(inputs, **options).add_done_callback(done)
        return answered

    def embed(self, texts: Sequence[str], **options: Any) -> Vectors:
        vectors: Vectors = self.submit(texts, **options).result().vectors
        return vectors

    def splitter(self, size: int = 8, overlap: int = 0) -> Splitter:  # type: ignore[override]
        return lambda texts: [(Chunk(0, 0, len(text)),) if text else () for text in texts]

    def info(self) -> dict[str, Any]:
        return {
            "model": "fake/lengths",
            "engine": "by hand",
            "precision": "f32",
            "dimensions": DIMENSIONS,
            "max_tokens": MAX_TOKENS,
        }

    def close(self) -> None:
        """Nothing to stop."""
