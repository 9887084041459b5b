"""Notices that something below a folder was changed: hints only, that a scan is worth it.

The system's queue of events can overflow, and network mounts and fresh folders miss events: so a
scan comes from time to time whatever was noticed.
"""

from __future__ import annotations

import threading

from likewise.base.extras import install
from likewise.base.log import fields, logger

_DEBOUNCE_MS = 200
_STEP_MS = 50
_log = logger("sources.files")


class Notices:
    """Counts changes below `root`, from the first look on. Safe to use from several threads."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._count = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def count(self) -> int:
        """A number that grows with each bundle of changes."""
        with self._lock:
            if self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(
                    target=self._watch, name="likewise-files", daemon=True
                )
                self._thread.start()
            return self._count

    def again(self) -> None:
        """Ask for another look."""
        with self._lock:
            self._count += 1

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        try:
            from watchfiles import watch
        except ImportError:
            _log.warning(
                fields(
                    "files are only looked at from time to time",
                    root=self._root,
                    why="watchfiles isn't installed",
                    run=install("likewise[files]"),
                )
            )
            return
        try:
            for _ in watch(
                self._root,
                debounce=_DEBOUNCE_MS,
                step=_STEP_MS,
                stop_event=self._stop,
                watch_filter=None,
                raise_interrupt=False,
                ignore_permission_denied=True,
            ):
                self.again()
        except (OSError, RuntimeError) as failed:
            # Too few inotify watches, or the folder went away.
            _log.warning(
                fields(
                    "files are only looked at from time to time", root=self._root, why=str(failed)
                )
            )
