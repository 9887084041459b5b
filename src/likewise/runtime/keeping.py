"""What goes on inside the registry: loads, holds, and the thread that lets models go."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from likewise.base.clock import wall
from likewise.base.errors import AdminError, LikewiseError, ModelError, ModelNotFound, Overloaded
from likewise.base.extras import missing
from likewise.base.log import fields, logger
from likewise.runtime import metrics
from likewise.runtime.entry import failure_after
from likewise.runtime.generation import Generation, Hold
from likewise.runtime.making import stopping_progress
from likewise.runtime.room import Room

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from likewise.base.clock import Clock
    from likewise.runtime.entry import Entry, Granted
    from likewise.runtime.making import Loader, Options
    from likewise.runtime.service import Service

_log = logger("runtime.registry")

LOADS_AT_ONCE = 2
_LONGEST_WAIT_S = 3600.0


class Keeping(Room):
    """Entries, each with at most one generation given out, and those that are on their way out."""

    def __init__(self, options: Options, loader: Loader, clock: Clock) -> None:
        """Hold nothing yet."""
        super().__init__(options.memory_budget)
        self.options = options
        self._loader = loader
        self._clock = clock
        self._wakes_at = math.inf
        self._jobs = ThreadPoolExecutor(LOADS_AT_ONCE, thread_name_prefix="load-model")
        self._keeper = threading.Thread(target=self._keep_house, name="keep-models", daemon=True)
        self._keeper.start()

    def lease(self, name: str, *, keep_alive_s: float | None = None) -> Granted:
        """The model called `name` (a full one), not unloaded while the context is held.

        It counts from the moment that the future is done. One that isn't loaded is loaded, once
        for all who wait; giving up the future leaves the load to the others, and to the next.

        Raises:
            ModelNotFound: there is none.
            Overloaded: the server is stopping.
            LikewiseError: it couldn't be loaded a moment ago.
        """
        granted: Granted = Future()
        with self._lock:
            entry = self._entry(name)
            self._require_open()
            if entry.generation is None:
                self._require_may_try(entry)
                entry.waiting.append((granted, keep_alive_s))
                if not entry.is_busy:
                    entry.is_busy = True
                    self._jobs.submit(self._load, entry)
                return granted
            hold = self._hold(entry, keep_alive_s)
        granted.set_result(hold)
        return granted

    def close(self) -> None:
        """Stop every model, whoever holds it; loads under way are waited for. Twice is once."""
        with self._lock:
            self._is_closing.set()
            for entry in self._entries.values():
                if entry.generation is not None:
                    self._retire(entry, "stopping")
            self._lock.notify_all()
        self._jobs.shutdown(wait=True)
        with self._lock:
            self._lock.notify_all()
        self._keeper.join()
        with self._lock:
            held = [one for one in self._retired if not one.is_ending]
            for generation in held:
                generation.is_ending = True
        for generation in held:
            self._end(generation)

    def _entry(self, name: str) -> Entry:
        entry = self._entries.get(name)
        if entry is None:
            raise ModelNotFound(f"the model {name!r} isn't served here", param="model")
        return entry

    def _require_may_try(self, entry: Entry) -> None:
        now = self._clock()
        if entry.failure is not None and not entry.is_busy and now < entry.failure.again_at:
            raise entry.failure.restated(now)

    def _hold(self, entry: Entry, keep_alive_s: float | None) -> Hold:
        generation = entry.generation
        assert generation is not None, "a hold of what isn't loaded: this is a bug"
        generation.holders += 1
        generation.last_used = self._clock()
        generation.keep_alive_s = entry.keep_alive_s(keep_alive_s, self.options.keep_alive_s)
        return Hold(generation, self._give_back)

    def _keep_as_set(self, entry: Entry, generation: Generation) -> None:
        generation.keep_alive_s = entry.keep_alive_s(None, self.options.keep_alive_s)
        generation.expires_at = self._clock() + generation.keep_alive_s
        self._lock.notify_all()

    def _give_back(self, generation: Generation) -> None:
        with self._lock:
            generation.holders -= 1
            generation.last_used = self._clock()
            if not generation.is_idle:
                return
            generation.expires_at = generation.last_used + generation.keep_alive_s
            # Waking the keeper for every request would cost each a switch of threads.
            if generation.retired is not None or generation.expires_at < self._wakes_at:
                self._lock.notify_all()

    def _load(self, entry: Entry) -> None:
        """In a thread of its own: load for those who wait, and tell them."""
        try:
            with self._made(entry) as generation:
                with self._lock:
                    # Stopping meanwhile ends as a failure does.
                    self._require_open()
                    entry.generation = generation
                    entry.is_busy, entry.reserved, entry.failure = False, 0, None
                    entry.trouble, entry.is_trial = None, False
                    granted = entry.take_waiting(lambda keep: self._hold(entry, keep))
                    self._lock.notify_all()
        except LikewiseError as failed:
            self._load_failed(entry, failed)
            return
        self._count_in(entry, generation, "loaded")
        for future, hold in granted:
            if future.set_running_or_notify_cancel():
                future.set_result(hold)
            else:
                hold.__exit__(None, None, None)

    def _load_failed(self, entry: Entry, failed: LikewiseError) -> None:
        # Want of memory says nothing about the model: the next request tries at once.
        is_refusal = isinstance(failed, Overloaded)
        self._tell_failure(entry, failed, refused=is_refusal)
        with self._lock:
            entry.is_busy, entry.reserved = False, 0
            if not is_refusal and not entry.is_trial:
                entry.failure = failure_after(entry.failure, failed, self._clock())
            waiting, entry.waiting = entry.waiting, []
            if entry.is_trial:
                self._forget(entry, "gone")
            self._lock.notify_all()
        for future, _ in waiting:
            if future.set_running_or_notify_cancel():
                future.set_exception(failed)

    def _renew(self, entry: Entry, outcome: Future[Mapping[str, Any]]) -> None:
        """In a thread of its own: a new generation beside the old one, which it replaces."""
        began = time.perf_counter()
        try:
            with self._made(entry) as generation:
                self._loader.prove(generation.service)
                told = self._flip(entry, generation)
        except LikewiseError as failed:
            self._tell_failure(entry, failed, refused=isinstance(failed, Overloaded))
            with self._lock:
                entry.is_busy, entry.reserved, entry.trouble = False, 0, str(failed)
                self._lock.notify_all()
            outcome.set_exception(failed)
            return
        self._count_in(entry, generation, "reloaded")
        outcome.set_result({**told, "seconds": round(time.perf_counter() - began, 3)})

    def _flip(self, entry: Entry, new: Generation) -> Mapping[str, Any]:
        with self._lock:
            self._require_open()
            old = entry.generation
            differs = old is not None and old.fingerprint != new.fingerprint
            if differs and entry.bound:
                raise AdminError(
                    f"{entry.name} isn't reloaded: the binding {', '.join(entry.bound)} holds its "
                    f"vectors, and the new ones would be of another space, which can't be compared "
                    f"with them; the old one goes on",
                    param="model",
                )
            if old is not None:
                new.keep_alive_s = old.keep_alive_s
                self._retire(entry, "replaced")
            new.last_used = self._clock()
            new.expires_at = new.last_used + new.keep_alive_s
            entry.generation = new
            entry.is_busy, entry.reserved = False, 0
            entry.failure = entry.trouble = None
            self._lock.notify_all()
        return {"model": entry.name, "generation": new.number, "space_changed": differs}

    @contextlib.contextmanager
    def _made(self, entry: Entry) -> Iterator[Generation]:
        """A new generation of `entry`; closed again if the block fails. All errors are ours."""
        began = time.perf_counter()
        try:
            with contextlib.ExitStack() as undo:
                generation = self._make(entry, began)
                undo.callback(generation.service.close)
                yield generation
                undo.pop_all()
        except LikewiseError:
            raise
        except Exception as bug:
            absent = missing(bug, entry.name) if isinstance(bug, ImportError) else None
            if absent is not None:
                raise absent from bug
            _log.exception(fields("model not loaded", model=entry.name))
            raise ModelError(
                f"{entry.name} can't be loaded: {type(bug).__name__}: {bug}", param="model"
            ) from bug

    def _make(self, entry: Entry, began: float) -> Generation:
        loader, wanted = self._loader, entry.wanted
        self._require_open()
        located = loader.locate(wanted, stopping_progress(self._is_closing.is_set, None))
        if self.options.memory_budget is not None:
            self._reserve(entry, loader.estimate(located, wanted))
        self._require_open()
        with loader.copied(located, self._require_open) as folder:
            service = loader.load(folder, entry.name, wanted)
            try:
                weight = loader.weigh(service)
            except BaseException:
                service.close()
                raise
        with self._lock:
            entry.loads += 1
            return Generation(
                model=entry.name,
                number=entry.loads,
                service=service,
                folder=str(located.folder),
                origin=located.origin,
                fingerprint=_fingerprint(service),
                resident_bytes=weight,
                loaded_at=wall(),
                load_seconds=time.perf_counter() - began,
                keep_alive_s=entry.keep_alive_s(None, self.options.keep_alive_s),
                last_used=self._clock(),
            )

    def _count_in(self, entry: Entry, generation: Generation, outcome: str) -> None:
        metrics.MODEL_LOADS.labels(entry.name, outcome).inc()
        metrics.MODEL_LOAD_SECONDS.labels(entry.name).observe(generation.load_seconds)
        said = {"model": entry.name, "generation": generation.number, "folder": generation.folder}
        _log.info(fields(f"generation {outcome}", **said, seconds=generation.load_seconds))
        self._show(entry.name)

    def _tell_failure(self, entry: Entry, failed: LikewiseError, *, refused: bool) -> None:
        metrics.MODEL_LOADS.labels(entry.name, "refused" if refused else "failed").inc()
        _log.warning(fields("model not loaded", model=entry.name, error=failed))

    def _keep_house(self) -> None:
        """In a thread of its own: close what has had its time and what nobody holds any more."""
        while True:
            with self._lock:
                going = self._going()
                while not going:
                    if self._is_closing.is_set():
                        return
                    self._wakes_at = self._next_expiry()
                    wait_s = min(max(0.0, self._wakes_at - self._clock()), _LONGEST_WAIT_S)
                    self._lock.wait(wait_s)
                    going = self._going()
            for generation in going:
                self._end(generation)

    def _next_expiry(self) -> float:
        entries = [entry for entry in self._entries.values() if entry.may_go()]
        return min((e.generation.expires_at for e in entries if e.generation), default=math.inf)

    def _going(self) -> list[Generation]:
        now = self._clock()
        for entry in list(self._entries.values()):
            if entry.may_go() and entry.generation and entry.generation.expires_at <= now:
                self._retire(entry, "idle")
        going = [one for one in self._retired if one.is_idle and not one.is_ending]
        for generation in going:
            generation.is_ending = True
        return going


def _fingerprint(service: Service) -> str | None:
    return service.space.fingerprint if "vectors" in service.card.gives else None
