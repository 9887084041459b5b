"""A folder of models that is watched: what lies in it is served, as it is now.

Nothing is told by the file system: every few seconds the files' sizes and times are looked at. A
model whose files have just changed is left alone until they have stayed the same for a while, so
that it doesn't matter whether they were written one by one or put there by a rename.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from likewise.base.clock import monotonic
from likewise.base.errors import LikewiseError, ModelCorrupt, Overloaded
from likewise.base.log import fields, logger
from likewise.models import gguf, hub_cache
from likewise.models.own import folder_at
from likewise.runtime.making import Wanted
from likewise.runtime.snapshot import Stamp, stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from likewise.base.clock import Clock
    from likewise.runtime.registry import Registry

_log = logger("runtime.watch")

EVERY_S = 2.0
SETTLE_S = 2.0


@dataclass
class _Seen:
    """What a folder's files were when they last changed."""

    path: Path
    stamp: Stamp
    since: float
    is_taken: bool = False
    """Whether the registry knows of these files."""


class Watch:
    """Looks at `folder` from `start` until `stop`."""

    def __init__(
        self,
        registry: Registry,
        folder: Path,
        *,
        every_s: float = EVERY_S,
        settle_s: float = SETTLE_S,
        clock: Clock = monotonic,
    ) -> None:
        """Each sub-folder that is a model will be served under its name.

        Files count as settled once they have stayed the same for `settle_s` seconds.
        """
        self._registry = registry
        self._folder = folder
        self._every_s = every_s
        self._settle_s = settle_s
        self._clock = clock
        self._seen: dict[str, _Seen] = {}
        self._others: set[str] = set()
        """What lies there and is no model folder, by name: looked into once."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch-models", daemon=True)

    def start(self) -> None:
        """Take what is there now as settled, and look again every few seconds."""
        self.look(settle_s=0.0)
        self._thread.start()

    def stop(self) -> None:
        """Look no more; a reload under way is waited for."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self, *, settle_s: float | None = None) -> None:
        """Compare the folder with what is served, once. Failures are logged and shown."""
        settle_s = self._settle_s if settle_s is None else settle_s
        try:
            there = list(self._folder.iterdir())
        except OSError as unreadable:
            # What is served goes on: a mount that is away for a moment unloads nothing.
            self._trouble(str(self._folder), f"the folder can't be read: {unreadable}")
            return
        folders = {
            hub_cache.repository_of(path) or path.name: path
            for path in there
            if folder_at(str(path)) is not None
        }
        self._trouble(str(self._folder), None)
        served = set(folders.values())
        self._tell_of_gguf([path for path in there if path not in served])
        for name, path in sorted(folders.items()):
            if not name.startswith("."):
                self._guarded(path, partial(self._one, name, path, settle_s))
        for name in [name for name in self._seen if name not in folders]:
            self._guarded(self._seen[name].path, partial(self._vanished, name))

    def _run(self) -> None:
        while not self._stopping.wait(self._every_s):
            self.look()

    def _tell_of_gguf(self, others: Sequence[Path]) -> None:
        """Say once of each file and folder in GGUF that it isn't served, and what could be."""
        for path in others:
            if path.name not in self._others and (said := gguf.explained(path)) is not None:
                self._trouble(str(path), said)
        for gone in self._others - {path.name for path in others}:
            self._trouble(str(self._folder / gone), None)
        self._others = {path.name for path in others}

    def _one(self, name: str, path: Path, settle_s: float) -> None:
        now, current = self._clock(), stamp(path)
        seen = self._seen.get(name)
        if seen is None or seen.stamp != current:
            seen = self._seen[name] = _Seen(path, current, now)
        if not seen.is_taken and now - seen.since >= settle_s:
            self._take(name, path)
            seen.is_taken = True

    def _take(self, name: str, path: Path) -> None:
        """Serve it, or, if it is loaded and its files have changed, load them anew."""
        registry = self._registry
        self._require_whole(path)
        wanted = Wanted(str(path), is_watched=True)
        served = {view.name: view for view in registry.models()}
        if name not in served:
            registry.add(name, wanted)
            _log.info(fields("model found", model=name, folder=path))
            return
        if served[name].wanted.source != wanted.source:
            # Another model has the name: refused in words.
            registry.add(name, wanted)
        if served[name].state == "loaded":
            self._reload(name)
        else:
            registry.forgive(name)

    def _require_whole(self, path: Path) -> None:
        """Raise `ModelCorrupt` if it is of the Hugging Face cache, and files are missing there."""
        snapshot = hub_cache.newest_in(path)
        if snapshot is not None and snapshot.missing:
            raise ModelCorrupt(f"{snapshot.folder}: {snapshot.lacking()}")

    def _reload(self, name: str) -> None:
        reloading = self._registry.reload(name)
        try:
            told = reloading.result()
        except Overloaded:
            raise
        except LikewiseError:
            # The registry tells it, and it isn't tried again until the files change again.
            return
        if told["space_changed"]:
            note = "its vectors are of another space now: stored ones can't be compared with them"
            _log.warning(fields("model reloaded", model=name, note=note))

    def _vanished(self, name: str) -> None:
        served = {view.name: view for view in self._registry.models()}
        if name in served and served[name].wanted.is_watched:
            self._registry.drop(name)
            _log.info(fields("model gone", model=name))
        path = self._seen.pop(name).path
        self._trouble(str(path), None)

    def _guarded(self, path: Path, work: Callable[[], None]) -> None:
        """Do `work`; what goes wrong is about the model in `path`."""
        try:
            work()
        except (LikewiseError, OSError) as failed:
            self._trouble(str(path), str(failed))
        else:
            self._trouble(str(path), None)

    def _trouble(self, path: str, message: str | None) -> None:
        troubles = self._registry.troubles
        if message is None:
            troubles.pop(path, None)
        elif troubles.get(path) != message:
            _log.warning(fields("model folder", folder=path, error=message))
            troubles[path] = message
