"""The loop that keeps vectors in step: claim, read, plan, embed, publish."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from likewise.base.clock import Clock, monotonic
from likewise.base.errors import BindingNotFound, LeaseLost, LikewiseError, SpaceMismatch
from likewise.base.locks import briefly
from likewise.base.log import fields, logger
from likewise.binding.batches import BatchRows, parts
from likewise.binding.edits import passages_of
from likewise.binding.embedding import Embedding
from likewise.binding.intake import Intake, require_meant
from likewise.binding.ledger import LEASE_SECONDS, Ledger
from likewise.binding.plan import newest, plan
from likewise.binding.reconcile import Finding, sweep, wrong
from likewise.binding.status import Status, status
from likewise.binding.upkeep import Upkeep

if TYPE_CHECKING:
    from likewise.base.bound import BoundSource, BoundTable
    from likewise.base.protocols import Embedder, Splitter
    from likewise.base.types import Action, Change, Key, Row

_TELL_SECONDS = 0.2
_log = logger("binding.worker")


@dataclass(frozen=True, slots=True)
class Options:
    """How a worker goes about it. The defaults suit a model on a CPU."""

    batch_rows: int = 128
    """Log entries claimed at a time; stopping waits for the batch at hand."""
    most_rows: int = 512
    """So many where the model needs less than `batch_seconds` for them."""
    batch_seconds: float = 1.5
    batch_chunks: int = 512
    """Passages embedded in one call."""
    commit_rows: int = 256
    """Rows published in one transaction: an application waits for no more than that."""
    commit_chunks: int = 256
    """Passages published in one transaction, but for a single row that has more."""
    depth: int = 3
    """Batches between claim and publication, so that the engine never waits for the database."""
    threads: int = 2
    """Calls to the embedder at a time: one fills the gap at the other's end."""
    poll_seconds: float = 0.02
    """How often an idle worker looks whether somebody has written."""
    idle_seconds: float = 1.0
    """How often it looks at leases and triggers although nobody has."""
    beside_seconds: float = 0.1
    """How often, while another worker has work that this one may come to share."""
    reconcile_seconds: float | None = 3600.0
    """How often source and store are compared row by row unasked; never when None."""
    lease_seconds: float = LEASE_SECONDS
    upkeep_seconds: float = 60.0
    """How often a worker that stays looks whether the store wants upkeep, such as an index."""
    first_delay: float = 0.1
    """Seconds before the first retry; they double with each."""
    longest_delay: float = 5.0
    patience_seconds: float = 60.0
    """How long `drain` goes on trying what a retry could mend."""


@dataclass(frozen=True, slots=True)
class _Batch:
    ready: tuple[Action, ...]
    embedded: Future[list[Action]]


def _nowhere(step: str) -> None:
    """The default for `at`."""


