"""Serving a request: which model answers to a name, in which lane, by when; and waiting for it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar, cast

from likewise.base.clock import monotonic
from likewise.base.errors import InputError
from likewise.runtime.naming import resolved, with_short_names
from likewise.server import token_ids
from likewise.server.catalogue import Catalogue as Catalogue
from likewise.server.catalogue import Listed as Listed
from likewise.server.choosing import choose
from likewise.server.routing import dialect_of_scope
from likewise.server.seen import Run

if TYPE_CHECKING:
    from starlette.requests import Request

    from likewise.base.types import Lane
    from likewise.models.locate import Located
    from likewise.runtime.service import Service
    from likewise.server.choosing import Need

    Model = Service
    """A loaded model."""

INTERACTIVE_INPUTS = 4
"""Requests of at most this many inputs go before bulk work."""
LANE_HEADER = "x-likewise-lane"
TIMEOUT_HEADER = "x-likewise-timeout-ms"

_LONGEST_TIMEOUT_MS = 24 * 3600 * 1000
_INLINE_CHARACTERS = 4_000
"""Text that is cut into tokens where requests are read: a quarter of a millisecond of it."""
_PATIENCE_S = 0.05
"""How long a request is computed before anybody looks whether its client is still there."""
T = TypeVar("T")


class Fixed:
    """A catalogue of models that are loaded and stay; short names work where only one has it."""

    def __init__(self, models: Mapping[str, Model]) -> None:
        self._models = dict(models)
        self._by_name = with_short_names(self._models)

    def models(self) -> Sequence[Listed]:
        """All of them."""
        return [_Loaded(name, model) for name, model in self._models.items()]

    def resolve(self, name: str | None) -> str:
        """The full name of the model called `name`; raises as `Catalogue.resolve` does."""
        return resolved(name, self._models, self._by_name)

    def lease(
        self, name: str, *, keep_alive_s: float | None = None
    ) -> Future[contextlib.AbstractContextManager[Model]]:
        """The model, at once."""
        del keep_alive_s
        ready: Future[contextlib.AbstractContextManager[Model]] = Future()
        ready.set_result(contextlib.nullcontext(self._models[name]))
        return ready


class _Loaded:
    """A model of `Fixed`."""

    aliases: Sequence[str] = ()
    state = "loaded"

    def __init__(self, name: str, model: Model) -> None:
        self.name = name
        self._model = model

    def facts(self) -> Mapping[str, Any]:
        """What the model says."""
        return self._model.info()

    def located(self) -> Located | None:
        """Nothing: it is loaded, and says itself where it lies."""
        return None


@contextlib.asynccontextmanager
async def using(
    request: Request,
    name: str | None,
    needs: Sequence[Need] = (),
    *,
    keep_alive_s: float | None = None,
) -> AsyncIterator[tuple[str, Model]]:
    """The model called `name`, under its full name; loaded if need be.

    When none is named it is the one that fits the first of `needs` that any fits (`choosing`).

    Raises:
        ModelNotFound: no such model is served.
        InputError: none is named, and none or several fit.
        Gone: the client hung up while the model was being loaded.
        LikewiseError: the model can't be loaded.
    """
    catalogue: Catalogue = request.app.state.models
    full = choose(request, name, needs)
    noted(request)["model"] = full
    leasing = catalogue.lease(full, keep_alive_s=keep_alive_s)
    try:
        leased = await waited(request, leasing)
    except BaseException:
        # It may still be granted, to nobody.
        leasing.add_done_callback(give_back)
        raise
    with leased as model:
        yield full, model


def give_back(leasing: Future[contextlib.AbstractContextManager[Model]]) -> None:
    """Leave what was granted, for who doesn't use it."""
    if not leasing.cancelled() and leasing.exception() is None:
        leasing.result().__exit__(None, None, None)


