"""Waiting work: two bounded lanes; the interactive one goes first, the bulk one never starves."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import get_args

from likewise.base.clock import Clock, monotonic
from likewise.base.errors import DeadlineExceeded, EngineError, Overloaded
from likewise.base.types import Lane
from likewise.runtime import pack
from likewise.runtime.pace import HOLD_UP_SECONDS, NIMBLE_SECONDS, Pace
from likewise.runtime.pending import Piece

LANES: tuple[Lane, ...] = get_args(Lane)

WINDOW_TEXTS = 512
"""Texts that are sorted by length together, at least."""
_WINDOW_BATCHES = 4
"""Batches of texts of ordinary length (`_ORDINARY` tokens) that a window holds, at least."""
_WINDOW_BUDGETS = 48
"""Batches' worth of tokens that a window holds at most: what comes later waits for all of it."""
_ORDINARY = 32
_TURN_TEXTS = 64
"""Texts that one request has staged before the next request has its turn."""
_TURNS = 8
"""Turns that a window has at least: requests of long texts have fewer of them staged in each."""
IN_A_ROW = 8
"""Interactive batches after which a waiting bulk batch has its turn."""


LINGER_SECONDS = 0.002
"""How long a stream that answered several queries waits for them to come back together."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Work for one run of the engine."""

    lane: Lane
    pieces: tuple[Piece, ...]
    queued_at: tuple[float, ...]
    """When each piece was put, on the monotonic clock."""


_Entry = tuple[Piece, float]


@dataclass(slots=True)
class _Queue:
    """One lane: pieces by request, and the window of them being worked off, longest first."""

    window: int
    window_tokens: int
    least_fill: float
    requests: OrderedDict[int, deque[_Entry]] = field(default_factory=OrderedDict)
    """Pieces of each `put`, as they came; whose turn is next comes first."""
    staged: list[_Entry] = field(default_factory=list)
    tokens: int = 0
    texts: int = 0

    def put(self, pieces: Sequence[Piece], now: float) -> None:
        """Queue the pieces of one request, beside what it has waiting already."""
        for piece in pieces:
            self.requests.setdefault(_whose(piece), deque()).append((piece, now))
        self.tokens += sum(len(piece.ids) for piece in pieces)
        self.texts += len(pieces)

    def next(self, budget: int, now: float, *, is_nimble: bool = False) -> list[_Entry]:
        """The next batch's pieces, taken out; those whose request is over are dropped.

        The longest come first; for a nimble stream the shortest, as a long one would hold it up.
        """
        while self.staged or self.requests:
            if not self.staged:
                self._stage()
            lengths = [len(piece.ids) for piece, _ in self.staged]
            if is_nimble:
                at = len(lengths) - pack.short(lengths, budget, self.least_fill)
                taken, self.staged = self.staged[at:], self.staged[:at]
            else:
                at = pack.fitting(lengths, budget, self.least_fill)
                taken, self.staged = self.staged[:at], self.staged[at:]
            self.tokens -= sum(len(piece.ids) for piece, _ in taken)
            self.texts -= len(taken)
            for piece, _ in taken:
                piece.pending.expire(now)
            if live := [entry for entry in taken if not entry[0].pending.is_over]:
                return live
        return []

    def entries(self) -> list[_Entry]:
        """Everything that waits."""
        return [*self.staged, *(entry for waiting in self.requests.values() for entry in waiting)]

    def oldest(self) -> float | None:
        """When what has waited longest was put; None when nothing waits."""
        heads = [waiting[0][1] for waiting in self.requests.values()]
        return min([*heads, *(at for _, at in self.staged)], default=None)

    def _stage(self) -> None:
        """Fill the window, each request giving some texts in turn, so that none blocks others."""
        window: list[_Entry] = []
        tokens = 0
        while self.requests and len(window) < self.window and tokens < self.window_tokens:
            whose, waiting = self.requests.popitem(last=False)
            ends = tokens + self.window_tokens // _TURNS
            for _ in range(min(_TURN_TEXTS, len(waiting), self.window - len(window))):
                window.append(waiting.popleft())
                tokens += len(window[-1][0].ids)
                if tokens >= ends:
                    break
            if waiting:
                self.requests[whose] = waiting
        order = pack.order([len(piece.ids) for piece, _ in window])
        self.staged = [window[index] for index in order]


def _whose(piece: Piece) -> int:
    return id(piece.pending.owner)


