"""Bindings by address: which database holds them, what stands at their two ends."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from likewise.base.spec import path_of, scheme_of
from likewise.sources.names import open_source
from likewise.stores.names import open_bindings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from likewise.base.bindings import Bindings
    from likewise.base.bound import BindingRecord, BoundSource, BoundTable
    from likewise.base.space import Space
    from likewise.base.spec import BindingSpec


@contextlib.contextmanager
def bindings_of(address: str) -> Iterator[Bindings]:
    """The bindings that the database at `address` holds.

    Raises:
        DatabaseError: it can't be opened.
        MissingExtra: what speaks to it isn't installed.
    """
    with contextlib.closing(open_bindings(address)) as found:
        yield found


def create(spec: BindingSpec, space: Space) -> BindingRecord:
    """Make a binding's tables in its store, or find it there with the same definition.

    `space` has its chunker set.

    Raises:
        BindingExists: one of that name has another definition.
        SpaceMismatch: it has the same definition for another model or setting.
        NoKey: nothing names a row of the source for good.
        SchemaDrift: no such table or column.
        DatabaseError: a database can't be used.
    """
    with contextlib.closing(open_source(spec)) as source:
        shape = source.resolve()
    if not spec.is_one_database and scheme_of(spec.store_address) == "sqlite":
        # A file of vectors alone may be new; an application's is never made.
        path_of(spec.store_address).touch(exist_ok=True)
    with bindings_of(spec.store_address) as bindings:
        return bindings.create(spec, shape, space)


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


def drop(address: str, name: str) -> None:
    """Remove a binding: what captures its changes, its log and its vectors.

    Raises:
        BindingNotFound: there is none of that name.
        DatabaseError: the source can't be reached, so its triggers would stay; nothing was dropped.
    """
    with bindings_of(address) as bindings:
        for generation in bindings.generations(name):
            detach(generation)
        bindings.drop(name)


def drop_generation(address: str, name: str, generation: int) -> None:
    """Remove a generation that isn't current, with what captures changes for it.

    Raises:
        BindingNotFound: there is no such generation.
        BindingError: it is the current one.
    """
    with bindings_of(address) as bindings:
        for each in bindings.generations(name):
            if each.generation == generation and each.state != "current":
                detach(each)
        bindings.drop_generation(name, generation)


def detach(record: BindingRecord) -> None:
    """Leave nothing of a generation in its source."""
    with contextlib.closing(open_source(record.spec, generation=record.generation)) as source:
        source.detach()
