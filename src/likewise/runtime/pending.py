"""A request on its way: where its rows gather until all are there, or one fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from likewise.runtime.sinks import Rows, Sink

if TYPE_CHECKING:
    from collections.abc import Sequence

    from likewise.base.types import Vectors
    from likewise.engines.batch import Output
    from likewise.models.tokenize import Encoded, Ids

T = TypeVar("T")

Positions = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Embedded:
    """What a request gave, in the order of its inputs."""

    vectors: Vectors
    """float32 [inputs, dimensions]."""
    tokens: tuple[int, ...]
    """Tokens computed of each input, special ones included."""
    truncated: tuple[int, ...]
    """Positions of inputs of which only the beginning was read."""


class Pending(Generic[T]):
    """Gathers the outputs of one request; every method may be called from any thread."""

    def __init__(
        self,
        count: int,
        sinks: Mapping[Output, Sink],
        finish: Callable[[Positions, Positions], T],
    ) -> None:
        """Expect `count` inputs to fill `sinks`.

        `finish` makes the answer of the tokens of each input and of the positions that were cut.
        """
        self.future: Future[T] = Future()
        self.sinks = sinks
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

    def pieces(
        self,
        encoded: Sequence[Encoded],
        start: int,
        attended: Sequence[int | None] | None = None,
    ) -> list[Piece]:
        """Inputs `start` and following, as work to be queued."""
        for index, one in enumerate(encoded, start):
            self._tokens[index] = len(one.ids)
            if one.truncated:
                self._truncated.append(index)
        return [
            Piece(
                one.ids,
                self,
                index,
                one.prompt,
                one.types,
                None if attended is None else attended[index - start],
            )
            for index, one in enumerate(encoded, start)
        ]

    def deliver(self, index: int, found: Mapping[Output, Vectors]) -> None:
        """Input `index` has what its sinks wait for."""
        for name, sink in self.sinks.items():
            sink.put(index, found[name])
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
        result = self._finish(tuple(self._tokens), tuple(self._truncated))
        try:
            self.future.set_result(result)
        except InvalidStateError:
            return


def embedding(
    count: int, dimensions: int, finish: Callable[[Vectors], Vectors] | None = None
) -> Pending[Embedded]:
    """A request for `count` vectors; `finish` has the last word on the whole array."""
    rows = Rows(count, dimensions)

    def made(tokens: Positions, truncated: Positions) -> Embedded:
        vectors = rows.result()
        return Embedded(vectors if finish is None else finish(vectors), tokens, truncated)

    return Pending(count, {"vectors": rows}, made)


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """One text, or one pair, to compute, and where its rows go."""

    ids: Ids
    pending: Pending[Any]
    index: int
    prompt: int = 0
    """First tokens that a pooling may leave out."""
    types: Ids | None = None
    """1 for each token of the second text of a pair."""
    attended: int | None = None
    """First tokens that the others look at; None for all."""
