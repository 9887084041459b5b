"""A request on its way: where its rows gather until all are there, or some failed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from likewise.base.clock import monotonic
from likewise.base.errors import DeadlineExceeded, LikewiseError
from likewise.runtime.manner import Manner
from likewise.runtime.sinks import Rows, Sink, Times

if TYPE_CHECKING:
    from collections.abc import Sequence

    from likewise.base.types import Vectors
    from likewise.engines.batch import Output
    from likewise.models.tokenize import Encoded, Ids

T = TypeVar("T")

_NAMED = 20
"""Failed inputs that a message names; the error has all of them."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """What a request gave, in the order of its inputs."""

    vectors: Vectors
    """float32 [inputs, dimensions]."""
    tokens: tuple[int, ...]
    """Tokens computed of each input, special ones included."""
    truncated: tuple[int, ...]
    """Positions of inputs that were cut."""
    times: Times = Times()


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a request's inputs when all are there."""

    tokens: tuple[int, ...]
    truncated: tuple[int, ...]
    times: Times


@dataclass(frozen=True, slots=True)
class Took:
    """What one input's way took, in seconds."""

    waited_s: float = 0.0
    computed_s: float = 0.0


class Waiting(Protocol):
    """Who waits for a piece: one request, or several that asked for the same text."""

    wants: frozenset[Output]
    """What it waits for."""

    @property
    def owner(self) -> object:
        """The request that this is worked on for: requests take turns."""
        ...

    @property
    def is_over(self) -> bool:
        """Whether nobody waits for it any more."""
        ...

    @property
    def dialect(self) -> str:
        """Who asked, for the metrics."""
        ...

    def expire(self, now: float) -> None:
        """Fail what should have been answered before `now`."""
        ...

    def deliver(self, index: int, found: Mapping[Output, Vectors], took: Took) -> None:
        """Input `index` has what it waits for."""
        ...

    def fail_input(self, index: int, error: LikewiseError) -> None:
        """Input `index` can't be computed."""
        ...

    def fail(self, error: BaseException) -> None:
        """The whole request ends with `error`; the first one counts."""
        ...


class Pending(Generic[T]):
    """Gathers the outputs of one request; every method may be called from any thread."""

    def __init__(
        self,
        count: int,
        sinks: Mapping[Output, Sink],
        finish: Callable[[Facts], T],
        manner: Manner | None = None,
    ) -> None:
        """Expect `count` inputs to fill `sinks`; `finish` makes the answer of what is known."""
        self.future: Future[T] = Future()
        self.sinks = sinks
        self.wants = frozenset(sinks)
        self.manner = manner or Manner()
        self.tokenise_s = 0.0
        self._finish = finish
        self._left = count
        self._lock = threading.Lock()
        self._tokens = [0] * count
        self._truncated: list[int] = []
        self._failed: dict[int, LikewiseError] = {}
        self._waited_s = self._computed_s = 0.0
        if count == 0:
            self._complete()

    @property
    def is_over(self) -> bool:
        """Whether nobody waits for the rest: it failed, or was cancelled."""
        return self.future.done()

    @property
    def owner(self) -> object:
        """Itself."""
        return self

    @property
    def dialect(self) -> str:
        """Who asked, for the metrics."""
        return self.manner.dialect

    def expire(self, now: float) -> None:
        """Fail if it should have been answered before `now`."""
        deadline = self.manner.deadline
        if deadline is not None and now > deadline:
            self.fail(DeadlineExceeded("the time given for this request ran out while it waited"))

    @contextmanager
    def tokenising(self) -> Iterator[None]:
        """Count the time of what is done inside as spent on tokens."""
        began = monotonic()
        yield
        self.tokenise_s += monotonic() - began

    def pieces(
        self,
        encoded: Sequence[Encoded],
        start: int,
        attended: Sequence[int | None] | None = None,
    ) -> list[Piece]:
        """Inputs `start` and following, as work to be queued."""
        self.note(encoded, start)
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

    def note(self, encoded: Sequence[Encoded], start: int) -> None:
        """Inputs `start` and following have these tokens."""
        for index, one in enumerate(encoded, start):
            self._tokens[index] = len(one.ids)
            if one.truncated:
                self._truncated.append(index)

    def deliver(self, index: int, found: Mapping[Output, Vectors], took: Took) -> None:
        """Input `index` has what its sinks wait for."""
        for name, sink in self.sinks.items():
            sink.put(index, found[name])
        with self._lock:
            self._waited_s += took.waited_s
            self._computed_s += took.computed_s
            self._left -= 1
            is_last = self._left == 0
        if is_last:
            self._complete()

    def fail_input(self, index: int, error: LikewiseError) -> None:
        """Input `index` can't be computed; the error that names all such comes at the end."""
        with self._lock:
            self._failed[index] = error
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
        if self._failed:
            self.fail(_together(self._failed, len(self._tokens)))
            return
        count = max(1, len(self._tokens))
        times = Times(self.tokenise_s, self._waited_s / count, self._computed_s / count)
        try:
            result = self._finish(Facts(tuple(self._tokens), tuple(self._truncated), times))
        except Exception as failure:  # noqa: BLE001 - whoever waits must hear of it
            self.fail(failure)
            return
        try:
            self.future.set_result(result)
        except InvalidStateError:
            return


def _together(failed: Mapping[int, LikewiseError], count: int) -> LikewiseError:
    """One error for the inputs that failed; it names them."""
    positions = tuple(sorted(failed))
    first = failed[positions[0]]
    named = ", ".join(map(str, positions[:_NAMED])) + (", ..." if len(positions) > _NAMED else "")
    return type(first)(
        f"{first} ({len(positions)} of {count} inputs failed: {named})",
        param=first.param,
        inputs=positions,
        retry_after_s=first.retry_after_s,
    )


def embedding(
    count: int,
    dimensions: int,
    finish: Callable[[Vectors], Vectors] | None = None,
    manner: Manner | None = None,
    *,
    output: Output = "vectors",
) -> Pending[Embedded]:
    """A request for `count` vectors; `finish` has the last word on the whole array.

    They come from an engine's `output`, `vectors` or `raw`.
    """
    rows = Rows(count, dimensions)

    def made(facts: Facts) -> Embedded:
        vectors = rows.result()
        vectors = vectors if finish is None else finish(vectors)
        return Embedded(vectors, facts.tokens, facts.truncated, facts.times)

    return Pending(count, {output: rows}, made, manner)


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """One text, or one pair, to compute, and where its rows go."""

    ids: Ids
    pending: Waiting | Pending[Any]
    index: int
    prompt: int = 0
    """First tokens that a pooling may leave out."""
    types: Ids | None = None
    """1 for each token of the second text of a pair."""
    attended: int | None = None
    """First tokens that the others look at; None for all."""
