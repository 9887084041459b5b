"""A copy of a model folder that lasts while it is loaded, so that the folder may be overwritten.

Weights are mapped from their files for as long as the model runs. A file that is written over in
place would change the vectors of a running model, and one that is cut short would kill the process.
What is mapped from a copy stays as it was, also once the copy's name is gone.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from likewise.base.errors import ModelCorrupt
from likewise.base.log import fields, logger
from likewise.models.leftovers import own_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_log = logger("runtime.registry")

_BLOCK = 1 << 24

Stamp = tuple[tuple[str, int, int, int], ...]
"""For each file its path below the folder, size, time of change and inode."""


def files_in(folder: Path) -> list[Path]:
    """The files below `folder`, without hidden ones and checkpoints of a training."""
    found = []
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if any(part.startswith((".", "checkpoint-")) for part in parts):
            continue
        if path.is_file():
            found.append(path)
    return found


def stamp(folder: Path) -> Stamp:
    """What the files in `folder` are now; equal as long as nobody writes to them.

    Raises:
        OSError: the folder can't be read, or files vanish while it is.
    """
    found = []
    for path in files_in(folder):
        stat = path.stat()
        name = path.relative_to(folder).as_posix()
        found.append((name, stat.st_size, stat.st_mtime_ns, stat.st_ino))
    return tuple(found)


@contextlib.contextmanager
def snapshot(folder: Path, cache: Path, require_open: Callable[[], None]) -> Iterator[Path]:
    """A copy of `folder` under `cache`; the folder itself where there is no room for one.

    `require_open` is called while it is copied, and ends it by raising.

    Raises:
        ModelCorrupt: it was being written to.
    """
    with contextlib.ExitStack() as cleanup:
        try:
            target = cleanup.enter_context(own_folder(cache)) / folder.name
            _copy(folder, target, require_open)
        except OSError as refused:
            why = "it is used where it lies: don't write over its files"
            _log.warning(fields("model not copied", folder=folder, error=refused, note=why))
            cleanup.close()
            target = folder
        yield target


def _copy(folder: Path, target: Path, require_open: Callable[[], None]) -> None:
    before = stamp(folder)
    for name, *_ in before:
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        with (folder / name).open("rb") as source, copy.open("wb") as out:
            while block := source.read(_BLOCK):
                require_open()
                out.write(block)
    if stamp(folder) != before:
        raise ModelCorrupt(f"{folder} was written to while it was read; load it again")
