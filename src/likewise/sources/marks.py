"""What is remembered of a file, and when that proves that it hasn't changed.

A file system's clock ticks: two writes in one tick leave the same times. So times that are as
young as the moment at which a file was read prove nothing, for a write that came after the read
may have left the same ones. Such a mark is racy: the file is read again at the next scan, whose
mark is then older than a tick (git's index has the same rule).

A mark never proves anything against a clock that was set back between two writes to one file
by exactly the time that passed, or against writes through `mmap` that the system hasn't noted
yet; for these, all files are to be read anew from time to time.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from likewise.sources.stats import Stat

UNKNOWN_GRANULARITY_NS = 2_000_000_000
"""FAT's clock, the coarsest there is: ticks of two seconds."""

_VERSION = 1
_RACY = 1
_LAYOUT = struct.Struct("<BBQqqQ32s")
"""Little-endian, 66 bytes: version, flags (1: racy), size, mtime_ns, ctime_ns, ino, sha256."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A file as it was when its content was last read."""

    size: int
    mtime_ns: int
    ctime_ns: int
    ino: int
    sha256: bytes
    """Of the whole content, 32 bytes."""
    is_racy: bool
    """Whether the file may have changed since within the same tick of the clock."""


def mark_of(
    stat: Stat, sha256: bytes, read_ns: int, granularity_ns: int = UNKNOWN_GRANULARITY_NS
) -> Mark:
    """The mark of a file whose content was read at `read_ns` or later.

    Args:
        stat: as it was both before and after the read.
        sha256: of the content that was read.
        read_ns: wall clock before the read began, nanoseconds since 1970. The start of the scan
            serves too; it leaves more files doubtful.
        granularity_ns: length of a tick of the file system's clock. A server's clock that is
            behind this machine's has to be added.
    """
    is_racy = max(stat.mtime_ns, stat.ctime_ns) >= read_ns - granularity_ns
    return Mark(stat.size, stat.mtime_ns, stat.ctime_ns, stat.ino, sha256, is_racy)


def unchanged(mark: Mark, stat: Stat, scan_started_ns: int) -> bool:
    """Whether the file that now has `stat` surely has the content of `mark`.

    Times later than the scan's start mean that the clock was set back, or is another's: they
    prove nothing. False never means that it did change, only that it must be read. The device
    isn't looked at: its number may change when a disk is mounted again.
    """
    return (
        not mark.is_racy
        and stat.ctime_ns == mark.ctime_ns
        and stat.mtime_ns == mark.mtime_ns
        and stat.size == mark.size
        and stat.ino == mark.ino
        and max(stat.mtime_ns, stat.ctime_ns) <= scan_started_ns
    )


def encode(mark: Mark) -> bytes:
    """66 bytes, laid out as `_LAYOUT` says."""
    return _LAYOUT.pack(
        _VERSION,
        _RACY if mark.is_racy else 0,
        mark.size,
        mark.mtime_ns,
        mark.ctime_ns,
        mark.ino,
        mark.sha256,
    )


def decode(data: bytes) -> Mark | None:
    """The mark; None when another version wrote it or it is damaged, so that the file is read."""
    if len(data) != _LAYOUT.size:
        return None
    version, flags, size, mtime_ns, ctime_ns, ino, sha256 = _LAYOUT.unpack(data)
    if version != _VERSION or flags not in (0, _RACY):
        return None
    return Mark(size, mtime_ns, ctime_ns, ino, sha256, bool(flags))
