"""Time as a value that tests can hand in."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Seconds since 1970, UTC."""

wall: Clock = time.time  # noqa: TID251 - the one place that reads the wall clock
monotonic: Clock = time.monotonic


def ago(seconds: float | None) -> float | None:
    """The moment that many seconds ago, by this machine's clock; None of None.

    For what another machine's clock has measured: the two may disagree on what time it is.
    """
    return None if seconds is None else wall() - seconds
