"""What the file system says of a file, as far as it tells a changed one."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stat:
    """Size, times in nanoseconds since 1970, and which inode of which device."""

    size: int
    mtime_ns: int
    ctime_ns: int
    """When content, name or mode last changed; programs can't set it back."""
    ino: int
    dev: int


def stat_of(status: os.stat_result) -> Stat:
    """The part of `status` that matters here."""
    return Stat(
        status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev
    )
