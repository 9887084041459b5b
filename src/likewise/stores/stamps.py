"""Telling one history of a feed from another: an index may have followed a file since restored."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

_KEPT = 64
_SPAN = 1 << 48


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the feed a reader is."""

    base: int
    """What versions that are handed out have on top of the feed's own."""
    version: int
    """The feed's own version that the reader has followed to."""
    is_lost: bool
    """Whether the feed can't say what came after: trimmed, or another history."""


class Stamps:
    """Random marks of the versions that were handed out last. Safe to use from several threads.

    Versions only grow, also when a backup is put in a file's place: each history of a feed has
    numbers of its own. So every reader is told by itself that what it has followed is of another
    one, whoever notices first.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._histories = 0
        self._stamps: dict[int, int] = {}

    @property
    def histories(self) -> int:
        """How often the feed turned out to be another's."""
        return self._histories

    def place(
        self,
        after: int,
        *,
        file: int,
        top: int,
        oldest: int | None,
        stamp_of: Callable[[int], int | None],
    ) -> Place:
        """Where a reader is that was handed out version `after`.

        `file` grows when another file was put in this one's place; `top` is the feed's newest
        version, `oldest` the oldest that is kept.
        """
        base = (file + self._histories) * _SPAN
        version = after - base
        if version > top or (version >= 0 and self._is_other(version, stamp_of(version))):
            with self._lock:
                self._histories += 1
                self._stamps.clear()
            return Place(base + _SPAN, top, True)
        is_trimmed = version < (top if oldest is None else oldest - 1)
        return Place(base, version, version < 0 or is_trimmed)

    def remember(self, version: int, stamp: int | None) -> None:
        """Keep the stamp of a version that is handed out."""
        with self._lock:
            if stamp is not None:
                self._stamps[version] = stamp
            while len(self._stamps) > _KEPT:
                del self._stamps[next(iter(self._stamps))]

    def _is_other(self, version: int, stamp: int | None) -> bool:
        with self._lock:
            remembered = self._stamps.get(version)
        return remembered is not None and stamp is not None and stamp != remembered
