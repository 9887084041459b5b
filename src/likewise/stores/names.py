"""Kinds of stores by name, imported only when chosen."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from likewise.base.spec import scheme_of

if TYPE_CHECKING:
    from likewise.base.bindings import Bindings

STORES = {
    "sqlite": "likewise.stores.sqlite_bindings:SqliteBindings",
    "postgresql": "likewise.stores.postgres_bindings:PostgresBindings",
}
"""Each gives the bindings of an address."""


def open_bindings(address: str) -> Bindings:
    """The bindings of the database at `address`; to be closed by the caller.

    Raises:
        DatabaseError: it can't be opened.
        MissingExtra: what speaks to it isn't installed.
    """
    module, _, name = STORES[scheme_of(address)].partition(":")
    made: Bindings = getattr(importlib.import_module(module), name)(address)
    return made
