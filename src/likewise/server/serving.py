"""The models being served: which answers to which name, and waiting for what they compute."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from likewise.base.errors import InputError, ModelNotFound
from likewise.base.names import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from concurrent.futures import Future

    from starlette.requests import Request

    from likewise.base.space import Space
    from likewise.base.types import Kind, Vectors

INTERACTIVE_INPUTS = 4
"""Requests of at most this many inputs go before bulk work."""

Lane = Literal["interactive", "bulk"]
T = TypeVar("T")


class Computed(Protocol):
    """What a model gave for one request."""

    @property
    def vectors(self) -> Vectors:
        """float32 [inputs, dimensions]."""
        ...

    @property
    def tokens(self) -> Sequence[int]:
        """Tokens computed of each input."""
        ...

    @property
    def truncated(self) -> Sequence[int]:
        """Positions of inputs of which only the beginning was read."""
        ...


class Model(Protocol):
    """A loaded model; `runtime.service.Service` is one."""

    @property
    def space(self) -> Space:
        """The space its vectors lie in."""
        ...

    def submit(
        self,
        inputs: Sequence[str] | Sequence[Sequence[int]],
        *,
        kind: Kind = "document",
        lane: Lane = "interactive",
        dimensions: int | None = None,
        overflow: Literal["cut", "refuse"] = "cut",
    ) -> Future[Any]:
        """Start computing; the future gives a `Computed`."""
        ...

    def info(self) -> Mapping[str, Any]:
        """Facts for people: engine, precision and why, widths, digest."""
        ...


class Models:
    """The served models by name; a short name works where only one model has it."""

    def __init__(self, models: Mapping[str, Model]) -> None:
        self._models = dict(models)
        self._by_name = _with_short_names(self._models)

    def __len__(self) -> int:
        return len(self._models)

    def items(self) -> list[tuple[str, Model]]:
        """Each model under its full name."""
        return list(self._models.items())

    def find(self, name: str | None) -> tuple[str, Model]:
        """The model called `name`, with its full name; the only one when None.

        Raises:
            ModelNotFound: no such model is served; the message lists which are.
            InputError: None, and several are served.
        """
        served = ", ".join(self._models) or "none"
        if name is None:
            if len(self._models) != 1:
                raise InputError(f"'model' is missing; served: {served}", param="model")
            return next(iter(self._models.items()))
        full = self._by_name.get(name)
        if full is None:
            hint = nearest(name, self._by_name)
            raise ModelNotFound(
                f"the model {name!r} isn't served here{hint}; served: {served}", param="model"
            )
        return full, self._models[full]


def _with_short_names(models: Mapping[str, Model]) -> dict[str, str]:
    names = {name: name for name in models}
    shorts = [name.rpartition("/")[2] for name in models]
    for full, short in zip(models, shorts, strict=True):
        if shorts.count(short) == 1:
            names.setdefault(short, full)
    return names


_INLINE_CHARACTERS = 20_000


async def start(
    model: Model,
    inputs: list[str] | list[list[int]],
    *,
    kind: Kind = "document",
    dimensions: int | None = None,
    overflow: Literal["cut", "refuse"] = "cut",
) -> Future[Computed]:
    """Hand `inputs` to the model, in the lane that their number asks for.

    Submitting cuts texts into tokens; so that other requests aren't held up meanwhile, much text
    is handed over in a thread.
    """
    lane: Lane = "interactive" if len(inputs) <= INTERACTIVE_INPUTS else "bulk"
    submit = functools.partial(
        model.submit, inputs, kind=kind, lane=lane, dimensions=dimensions, overflow=overflow
    )
    if sum(map(len, inputs)) <= _INLINE_CHARACTERS:
        return submit()
    return await asyncio.to_thread(submit)


class Gone(Exception):
    """The client closed the connection before the answer was ready."""


async def answer_of(request: Request, future: Future[T]) -> T:
    """The future's result; work that still waits is cancelled when the client hangs up.

    Raises:
        Gone: the client hung up.
    """
    work = asyncio.wrap_future(future)
    hang_up = asyncio.ensure_future(_hang_up(request))
    try:
        await asyncio.wait((work, hang_up), return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        work.cancel()
        raise Gone
    finally:
        hang_up.cancel()


async def _hang_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
