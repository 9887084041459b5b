"""What tests of bindings share: a fake model to compute by hand, files, an application."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import numpy as np

from likewise.base.bound import BindingRecord
from likewise.base.clock import Clock, wall
from likewise.base.errors import EngineError, InputError, NotFinite
from likewise.base.space import Space
from likewise.base.spec import BindingSpec
from likewise.base.types import Chunk, Kind
from likewise.binding.worker import Options, Worker
from likewise.server import databases
from likewise.stores.sqlite import SqliteTable
from tests.support import BUSY_MS, LIMIT

DIMENSIONS = 8
SPACE = Space("fake", "00", "mean", DIMENSIONS, False, chunker="bars")
JOURNALS = ("wal", "delete")


def fake_vector(text: str) -> np.ndarray:
    """The first eight bytes of the text's sha256."""
    digest = hashlib.sha256(text.encode()).digest()[:DIMENSIONS]
    return np.frombuffer(digest, dtype=np.uint8).astype(np.float32)


def bars(texts: Sequence[str], held: Sequence[Sequence[int]] = (), /) -> list[tuple[Chunk, ...]]:
    """A splitter: passages end at each `|` and nowhere else; empty ones are left out."""
    made = []
    for text in texts:
        chunks: list[Chunk] = []
        start = 0
        for part in text.split("|"):
            if part:
                chunks.append(Chunk(len(chunks), start, start + len(part)))
            start += len(part) + 1
        made.append(tuple(chunks))
    return made


class Fake:
    """An embedder whose vectors anybody can compute; `before` runs ahead of each call."""

    space = SPACE

    def __init__(self, before: Callable[[Sequence[str]], None] | None = None) -> None:
        self.before = before
        self.texts: list[str] = []

    def embed(self, texts: Sequence[str], *, kind: Kind = "document") -> np.ndarray:
        if self.before is not None:
            self.before(texts)
        self.texts += texts
        for text in texts:
            if "poison" in text:
                raise InputError("the model can't read poison")
            if "crash" in text:
                raise EngineError("the engine failed")
            if "infinite" in text:
                raise NotFinite("a vector held NaN")
        return np.array([fake_vector(text) for text in texts], np.float32).reshape(-1, DIMENSIONS)