class Worker:
    """Keeps one binding in step. One thread drives it; several workers may share a binding.

    `at` is called with a name between every two steps; tests stop the process there.

    Raises:
        SpaceMismatch: `embedder` isn't of the space that `table` holds.
    """

    def __init__(
        self,
        source: BoundSource,
        table: BoundTable,
        embedder: Embedder,
        split: Splitter,
        *,
        options: Options | None = None,
        clock: Clock = monotonic,
        at: Callable[[str], None] = _nowhere,
    ) -> None:
        space = table.space
        made = embedder.space.stored_as(space.chunker, space.dtype)
        space.require(made, where=f"binding {table.name}")
        self.options = options or Options()
        self.error: str | None = None
        self._source = source
        self._table = table
        self._clock = clock
        self._at = at
        self._embedding = Embedding(
            embedder,
            split,
            most_chunks=self.options.batch_chunks,
            known=table.known,
            stored=passages_of(table),
        )
        self._ledger = Ledger(table, seconds=self.options.lease_seconds, clock=clock)
        self.intake = Intake(
            source,
            table,
            hold=self._ledger.hold,
            at=at,
            idle_seconds=self.options.idle_seconds,
            clock=clock,
        )
        self._batch = BatchRows(
            self.options.batch_rows, self.options.most_rows, seconds=self.options.batch_seconds
        )
        self._pool = ThreadPoolExecutor(self.options.threads, f"likewise-bind-{table.name}")
        self._flying: deque[_Batch] = deque()
        self._covered: dict[Key, int] = {}
        """Of each key in a batch under way, the log entry up to which that answers."""
        self._after = 0
        self._sweep: Iterator[list[Finding]] | None = None
        self._sweep_number = 0
        self._orphans = self._stored = 0
        self._swept = clock()
        self._is_beside = False

    def step(self) -> int:
        """Move on by one batch: gives how many rows were decided; 0 when there is nothing to do.

        Raises:
            LikewiseError: nothing of the batch was lost; the next call begins it anew.
        """
        self._is_beside = False
        try:
            if self._source.attach():
                self._start_over()
            self._at("attached")
            if self._table.is_paused():
                self._start_over()
                self._ledger.release()
                return 0
            if not self._has_work():
                self._ledger.release()
                self._at("released")
                return 0
            if not self._ledger.hold():
                self._start_over()
                return 0
            self._at("leased")
            self.intake.run()
            self._fill()
            if self._flying:
                return self._publish(self._flying.popleft())
            self._is_beside = self._has_work()
            if self._source.capture == "outbox" and not self._is_beside:
                # Now, not after the next pause: by then it is time to look at the outbox again.
                # Where a source is compared, giving back would look like a change of it.
                self._ledger.release()
            return 0
        except BaseException as error:
            self._ledger.failed(error)
            self._start_over()
            raise

    @briefly()
    def run(self, stop: threading.Event) -> None:
        """Stay in step until `stop` is set, or the binding is dropped or made anew.

        Whatever else goes wrong is logged, shown in `error` and in the status, and tried again.
        """
        delay = self.options.first_delay
        upkeep = Upkeep(self._table, self.options.upkeep_seconds, clock=self._clock)
        try:
            while not stop.is_set():
                try:
                    upkeep.begin_if_due()
                    stamp = self._source.stamp()
                    if self.step() == 0:
                        self._sleep(stop, stamp)
                    self._note(None)
                    delay = self.options.first_delay
                except (BindingNotFound, SpaceMismatch) as error:
                    self._note(error)
                    return
                except Exception as error:  # noqa: BLE001 - one bad batch must not end the loop
                    if stop.is_set():
                        return  # whatever was taken away while this was being stopped
                    self._note(error)
                    stop.wait(delay)
                    delay = min(2 * delay, self.options.longest_delay)
        finally:
            self.close()

    def drain(
        self,
        progress: Callable[[Status], None] | None = None,
        *,
        stop: threading.Event | None = None,
    ) -> None:
        """Work until nothing is left, telling `progress` how it stands now and then.

        What is committed while the last rows are embedded is taken in too; what comes later may be
        left to the next.

        Raises:
            LikewiseError: of a kind that a retry can't mend, or retries didn't.
        """
        stop = stop or threading.Event()
        since = self._clock()
        delay, went_well = self.options.first_delay, since
        told = went_well - _TELL_SECONDS
        while not stop.is_set():
            try:
                worked = self.step()
                delay, went_well = self.options.first_delay, self._clock()
                if worked:
                    since = went_well
            except LikewiseError as error:
                impatient = self._clock() - went_well > self.options.patience_seconds
                if impatient or not error.retryable:
                    raise
                self._note(error)
                worked = 0
                stop.wait(delay)
                delay = min(2 * delay, self.options.longest_delay)
            if progress is not None and (not worked or self._clock() - told >= _TELL_SECONDS):
                # Counting a large table takes longer than embedding a batch of it.
                progress(status(self._source, self._table))
                told = self._clock()
            if not worked:
                if self._table.is_paused():
                    break
                if not self._is_in_hand() and self.intake.is_settled(since):
                    break
                self.intake.hurry()
                stop.wait(self.options.poll_seconds)
        self._note(None)
        self._ledger.release()
        self._at("released")

    def close(self) -> None:
        """Give the lease back and end the threads; batches not yet published stay in the log."""
        self._start_over()
        self._pool.shutdown(wait=True, cancel_futures=True)
        # What can't be given back now runs out by itself.
        with suppress(LikewiseError):
            self._ledger.release()

    def _has_work(self) -> bool:
        return self._is_in_hand() or self.intake.is_due()

    def _is_in_hand(self) -> bool:
        return bool(self._flying) or self._table.has_work() or self._is_sweep_due()

    def _fill(self) -> None:
        """Keep `depth` batches between claim and publication."""
        while len(self._flying) < self.options.depth:
            limit = self._batch.rows
            changes = self._table.claim(self._after, limit=limit)
            self._at("claimed")
            if changes:
                self._after = changes[-1].seq
                if seqs := self._gathered(changes):
                    self._flying.append(self._begin(seqs))
                if len(changes) < limit:
                    # The log never runs dry under an application that doesn't rest, and the
                    # comparison that fills a new binding mustn't wait for that.
                    self._compare()
            elif not self._compare():
                if self._flying or not self._after:
                    return
                # All is published: entries that a fence left behind are before `after`.
                self._after = 0

    def _gathered(self, changes: Sequence[Change]) -> dict[Key, int]:
        """What no batch under way answers, each key once, with all that has come for it since."""
        left = [each for each in changes if each.seq > self._covered.get(each.key, 0)]
        seqs = self._table.gather(newest(left)) if left else {}
        self._covered |= seqs
        return seqs

    def _begin(self, seqs: dict[Key, int]) -> _Batch:
        """Read the rows as they are now and hand those to embed to the threads."""
        keys = list(seqs)
        stored = self._table.fingerprints(keys)
        rows = self.intake.read(keys)
        self._at("read")
        planned = plan(seqs, rows, stored)
        future = self._pool.submit(self._embedded, planned.embed)
        self._at("planned")
        return _Batch(planned.ready, future)

    def _embedded(self, rows: Sequence[tuple[Row, int]]) -> list[Action]:
        began = self._clock()
        actions = self._embedding.actions(rows)
        self._batch.took(len(rows), self._clock() - began)
        return actions

    def _publish(self, batch: _Batch) -> int:
        """Publish a batch in small transactions, in each of which the fence decides."""
        actions = [*batch.ready, *self._awaited(batch.embedded)]
        self._at("embedded")
        for part in parts(actions, self.options.commit_rows, self.options.commit_chunks):
            self._ledger.hold()
            applied = self._table.apply(part, cursor=max(action.seq for action in part))
            self._at("published")
            for action in part:
                if self._covered.get(action.key) == action.seq:
                    del self._covered[action.key]
            _log.debug(fields("published", binding=self._table.name, applied=applied))
        return len(actions)

    def _awaited(self, future: Future[list[Action]]) -> list[Action]:
        """The future's result; the lease is prolonged while it takes."""
        while True:
            try:
                return future.result(timeout=self._ledger.renew_every)
            except TimeoutError:
                if future.done():
                    raise
                self._ledger.hold()

    def _compare(self) -> bool:
        """Compare source and store a little further; True when that put something in the log."""
        if self._sweep is None:
            number = self._table.reconcile_wanted()
            if number is None and not self._is_sweep_due():
                return False
            # Of a row that is gone by now the worker finds that out.
            self._sweep = sweep(self._source, self._table, is_exact=False)
            self._sweep_number = number or 0
            self._orphans = 0
            self._stored = self._table.counts().stored if self._source.doubts_deletes else 0
        for findings in self._sweep:
            self._at("compared")
            if keys := wrong(findings):
                gone = sum(found.state == "orphan" for found in findings)
                self._orphans += gone
                require_meant(self._source, self._table, self._orphans, self._stored)
                self._table.enqueue(keys)
                return True
        self._table.reconcile_done(self._sweep_number)
        if self._source.doubts_deletes:
            self._table.allow_deletes(False)
        self._sweep, self._swept = None, self._clock()
        return False

    def _is_sweep_due(self) -> bool:
        every = self.options.reconcile_seconds
        return every is not None and self._clock() - self._swept >= every

    def _start_over(self) -> None:
        """Forget what was read ahead: the log still holds all of it."""
        for batch in self._flying:
            batch.embedded.cancel()
        self._flying.clear()
        self._covered.clear()
        self._after = 0
        self._sweep = None
        try:
            self._table.unclaim()
        except LikewiseError:
            # A worker that goes on prolonging its lease would keep it for ever.
            self._ledger.begin_anew()

    def _sleep(self, stop: threading.Event, stamp: object) -> None:
        """Wait until somebody has written since `stamp`."""
        options = self.options
        longest = options.beside_seconds if self._is_beside else options.idle_seconds
        until = self._clock() + longest
        while self._source.stamp() == stamp and self._clock() < until:
            if stop.wait(options.poll_seconds):
                return

    def _note(self, error: Exception | None) -> None:
        """Say what stands in the way, once, where the user looks: log, status and `error`."""
        text = None if error is None else f"{getattr(error, 'code', type(error).__name__)}: {error}"
        if text == self.error:
            return
        self.error = text
        if error is not None:
            surprising = not isinstance(error, LikewiseError)
            _log.warning(fields("paused", binding=self._table.name, why=text), exc_info=surprising)
        if not isinstance(error, LeaseLost):
            # The database may be what is wrong.
            with suppress(LikewiseError):
                self._table.note_error(text)
