"""Bindings by address: which database holds them, what stands at their two ends."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING

from likewise.base.errors import (
    BindingNotFound,
    DatabaseError,
    DatabaseLocked,
    DatabaseMissing,
    LikewiseError,
)
from likewise.base.same import keeps_escapes, swap_needed
from likewise.base.spec import without_password
from likewise.binding.canary import require_same_model
from likewise.client.names import is_remote
from likewise.sources.names import open_source
from likewise.stores.names import make_store, open_bindings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from likewise.base.bindings import Bindings
    from likewise.base.bound import BindingRecord, BoundSource, BoundTable
    from likewise.base.protocols import Embedder
    from likewise.base.space import Space
    from likewise.base.spec import BindingSpec

_TRIES = 3


@contextlib.contextmanager
def bindings_of(address: str) -> Iterator[Bindings]:
    """The bindings that the database at `address` holds.

    Raises:
        DatabaseError: it can't be opened.
        MissingExtra: what speaks to it isn't installed.
    """
    with contextlib.closing(open_bindings(address)) as found:
        yield found


def create(spec: BindingSpec, space: Space, model: Embedder | None = None) -> BindingRecord:
    """Make a binding's tables in its store, or find it there with the same definition.

    `space` has its chunker set. Where it is there and its endpoint has moved, `model`, at the new
    address, must give the vectors that the old one gave.

    Raises:
        BindingExists: one of that name has another definition.
        SpaceMismatch: it has the same definition for another model or setting.
        NoKey: nothing names a row of the source for good.
        SchemaDrift: no such table or column.
        DatabaseError: a database can't be used.
    """
    with contextlib.closing(open_source(spec)) as source:
        shape = source.resolve()
    if not spec.is_one_database:
        # A file of vectors alone may be new; an application's is never made.
        make_store(spec.store_address)
    with bindings_of(spec.store_address) as bindings:
        return _addressed(bindings, bindings.create(spec, shape, space), spec, model)


def _addressed(
    bindings: Bindings, there: BindingRecord, spec: BindingSpec, model: Embedder | None
) -> BindingRecord:
    """`there`, with its model at the address that `spec` has: an endpoint may have moved.

    So are generations beside it that were made by the same model.

    Raises:
        SpaceMismatch: the model at that address gives other vectors; nothing was changed.
    """
    if there.spec.model == spec.model or not is_remote(spec.model):
        return there
    if model is not None:
        with contextlib.closing(bindings.table(there)) as table:
            require_same_model(table, model)
    alike = there.space.stored_as("", "").fingerprint
    for each in bindings.generations(spec.name):
        is_it = each.generation == there.generation
        if not is_it and each.space.stored_as("", "").fingerprint == alike:
            bindings.readdress(each, spec.model)
    return bindings.readdress(there, spec.model)


def found_or_made(
    spec: BindingSpec, space: Space, model: Embedder | None = None
) -> tuple[BindingRecord, str | None]:
    """The binding of `spec`, made if it isn't there; and the command that makes it what it says.

    None where it holds what `spec` and `space` say already. What a swap can change (model,
    passages, text) may differ.

    Raises:
        As `create`, but for what a swap can change.
    """
    there, wanted = _found(spec)
    if there is None:
        return create(spec, space, model), None
    command = swap_needed(there, wanted, space)
    if command is None or swap_needed(there, _as_kept(there, wanted), space) is None:
        with bindings_of(spec.store_address) as bindings:
            there = _addressed(bindings, there, spec, model)
    return there, command


def made_before(spec: BindingSpec) -> BindingRecord | None:
    """The binding of `spec`, if it is there already just as `spec` says, its model's name too.

    Nothing is asked of the model.

    Raises:
        BindingExists: it is there with another definition, which a swap can't change.
        SchemaDrift: no such table or column.
        DatabaseError: a database can't be used.
    """
    there, wanted = _found(spec)
    if there is None or there.spec.model != spec.model:
        return None
    return there if swap_needed(there, _as_kept(there, wanted), there.space) is None else None


def _as_kept(there: BindingRecord, wanted: BindingSpec) -> BindingSpec:
    """`wanted` with the text of `there` where that was typed the same before escapes were read."""
    if keeps_escapes(there, wanted):
        return dataclasses.replace(wanted, text=there.spec.text)
    return wanted


def _found(spec: BindingSpec) -> tuple[BindingRecord | None, BindingSpec]:
    """The binding called so, if there is one; and `spec` as the source spells it."""
    with contextlib.closing(open_source(spec)) as source:
        shape = source.resolve()
    wanted = dataclasses.replace(spec, table=shape.table, key=shape.key)
    try:
        return record(spec.store_address, spec.name), wanted
    except (BindingNotFound, DatabaseMissing):
        return None, wanted


def records(address: str) -> list[BindingRecord]:
    """The current generation of every binding in the database at `address`."""
    with bindings_of(address) as bindings:
        return bindings.records()


def record(address: str, name: str) -> BindingRecord:
    """The current generation of the binding.

    Raises:
        BindingNotFound: there is none of that name.
    """
    with bindings_of(address) as bindings:
        return bindings.get(name)


def open_ends(record: BindingRecord) -> tuple[BoundSource, BoundTable]:
    """A generation's source and store; both to be closed by the caller."""
    source = open_source(record.spec, generation=record.generation)
    try:
        # The table has connections of its own, and outlives what found it.
        with bindings_of(record.spec.store_address) as bindings:
            return source, bindings.table(record)
    except BaseException:
        source.close()
        raise


