"""A binding from one generation to the next: what a swap needs opened, and what becomes of it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

from likewise.base.errors import BindingNotFound, SettingsError
from likewise.base.escapes import meant
from likewise.binding import generation
from likewise.binding.canary import require_same_model
from likewise.binding.generation import Swap
from likewise.binding.worker import Options, Worker
from likewise.server.databases import bindings_of, drop_generation, ends
from likewise.server.generations import splitter
from likewise.sources.names import open_source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from likewise.base.bound import BindingRecord
    from likewise.server.generations import Models


def _nowhere(step: str) -> None:
    """The default for `at`."""


def begin(
    record: BindingRecord,
    models: Models,
    *,
    model: str | None = None,
    chunk: str | None = None,
    text: str | None = None,
    dtype: str | None = None,
) -> BindingRecord:
    """Begin a swap of `record`'s binding, or find the one that was begun; gives what is built.

    What isn't given stays; `text` is as a person types it. Given nothing at all, the one that was
    begun is gone on with.

    Raises:
        SettingsError: nothing would change, or a setting can't be right.
        BindingExists: another swap is under way, or the previous generation is still kept.
        SchemaDrift: the text names a column that isn't there.
        LikewiseError: the model can't be loaded.
    """
    spec = record.spec
    with bindings_of(spec.store_address) as bindings:
        there = bindings.generations(spec.name)
        if not (model or chunk or text or dtype):
            with contextlib.suppress(BindingNotFound):
                return generation.building_of(there)
            raise SettingsError(
                f"binding {spec.name}: what is to change? Name --model, --chunk, --text or --dtype",
                param="model",
            )
        now = generation.current_of(there).spec
        wanted = dataclasses.replace(
            now,
            model=model or now.model,
            chunk=chunk or now.chunk,
            text=meant(text) if text else now.text,
            dtype=dtype or now.dtype,
        )
        service = models(wanted.model)
        # Before anything is made: what can't be worked on must not be left behind.
        splitter(service, wanted)
        space = service.space.stored_as(wanted.chunk, wanted.dtype)
        with contextlib.closing(open_source(wanted)) as source:
            shape = source.resolve()
        return generation.begin(bindings, wanted, shape, space)


@contextlib.contextmanager
def towards(
    record: BindingRecord,
    models: Models,
    *,
    allow_parked: bool = False,
    options: Options | None = None,
    at: Callable[[str], None] = _nowhere,
) -> Iterator[Swap]:
    """What makes the generation `record` the current one: a swap, or the way back.

    Raises:
        SpaceMismatch: the model isn't the one that the generation was begun with.
        LikewiseError: the model can't be loaded, a database can't be used.
    """
    spec = record.spec
    service = models(spec.model)
    with (
        bindings_of(spec.store_address) as bindings,
        ends(generation.current_of(bindings.generations(spec.name))) as (_, current),
        ends(record) as (source, table),
        contextlib.closing(
            Worker(source, table, service, splitter(service, spec), options=options, at=at)
        ) as worker,
    ):
        require_same_model(table, service)
        yield Swap(
            bindings, source, table, worker, current=current, allow_parked=allow_parked, at=at
        )


def building(address: str, name: str) -> BindingRecord:
    """The generation that a swap is building.

    Raises:
        BindingNotFound: none is.
    """
    with bindings_of(address) as bindings:
        return generation.building_of(bindings.generations(name))


def previous(address: str, name: str) -> BindingRecord:
    """The generation to go back to.

    Raises:
        BindingNotFound: there is none.
    """
    with bindings_of(address) as bindings:
        return generation.previous_of(bindings.generations(name))


def abort(address: str, name: str) -> BindingRecord:
    """Give a swap up: what it built goes, the current generation is as it was.

    Raises:
        BindingNotFound: none is under way.
        DatabaseError: the source can't be reached; nothing was dropped.
    """
    given_up = building(address, name)
    drop_generation(address, name, given_up.generation)
    return given_up


def finish(address: str, name: str) -> list[BindingRecord]:
    """Drop what was kept to go back to; gives it.

    Raises:
        BindingNotFound: nothing is.
        DatabaseError: the source can't be reached; nothing was dropped.
    """
    with bindings_of(address) as bindings:
        there = bindings.generations(name)
    generation.previous_of(there)
    kept = [each for each in there if each.state == "previous"]
    for each in kept:
        drop_generation(address, name, each.generation)
    return kept


def roll_back(
    record: BindingRecord,
    models: Models,
    *,
    wait: bool = True,
    at: Callable[[str], None] = _nowhere,
) -> None:
    """Let `record`, the generation before, answer again; it works off first what it has missed.

    Its model is only loaded where something waits, and never unless told to `wait`.

    Raises:
        BindingError: the binding is paused, or the generation isn't the one before any more.
        LikewiseError: the model can't be loaded.
    """
    if not wait or is_level(record):
        with bindings_of(record.spec.store_address) as bindings:
            generation.cut_over(bindings, record, "previous", at=at)
        return
    with towards(record, models, at=at) as swap:
        swap.regain()
        swap.cut_over("previous")


def is_level(record: BindingRecord) -> bool:
    """Whether nothing waits for this generation that is known of."""
    with ends(record) as (source, table):
        counts = table.counts()
        if source.capture == "scan" or counts.waiting or counts.is_reconciling:
            return False
        return not source.attach() and source.waiting()[0] == 0
