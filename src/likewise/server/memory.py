"""Memory that large requests took is given back to the system."""

from __future__ import annotations

import ctypes
import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

_REST_S = 1.0
"""How long after a large request: while they come one after another, memory is used again."""
# mallopt(3). Each thread may have an arena of its own, which keeps what its largest request took;
# the size from which on a block is a mapping of its own, unmapped when freed, grows to 32 MiB.
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
_ARENAS = 2
_MAPPED_BYTES = 1 << 20

_waiting: asyncio.TimerHandle | None = None


def limit() -> bool:
    """Have the C library keep little of what is freed; to be called before threads are started.

    Measured with all-MiniLM-L6-v2 after hostile requests on every route: 1.05 x the memory of
    before them; 1.31 x with as many arenas as threads. Two arenas cost a short query 5 % of its
    processor time. Returns False where the C library has no call for it.
    """
    mallopt = _call("mallopt")
    if mallopt is None:
        return False
    return bool(mallopt(_M_ARENA_MAX, _ARENAS) and mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES))


def give_back_soon(loop: asyncio.AbstractEventLoop) -> None:
    """Give back what is free, in a thread, once there was no call of this for a moment.

    The C library keeps what was freed between blocks that are still in use.
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
    """Give free memory back to the system; False where there is none, or no call for it."""
    trim = _call("malloc_trim")
    return trim is not None and bool(trim(0))


@functools.cache
def _call(name: str) -> Any:
    """A function of the C library, which doesn't hold the interpreter; None if it has none."""
    try:
        return getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return None
