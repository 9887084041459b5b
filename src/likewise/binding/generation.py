"""From one generation to the next: built beside the current one, verified, cut over; and back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from likewise.base.clock import Clock, monotonic
from likewise.base.errors import BindingError, BindingExists, BindingNotFound, SettingsError
from likewise.base.log import fields, logger
from likewise.binding.reconcile import differing, verify

if TYPE_CHECKING:
    from likewise.base.bindings import Bindings
    from likewise.base.bound import BindingRecord, BoundSource, BoundTable, GenerationState, Parked
    from likewise.base.space import Space
    from likewise.base.spec import BindingSpec
    from likewise.base.types import Audit, Shape
    from likewise.binding.status import Status
    from likewise.binding.worker import Worker

PATIENCE_SECONDS = 60.0
"""How long verifying is tried again, and at least so many times:"""
PATIENCE_ROUNDS = 5
FEW = 100
"""So many changes may wait at a cut-over whatever the size of the table: others write meanwhile."""
_SHOWN = 3
_log = logger("binding.generation")


def begin(bindings: Bindings, spec: BindingSpec, shape: Shape, space: Space) -> BindingRecord:
    """The generation to be built: a new one, or the one that was begun for the very same.

    Raises:
        SettingsError: `spec` and `space` are those of the current generation.
        BindingExists: one is being built for something else, or a previous one is still kept.
        BindingNotFound: there is no such binding.
    """
    there = bindings.generations(spec.name)
    for each in there:
        if each.state == "building":
            if is_same(each, spec, space):
                return each
            raise BindingExists(
                f"binding {spec.name}: a swap to {described(each)} is under way already; go on with"
                f" it by 'likewise bind swap {spec.name}', or give it up with '--abort'"
            )
    if is_same(current_of(there), spec, space):
        raise SettingsError(
            f"binding {spec.name}: nothing to change; it has the vectors of "
            f"{described(current_of(there))} already",
            param="model",
        )
    for each in there:
        if each.state == "previous":
            raise BindingExists(
                f"binding {spec.name}: the generation before ({described(each)}) is still kept, to "
                f"go back to; drop it with 'likewise bind finish {spec.name}' before the next swap"
            )
    return bindings.add_generation(spec, shape, space)


def is_same(record: BindingRecord, spec: BindingSpec, space: Space) -> bool:
    """Whether a generation holds what `spec` and `space` ask for; a model's name is a label."""
    return record.space.fingerprint == space.fingerprint and record.spec.text == spec.text


def current_of(generations: list[BindingRecord]) -> BindingRecord:
    """The generation that answers."""
    return next(each for each in generations if each.state == "current")


def previous_of(generations: list[BindingRecord]) -> BindingRecord:
    """The generation to go back to.

    Raises:
        BindingNotFound: there is none.
    """
    for each in reversed(generations):
        if each.state == "previous":
            return each
    name = generations[0].spec.name
    raise BindingNotFound(f"binding {name} has no generation before this one to go back to")


def building_of(generations: list[BindingRecord]) -> BindingRecord:
    """The generation that is being built.

    Raises:
        BindingNotFound: none is.
    """
    for each in generations:
        if each.state == "building":
            return each
    name = generations[0].spec.name
    raise BindingNotFound(f"binding {name}: no swap is under way")


def described(record: BindingRecord) -> str:
    """A generation in words."""
    spec = record.spec
    return f"{record.space.model}, {spec.chunk}, {spec.dtype}, text {spec.text!r}"


def _nowhere(step: str) -> None:
    """The default for `at`."""


def cut_over(
    bindings: Bindings,
    record: BindingRecord,
    expected: GenerationState,
    *,
    at: Callable[[str], None] = _nowhere,
) -> None:
    """Make it the current one, in one transaction, if it is in the state that is `expected`.

    Raises:
        BindingNotFound: it is gone.
        BindingError: somebody else made it something else meanwhile.
    """
    name, number = record.spec.name, record.generation
    states = {each.generation: each for each in bindings.generations(name)}
    found = states.get(number)
    if found is None or found.created != record.created:
        raise BindingNotFound(f"binding {name}: generation {number} was dropped meanwhile")
    if found.state == "current":
        return
    if found.state != expected:
        raise BindingError(f"binding {name}: generation {number} is {found.state} now; look again")
    at("cutting over")
    bindings.cut_over(name, number)
    at("cut over")
    _log.info(fields("cut over", binding=name, generation=number))


