"""One generation of a binding in this process: its model, its worker, its index, searches of it."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from likewise.base.clock import monotonic
from likewise.base.errors import BindingError, LikewiseError, NotYetSearchable
from likewise.base.extras import missing
from likewise.base.locks import briefly
from likewise.base.log import fields, logger
from likewise.binding.arrival import Arrival, newest
from likewise.binding.canary import require_same_model
from likewise.binding.status import Meter, Status, status
from likewise.binding.worker import Worker
from likewise.search.exact import ExactIndex
from likewise.search.follow import Follower
from likewise.search.query import search
from likewise.server.databases import open_ends
from likewise.sources.names import open_source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from likewise.base.bound import BindingRecord
    from likewise.base.protocols import BoundModel, Splitter
    from likewise.base.space import Space
    from likewise.base.spec import BindingSpec
    from likewise.base.types import Freshness, Kind, Result, Vectors

Models = Callable[[str], "BoundModel"]
"""The model that a binding's spec names, loaded; it may take as long as a download."""

FOLLOW_EVERY_S = 0.03
"""How often the index looks for what was published: a query of a few microseconds."""
RETRY_S = 1.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.003, 0.25
"""Between two looks of a search that waits."""
_LONGEST_RETRY_S = 30.0
_log = logger("server.generations")


class Asking:
    """The model, for queries: in the lane of those who wait for an answer."""

    def __init__(self, service: BoundModel) -> None:
        self._service = service

    @property
    def space(self) -> Space:
        """The space its vectors lie in."""
        return self._service.space

    def embed(self, texts: Sequence[str], *, kind: Kind = "document") -> Vectors:
        """Vectors of `texts`."""
        return self._service.embed(texts, kind=kind, lane="interactive")


def splitter(service: BoundModel, spec: BindingSpec) -> Splitter:
    """What cuts the binding's texts into passages.

    Raises:
        SettingsError: the model doesn't read passages of that size.
    """
    return service.splitter(spec.chunk)


class Stopped(Exception):
    """This generation answers no more: ask the one that does."""


