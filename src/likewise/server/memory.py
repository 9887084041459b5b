"""Memory that large requests took is given back to the system."""

from __future__ import annotations

import asyncio
import ctypes
import functools
from collections.abc import Callable

_REST_S = 1.0
"""How long after a large request: while they come one after another, memory is used again."""

_waiting: asyncio.TimerHandle | None = None


def give_back_soon(loop: asyncio.AbstractEventLoop) -> None:
    """Give back what is free, in a thread, once there was no call of this for a moment.

    The C library keeps what was freed between blocks that are still in use; after texts of some
    megabytes that is several hundred megabytes.
    """
    global _waiting
    if _waiting is not None:
        _waiting.cancel()
    _waiting = loop.call_later(_REST_S, _start, loop)


def _start(loop: asyncio.AbstractEventLoop) -> None:
    global _waiting
    _waiting = None
    loop.run_in_executor(None, give_back)


def give_back() -> bool:
    """Give free memory back to the system; False where the C library has no call for it."""
    trim = _trim()
    return trim is not None and bool(trim(0))


@functools.cache
def _trim() -> Callable[[int], int] | None:
    """Glibc's `malloc_trim`; the interpreter isn't held while it runs."""
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
    return trim
