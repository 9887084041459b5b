"""A binding that is being served: every generation of it is worked on, exactly one answers."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from likewise.base.clock import monotonic
from likewise.base.errors import (
    BindingNotFound,
    DatabaseLocked,
    InputError,
    LikewiseError,
    NotYetSearchable,
)
from likewise.base.locks import briefly
from likewise.base.log import fields, logger
from likewise.base.spec import without_password
from likewise.server.databases import clean_up
from likewise.server.generations import (
    FOLLOW_EVERY_S,
    RETRY_S,
    LiveGeneration,
    Models,
    Stopped,
    splitter,
)
from likewise.stores.names import open_bindings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from likewise.base.bound import BindingRecord, BoundSource, BoundTable
    from likewise.base.types import Freshness, Result
    from likewise.binding.status import Status

_log = logger("server.bindings")

_SWITCH_S = 5.0
"""How long a search waits for the generation that took the place of the one it was asking."""
_TRIES = 3
WAIT_S = 5.0
"""How long a search that waits does so, unless it is told."""
_PASSES = 2
"""The index of the new current generation is looked through once more, from beginning to end,
after it is known to be current."""


def _nothing(record: BindingRecord) -> str | None:
    """The default for `notice`."""
    return None


def _kept(model: str) -> None:
    """The default for `release`."""


class LiveBinding:
    """One binding in this process: `start` its threads, `search` it, `stop` it.

    Generations come, go and are cut over in the database, whoever does it; here that is followed.
    `models` gives the model of each. What `notice` says of the current generation is shown as
    trouble, and `release` is told of models that no generation uses any more. A binding that isn't
    `is_searchable` is only worked on.

    Raises:
        SpaceMismatch: the binding's vectors are of another model or setting than `models` gives.
    """

    def __init__(
        self,
        record: BindingRecord,
        models: Models,
        *,
        is_searchable: bool = True,
        notice: Callable[[BindingRecord], str | None] = _nothing,
        release: Callable[[str], None] = _kept,
    ) -> None:
        self.name = record.spec.name
        self._models = models
        self._is_searchable = is_searchable
        self._notice = notice
        self._release = release
        self._bindings = open_bindings(record.spec.store_address)
        self._stopping = threading.Event()
        self._switched = threading.Condition()
        self._minder = threading.Thread(target=self._mind, name=f"{self.name}-minder", daemon=True)
        self._looking_error: str | None = None
        self._to_come: tuple[LiveGeneration, int] | None = None
        self.gone: BindingNotFound | None = None
        """Set once the database no longer has the binding."""
        try:
            self._serving = LiveGeneration(record, models, is_searchable=is_searchable)
        except BaseException:
            self._bindings.close()
            raise
        self._live = {self._serving.id: self._serving}
        try:
            self._serving.prepare()
        except LikewiseError as failed:
            # An endpoint may be out of reach just now: its own thread tries again.
            if not failed.retryable:
                self.stop()
                raise
            self._serving.unprepared = failed

    @property
    def record(self) -> BindingRecord:
        """The generation that answers."""
        return self._serving.record

    @property
    def table_name(self) -> str:
        """What is bound, as the source spells it."""
        return self.record.spec.table

    @property
    def bound_to(self) -> str:
        """The same for people: `table notes`, or the address of what has no tables."""
        spec = self.record.spec
        if spec.table:
            return f"table {spec.table}"
        shown = without_password(spec.source)
        return f"a query of {shown}" if spec.query else shown

    @property
    def source(self) -> BoundSource:
        """Of the generation that answers."""
        return self._serving.source

    @property
    def table(self) -> BoundTable:
        """Of the generation that answers."""
        return self._serving.table

    def start(self) -> None:
        """Keep vectors in step with rows, and the index in step with vectors, from now on."""
        self._serving.start()
        self._minder.start()

    def catch_up(self) -> None:
        """Bring the index up to what is stored, once; for a process that only asks.

        Raises:
            DatabaseError: the file can't be read.
        """
        self._serving.catch_up()

    def begin_stop(self) -> None:
        """Let nothing new begin; what fails from now on isn't trouble."""
        self._stopping.set()
        for each in list(self._live.values()):
            each.begin_stop()

    def stop(self) -> None:
        """Finish the batch at hand, give the lease back, close the files."""
        self._stopping.set()
        if self._minder.is_alive():
            self._minder.join()
        for each in self._live.values():
            each.stop()
        self._bindings.close()

    @property
    def is_ready(self) -> bool:
        """Whether the index holds what was stored when this process began."""
        return self._serving.is_ready

    def is_followed(self) -> bool:
        """Whether the index holds all that is published by now."""
        return self._serving.is_followed()

    @property
    def trouble(self) -> str | None:
        """What keeps vectors or index from following, in words; None when nothing does."""
        serving = self._serving
        if self.gone is not None:
            return str(self.gone)
        others = [
            f"generation {each.record.generation}: {each.trouble}"
            for each in list(self._live.values())
            if each is not serving and each.trouble
        ]
        return (
            serving.trouble
            or self._looking_error
            or ("; ".join(others) or None)
            or self._notice(serving.record)
        )

    @briefly()
    def search(
        self, text: str, k: int = 10, *, freshness: Freshness = "any", wait_s: float = WAIT_S
    ) -> list[Result]:
        """The `k` rows nearest to `text`, best first, as the source has them now.

        All of an answer comes from one generation: its model, its index, its text. `freshness`:
        `any` vector that is there, only those of rows' present texts (`fresh`), or `wait` for at
        most `wait_s` seconds until all that was committed before the call is searchable.

        Raises:
            InputError: `text` is empty, or `k` is out of range.
            NotYetSearchable: it took longer.
            DatabaseError: the rows can't be read.
        """
        deadline, until = monotonic() + RETRY_S, monotonic() + wait_s
        while not self.is_ready and monotonic() < deadline and self._minder.is_alive():
            self._stopping.wait(FOLLOW_EVERY_S)
        tries = 0
        while True:
            serving = self._serving
            try:
                return serving.search(text, k, freshness=freshness, until=until)
            except Stopped:
                if self._stopping.is_set():
                    raise BindingNotFound(f"binding {self.name} is served no more") from None
            except (InputError, NotYetSearchable):
                raise
            except DatabaseLocked:
                # Such as a deadlock with whoever drops a generation: the whole search begins anew.
                tries += 1
                if tries == _TRIES:
                    raise
            except LikewiseError:
                # It may have been cut over and finished in the moment before.
                if not self._is_replaced(serving):
                    raise

    @briefly()
    def status(self) -> Status:
        """How far the vectors have followed the rows.

        Raises:
            DatabaseError: the file can't be read.
            SchemaDrift: the table or a column is gone.
        """
        return self._serving.status()

    @briefly()
    def state(self) -> dict[str, Any]:
        """The binding's state for people and programs; with `error` when it can't be read."""
        serving = self._serving
        states = {id(each): each.state() for each in list(self._live.values())}
        own = states.get(id(serving)) or serving.state()
        about = {
            "name": self.name,
            "source": serving.record.spec.source,
            "table": serving.record.spec.table,
            "key": list(serving.record.spec.key),
            "generations": [
                _brief(each, states[id(each)])
                for each in list(self._live.values())
                if id(each) in states
            ],
        }
        return own | about | {"error": self.trouble or own.get("error")}

    @briefly()
    def _mind(self) -> None:
        """Follow what the database says of the binding's generations."""
        while not self._stopping.is_set():
            wait_s = FOLLOW_EVERY_S
            try:
                self._look()
                self._looking_error = None
                self.gone = None
            except BindingNotFound as gone:
                if self.gone is None:
                    _log.error(fields("binding gone", binding=self.name, error=gone))
                    self._leave_nothing()
                self.gone, wait_s = gone, RETRY_S
            except Exception as failed:  # noqa: BLE001 - whatever it is, it must not end the loop
                if str(failed) != self._looking_error:
                    surprising = not isinstance(failed, LikewiseError)
                    _log.warning(
                        fields("can't see generations", binding=self.name, error=failed),
                        exc_info=surprising,
                    )
                self._looking_error, wait_s = str(failed), RETRY_S
            self._stopping.wait(wait_s)

    def _look(self) -> None:
        found = {(each.generation, each.created): each for each in self._generations()}
        for key, record in found.items():
            there = self._live.get(key)
            if there is not None:
                there.record = record
                continue
            made = LiveGeneration(record, self._models, is_searchable=self._is_searchable)
            self._live = self._live | {key: made}
            made.start()
            _log.info(fields("generation", binding=self.name, number=record.generation))
        self._switch(found)
        for key, each in list(self._live.items()):
            if key not in found and each is not self._serving:
                self._live = {k: v for k, v in self._live.items() if k != key}
                self._remove(each)

    def _remove(self, gone: LiveGeneration) -> None:
        gone.stop()
        clean_up(gone.record)
        if gone.model not in {each.model for each in self._live.values()}:
            self._release(gone.model)

    def _generations(self) -> Iterable[BindingRecord]:
        return self._bindings.generations(self.name)

    def _switch(self, found: dict[tuple[int, float], BindingRecord]) -> None:
        """Let the current generation answer, as soon as it can."""
        current = next(
            (self._live[key] for key, record in found.items() if record.state == "current"), None
        )
        if current is None or current is self._serving:
            self._to_come = None
            return
        if self._to_come is None or self._to_come[0] is not current:
            self._to_come = current, current.passes
        is_filled = not self._is_searchable or current.passes >= self._to_come[1] + _PASSES
        if current.is_ready and is_filled:
            with self._switched:
                self._serving, self._to_come = current, None
                self._switched.notify_all()
            _log.info(
                fields(
                    "answers come from",
                    binding=self.name,
                    generation=current.record.generation,
                    model=current.record.space.model,
                )
            )

    def _is_replaced(self, serving: LiveGeneration) -> bool:
        """Whether another generation answers now, or will in a moment as `serving` is gone."""
        if self._serving is not serving:
            return True
        if not self._minder.is_alive():
            return False
        try:
            found = {(each.generation, each.created) for each in self._generations()}
        except LikewiseError:
            return False
        with self._switched:
            return serving.id not in found and self._switched.wait_for(
                lambda: self._serving is not serving, _SWITCH_S
            )

    def _leave_nothing(self) -> None:
        """Who drops a binding takes its triggers off; a worker may have put them back since."""
        for each in list(self._live.values()):
            clean_up(each.record)


def _brief(live: LiveGeneration, state: dict[str, Any]) -> dict[str, Any]:
    """One generation among those of a binding."""
    wanted = (
        "generation",
        "model",
        "chunk",
        "text",
        "ready",
        "rows",
        "current",
        "pending",
        "parked",
        "coverage",
        "lag_seconds",
        "rows_per_second",
        "seconds_left",
        "error",
    )
    found = {name: state[name] for name in wanted if name in state}
    return {"state": live.record.state, "work": state["state"], **found}


__all__ = ["LiveBinding", "LiveGeneration", "Models", "splitter"]
