"""A request that was answered, as seen from outside: what metrics, logs and traces are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from likewise.runtime.sinks import Answered, Scored, Times

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True, slots=True)
class Run:
    """One piece of work that a request gave to a model; times are on the performance counter."""

    submitted_at: float
    done_at: float
    found: Any
    """What came of it: `Embedded`, `Scored` or `Answered`; a tuple of several side by side."""

    @property
    def times(self) -> Times:
        """Where its time went; of several side by side, that of the one that took longest."""
        each: list[Times] = [part.times for part in self._parts]
        return max(each, key=lambda one: one.tokenise_s + one.queue_s + one.compute_s)

    @property
    def tokens(self) -> Sequence[int]:
        """Tokens computed of each input."""
        return [
            count
            for part in self._parts
            for count in (part.token_counts if isinstance(part, Answered) else part.tokens)
        ]

    @property
    def _parts(self) -> tuple[Any, ...]:
        return self.found if isinstance(self.found, tuple) else (self.found,)

    @property
    def is_scoring(self) -> bool:
        """Whether it gave scores of pairs or labels, and no vectors."""
        return isinstance(self.found, Scored)


@dataclass(frozen=True, slots=True)
class Seen:
    """One request and its answer."""

    method: str
    route: str
    """The route's pattern; `unknown` for paths that are none."""
    dialect: str
    status: int
    began_at: float
    """On the performance counter, as the next two."""
    first_byte_at: float | None
    ended_at: float
    notes: dict[str, Any]
    """What handlers left (`serving.noted`)."""
    error: str | None = None
    """The code of a refusal."""
    caller: str | None = None
    """The name of the caller's key."""

    @property
    def seconds(self) -> float:
        """From the request's head to the answer's last byte."""
        return self.ended_at - self.began_at

    @property
    def model(self) -> str | None:
        """The model that was asked, by its full name."""
        return self.notes.get("model")

    @property
    def lane(self) -> str | None:
        """The lane that its inputs waited in."""
        return self.notes.get("lane")

    @property
    def inputs(self) -> int:
        """Texts, pairs or token lists that were handed to the model."""
        return int(self.notes.get("inputs", 0))

    @property
    def runs(self) -> Sequence[Run]:
        """What a model computed for it, in order."""
        runs: Sequence[Run] = self.notes.get("runs", ())
        return runs

    @property
    def tokens(self) -> int:
        """Tokens that were computed for it."""
        return int(sum(sum(run.tokens) for run in self.runs))

    @property
    def serialise_s(self) -> float | None:
        """From the end of the computation to the answer's first byte."""
        if not self.runs or self.first_byte_at is None:
            return None
        return max(0.0, self.first_byte_at - self.runs[-1].done_at)


if TYPE_CHECKING:
    Watcher = Callable[[Seen], None]
    """Is told of every request once it is answered; must return soon and not raise."""
