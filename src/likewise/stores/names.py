"""Kinds of stores by name, imported only when chosen."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from likewise.base.spec import path_of, scheme_of

if TYPE_CHECKING:
    from likewise.base.bindings import Bindings

STORES = {
    "sqlite": "likewise.stores.sqlite_bindings:SqliteBindings",
    "postgresql": "likewise.stores.postgres_bindings:PostgresBindings",
    "duckdb": "likewise.stores.duckdb_bindings:DuckdbBindings",
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


def make_store(address: str) -> None:
    """Make an empty database file for vectors, where there is none; a server's are never made.

    Raises:
        DatabaseError: it can't be made there.
        MissingExtra: what speaks to it isn't installed.
    """
    scheme = scheme_of(address)
    if scheme == "sqlite":
        path_of(address).touch(exist_ok=True)
    elif scheme == "duckdb":
        importlib.import_module("likewise.sql.duckdb").make_file(path_of(address))