class Lanes:
    """Holds pieces until a stream takes them."""

    def __init__(
        self,
        pace: Pace,
        *,
        capacity_tokens: int,
        streams: int = 1,
        least_fill: float = 0.0,
        clock: Clock = monotonic,
    ) -> None:
        """Let each lane hold up to `capacity_tokens`, or one request if that is larger.

        `least_fill` is the engine's (`Engine.least_fill`).
        """
        self._streams = streams
        self._pace = pace
        self._capacity = capacity_tokens
        self._clock = clock
        window = max(WINDOW_TEXTS, _WINDOW_BATCHES * pace.largest // _ORDINARY)
        self._sizes = (window, _WINDOW_BUDGETS * pace.largest, least_fill)
        self._queues: dict[Lane, _Queue] = {lane: _Queue(*self._sizes) for lane in LANES}
        self._changed = threading.Condition()
        self._in_a_row = 0
        self._idle = 0
        """Streams that wait for work."""
        self._is_closed = False

    def put(
        self, lane: Lane, pieces: Sequence[Piece], *, wait: bool, deadline: float | None = None
    ) -> None:
        """Queue `pieces`; when the lane is full, `wait` for room or refuse.

        Raises:
            DeadlineExceeded: they can't be computed by `deadline` at the pace of now.
            Overloaded: the lane is full and `wait` is false.
            EngineError: the model is closed.
        """
        tokens = sum(len(piece.ids) for piece in pieces)
        if lane == "interactive":
            self._pace.saw_query()
        with self._changed:
            queue = self._queues[lane]
            self._require_in_time(lane, tokens, deadline)
            if not wait and not self._has_room(queue, tokens):
                raise Overloaded(
                    f"{queue.tokens} tokens wait in the {lane} lane, which holds "
                    f"{self._capacity}; try again later",
                    retry_after_s=self._seconds(queue.tokens + tokens - self._capacity),
                )
            self._changed.wait_for(
                lambda: self._is_closed or self._has_room(queue, tokens),
                None if deadline is None else max(0.0, deadline - self._clock()),
            )
            if self._is_closed:
                raise EngineError("the model is closed")
            if not self._has_room(queue, tokens):
                raise DeadlineExceeded(
                    f"the {lane} lane was full until the time given for this request ran out",
                    retry_after_s=self._seconds(queue.tokens + tokens - self._capacity),
                )
            queue.put(pieces, self._clock())
            self._changed.notify_all()

    def take(self, *, wait: bool, is_nimble: bool = False, after: int = 0) -> Batch | None:
        """The next batch; None when there is none (or, having waited, the lanes are closed).

        A nimble stream takes short bulk batches while queries come in. `after` is how many queries
        the stream has just answered together.
        """
        with self._changed:
            if after > 1:
                self._linger(after)
            while True:
                if batch := self._next(is_nimble):
                    self._changed.notify_all()
                    return batch
                if self._is_closed or not wait:
                    return None
                self._idle += 1
                self._changed.wait()
                self._idle -= 1

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._is_closed

    def waiting_tokens(self, lane: Lane) -> int:
        """Tokens that wait in `lane`."""
        return self._queues[lane].tokens

    def waiting_texts(self, lane: Lane) -> int:
        """Texts that wait in `lane`."""
        return self._queues[lane].texts

    def oldest_s(self, lane: Lane) -> float:
        """For how long what came first has waited in `lane`, in seconds; 0 when nothing does."""
        with self._changed:
            oldest = self._queues[lane].oldest()
        return 0.0 if oldest is None else max(0.0, self._clock() - oldest)

    def close(self) -> None:
        """Take nothing more; everything that waits fails."""
        with self._changed:
            self._is_closed = True
            left = [piece for queue in self._queues.values() for piece, _ in queue.entries()]
            self._queues = {lane: _Queue(*self._sizes) for lane in LANES}
            self._changed.notify_all()
        for piece in left:
            piece.pending.fail(EngineError("the model was closed before this was computed"))

    def _has_room(self, queue: _Queue, tokens: int) -> bool:
        return queue.tokens == 0 or queue.tokens + tokens <= self._capacity

    def _require_in_time(self, lane: Lane, tokens: int, deadline: float | None) -> None:
        """Refuse at once what would come too late, while the caller can still go elsewhere."""
        if deadline is None:
            return
        # Bulk work comes after all that is interactive; that waits for no bulk but the batch at
        # hand, which is short while queries come in.
        ahead = sum(self._queues[one].tokens for one in LANES if lane in (one, "bulk"))
        left = deadline - self._clock()
        needed = self._seconds(ahead + tokens)
        if left <= 0 or needed > left:
            raise DeadlineExceeded(
                f"{ahead} tokens wait before this request: it would take about {needed:.1f} s, "
                f"and {max(0.0, left):.1f} s are left of the time given",
                retry_after_s=self._seconds(ahead),
            )

    def _seconds(self, tokens: int) -> float:
        return max(0, tokens) * self._pace.seconds_per_token / self._streams

    def _linger(self, answered: int) -> None:
        """A moment's patience, so that clients who were answered together make one batch again.

        The first of them alone would take the stream, and the others would wait for it.
        """
        self._changed.wait_for(
            lambda: (
                self._is_closed
                or self._queues["bulk"].texts > 0
                or self._queues["interactive"].texts >= answered // 2
            ),
            LINGER_SECONDS,
        )

    def _budget(self, lane: Lane, *, is_nimble: bool) -> int:
        if lane == "interactive":
            return self._pace.largest
        if self._streams == 1:
            return self._pace.budget(HOLD_UP_SECONDS)
        return self._pace.budget(NIMBLE_SECONDS) if is_nimble else self._pace.largest

    def _next(self, is_nimble: bool) -> Batch | None:
        lanes = LANES if self._in_a_row < IN_A_ROW else LANES[::-1]
        now = self._clock()
        for lane in lanes:
            queue = self._queues[lane]
            budget = self._budget(lane, is_nimble=is_nimble)
            takes_short = is_nimble and lane == "bulk" and not self._pace.is_quiet
            # The last of a bulk request ends soonest where all streams have some of it. Queries go
            # on coming: those of them that are here needn't wait for a stream that is busy.
            sharing = self._streams if lane == "bulk" else 1 + self._idle
            budget = min(budget, pack.share(queue.tokens, sharing))
            if taken := queue.next(budget, now, is_nimble=takes_short):
                self._in_a_row = self._in_a_row + 1 if lane == "interactive" else 0
                return Batch(lane, tuple(p for p, _ in taken), tuple(at for _, at in taken))
        return None
