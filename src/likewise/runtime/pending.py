"""A request on its way: where its vectors gather until all are there, or one fails."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from likewise.base.types import Vectors
    from likewise.models.tokenize import Encoded, Ids


@dataclass(frozen=True, slots=True)
class Embedded:
    """What a request gave, in the order of its inputs."""

    vectors: Vectors
    """float32 [inputs, dimensions]."""
    tokens: tuple[int, ...]
    """Tokens computed of each input, special ones included."""
    truncated: tuple[int, ...]
    """Positions of inputs of which only the beginning was read."""


class Pending:
    """Gathers the vectors of one request; every method may be called from any thread."""

    def __init__(
        self, count: int, dimensions: int, finish: Callable[[Vectors], Vectors] | None = None
    ) -> None:
        """Expect `count` vectors; `finish` has the last word on the whole array."""
        self.future: Future[Embedded] = Future()
        self._vectors = np.empty((count, dimensions), np.float32)
        self._finish = finish
        self._left = count
        self._lock = threading.Lock()
        self._tokens = [0] * count
        self._truncated: list[int] = []
        if count == 0:
            self._complete()

    @property
    def is_over(self) -> bool:
        """Whether nobody waits for the rest: it failed, or was cancelled."""
        return self.future.done()

    def pieces(self, encoded: Sequence[Encoded], start: int) -> list[Piece]:
        """Inputs `start` and following, as work to be queued."""
        for index, one in enumerate(encoded, start):
            self._tokens[index] = len(one.ids)
            if one.truncated:
                self._truncated.append(index)
        return [Piece(one.ids, self, index, one.prompt) for index, one in enumerate(encoded, start)]

    def deliver(self, index: int, vector: Vectors) -> None:
        """Input `index` has its vector."""
        self._vectors[index] = vector
        with self._lock:
            self._left -= 1
            is_last = self._left == 0
        if is_last:
            self._complete()

    def fail(self, error: BaseException) -> None:
        """The request ends with `error`; the first one counts."""
        try:
            self.future.set_exception(error)
        except InvalidStateError:
            return

    def _complete(self) -> None:
        vectors = self._vectors if self._finish is None else self._finish(self._vectors)
        result = Embedded(vectors, tuple(self._tokens), tuple(self._truncated))
        try:
            self.future.set_result(result)
        except InvalidStateError:
            return


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """One text to compute, and where its vector goes."""

    ids: Ids
    pending: Pending
    index: int
    prompt: int = 0
    """First tokens that a pooling may leave out."""
