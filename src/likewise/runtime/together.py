"""Late chunking: one pass over a document; each chunk gets the mean of its own tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from likewise.base.errors import InputTooLong, LikewiseError, ModelUnsupported
from likewise.models.parts import Normalise
from likewise.models.static import STATIC
from likewise.runtime.pending import Embedded, Pending, Piece, Took

if TYPE_CHECKING:
    from likewise.base.types import Vectors
    from likewise.engines.batch import Output
    from likewise.models.card import ModelCard
    from likewise.models.together import Window

_WANTS: frozenset[Output] = frozenset(("states",))


class Together:
    """One window of a document on its way; it answers for each of its chunks."""

    def __init__(self, pending: Pending[Embedded], window: Window) -> None:
        self.wants = _WANTS
        self._pending = pending
        self._window = window

    @property
    def owner(self) -> object:
        """The request for the whole document."""
        return self._pending

    @property
    def is_over(self) -> bool:
        """Whether nobody waits for it any more."""
        return self._pending.is_over

    @property
    def dialect(self) -> str:
        """Who asked, for the metrics."""
        return self._pending.dialect

    def expire(self, now: float) -> None:
        """Fail if it should have been answered before `now`."""
        self._pending.expire(now)

    def deliver(self, index: int, found: Mapping[Output, Vectors], took: Took) -> None:
        """Each chunk gets the mean of its own tokens' states."""
        del index
        for at, (start, end) in enumerate(self._window.spans, self._window.first):
            mean = found["states"][start:end].mean(axis=0, dtype=np.float64)
            self._pending.deliver(at, {"vectors": mean.astype(np.float32)}, took)

    def fail_input(self, index: int, error: LikewiseError) -> None:
        """None of its chunks can be computed."""
        del index
        for at, _ in enumerate(self._window.spans, self._window.first):
            self._pending.fail_input(at, error)

    def fail(self, error: BaseException) -> None:
        """The whole document ends with `error`."""
        self._pending.fail(error)


def pieces(windows: Sequence[Window], pending: Pending[Embedded]) -> list[Piece]:
    """The windows of one document, as work to be queued."""
    return [Piece(window.ids, Together(pending, window), 0) for window in windows]


def require_means(card: ModelCard) -> None:
    """Raises `ModelUnsupported` unless vectors of `card` are means of states, normalised or not."""
    why = None
    steps = [type(step).__name__ for step in card.steps[1:] if not isinstance(step, Normalise)]
    if card.architecture == STATIC:
        why = "it is a table of token vectors, which don't depend on what stands beside them"
    elif card.pooling.modes != ("mean",):
        why = f"its pooling is {'+'.join(card.pooling.modes)}, and chunks are pooled by their mean"
    elif steps:
        why = f"{' and '.join(steps)} after its pooling isn't computed for chunks"
    if why is not None:
        raise ModelUnsupported(f"{card.name} does no late chunking: {why}", param="model")


def require_whole(windows: Sequence[Window], model: str, limit: int) -> None:
    """Raises `InputTooLong` unless all chunks are read in one pass; those that aren't are named."""
    cut = [
        window.first + at
        for window in windows
        for at, one in enumerate(window.chunks)
        if one.truncated or window is not windows[0]
    ]
    if cut:
        total = sum(one.total for window in windows for one in window.chunks)
        raise InputTooLong(
            f"the chunks have {total} tokens, special ones included; {model} reads {limit} "
            "together",
            param="input",
            inputs=tuple(cut),
            tokens=total,
            limit=limit,
        )
