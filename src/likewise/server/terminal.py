"""Whether the terminal that this process was started from is still there.

A terminal that is closed sends SIGHUP, as an operator does who wants settings read again. The first
one is to end what runs in it.
"""

from __future__ import annotations

import os


def _is_there() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


_AT_FIRST = _is_there()


def has_gone() -> bool:
    """Whether there was one when this was imported, and it is there no more."""
    return _AT_FIRST and not _is_there()
