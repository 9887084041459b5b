"""What a DuckDB file's header says, read without giving up the lock that DuckDB has on the file.

DuckDB 2.0.0 and 2.0.1 read the header before they lock the file and don't look again (so their
system calls show; 1.4.5 and 1.5.6 read it afterwards). Whoever opens the file while another process
is about to close it then has the state of before: what was committed in between is lost, and the
next checkpoint writes over blocks that are in use. So the header is read before and after opening:
each checkpoint counts it up, so as long as it is the same, DuckDB has read that one too.
"""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

if sys.platform == "linux":
    import fcntl

    _CAN_ASK = sys.maxsize > 2**32
else:
    _CAN_ASK = False

_FLOCK = "hhqqi4x"
"""`struct flock` of Linux on 64 bits: kind, whence, start, length, process."""
_BYTES = 3 * 4096
"""The main header and the two that checkpoints write in turn."""

_ours: set[int] = set()
"""The descriptors of all headers, and those that couldn't be closed:"""
_left: dict[tuple[int, int], int] = {}
"""by device and inode."""


class Header:
    """That of the file at one path. Not safe to use from several threads.

    Its descriptor stays open: a process that closes any descriptor of a file loses all its locks on
    the file (POSIX), DuckDB's among them, and nothing says so.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def read(self) -> bytes | None:
        """The headers as they are now; None when the file can't be read."""
        try:
            return os.pread(self._opened(), _BYTES, 0)
        except OSError:
            return None

    def is_of_the_file(self) -> bool:
        """Whether the path names the file that was read; not when another is in its place."""
        if self._descriptor is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._descriptor), os.stat(self.path))
        except OSError:
            return False

    def is_open_otherwise(self) -> bool:
        """Whether this process has the file open by another descriptor, such as DuckDB's.

        Also when that can't be told.
        """
        if self._descriptor is None:
            return False
        ours = os.fstat(self._descriptor)
        try:
            others = [int(name) for name in os.listdir("/dev/fd")]
        except (OSError, ValueError):
            return True
        for each in others:
            try:
                if each not in _ours and os.path.samestat(os.fstat(each), ours):
                    return True
            except OSError:
                continue  # of the listing itself, or closed since
        return False

    def is_locked(self) -> bool:
        """Whether a lock of another process keeps us out; False where that can't be told."""
        if not _CAN_ASK:
            return False
        kind = fcntl.F_WRLCK if os.access(self.path, os.W_OK) else fcntl.F_RDLCK
        asked = struct.pack(_FLOCK, kind, os.SEEK_SET, 0, 0, 0)
        try:
            found = fcntl.fcntl(self._opened(), fcntl.F_GETLK, asked)
        except OSError:
            return False
        return bool(struct.unpack(_FLOCK, found)[0] != fcntl.F_UNLCK)

    def close(self) -> None:
        """It isn't read any more. The descriptor stays open if closing it could undo a lock."""
        if self._descriptor is None:
            return
        found = os.fstat(self._descriptor)
        identity = found.st_dev, found.st_ino
        if self.is_open_otherwise():
            _left.setdefault(identity, self._descriptor)
        else:
            for each in {self._descriptor, _left.pop(identity, self._descriptor)}:
                _ours.discard(each)
                os.close(each)
        self._descriptor = None

    def _opened(self) -> int:
        """The descriptor, of the file that the path names now."""
        if self._descriptor is not None and self.is_of_the_file():
            return self._descriptor
        self.close()
        found = os.stat(self.path)
        self._descriptor = _left.pop((found.st_dev, found.st_ino), None)
        if self._descriptor is None:
            self._descriptor = os.open(self.path, os.O_RDONLY)
            _ours.add(self._descriptor)
        return self._descriptor
