"""How a binding stands: rows, coverage, lag; cheap enough to ask for every second."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from likewise.base.clock import Clock, monotonic, wall

if TYPE_CHECKING:
    from likewise.base.bound import BoundSource, BoundTable, Counts

RATE_WINDOW_SECONDS = 10.0
State = Literal["idle", "working", "waiting", "paused", "failing"]


@dataclass(frozen=True, slots=True)
class Status:
    """A binding at one moment."""

    name: str
    rows: int
    """Rows of the source table."""
    current: int
    """Rows with vectors of their present text."""
    pending: int
    """Rows whose vectors are still to be made, changed or removed."""
    parked: int
    """Rows that the model couldn't embed."""
    chunks: int
    """Vectors stored."""
    lag_seconds: float
    """Age of the oldest change that waits; 0 when none does."""
    published: int
    """Rows published since the binding was made."""
    state: State
    """`working`: a worker is at it; `waiting`: there is work and no worker; `paused`: somebody said
    so; `failing`: an error stands in the way."""
    error: str | None

    @property
    def coverage(self) -> float:
        """Part of the rows that are current, 0 to 1; 1 for an empty table."""
        return self.current / self.rows if self.rows else 1.0


def status(source: BoundSource, table: BoundTable, *, clock: Clock = wall) -> Status:
    """How the binding stands now.

    Raises:
        SchemaDrift: the bound table is gone.
        BindingNotFound: the binding is.
    """
    counts = table.counts()
    outside, oldest = source.waiting()
    rows = source.count()
    pending = counts.waiting + outside
    if counts.is_reconciling or source.capture == "scan":
        # Rows that the comparison hasn't come to yet aren't in the log.
        pending = max(pending, rows - counts.stored - counts.parked)
    since = min((at for at in (counts.oldest, oldest) if at is not None), default=None)
    return Status(
        name=table.name,
        rows=rows,
        current=max(0, min(counts.stored, rows - pending - counts.parked)),
        pending=pending,
        parked=counts.parked,
        chunks=counts.chunks,
        lag_seconds=0.0 if since is None else max(0.0, clock() - since),
        published=counts.published,
        state=_state(counts, pending),
        error=counts.error,
    )


def _state(counts: Counts, pending: int) -> State:
    if counts.is_paused:
        return "paused"
    if counts.error is not None:
        return "failing"
    if counts.holder is not None:
        return "working"
    return "waiting" if pending or counts.is_reconciling else "idle"


class Meter:
    """Rows a second over the last polls of one binding."""

    def __init__(self, *, clock: Clock = monotonic) -> None:
        self._clock = clock
        self._polls: deque[tuple[float, int]] = deque()

    def rate(self, status: Status) -> float:
        """Rows a second, this poll included; 0 until there are two polls."""
        now = self._clock()
        self._polls.append((now, status.published))
        while len(self._polls) > 2 and now - self._polls[0][0] > RATE_WINDOW_SECONDS:
            self._polls.popleft()
        (_, before), elapsed = self._polls[0], now - self._polls[0][0]
        return max(0, status.published - before) / elapsed if elapsed > 0 else 0.0

    def left(self, status: Status) -> float | None:
        """Seconds until nothing is pending, going by the rate of the last polls; None: unknown."""
        if not status.pending:
            return 0.0
        if len(self._polls) < 2 or self._polls[-1][0] == self._polls[0][0]:
            return None
        elapsed = self._polls[-1][0] - self._polls[0][0]
        done = self._polls[-1][1] - self._polls[0][1]
        return status.pending * elapsed / done if done > 0 else None
