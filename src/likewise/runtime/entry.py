"""One model of the registry: what it is called and wanted as, its generation, who waits for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from likewise.base.clock import wall
from likewise.base.errors import LikewiseError

if TYPE_CHECKING:
    from likewise.models.locate import Located
    from likewise.models.overrides import Overrides
    from likewise.runtime.generation import Generation, Hold
    from likewise.runtime.making import Wanted
    from likewise.runtime.service import Service

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
"""A model that can't be loaded is tried again after a pause, which doubles up to this."""

Granted = Future[AbstractContextManager["Service"]]


@dataclass(frozen=True)
class Failure:
    """The last load failed."""

    error: LikewiseError
    in_a_row: int
    again_at: float
    """On the registry's clock."""

    def restated(self, now: float) -> LikewiseError:
        """The same error, which says when it is tried again."""
        left = max(0.1, self.again_at - now)
        return type(self.error)(
            f"{self.error} (it can't be loaded just now; it is tried again in {left:.1f} s)",
            param=self.error.param,
            retry_after_s=left,
        )


def failure_after(last: Failure | None, error: LikewiseError, now: float) -> Failure:
    """One more failure, with a pause twice as long as the last."""
    in_a_row = 1 if last is None else last.in_a_row + 1
    pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(in_a_row - 1, 10))
    if error.retry_after_s is None:
        error.retry_after_s = pause
    return Failure(error, in_a_row, now + pause)


@dataclass(eq=False)
class Entry:
    """The registry's lock guards what changes."""

    name: str
    wanted: Wanted
    aliases: list[str] = field(default_factory=list)
    generation: Generation | None = None
    waiting: list[tuple[Granted, float | None]] = field(default_factory=list)
    """Who is to be granted it once it is loaded, and for how long they want it kept."""
    is_busy: bool = False
    """Whether it is being loaded or reloaded."""
    is_trial: bool = False
    """Whether it is dropped if its first load fails."""
    reserved: int = 0
    """Bytes that the load under way will take."""
    loads: int = 0
    failure: Failure | None = None
    trouble: str | None = None
    """What went wrong while the old generation went on: a reload, or its folder."""
    bound: list[str] = field(default_factory=list)
    """Bindings whose vectors it gives; it must stay, in the same space."""

    @property
    def state(self) -> str:
        """`loaded`, `loading`, `failed` or `unloaded`."""
        if self.generation is not None:
            return "loaded"
        if self.is_busy:
            return "loading"
        return "unloaded" if self.failure is None else "failed"

    @property
    def is_pinned(self) -> bool:
        """Whether neither idleness nor want of memory may unload it."""
        return self.wanted.pinned or bool(self.bound)

    def keep_alive_s(self, asked: float | None, default: float) -> float:
        """How long it stays when nobody asks: as was asked, or as is set."""
        if asked is not None:
            return asked
        return default if self.wanted.keep_alive_s is None else self.wanted.keep_alive_s

    def may_go(self) -> bool:
        """Whether it may be unloaded without being asked to."""
        return (
            self.generation is not None
            and self.generation.is_idle
            and not self.is_pinned
            and not self.is_busy
        )

    def take_waiting(self, hold: Callable[[float | None], Hold]) -> list[tuple[Granted, Hold]]:
        """Who waited, each with a hold of its own."""
        waiting, self.waiting = self.waiting, []
        return [(granted, hold(keep_alive_s)) for granted, keep_alive_s in waiting]


@dataclass(frozen=True)
class View:
    """An entry as it was at one moment."""

    name: str
    aliases: Sequence[str]
    state: str
    _entry: Entry
    _now: float
    _default_keep_alive_s: float
    _find: Callable[[Wanted], Located | None]
    _overrides: Overrides

    @property
    def wanted(self) -> Wanted:
        """How it is found, run and kept."""
        return self._entry.wanted

    def located(self) -> Located | None:
        """Where it lies on this disk now; None where it doesn't. Reads folders."""
        return self._find(self._entry.wanted)

    def facts(self) -> Mapping[str, Any]:
        """What the model says, and since and until when; `None` for never and not yet.

        Times are seconds since 1970, UTC.
        """
        entry, now = self._entry, self._now
        keep = entry.keep_alive_s(None, self._default_keep_alive_s)
        failure = entry.failure
        facts: dict[str, Any] = {
            "source": entry.wanted.source,
            "keep_alive_s": None if math.isinf(keep) else keep,
            "pinned": entry.is_pinned,
            "bindings": list(entry.bound),
            "watched": entry.wanted.is_watched,
            "error": str(failure.error) if failure is not None else entry.trouble,
            "retry_in_s": max(0.0, failure.again_at - now) if failure is not None else None,
            "loads": entry.loads,
        }
        if self._overrides:
            facts["override"] = self._overrides.facts()
        if (generation := entry.generation) is not None:
            facts = {**generation.service.info(), **facts, **_loaded(entry, generation, now)}
        return facts


def _loaded(entry: Entry, generation: Generation, now: float) -> dict[str, Any]:
    until = math.inf
    if not entry.is_pinned:
        until = generation.expires_at if generation.is_idle else now + generation.keep_alive_s
    return {
        "folder": generation.folder,
        "origin": generation.origin,
        "generation": generation.number,
        "fingerprint": generation.fingerprint,
        "resident_bytes": generation.resident_bytes,
        "loaded_at": generation.loaded_at,
        "load_seconds": round(generation.load_seconds, 3),
        "last_used": wall() - (now - generation.last_used),
        "expires_at": None if math.isinf(until) else wall() + (until - now),
        "expires_in_s": None if math.isinf(until) else max(0.0, until - now),
        "holders": generation.holders,
        "reloading": entry.is_busy,
    }
