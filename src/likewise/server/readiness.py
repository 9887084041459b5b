"""Whether a request would be answered now: not stopping, indexes filled, models that compute."""

from __future__ import annotations

import asyncio
import functools
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict

from likewise.base.clock import Clock, monotonic
from likewise.base.errors import LikewiseError, Overloaded
from likewise.base.log import fields, logger
from likewise.runtime import metrics

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Sequence

    from likewise.server.bindings import LiveBinding
    from likewise.server.seen import Seen
    from likewise.server.serving import Catalogue, Listed, Model

_log = logger("server")

IDLE_S = 30.0
"""A model that answered nobody for so long is asked something when readiness is asked for."""
PATIENCE_S = 30.0
"""How long a model may take over one word before it counts as not answering."""
FIRST_WAIT_S = 5.0
_WORD = "ready"


class Report(TypedDict):
    """The answer of `GET /ready`."""

    ready: bool
    draining: bool
    """A signal to stop came: what is accepted is answered, new requests belong elsewhere."""
    waiting_for: list[str]
    """Bindings whose index isn't filled, and models that are to be there and aren't loaded."""
    failing: dict[str, str]
    """Models that don't answer, and why."""


@dataclass(eq=False)
class _Model:
    """What is known of one model. Attributes are set from several threads, each at once."""

    answered_at: float | None = None
    failed_batches: float = 0.0
    """How many had failed when it answered last."""
    trouble: str | None = None
    asked_at: float | None = None
    """Since when it is being asked; None when it isn't."""
    first: Future[None] = field(default_factory=Future)
    """Done once it was asked for the first time."""


class Readiness:
    """Asks the models of one application; safe to use from several threads.

    Nothing is asked unless somebody wants to know (`report`), and only what answered nobody lately
    or had a batch that failed; the answer is that of the last time, and the next one's is newer.
    """

    def __init__(
        self,
        models: Catalogue,
        bindings: Sequence[LiveBinding],
        *,
        idle_s: float = IDLE_S,
        clock: Clock = monotonic,
    ) -> None:
        self._models = models
        self._bindings = bindings
        self._idle_s = idle_s
        self._clock = clock
        self._known: dict[str, _Model] = {}
        self._is_draining = False

    def drain(self) -> None:
        """Be not ready from now on: the process is about to stop."""
        self._is_draining = True

    @property
    def is_draining(self) -> bool:
        """Whether the process is about to stop."""
        return self._is_draining

    def saw(self, seen: Seen) -> None:
        """A request was answered; if a model computed for it, that is as good as asking it."""
        if seen.runs and seen.status < 400 and seen.model is not None:
            self._answered(seen.model, self._of(seen.model))

    async def report(self) -> Report:
        """What is known now; waits a little for models that were never asked."""
        waiting = [binding.name for binding in self._bindings if not binding.is_ready]
        failing: dict[str, str] = {}
        asked = []
        for listed in self._models.models():
            is_kept = listed.facts().get("pinned")
            if listed.state == "loaded" and is_kept is not False:
                asked.append(listed.name)
                self._ask_if_due(listed)
            elif is_kept:
                waiting.append(listed.name)
        firsts = [self._of(name).first for name in asked]
        if pending := [asyncio.wrap_future(each) for each in firsts if not each.done()]:
            await asyncio.wait(pending, timeout=FIRST_WAIT_S)
        for name in asked:
            if trouble := self._trouble(self._of(name)):
                failing[name] = trouble
        is_ready = not (waiting or failing or self._is_draining)
        return Report(
            ready=is_ready, draining=self._is_draining, waiting_for=waiting, failing=failing
        )

    def _of(self, name: str) -> _Model:
        return self._known.setdefault(name, _Model())

    def _trouble(self, one: _Model) -> str | None:
        asked_at = one.asked_at
        if asked_at is not None and self._clock() - asked_at > PATIENCE_S:
            return f"it was asked {self._clock() - asked_at:.0f} s ago and hasn't answered yet"
        if not one.first.done():
            return "it was asked for the first time and hasn't answered yet"
        return one.trouble

    def _ask_if_due(self, listed: Listed) -> None:
        one = self._of(listed.name)
        if one.asked_at is not None:
            return
        is_due = (
            one.answered_at is None
            or one.trouble is not None
            or self._clock() - one.answered_at > self._idle_s
            or _failed_batches(listed.name) > one.failed_batches
        )
        if is_due:
            one.asked_at = self._clock()
            leasing = self._models.lease(listed.name)
            leasing.add_done_callback(functools.partial(self._leased, listed.name, one))

    def _leased(
        self,
        name: str,
        one: _Model,
        leasing: Future[contextlib.AbstractContextManager[Model]],
    ) -> None:
        try:
            lease = leasing.result()
        except LikewiseError as refused:
            self._finished(name, one, refused)
            return
        try:
            future = _ask(lease.__enter__())
        except LikewiseError as refused:
            lease.__exit__(None, None, None)
            self._finished(name, one, refused)
            return

        def done(answer: Future[Any]) -> None:
            lease.__exit__(None, None, None)
            self._finished(name, one, answer.exception())

        future.add_done_callback(done)

    def _finished(self, name: str, one: _Model, error: BaseException | None) -> None:
        if error is None:
            self._answered(name, one)
        elif not isinstance(error, Overloaded):
            # A model with too much to do is at work.
            code = error.code if isinstance(error, LikewiseError) else "error"
            if one.trouble is None:
                _log.error(fields("not ready", model=name, error=error))
            one.trouble = f"{code}: {error}"
        one.asked_at = None
        _done(one.first)

    def _answered(self, name: str, one: _Model) -> None:
        if one.trouble is not None:
            _log.warning(fields("ready again", model=name))
        one.failed_batches = _failed_batches(name)
        one.answered_at = self._clock()
        one.trouble = None
        _done(one.first)


def _done(first: Future[None]) -> None:
    if not first.done():
        first.set_result(None)


def _ask(model: Model) -> Future[Any]:
    """A forward of one word that no cache answers."""
    gives = model.info().get("gives", ["vectors"])
    outputs = [one for one in gives if one != "scores"]
    if outputs:
        return model.submit_all([_WORD], gives=outputs[:1], dialect="ready")
    return model.submit_pairs([(_WORD, _WORD)], dialect="ready")


def _failed_batches(model: str) -> float:
    """How many batches of `model` have failed since the process began."""
    return sum(
        sample.value
        for family in metrics.FAILED_BATCHES.collect()
        for sample in family.samples
        if sample.name.endswith("_total") and sample.labels["model"] == model
    )
