"""Reading a file that others may be writing: whole and of one moment, or not at all."""

from __future__ import annotations

import os
import stat as modes
from dataclasses import dataclass

from likewise.base.errors import FileUnreadable
from likewise.sources.readers.items import too_large, unreadable
from likewise.sources.stats import Stat, stat_of

_TRIES = 3
_PIECE = 1 << 20
# Without O_NONBLOCK, opening a pipe that took the file's place would wait for a writer.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


@dataclass(frozen=True, slots=True)
class Torn:
    """It can't be read just now: look again at the next scan."""

    reason: str


def read_whole(
    root: str, path: str, max_bytes: int, *, tries: int = _TRIES
) -> tuple[bytes, Stat] | Torn:
    """The content of `root`/`path` and what the file system said both before and after the read.

    Raises:
        FileUnreadable: it may not be read, isn't a regular file, or has more than `max_bytes`.
    """
    for _ in range(tries):
        try:
            handle = os.open(os.path.join(root, path), _FLAGS)
        except (FileNotFoundError, NotADirectoryError):
            return Torn("it was there when the folder was listed, and is gone")
        except OSError as wrong:
            raise _refused(path, wrong) from wrong
        try:
            read = _read_once(handle, path, max_bytes)
        except OSError as wrong:
            raise _refused(path, wrong) from wrong
        finally:
            os.close(handle)
        if read is not None:
            return read
    return Torn(f"it was being written during each of {tries} reads")


def _read_once(handle: int, path: str, max_bytes: int) -> tuple[bytes, Stat] | None:
    status = os.fstat(handle)
    if not modes.S_ISREG(status.st_mode):
        raise unreadable(path, "isn't a regular file", "exclude it by a pattern")
    before = stat_of(status)
    if before.size > max_bytes:
        raise too_large(path, before.size, max_bytes)
    data = _all(handle, before.size)
    if data is None or stat_of(os.fstat(handle)) != before:
        return None
    return data, before


def _all(handle: int, size: int) -> bytes | None:
    """Its `size` bytes; None when there are fewer or more by now."""
    pieces, left = [], size + 1
    while left > 0:
        piece = os.read(handle, min(left, _PIECE))
        if not piece:
            break
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces) if left == 1 else None


def _refused(path: str, wrong: OSError) -> FileUnreadable:
    reason = f"can't be read ({wrong.strerror or wrong})"
    return unreadable(path, reason, "look at its permissions and its disk")
