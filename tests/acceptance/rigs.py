"""Every pair of source and store that the acceptance tests run for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from likewise.base.bound import BindingRecord, BoundSource, BoundTable
from likewise.base.spec import BindingSpec
from likewise.base.types import Key
from likewise.binding.reconcile import verify
from likewise.binding.worker import Options, Worker
from likewise.server import databases
from tests.acceptance.applications import Application, open_application
from tests.binding_kit import SPACE, Fake, bars, fake_vector, spawn

NAME = "docs"


@dataclass
class Rig:
    """An application's rows, bound; workers and ends of the binding as many as a test wants."""

    kind: str
    """Of the application."""
    where: str
    spec: BindingSpec
    key_of: Callable[[int], Key] = lambda number: (number,)
    made: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.app: Application = self.another_application()
        self.record: BindingRecord = databases.create(self.spec, SPACE)
        self.source, self.table = self.ends()

    @property
    def capture(self) -> str:
        return self.source.capture

    def another_application(self) -> Application:
        made = open_application(self.kind, self.where)
        self.made.append(made)
        return made

    def ends(self) -> tuple[BoundSource, BoundTable]:
        found = databases.open_ends(self.record)
        self.made += found
        return found

    def worker(self, embedder: Fake | None = None, **options: Any) -> Worker:
        """A worker with connections of its own, as in another process."""
        at = options.pop("at", lambda step: None)
        made = Worker(
            *self.ends(),
            embedder or Fake(),
            bars,
            options=Options(**{"reconcile_seconds": None, "idle_seconds": 0.05, **options}),
            at=at,
        )
        self.made.append(made)
        return made

    def drain(self, embedder: Fake | None = None) -> Fake:
        """Work until nothing is left, and say what was embedded on the way."""
        embedder = embedder or Fake()
        worker = self.worker(embedder)
        worker.drain()
        worker.close()
        return embedder

    def process(self, program: str, **arguments: Any) -> Any:
        return spawn(
            program,
            kind=self.kind,
            where=self.where,
            store=self.spec.store_address,
            source=self.spec.source,
            name=NAME,
            **arguments,
        )

    def close(self) -> None:
        for each in reversed(self.made):
            each.close()

    def assert_right(self) -> None:
        """At rest: nothing waits, `verify` is content, each vector is of the present text."""
        truth = {self.key_of(number): text for number, text in self.app.rows().items()}
        assert self.table.pending() == set()
        assert self.source.waiting() == (0, None)
        audit = verify(self.source, self.table, repair=False)
        assert audit.is_clean, audit
        assert (audit.rows, audit.pending) == (len(truth), 0)
        parked = {each.key for each in self.table.parked(None)}
        wanted = {
            (key, number): fake_vector(text.strip()[chunk.start : chunk.end])
            for key, text in truth.items()
            if key not in parked
            for number, chunk in enumerate(bars([text.strip()])[0])
        }
        found = {
            (key, chunk.ordinal): vector
            for block in self.table.scan()
            for key, chunk, vector in zip(block.keys, block.chunks, block.vectors, strict=True)
        }
        assert found.keys() == wanted.keys()
        for at, vector in wanted.items():
            assert np.array_equal(found[at], vector), at


Make = Callable[[Path, Callable[[str], Any]], Rig]
"""Makes a rig in a folder; the second argument gives pytest fixtures by name."""


def _sqlite(folder: Path, fixture: Callable[[str], Any]) -> Rig:
    path = folder / "app.db"
    open_application("sqlite", path).close()
    return Rig("sqlite", str(path), BindingSpec(NAME, f"sqlite:{path}", "docs", "{body}"))


def _sqlite_apart(folder: Path, fixture: Callable[[str], Any]) -> Rig:
    path, store = folder / "app.db", folder / "vectors.db"
    open_application("sqlite", path).close()
    open_application("sqlite", store).close()
    spec = BindingSpec(NAME, f"sqlite:{path}", "docs", "{body}", store=f"sqlite:{store}")
    return Rig("sqlite", str(path), spec)


