"""What a killed process leaves in the cache: found by locks that nobody holds, and removed.

A process that works in a folder of its own there holds a lock in it, which ends with the process
however that ends. So a folder whose lock is free belongs to nobody, and one that is held is left
alone, whichever process or container holds it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from likewise.base.clock import wall
from likewise.base.log import fields, logger
from likewise.models import shelf

_log = logger("models")

_LOADING = ".loading-"
_LOCK = ".in-use"
_FORSAKEN_S = 24 * 3600.0
"""How long nothing was written to what has no lock, as folders of older versions have none."""
_FILE_FORSAKEN_S = 3600.0
_WRITTEN = re.compile(r"(?:digests|selfchecks)\.json.{8}")
"""Files on their way to one of these names; writing one takes a moment."""


@dataclass(frozen=True, slots=True)
class Freed:
    """What was removed."""

    count: int = 0
    size_bytes: int = 0

    def __add__(self, other: Freed) -> Freed:
        return Freed(self.count + other.count, self.size_bytes + other.size_bytes)


@contextlib.contextmanager
def own_folder(cache: Path) -> Iterator[Path]:
    """A folder under `cache` for a model that is being loaded; removed with the block.

    Should the process be killed, `sweep` removes it.

    Raises:
        OSError: the cache can't be written.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as cleanup:
        while True:
            one = cleanup.enter_context(contextlib.ExitStack())
            made = tempfile.TemporaryDirectory(
                prefix=_LOADING, dir=cache, ignore_cleanup_errors=True
            )
            folder = Path(one.enter_context(made))
            lock = one.enter_context((folder / _LOCK).open("wb"))
            with contextlib.suppress(OSError):  # a file system without locks: age has to tell
                fcntl.flock(lock, fcntl.LOCK_SH)
            # Between the two lines above somebody who sweeps may have found it free.
            if (folder / _LOCK).exists():
                yield folder
                return
            one.close()


def sweep(cache: Path) -> Freed:
    """Remove what killed processes left under `cache`; what others use stays.

    What can't be removed is logged, and tried again the next time.
    """
    freed = Freed()
    for folder in _named(cache, f"{_LOADING}*"):
        freed += _loading_removed(folder)
    root = shelf.models_folder(cache)
    for folder in _named(root, ".part-*"):
        freed += _part_removed(root, folder)
    for file in _named(cache, "*.json*"):
        if _WRITTEN.fullmatch(file.name) and _is_forsaken(file, _FILE_FORSAKEN_S):
            freed += _removed(file)
    if freed.count:
        _log.warning(
            fields(
                "leftovers of a crash removed",
                cache=cache,
                count=freed.count,
                mib=round(freed.size_bytes / 2**20, 1),
            )
        )
    return freed


def _named(folder: Path, pattern: str) -> list[Path]:
    try:
        return sorted(folder.glob(pattern))
    except OSError:
        return []


def _loading_removed(folder: Path) -> Freed:
    try:
        lock = (folder / _LOCK).open("rb")
    except FileNotFoundError:
        # Made a moment ago, or by a version that held no locks.
        return _removed(folder) if _is_forsaken(folder, _FORSAKEN_S) else Freed()
    except OSError as denied:
        return _kept(folder, denied)
    with lock:
        return _removed(folder) if _is_free(lock) else Freed()


def _part_removed(root: Path, folder: Path) -> Freed:
    """A download's folder, under the lock of its model, as `shelf.staging` holds it."""
    slug = folder.name.removeprefix(".part-").rpartition("-")[0]
    try:
        lock = (root / f".{slug}.lock").open("rb")
    except FileNotFoundError:
        return _removed(folder) if _is_forsaken(folder, _FORSAKEN_S) else Freed()
    except OSError as denied:
        return _kept(folder, denied)
    with lock:
        return _removed(folder) if _is_free(lock) else Freed()


def _is_free(lock: IO[bytes]) -> bool:
    """Whether nobody held it; from now on we do, until it is closed."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_forsaken(path: Path, after_s: float) -> bool:
    try:
        newest = max((each.lstat().st_mtime for each in (path, *path.rglob("*"))), default=0.0)
    except OSError:  # it goes just now
        return False
    return wall() - newest > after_s


def _removed(path: Path) -> Freed:
    size = 0
    for each in (path, *path.rglob("*")):
        with contextlib.suppress(OSError):
            stat = each.lstat()
            size += stat.st_blocks * 512
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            os.unlink(path)
    except OSError as denied:
        return _kept(path, denied)
    return Freed(1, size)


def _kept(path: Path, why: OSError) -> Freed:
    _log.info(fields("leftover not removed", path=path, error=why))
    return Freed()
