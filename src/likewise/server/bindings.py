"""A binding that is being served: its worker, the index that follows it, and searches of it."""

from __future__ import annotations

import dataclasses
import threading
from typing import TYPE_CHECKING, Any

from likewise.base.errors import LikewiseError
from likewise.base.log import fields, logger
from likewise.binding.status import Status, status
from likewise.binding.worker import Worker
from likewise.search.exact import ExactIndex
from likewise.search.follow import Follower
from likewise.search.query import search
from likewise.server.databases import open_ends

if TYPE_CHECKING:
    from collections.abc import Sequence

    from likewise.base.bound import BindingRecord
    from likewise.base.protocols import Splitter
    from likewise.base.space import Space
    from likewise.base.spec import BindingSpec
    from likewise.base.types import Kind, Result, Vectors
    from likewise.runtime.service import Service
    from likewise.runtime.standing import Standing

_log = logger("server.bindings")

FOLLOW_EVERY_S = 0.03
"""How often the index looks for what was published: a query of a few microseconds."""
_RETRY_S = 1.0


class Asking:
    """The model, for queries: in the lane of those who wait for an answer."""

    def __init__(self, service: Service | Standing) -> None:
        self._service = service

    @property
    def space(self) -> Space:
        """The space its vectors lie in."""
        return self._service.space

    def embed(self, texts: Sequence[str], *, kind: Kind = "document") -> Vectors:
        """Vectors of `texts`."""
        return self._service.embed(texts, kind=kind, lane="interactive")


def splitter(service: Service | Standing, spec: BindingSpec) -> Splitter:
    """What cuts the binding's texts into passages.

    Raises:
        SettingsError: the model doesn't read passages of that size.
    """
    return service.splitter(*spec.chunk_tokens)


class LiveBinding:
    """One binding in this process: `start` its threads, `search` it, `stop` it.

    Raises:
        SpaceMismatch: the binding's vectors are of another model or setting than `service`.
    """

    def __init__(self, record: BindingRecord, service: Service | Standing) -> None:
        spec = record.spec
        self.name = spec.name
        self.table_name = spec.table
        self.record = record
        self._asking = Asking(service)
        self.source, self.table = open_ends(record)
        self.worker = Worker(self.source, self.table, service, splitter(service, spec))
        self._index = ExactIndex(record.space)
        self._follower = Follower(self.table, self._index)
        self._stopping = threading.Event()
        self._filled = threading.Event()
        self._ended: str | None = None
        self._following_error: str | None = None
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Keep vectors in step with rows, and the index in step with vectors, from now on."""
        for name, work in (("worker", self._work), ("follower", self._follow)):
            thread = threading.Thread(target=work, name=f"{self.name}-{name}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def catch_up(self) -> None:
        """Bring the index up to what is stored, once; for a process that only asks.

        Raises:
            DatabaseError: the file can't be read.
        """
        self._follower.catch_up()
        self._filled.set()

    def stop(self) -> None:
        """Finish the batch at hand, give the lease back, close the files."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self.worker.close()
        self.source.close()
        self.table.close()

    @property
    def is_ready(self) -> bool:
        """Whether the index holds what was stored when this process began."""
        return self._filled.is_set()

    def is_followed(self) -> bool:
        """Whether the index holds all that is published by now."""
        seen = self._follower.version
        feed = self.table.published(seen, limit=1)
        return self.is_ready and not feed.reset and feed.version == seen

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait for `is_ready`."""
        return self._filled.wait(timeout_s)

    @property
    def trouble(self) -> str | None:
        """What keeps vectors or index from following, in words; None when nothing does."""
        return self._ended or self.worker.error or self._following_error

    def search(self, text: str, k: int = 10, *, fresh_only: bool = False) -> list[Result]:
        """The `k` rows nearest to `text`, best first, as the source has them now.

        Raises:
            InputError: `text` is empty, or `k` is out of range.
            DatabaseError: the rows can't be read.
        """
        self._filled.wait(_RETRY_S)
        return search(
            self._asking, self._index, self.source, self.table, text, k, fresh_only=fresh_only
        )

    def status(self) -> Status:
        """How far the vectors have followed the rows.

        Raises:
            DatabaseError: the file can't be read.
            SchemaDrift: the table or a column is gone.
        """
        return status(self.source, self.table)

    def state(self) -> dict[str, Any]:
        """The binding's state for people and programs; with `error` when it can't be read."""
        own: dict[str, Any] = {
            "name": self.name,
            "source": self.record.spec.source,
            "table": self.table_name,
            "key": list(self.record.spec.key),
            "text": self.record.spec.text,
            "model": self.record.space.model,
            "ready": self.is_ready,
            "indexed": self._index.rows,
            "version": self._follower.version,
        }
        try:
            seen = dataclasses.asdict(self.status())
        except LikewiseError as failed:
            return own | {"state": "waiting", "error": str(failed)}
        seen["error"] = self.trouble or seen.get("error")
        return seen | own

    def _work(self) -> None:
        try:
            self.worker.run(self._stopping)
        except LikewiseError as failed:
            self._ended = str(failed)
            _log.error(fields("worker ended", binding=self.name, error=failed))

    def _follow(self) -> None:
        while not self._stopping.is_set():
            wait_s = FOLLOW_EVERY_S
            try:
                self.catch_up()
                self._following_error = None
            except LikewiseError as failed:
                if self._following_error != str(failed):
                    _log.warning(fields("index waits", binding=self.name, error=failed))
                self._following_error = str(failed)
                wait_s = _RETRY_S
            self._stopping.wait(wait_s)