class LiveGeneration:
    """A generation that is worked on; with an index, unless it is only to be worked on.

    Its model is loaded by its own thread: one that can't be loaded disturbs no other generation.
    """

    def __init__(
        self, record: BindingRecord, models: Models, *, is_searchable: bool = True
    ) -> None:
        self.record = record
        self.name = record.spec.name
        self.model = record.spec.model
        """The name by which its model was asked for; an endpoint that moves gets another."""
        self.worker: Worker | None = None
        self.passes = 0
        """How often the index was brought up to what is stored."""
        self._models = models
        self._is_searchable = is_searchable
        self.source, self.table = open_ends(record)
        self._index = ExactIndex(record.space)
        self._follower = Follower(self.table, self._index)
        self._meter = Meter()
        self._asking: Asking | None = None
        self._preparing = threading.Lock()
        self._is_loading = False
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._searches = 0
        self._searched = threading.Condition()
        self._ended: str | None = None
        self.unprepared: LikewiseError | None = None
        """Why the model can't be asked yet."""
        self._following_error: str | None = None

    @property
    def id(self) -> tuple[int, float]:
        """What tells it from every other: a number may come again after a swap was given up."""
        return self.record.generation, self.record.created

    @property
    def is_ready(self) -> bool:
        """Whether it can answer: the model is there, and the index has been filled."""
        return self._asking is not None and (self.passes > 0 or not self._is_searchable)

    @property
    def indexed(self) -> int:
        """Rows in the index."""
        return self._index.rows

    @property
    def version(self) -> int:
        """The last publication that the index holds."""
        return self._follower.version

    @property
    def trouble(self) -> str | None:
        """What keeps vectors or index from following, in words; None when nothing does."""
        unprepared = None if self.unprepared is None else str(self.unprepared)
        working = None if self.worker is None else self.worker.error
        return self._ended or unprepared or working or self._following_error

    def prepare(self) -> None:
        """Load the model, and see that it is the one that made the vectors.

        Raises:
            SpaceMismatch: it isn't.
            LikewiseError: it can't be loaded or asked.
        """
        with self._preparing:
            if self.worker is not None or self._stopping.is_set():
                return
            self._is_loading = True
            try:
                self.model = self.record.spec.model
                service = self._models(self.model)
            finally:
                self._is_loading = False
            if self._stopping.is_set():
                return
            split = splitter(service, self.record.spec)
            worker = Worker(self.source, self.table, service, split)
            try:
                require_same_model(self.table, service)
            except BaseException:
                worker.close()
                raise
            self.worker, self._asking = worker, Asking(service)

    def start(self) -> None:
        """Keep vectors in step with rows, and the index in step with vectors, from now on."""
        works = [("worker", self._work)]
        if self._is_searchable:
            works.append(("follower", self._follow))
        for name, work in works:
            label = f"{self.name}-{self.record.generation}-{name}"
            thread = threading.Thread(target=work, name=label, daemon=True)
            self._threads.append(thread)
            thread.start()

    def begin_stop(self) -> None:
        """Let nothing new begin."""
        self._stopping.set()

    def stop(self) -> None:
        """Finish the batch and the searches at hand, give the lease back, close the ends."""
        self._stopping.set()
        for thread in self._threads:
            # A download may take an hour; its thread sees that it isn't wanted any more.
            while thread.is_alive() and not self._is_loading:
                thread.join(FOLLOW_EVERY_S)
        with self._searched:
            self._searched.wait_for(lambda: self._searches == 0)
        if self.worker is not None:
            self.worker.close()
        self.source.close()
        self.table.close()

    def catch_up(self) -> None:
        """Bring the index up to what is stored, once.

        Raises:
            DatabaseError: the store can't be read.
        """
        self._follower.catch_up()
        self.passes += 1

    def is_followed(self) -> bool:
        """Whether the index holds all that is published by now."""
        seen = self._follower.version
        feed = self.table.published(seen, limit=1)
        return self.is_ready and not feed.reset and feed.version == seen

    def search(
        self, text: str, k: int, *, freshness: Freshness = "any", until: float = 0.0
    ) -> list[Result]:
        """The `k` rows nearest to `text`, by this generation's model and vectors alone.

        With `wait`, what was committed before the call is searchable, or it raises at `until`, a
        moment of the monotonic clock.

        Raises:
            Stopped: it was stopped.
            NotYetSearchable: it took too long.
            LikewiseError: the model can't be asked, or the rows can't be read.
        """
        with self._used():
            if freshness == "wait":
                self._wait(until)
            asking = self._asking
            if asking is None:
                raise self.unprepared or BindingError(
                    f"binding {self.name}: the model {self.record.space.model} is being loaded; "
                    "try again in a moment"
                )
            version = self._follower.version
            return search(
                asking,
                self._index,
                self.source,
                self.table,
                text,
                k,
                fresh_only=freshness == "fresh",
                version=version,
            )

    def _wait(self, until: float) -> None:
        """Until all that is committed by now is searchable, or parked."""
        with contextlib.ExitStack() as cleanup:
            source = self.source
            if source.capture == "scan":
                # The worker's own may be in the midst of a comparison.
                source = open_source(self.record.spec, generation=self.record.generation)
                cleanup.callback(source.close)
            self._until(Arrival(source, self.table).is_published, until)
        version = newest(self.table, self._follower.version)
        self._until(lambda: self._has_followed(version), until)

    def _has_followed(self, version: int) -> bool:
        if not self._threads:
            self.catch_up()
        return self._follower.version >= version

    def _until(self, check: Callable[[], bool], until: float) -> None:
        pause = _FIRST_PAUSE_S
        while True:
            began, trouble = monotonic(), self.trouble
            try:
                if check():
                    return
            except LikewiseError as failed:
                if not failed.retryable:
                    raise
                trouble = str(failed)
            now = monotonic()
            if now >= until:
                if trouble is None and self.table.is_paused():
                    trouble = "it is paused"
                raise NotYetSearchable(
                    f"binding {self.name}: what was written before this search isn't searchable "
                    "within the time that was given; "
                    + (f"in the way: {trouble}" if trouble else "give it more, or ask with 'any'")
                )
            pause = min(max(1.5 * pause, 2 * (now - began)), _LONGEST_PAUSE_S)
            if self._stopping.wait(min(pause, until - now)):
                raise Stopped

    def status(self) -> Status:
        """How far the vectors have followed the rows."""
        return status(self.source, self.table)

    def state(self) -> dict[str, Any]:
        """How it stands, for people and programs; with `error` when that can't be read."""
        about: dict[str, Any] = {
            "generation": self.record.generation,
            "model": self.record.space.model,
            "chunk": self.record.spec.chunk,
            "text": self.record.spec.text,
            "ready": self.is_ready,
            "indexed": self.indexed,
            "version": self.version,
        }
        try:
            now = self.status()
        except LikewiseError as failed:
            return {"state": "waiting", **about, "error": str(failed)}
        rate, left = self._meter.rate(now), self._meter.left(now)
        seen = dataclasses.asdict(now) | {"coverage": now.coverage}
        seen |= {"rows_per_second": round(rate, 1), "seconds_left": left}
        return seen | about | {"error": self.trouble or now.error}

    @contextlib.contextmanager
    def _used(self) -> Iterator[None]:
        with self._searched:
            if self._stopping.is_set():
                raise Stopped
            self._searches += 1
        try:
            yield
        finally:
            with self._searched:
                self._searches -= 1
                self._searched.notify_all()

    def _work(self) -> None:
        try:
            if self._is_prepared() and self.worker is not None:
                self.worker.run(self._stopping)
        except LikewiseError as failed:
            self._ended = str(failed)
            _log.error(fields("worker ended", binding=self.name, error=failed))

    def _is_prepared(self) -> bool:
        """Prepare, again and again until it works or is wanted no more."""
        delay = RETRY_S
        while not self._stopping.is_set():
            try:
                self.prepare()
            except Exception as error:  # noqa: BLE001 - a bad model must not go unseen
                failed = error
                if isinstance(error, ImportError):
                    failed = missing(error, f"binding {self.name}") or error
                if str(failed) != str(self.unprepared):
                    _log.warning(
                        fields(
                            "can't begin",
                            binding=self.name,
                            generation=self.record.generation,
                            error=failed,
                        ),
                        exc_info=not isinstance(failed, LikewiseError),
                    )
                self.unprepared = (
                    failed if isinstance(failed, LikewiseError) else BindingError(repr(failed))
                )
                self._stopping.wait(delay)
                delay = min(2 * delay, _LONGEST_RETRY_S)
            else:
                self.unprepared = None
                return not self._stopping.is_set()
        return False

    @briefly()
    def _follow(self) -> None:
        while not self._stopping.is_set():
            wait_s = FOLLOW_EVERY_S
            try:
                self.catch_up()
                self._following_error = None
            except LikewiseError as failed:
                if self._following_error != str(failed):
                    _log.warning(fields("index waits", binding=self.name, error=failed))
                self._following_error = str(failed)
                wait_s = RETRY_S
            self._stopping.wait(wait_s)
