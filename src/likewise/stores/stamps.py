"""Telling one history of a feed from another: an index may have followed a file since restored."""

from __future__ import annotations

import threading

_KEPT = 64


class Stamps:
    """Random marks of the versions that were handed out last. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stamps: dict[int, int] = {}

    def is_other(self, version: int, stamp: int | None) -> bool:
        """Whether `version` had another stamp when it was handed out: another history."""
        with self._lock:
            remembered = self._stamps.get(version)
        return remembered is not None and stamp is not None and stamp != remembered

    def remember(self, version: int, stamp: int | None) -> None:
        """Keep the stamp of a version that is handed out."""
        with self._lock:
            if stamp is not None:
                self._stamps[version] = stamp
            while len(self._stamps) > _KEPT:
                del self._stamps[next(iter(self._stamps))]