def _sqlite_view(folder: Path, fixture: Callable[[str], Any]) -> Rig:
    path = folder / "app.db"
    open_application("sqlite-view", path).close()
    spec = BindingSpec(NAME, f"sqlite:{path}", "shown", "{body}", ("id",))
    return Rig("sqlite-view", str(path), spec)


def _sqlite_query(folder: Path, fixture: Callable[[str], Any]) -> Rig:
    path = folder / "app.db"
    open_application("sqlite", path).close()
    query = "SELECT id, body FROM docs WHERE body IS NOT NULL"
    spec = BindingSpec(NAME, f"sqlite:{path}", "", "{body}", ("id",), query=query)
    return Rig("sqlite", str(path), spec)


def _files(folder: Path, fixture: Callable[[str], Any]) -> Rig:
    where, store = folder / "pages", folder / "vectors.db"
    where.mkdir()
    spec = BindingSpec(NAME, f"files:{where}", "", "{text}", store=f"sqlite:{store}")
    return Rig("files", str(where), spec, key_of=lambda number: (f"{number}.txt", ""))


def _postgres(folder: Path, fixture: Callable[[str], Any]) -> Rig:
    address = fixture("database")
    open_application("postgres", address).close()
    return Rig("postgres", address, BindingSpec(NAME, address, "docs", "{body}"))


def _partitioned(folder: Path, fixture: Callable[[str], Any]) -> Rig:
    address = fixture("database")
    open_application("postgres-partitioned", address).close()
    spec = BindingSpec(NAME, address, "docs", "{body}")
    return Rig("postgres-partitioned", address, spec)


def _sqlite_postgres(folder: Path, fixture: Callable[[str], Any]) -> Rig:
    path = folder / "app.db"
    open_application("sqlite", path).close()
    address = fixture("database")
    spec = BindingSpec(NAME, f"sqlite:{path}", "docs", "{body}", store=address)
    return Rig("sqlite", str(path), spec)


def _postgres_apart(folder: Path, fixture: Callable[[str], Any]) -> Rig:
    address = fixture("database")
    open_application("postgres", address).close()
    store = f"sqlite:{folder / 'vectors.db'}"
    spec = BindingSpec(NAME, address, "docs", "{body}", store=store)
    return Rig("postgres", address, spec)


def _duckdb(folder: Path, fixture: Callable[[str], Any]) -> Rig:
    path = folder / "app.duckdb"
    open_application("duckdb", path).close()
    return Rig("duckdb", str(path), BindingSpec(NAME, f"duckdb:{path}", "docs", "{body}"))


def _duckdb_sqlite(folder: Path, fixture: Callable[[str], Any]) -> Rig:
    path = folder / "app.duckdb"
    open_application("duckdb", path).close()
    query = "SELECT id, body FROM docs WHERE body IS NOT NULL -- all of them"
    store = f"sqlite:{folder / 'vectors.db'}"
    spec = BindingSpec(
        NAME, f"duckdb:{path}", "", "{body}", ("id",), query=query, store=store, every=0.05
    )
    return Rig("duckdb", str(path), spec)


def _sqlite_duckdb(folder: Path, fixture: Callable[[str], Any]) -> Rig:
    path = folder / "app.db"
    open_application("sqlite", path).close()
    store = f"duckdb:{folder / 'vectors.duckdb'}"
    spec = BindingSpec(NAME, f"sqlite:{path}", "docs", "{body}", store=store)
    return Rig("sqlite", str(path), spec)


RIGS: dict[str, Make] = {
    "sqlite": _sqlite,
    "sqlite-apart": _sqlite_apart,
    "sqlite-view": _sqlite_view,
    "sqlite-query": _sqlite_query,
    "files": _files,
    "postgres": _postgres,
    "postgres-partitioned": _partitioned,
    "postgres-sqlite": _postgres_apart,
    "sqlite-postgres": _sqlite_postgres,
    "duckdb": _duckdb,
    "duckdb-sqlite": _duckdb_sqlite,
    "sqlite-duckdb": _sqlite_duckdb,
}

SCANNED: Sequence[str] = ("sqlite-view", "sqlite-query", "files", "duckdb", "duckdb-sqlite")
"""Rigs whose sources keep no log."""
