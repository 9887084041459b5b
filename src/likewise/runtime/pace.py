"""How large a bulk batch may be: large when it is quiet, short in time while queries come in."""

from __future__ import annotations

import threading

from likewise.base.clock import Clock, monotonic

QUIET_BUDGET = 512
"""Tokens of a bulk batch while no query comes, for an engine that doesn't say what suits it."""
SMALLEST_BUDGET = 64
HOLD_UP_SECONDS = 0.025
"""How long a bulk batch may hold a query up, where one stream does all the work."""
NIMBLE_SECONDS = 0.013
"""The same where a stream is kept nimble for queries, while others take batches as long as pay."""
QUIET_AFTER_SECONDS = 2.0
_WEIGHT = 0.2


class Pace:
    """Learns the engine's speed from the batches it did, and sizes the next one by it."""

    def __init__(self, clock: Clock = monotonic, *, largest: int = QUIET_BUDGET) -> None:
        """Never budget more than `largest` tokens: what the engine says is good for it."""
        self._clock = clock
        self.largest = largest
        self._lock = threading.Lock()
        self._seconds_per_token: float | None = None
        self._last_query: float | None = None

    def saw_query(self) -> None:
        """An interactive request came in."""
        self._last_query = self._clock()

    def saw_batch(self, tokens: int, seconds: float) -> None:
        """A batch of `tokens` took `seconds`; small ones say little about the rate."""
        if tokens < SMALLEST_BUDGET:
            return
        rate = seconds / tokens
        with self._lock:
            known = self._seconds_per_token
            self._seconds_per_token = rate if known is None else known + _WEIGHT * (rate - known)

    @property
    def seconds_per_token(self) -> float:
        """What a token takes one stream; 0 while nothing was computed yet."""
        return self._seconds_per_token or 0.0

    @property
    def is_quiet(self) -> bool:
        """Whether no query came in lately."""
        last = self._last_query
        return last is None or self._clock() - last > QUIET_AFTER_SECONDS

    def budget(self, hold_up_s: float = HOLD_UP_SECONDS) -> int:
        """Tokens for the next bulk batch: as many as pay, or as take `hold_up_s` beside queries."""
        if self.is_quiet:
            return self.largest
        if self._seconds_per_token is None:
            return SMALLEST_BUDGET
        fits = int(hold_up_s / self._seconds_per_token)
        return max(SMALLEST_BUDGET, min(self.largest, fits))
