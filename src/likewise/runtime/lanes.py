"""Waiting work: two bounded lanes; the interactive one goes first, the bulk one never starves."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from likewise.base.clock import Clock, monotonic
from likewise.base.errors import EngineError, Overloaded
from likewise.runtime import pack
from likewise.runtime.pace import Pace
from likewise.runtime.pending import Piece

Lane = Literal["interactive", "bulk"]
LANES: tuple[Lane, ...] = ("interactive", "bulk")

WINDOW_TEXTS = 512
"""Texts that are sorted by length together, at least."""
_WINDOW_BATCHES = 4
"""Batches of texts of ordinary length (`_ORDINARY` tokens) that a window holds, at least."""
_ORDINARY = 32
IN_A_ROW = 8
"""Interactive batches after which a waiting bulk batch has its turn."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Work for one run of the engine."""

    lane: Lane
    pieces: tuple[Piece, ...]
    queued_at: float
    """When the piece that waited longest was put, on the monotonic clock."""


@dataclass(slots=True)
class _Queue:
    """One lane: pieces as they came, and the window of them being worked off, longest first."""

    window: int = WINDOW_TEXTS
    waiting: deque[tuple[Piece, float]] = field(default_factory=deque)
    staged: list[tuple[Piece, float]] = field(default_factory=list)
    tokens: int = 0

    def next(self, budget: int) -> list[tuple[Piece, float]]:
        """The next batch's pieces, taken out; those whose request is over are dropped."""
        while self.staged or self.waiting:
            if not self.staged:
                self._stage()
            count = pack.fitting([len(piece.ids) for piece, _ in self.staged], budget)
            taken, self.staged = self.staged[:count], self.staged[count:]
            self.tokens -= sum(len(piece.ids) for piece, _ in taken)
            if live := [entry for entry in taken if not entry[0].pending.is_over]:
                return live
        return []

    def _stage(self) -> None:
        window = [self.waiting.popleft() for _ in range(min(self.window, len(self.waiting)))]
        order = pack.order([len(piece.ids) for piece, _ in window])
        self.staged = [window[index] for index in order]


class Lanes:
    """Holds pieces until a stream takes them."""

    def __init__(
        self,
        pace: Pace,
        *,
        capacity_tokens: int,
        streams: int = 1,
        clock: Clock = monotonic,
    ) -> None:
        """Let each lane hold up to `capacity_tokens`, or one request if that is larger."""
        self._streams = streams
        self._pace = pace
        self._capacity = capacity_tokens
        self._clock = clock
        window = max(WINDOW_TEXTS, _WINDOW_BATCHES * pace.largest // _ORDINARY)
        self._queues: dict[Lane, _Queue] = {lane: _Queue(window) for lane in LANES}
        self._changed = threading.Condition()
        self._in_a_row = 0
        self._is_closed = False

    def put(self, lane: Lane, pieces: Sequence[Piece], *, wait: bool) -> None:
        """Queue `pieces`; when the lane is full, `wait` for room or refuse.

        Raises:
            Overloaded: the lane is full and `wait` is false.
            EngineError: the model is closed.
        """
        tokens = sum(len(piece.ids) for piece in pieces)
        if lane == "interactive":
            self._pace.saw_query()
        with self._changed:
            queue = self._queues[lane]
            if not wait and not self._has_room(queue, tokens):
                raise Overloaded(
                    f"{queue.tokens} tokens wait in the {lane} lane, which holds "
                    f"{self._capacity}; try again later"
                )
            self._changed.wait_for(lambda: self._is_closed or self._has_room(queue, tokens))
            if self._is_closed:
                raise EngineError("the model is closed")
            now = self._clock()
            queue.waiting.extend((piece, now) for piece in pieces)
            queue.tokens += tokens
            self._changed.notify_all()

    def take(self, *, wait: bool) -> Batch | None:
        """The next batch; None when there is none (or, having waited, the lanes are closed)."""
        with self._changed:
            while True:
                if batch := self._next():
                    self._changed.notify_all()
                    return batch
                if self._is_closed or not wait:
                    return None
                self._changed.wait()

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._is_closed

    def waiting_tokens(self, lane: Lane) -> int:
        """Tokens that wait in `lane`."""
        return self._queues[lane].tokens

    def close(self) -> None:
        """Take nothing more; everything that waits fails."""
        with self._changed:
            self._is_closed = True
            left = [
                piece
                for queue in self._queues.values()
                for piece, _ in (*queue.staged, *queue.waiting)
            ]
            self._queues = {lane: _Queue() for lane in LANES}
            self._changed.notify_all()
        for piece in left:
            piece.pending.fail(EngineError("the model was closed before this was computed"))

    def _has_room(self, queue: _Queue, tokens: int) -> bool:
        return queue.tokens == 0 or queue.tokens + tokens <= self._capacity

    def _next(self) -> Batch | None:
        lanes = LANES if self._in_a_row < IN_A_ROW else LANES[::-1]
        for lane in lanes:
            budget = self._pace.largest if lane == "interactive" else self._pace.budget()
            queue = self._queues[lane]
            if taken := queue.next(min(budget, pack.share(queue.tokens, self._streams))):
                self._in_a_row = self._in_a_row + 1 if lane == "interactive" else 0
                return Batch(lane, tuple(p for p, _ in taken), min(at for _, at in taken))
        return None