class Swap:
    """Makes one generation of a binding the current one. One thread drives it.

    Both generations follow what is written all the time, each with a log of its own; nothing of the
    current one is touched until the single transaction that cuts over. Whenever it is left off, or
    killed, the next `run` goes on.

    `worker` works on `source` and `table`, the generation that is to become current; `current` is
    the table of the one that is. `at` is called with a name between every two steps.
    """

    def __init__(
        self,
        bindings: Bindings,
        source: BoundSource,
        table: BoundTable,
        worker: Worker,
        *,
        current: BoundTable,
        allow_parked: bool = False,
        patience_seconds: float = PATIENCE_SECONDS,
        clock: Clock = monotonic,
        at: Callable[[str], None] = _nowhere,
    ) -> None:
        self._bindings = bindings
        self._source = source
        self._table = table
        self._worker = worker
        self._current = current
        self._allow_parked = allow_parked
        self._patience_seconds = patience_seconds
        self._clock = clock
        self._at = at
        self.record = table.record

    def run(
        self,
        progress: Callable[[Status], None] | None = None,
        *,
        stop: threading.Event | None = None,
    ) -> Audit | None:
        """Build, verify until that finds nothing wrong, and cut over; gives what was found.

        None when `stop` was set before that: the next run goes on.

        Raises:
            BindingError: it can't be cut over to; what is built stays, and nothing else changed.
            LikewiseError: the worker can't go on.
        """
        stop = stop or threading.Event()
        rounds, began = 0, self._clock()
        while self.level(progress, stop=stop):
            self._at("level")
            audit = verify(self._source, self._table, repair=False)
            lacking = self._lacking()
            self._at("verified")
            if not lacking and self._is_good(audit, stop):
                if not self._allow_parked:
                    self._require_no_more_parked()
                self.cut_over("building")
                return audit
            rounds += 1
            if rounds >= PATIENCE_ROUNDS and self._clock() - began > self._patience_seconds:
                raise BindingError(self._why_not(audit, lacking))
            verify(self._source, self._table, repair=True)
        return None

    def level(
        self,
        progress: Callable[[Status], None] | None = None,
        *,
        stop: threading.Event | None = None,
    ) -> bool:
        """Work until all that had been written when this was called is published.

        False when `stop` was set before that.

        Raises:
            BindingError: the binding is paused.
            LikewiseError: the worker can't go on.
        """
        stop = stop or threading.Event()
        self._source.attach()
        # Its own event: it ends the work also where others write so fast that the log is never
        # empty.
        done = threading.Event()
        barrier = _Barrier(self._source, self._table, self._worker)

        def look(now: Status) -> None:
            if progress is not None:
                progress(now)
            if stop.is_set() or barrier.is_passed():
                done.set()

        self._worker.drain(look, stop=done)
        if stop.is_set():
            return False
        if self._table.is_paused():
            name = self.record.spec.name
            raise BindingError(
                f"binding {name} is paused; let it go on with 'likewise bind resume {name}', then "
                "try again"
            )
        return True

    def regain(self) -> None:
        """Work off what a generation has missed, until it has vectors for all that can be found.

        Raises:
            BindingError: the binding is paused, or rows change faster than they are embedded.
            LikewiseError: the worker can't go on.
        """
        rounds, began = 0, self._clock()
        while self.level() and (lacking := self._lacking()):
            rounds += 1
            if rounds >= PATIENCE_ROUNDS and self._clock() - began > self._patience_seconds:
                raise BindingError(self._why_lacking(lacking))

    def cut_over(self, expected: GenerationState) -> None:
        """See `cut_over`."""
        cut_over(self._bindings, self.record, expected, at=self._at)

    def _is_good(self, audit: Audit, stop: threading.Event) -> bool:
        most = max(FEW, audit.rows // 100, self._current.counts().waiting)
        if audit.pending > most:
            return False
        return audit.is_clean or (self._source.capture == "scan" and self._is_moving(stop))

    def _lacking(self) -> int:
        """How many rows can be found now, and couldn't any more after the cut-over.

        A change is also answered, without a vector, when there is a newer one of the same row. So
        all that was written may be published, and a row that changes all the time have nothing.
        """
        has = set(self._table.fingerprints())
        has.update(each.key for each in self._current.parked(None))
        lacking = [key for key in self._current.fingerprints() if key not in has]
        return len(self._source.read(lacking)) if lacking else 0

    def _is_moving(self, stop: threading.Event) -> bool:
        """Whether what differs is only what somebody has just written.

        A source without a log can't say which of its rows wait: a difference counts that is there
        again after everything was compared and worked off.
        """
        before = differing(self._source, self._table)
        if not self.level(stop=stop):
            return False
        return not before & differing(self._source, self._table)

    def _why_lacking(self, lacking: int) -> str:
        name = self.record.spec.name
        return (
            f"binding {name}: {lacking:,} rows that can be found now have no vectors in generation "
            f"{self.record.generation}, as they change faster than they are embedded. The other "
            "one still answers; try again when less is written"
        )

    def _why_not(self, audit: Audit, lacking: int) -> str:
        name = self.record.spec.name
        if lacking and audit.is_clean:
            given_up = f"or give it up with 'likewise bind swap {name} --abort'"
            return f"{self._why_lacking(lacking)}, {given_up}"
        if audit.is_clean:
            return (
                f"binding {name}: {audit.pending:,} changes wait in the new generation: it doesn't "
                "keep up with what is written. The old one still answers; try again when less is "
                f"written, or give it up with 'likewise bind swap {name} --abort'"
            )
        shown = "; ".join(audit.details[:_SHOWN])
        return (
            f"binding {name}: the new generation isn't right ({audit.missing} missing, "
            f"{audit.stale} stale, {audit.orphan} left over: {shown}) however often it is mended. "
            f"The old one still answers; see 'likewise bind verify {name}'"
        )

    def _require_no_more_parked(self) -> None:
        """Raise if rows that have vectors now would have none."""
        parked = {each.key: each for each in self._table.parked(None)}
        before = {each.key for each in self._current.parked(None)}
        held = self._current.fingerprints([key for key in parked if key not in before])
        lost: list[Parked] = [parked[key] for key in held]
        if not lost:
            return
        name = self.record.spec.name
        shown = "; ".join(
            f"{'/'.join(map(repr, each.key))}: {each.error}" for each in lost[:_SHOWN]
        )
        raise BindingError(
            f"binding {name}: {len(lost):,} rows that can be found now can't be embedded by "
            f"{self.record.space.model} ({shown}). The old generation still answers; cut over all "
            f"the same with 'likewise bind swap {name} --allow-parked', or give it up with "
            "'--abort'"
        )


class _Barrier:
    """Whether all that had been written when it was made is published by now.

    First it must be in the log, then out of it, and the comparison asked for must have been made.
    """

    def __init__(self, source: BoundSource, table: BoundTable, worker: Worker) -> None:
        self._source = source
        self._table = table
        self._intake = worker.intake
        self._outbox = source.tail()
        self._scans = worker.intake.scans
        self._log: int | None = None

    def is_passed(self) -> bool:
        """Whether it is so; cheap."""
        if self._log is None and self._is_taken_in():
            self._log = self._table.tail()
        if self._log is None or not self._table.is_past(self._log):
            return False
        return not self._table.counts().is_reconciling

    def _is_taken_in(self) -> bool:
        if self._source.capture == "scan":
            return self._intake.scans > self._scans or not self._intake.is_behind()
        return self._source.is_past(self._outbox)
