"""Room in memory: what the loaded models take, and who goes when another one needs it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from likewise.base.errors import AdminError, Overloaded
from likewise.base.log import fields, logger
from likewise.runtime import metrics
from likewise.runtime.making import stopping

if TYPE_CHECKING:
    from likewise.runtime.entry import Entry
    from likewise.runtime.generation import Generation

_log = logger("runtime.registry")
_MIB = 2**20
_LOOK_S = 0.5


class Room:
    """The entries and what is on its way out, within a budget of bytes."""

    def __init__(self, budget: int | None) -> None:
        """No entries yet; None is no budget."""
        self._budget = budget
        self._lock = threading.Condition()
        self._entries: dict[str, Entry] = {}
        self._retired: list[Generation] = []
        self._is_closing = threading.Event()

    @property
    def resident_bytes(self) -> int:
        """What the weights of all models take that aren't closed yet."""
        with self._lock:
            return sum(one.resident_bytes for one in self._alive())

    def _alive(self) -> list[Generation]:
        given = [entry.generation for entry in self._entries.values() if entry.generation]
        return [*given, *self._retired]

    def _reserve(self, entry: Entry, needed: int) -> None:
        """Make sure of `needed` bytes, at the cost of what was used longest ago.

        Raises:
            AdminError: it is more than the whole budget.
            Overloaded: what is there is held or must stay.
        """
        budget = self._budget
        assert budget is not None, "room without a budget: this is a bug"
        if needed > budget:
            raise AdminError(
                f"{entry.name} needs {_mib(needed)} for its weights, and the whole memory budget "
                f"is {_mib(budget)}",
                param="model",
            )
        while True:
            with self._lock:
                while self._used(entry) + needed > budget and self._is_ending_some():
                    self._require_open()
                    self._lock.wait(_LOOK_S)
                if self._used(entry) + needed <= budget:
                    entry.reserved = needed
                    return
                victim = self._least_recent(entry)
                if victim is None or victim.generation is None:
                    raise self._full(entry, needed, budget)
                generation = victim.generation
                self._retire(victim, "memory")
                generation.is_ending = True
            self._end(generation)

    def _require_open(self) -> None:
        if self._is_closing.is_set():
            raise stopping()

    def _used(self, entry: Entry) -> int:
        loading = sum(one.reserved for one in self._entries.values() if one is not entry)
        return loading + sum(one.resident_bytes for one in self._alive())

    def _is_ending_some(self) -> bool:
        return any(one.is_ending or one.is_idle for one in self._retired)

    def _least_recent(self, entry: Entry) -> Entry | None:
        may_go = [one for one in self._entries.values() if one is not entry and one.may_go()]
        return min(may_go, key=lambda one: one.generation.last_used if one.generation else 0.0,
                   default=None)  # fmt: skip

    def _full(self, entry: Entry, needed: int, budget: int) -> Overloaded:
        held = [
            f"{one.model} {_mib(one.resident_bytes)} ({self._why_stays(one)})"
            for one in self._alive()
        ]
        held += [
            f"{one.name} {_mib(one.reserved)} (being loaded)"
            for one in self._entries.values()
            if one.reserved and one is not entry
        ]
        return Overloaded(
            f"{entry.name} needs {_mib(needed)} of the memory budget of {_mib(budget)}, which is "
            f"held by {', '.join(held)}; try again when they are free",
            param="model",
        )

    def _why_stays(self, generation: Generation) -> str:
        entry = self._entries.get(generation.model)
        if generation.holders:
            return f"in use by {generation.holders}"
        return "pinned" if entry is not None and entry.is_pinned else "being loaded anew"

    def _retire(self, entry: Entry, reason: str) -> None:
        """Give it to nobody any more; the lock is held."""
        generation, entry.generation = entry.generation, None
        assert generation is not None, "nothing to retire: this is a bug"
        generation.retired = reason
        self._retired.append(generation)
        self._lock.notify_all()

    def _forget(self, entry: Entry, reason: str) -> None:
        """Serve it no more; the lock is held."""
        if entry.generation is not None:
            self._retire(entry, reason)
        self._entries.pop(entry.name, None)
        self._forgotten()

    def _forgotten(self) -> None:
        """An entry is gone."""

    def _end(self, generation: Generation) -> None:
        """Close it; without the lock, because it waits for the batch at hand."""
        try:
            generation.service.close()
        except Exception:  # noqa: BLE001 - one that doesn't end well must not keep the others
            _log.exception(fields("model not closed", model=generation.model))
        with self._lock:
            self._retired.remove(generation)
            self._lock.notify_all()
        name = generation.model
        metrics.MODEL_UNLOADS.labels(name, str(generation.retired)).inc()
        said = {"model": name, "generation": generation.number, "reason": generation.retired}
        _log.info(fields("model unloaded", **said))
        self._show(name)
        generation.ended.set_result(None)

    def _show(self, name: str) -> None:
        """The gauges as they are now."""
        with self._lock:
            mine = sum(one.resident_bytes for one in self._alive() if one.model == name)
            loaded = sum(1 for entry in self._entries.values() if entry.generation)
        metrics.MODEL_RESIDENT_BYTES.labels(name).set(mine)
        metrics.MODELS_LOADED.set(loaded)


def _mib(count: int) -> str:
    return f"{count / _MIB:,.1f} MiB"