@contextlib.contextmanager
def ends(record: BindingRecord) -> Iterator[tuple[BoundSource, BoundTable]]:
    """A generation's source and store, closed afterwards."""
    source, table = open_ends(record)
    with contextlib.closing(source), contextlib.closing(table):
        yield source, table


def drop(address: str, name: str, *, force: bool = False) -> str | None:
    """Remove a binding: what captures its changes, its log and its vectors.

    With `force` its vectors go also when its source is out of reach; gives what stays there.

    Raises:
        BindingNotFound: there is none of that name.
        DatabaseError: the source can't be reached, so its triggers would stay; nothing was dropped.
    """
    with bindings_of(address) as bindings:
        there = bindings.generations(name)
        left = None
        try:
            _detach_all(there)
        except LikewiseError as unreachable:
            shown = without_password(there[0].spec.source)
            if not force:
                raise DatabaseError(
                    f"binding {name}: its source can't be reached, so what captures changes there "
                    f"would stay; nothing was dropped. Try again when {shown} is back, or drop the "
                    f"vectors all the same with --force ({unreachable})"
                ) from unreachable
            left = (
                f"triggers and tables called likewise_{name}_... in {shown}, if it is still there"
            )
        bindings.drop(name)
    if left is None:
        for each in there:
            clean_up(each)
    return left


def drop_generation(address: str, name: str, generation: int) -> None:
    """Remove a generation that isn't current, with what captures changes for it.

    Raises:
        BindingNotFound: there is no such generation.
        BindingError: it is the current one.
        DatabaseError: the source can't be reached; nothing was dropped.
    """
    with bindings_of(address) as bindings:
        found = [
            each
            for each in bindings.generations(name)
            if each.generation == generation and each.state != "current"
        ]
        _detach_all(found)
        bindings.drop_generation(name, generation)
    for each in found:
        clean_up(each)


def retry_parked(record: BindingRecord) -> int:
    """Put the parked rows of every generation back on the queue; how many of the current one."""
    count = 0
    for each in _all(record):
        with ends(each) as (_, table):
            found = table.retry_parked()
            count += found if each.state == "current" else 0
    return count


def pause(record: BindingRecord, paused: bool, *, accept_deletes: bool = False) -> None:
    """Stop the workers of every generation, or let them go on; perhaps let them remove many rows.

    Raises:
        BindingNotFound: the binding is gone.
    """
    with bindings_of(record.spec.store_address) as bindings:
        if accept_deletes:
            for each in bindings.generations(record.spec.name):
                with contextlib.closing(bindings.table(each)) as table:
                    table.allow_deletes(True)
        bindings.pause(record.spec.name, paused)


def _all(record: BindingRecord) -> list[BindingRecord]:
    with bindings_of(record.spec.store_address) as bindings:
        return bindings.generations(record.spec.name)


def clean_up(record: BindingRecord) -> None:
    """Leave nothing in its source of a generation that was dropped while a worker was at it.

    Nothing happens where there is another of that number by now, or the source can't be reached.
    """
    spec = record.spec
    with (
        contextlib.suppress(LikewiseError),
        contextlib.closing(open_source(spec, generation=record.generation)) as source,
    ):
        # Triggers that write into the store's own log went in the store's transaction.
        if source.capture == "outbox" and record.generation not in _numbers(
            spec.store_address, spec.name
        ):
            source.detach()


def _numbers(address: str, name: str) -> list[int]:
    with bindings_of(address) as bindings:
        try:
            return [each.generation for each in bindings.generations(name)]
        except BindingNotFound:
            return []


def _detach_all(records: Sequence[BindingRecord]) -> None:
    for each in records:
        detach(each)


def detach(record: BindingRecord) -> None:
    """Leave nothing of a generation in its source."""
    with contextlib.closing(open_source(record.spec, generation=record.generation)) as source:
        for _ in range(_TRIES - 1):
            # Triggers are on tables that others use: the database may let those go first.
            with contextlib.suppress(DatabaseLocked):
                source.detach()
                return
        source.detach()
