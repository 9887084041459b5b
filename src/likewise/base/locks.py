"""How long a SQLite or DuckDB file is waited for that another program has locked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

LOCK_SECONDS = 30.0
"""Unless something else is set: a command that fails has to be typed again, so it waits long."""
BRIEF_SECONDS = 5.0
"""At most, for what is tried again anyway, answers somebody who waits, or is to be stopped soon."""

_set = LOCK_SECONDS
_most: ContextVar[float] = ContextVar("likewise_lock_seconds", default=float("inf"))


def lock_seconds() -> float:
    """How long to wait here and now."""
    return min(_set, _most.get())


def set_lock_seconds(seconds: float) -> None:
    """What holds in this process from now on."""
    global _set
    _set = seconds


@contextmanager
def briefly() -> Iterator[None]:
    """Within it, and within this thread, locks are waited for no longer than `BRIEF_SECONDS`."""
    before = _most.set(min(BRIEF_SECONDS, _most.get()))
    try:
        yield
    finally:
        _most.reset(before)