async def computed(
    request: Request,
    submit: Callable[..., Future[T]],
    inputs: Sequence[Any],
    /,
    **options: Any,
) -> T:
    """What `submit`, a method of a model, gives for `inputs`.

    The lane is the caller's (`X-Likewise-Lane`, or that of the key), else that which the number
    of inputs asks for; the deadline is `X-Likewise-Timeout-Ms`, else the server's. Submitting cuts
    texts into tokens; so that other requests aren't held up meanwhile, much text is handed over in
    a thread. Work that still waits is cancelled when the client hangs up.

    Raises:
        Gone: the client hung up.
        InputError: a header says something that isn't known, or there are more inputs than one
            request may have here.
        LikewiseError: whatever `submit` raises, at once or later.
    """
    most: int | None = getattr(request.app.state, "max_inputs", None)
    if most is not None and len(inputs) > most:
        noted(request)["te_failure"] = "batch_size"
        raise InputError(
            f"{len(inputs)} inputs in one request; the most is {most} (max_batch_inputs)"
        )
    token_ids.check(request, inputs)
    options.setdefault("lane", lane_of(request, len(inputs)))
    options.setdefault("deadline", deadline_of(request))
    notes = noted(request)
    notes["lane"] = options["lane"]
    notes["inputs"] = notes.get("inputs", 0) + len(inputs)
    submitted_at = time.perf_counter()
    call = functools.partial(submit, inputs, dialect=dialect_of_scope(request.scope), **options)
    if characters(inputs) <= _INLINE_CHARACTERS:
        future = call()
    else:
        future = await asyncio.to_thread(call)
    found = await waited(request, future)
    notes["computed"] = found
    notes.setdefault("runs", []).append(Run(submitted_at, time.perf_counter(), found))
    return found


def characters(inputs: Sequence[Any]) -> int:
    """About how much there is to read: characters of texts and pairs, or token ids."""
    return sum(sum(map(len, one)) if isinstance(one, tuple) else len(one) for one in inputs)


def lane_of(request: Request, count: int) -> Lane:
    """The lane for `count` inputs; a key that is for bulk work stays in that lane.

    Raises:
        InputError: the header names no lane.
    """
    own = caller_of(request).get("lane")
    asked = request.headers.get(LANE_HEADER)
    if asked is not None and asked not in ("interactive", "bulk"):
        raise InputError(f"{LANE_HEADER} is {asked!r}; known: interactive, bulk", param=LANE_HEADER)
    if own == "bulk":
        return "bulk"
    if asked is not None or own is not None:
        return cast("Lane", asked or own)
    return "interactive" if count <= INTERACTIVE_INPUTS else "bulk"


def deadline_of(request: Request) -> float | None:
    """When the answer is of no use any more, on the monotonic clock.

    Raises:
        InputError: the header isn't a number of milliseconds.
    """
    written = request.headers.get(TIMEOUT_HEADER)
    if written is None:
        seconds: float | None = getattr(request.app.state, "timeout_s", None)
        return None if seconds is None else monotonic() + seconds
    if (
        not (written.isascii() and written.isdecimal())
        or not 0 < int(written[:12]) <= _LONGEST_TIMEOUT_MS
    ):
        raise InputError(
            f"{TIMEOUT_HEADER} is {written[:40]!r}; it must be milliseconds, "
            f"1 to {_LONGEST_TIMEOUT_MS}",
            param=TIMEOUT_HEADER,
        )
    return monotonic() + int(written) / 1000


def caller_of(request: Request) -> Mapping[str, Any]:
    """What is known of who asks (`server.access` writes it): `name`, `lane`, `is_admin`."""
    caller: Mapping[str, Any] = request.scope.get("state", {}).get("caller", {})
    return caller


def noted(request: Request) -> dict[str, Any]:
    """What this request's handlers leave for the middleware to count and log."""
    notes: dict[str, Any] = request.scope.setdefault("likewise", {})
    return notes


class Gone(Exception):
    """The client closed the connection before the answer was ready."""


async def waited(request: Request, future: Future[T]) -> T:
    """The future's result; work that still waits is cancelled when the client hangs up.

    Raises:
        Gone: the client hung up.
    """
    if future.done():
        return future.result()
    work = asyncio.wrap_future(future)
    watch: asyncio.Task[None] | None = None

    def look_out() -> None:
        # Most answers are there before anybody can have lost patience: no task for those.
        nonlocal watch
        watch = asyncio.ensure_future(_hang_up(request))
        watch.add_done_callback(lambda task: task.cancelled() or work.cancel())

    timer = asyncio.get_running_loop().call_later(_PATIENCE_S, look_out)
    try:
        return await work
    except asyncio.CancelledError:
        if watch is not None and watch.done() and not watch.cancelled():
            raise Gone from None
        raise
    finally:
        timer.cancel()
        if watch is not None:
            watch.cancel()


async def _hang_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
