"""Kinds of sources by name, imported only when chosen."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from likewise.base.spec import scheme_of

if TYPE_CHECKING:
    from likewise.base.bound import BoundSource
    from likewise.base.spec import BindingSpec

SOURCES = {
    "sqlite": "likewise.sources.sqlite_kinds:open_sqlite",
    "postgresql": "likewise.sources.postgres_kinds:open_postgres",
    "duckdb": "likewise.sources.duckdb:DuckdbSource",
    "files": "likewise.sources.files:FilesSource",
}
"""Each gives a source for a spec and a generation."""


def open_source(spec: BindingSpec, *, generation: int = 1) -> BoundSource:
    """The source that `spec` names; to be closed by the caller.

    Raises:
        DatabaseError: it can't be opened.
        MissingExtra: what speaks to it isn't installed.
    """
    module, _, name = SOURCES[scheme_of(spec.source)].partition(":")
    made: BoundSource = getattr(importlib.import_module(module), name)(spec, generation=generation)
    return made