class Barrier:
    """Holds an embedder's call while the test changes something."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.go = threading.Event()

    def __call__(self, texts: Sequence[str]) -> None:
        self.entered.set()
        assert self.go.wait(LIMIT), "nobody let the embedder go on"


@contextmanager
def running(worker: Worker) -> Iterator[Future[None]]:
    """The worker runs in a thread of its own inside the block; it is stopped whatever happens."""
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(worker.run, stop)
        try:
            yield run
        finally:
            stop.set()
        run.result(LIMIT)


class App:
    """The application: its own connection to the file. apsw, as this process has Likewise in it."""

    def __init__(self, path: Path, journal: str = "wal", schema: str = "") -> None:
        self.path = path
        self.db = apsw.Connection(str(path))
        self.db.set_busy_timeout(BUSY_MS)
        self.db.pragma("journal_mode", journal)
        self.db.pragma("foreign_keys", True)
        if schema:
            self.db.execute(schema)

    def __call__(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        return self.db.execute(sql, tuple(values)).fetchall()

    def close(self) -> None:
        self.db.close()


DOCS = "CREATE TABLE docs (id INTEGER PRIMARY KEY, slug TEXT UNIQUE, title TEXT, body TEXT);"


class Bound:
    """A bound table with everything that belongs to it."""

    def __init__(
        self,
        app: App,
        *,
        table: str = "docs",
        text: str = "{title}|{body}",
        key: tuple[str, ...] = (),
        name: str = "docs",
        embedder: Fake | None = None,
    ) -> None:
        self.app = app
        self.spec = BindingSpec(name, f"sqlite:{app.path}", table, text, key)
        self.record = databases.create(self.spec, SPACE)
        self.source, self.table = databases.open_ends(self.record)
        self.embedder = embedder or Fake()
        self.workers: list[Worker] = []

    def worker(self, embedder: Fake | None = None, **options: Any) -> Worker:
        made = Worker(
            self.source,
            self.table,
            embedder or self.embedder,
            bars,
            options=Options(**{"reconcile_seconds": None, **options}),
        )
        self.workers.append(made)
        return made

    def another(self, embedder: Fake | None = None, **options: Any) -> Worker:
        """A worker with connections of its own, as in another process."""
        made = Worker(
            *databases.open_ends(self.record),
            embedder or self.embedder,
            bars,
            options=Options(**{"reconcile_seconds": None, **options}),
        )
        self.workers.append(made)
        return made

    def drain(self) -> None:
        worker = self.worker()
        worker.drain()
        worker.close()

    def log(self) -> list[Any]:
        return self.app(f"SELECT * FROM likewise_{self.spec.name}_log ORDER BY seq")

    def close(self) -> None:
        for worker in self.workers:
            worker.close()
        self.source.close()
        self.table.close()


def create_binding(spec: BindingSpec, space: Space = SPACE) -> BindingRecord:
    return databases.create(spec, space)


def list_bindings(path: Path) -> list[BindingRecord]:
    return databases.records(f"sqlite:{path}")


def get_binding(path: Path, name: str) -> BindingRecord:
    return databases.record(f"sqlite:{path}", name)


def drop_binding(path: Path, name: str) -> None:
    databases.drop(f"sqlite:{path}", name)


def table_of(path: Path, name: str = "docs", clock: Clock = wall) -> SqliteTable:
    return SqliteTable(get_binding(path, name), path, clock=clock)


def assert_right(bound: Bound) -> None:
    """At rest: nothing waits, `verify` is content, and each vector is that of the present text."""
    from likewise.binding.reconcile import verify

    assert bound.log() == []
    audit = verify(bound.source, bound.table, repair=False)
    assert audit.is_clean, audit
    assert audit.pending == 0
    assert audit.current + audit.parked == audit.rows - bound.source.unnamed()
    parked = {each.key for each in bound.table.parked(None)}
    wanted = {
        (row.key, chunk.ordinal): fake_vector(row.text[chunk.start : chunk.end])
        for row in bound.source.snapshot()
        if row.key not in parked
        for chunk in bars([row.text])[0]
    }
    found = {
        (key, chunk.ordinal): vector
        for block in bound.table.scan()
        for key, chunk, vector in zip(block.keys, block.chunks, block.vectors, strict=True)
    }
    assert found.keys() == wanted.keys()
    for at, vector in wanted.items():
        assert np.array_equal(found[at], vector), at


def unfence(patch: Callable[[Any, str, Any], None] = setattr) -> None:
    """Take the fence out of the SQLite store: publish whatever comes, answer whatever waits."""
    from likewise.stores.publish import Publisher

    init = Publisher.__init__

    def naive(self: Publisher, *values: Any) -> None:
        init(self, *values)
        self._answer = self._answer.replace("seq <= ?", "? IS NOT NULL")

    patch(Publisher, "__init__", naive)
    patch(Publisher, "is_superseded", lambda self, action: False)


def spawn(program: str, **arguments: Any) -> subprocess.Popen[str]:
    """A Python process that runs `program` with `ARGS` (a dict) at hand."""
    head = "import json, sys\nARGS = json.loads(sys.argv[1])\n"
    values = {k: str(v) if isinstance(v, Path) else v for k, v in arguments.items()}
    return subprocess.Popen(
        [sys.executable, "-c", head + program, json.dumps(values)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[1],
    )


def outside(path: Path, sql: str) -> None:
    """Run SQL with Python's own `sqlite3` in another process: an application without ours."""
    program = (
        "import sqlite3\n"
        "db = sqlite3.connect(ARGS['path'], timeout=ARGS['limit'])\n"
        "db.executescript(ARGS['sql'])\n"
        "db.commit()\n"
    )
    process = spawn(program, path=path, sql=sql, limit=LIMIT)
    _, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, errors
