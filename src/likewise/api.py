"""The front door for programs: load a model, bind a table, open a binding and search it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from likewise.base.clock import monotonic
from likewise.base.errors import BindingError, BindingNotFound
from likewise.base.spec import DEFAULT_CHUNK, DEFAULT_MODEL, BindingSpec

if TYPE_CHECKING:
    from types import TracebackType

    from likewise.base.bound import BindingRecord
    from likewise.base.precision import Precision
    from likewise.base.types import Audit, Result
    from likewise.binding.status import Status
    from likewise.runtime.service import Service

_POLL_S = 0.02


def load(
    model: str = DEFAULT_MODEL,
    *,
    precision: Precision = "auto",
    engine: str | None = None,
    offline: bool | None = None,
) -> Service:
    """A model ready to embed: `load().embed(["a text"])` gives float32 [1, dimensions].

    Args:
        model: a folder, a hub name, or a short name; fetched into the cache when it isn't here.
        precision: `exact` (float32), `fast` (bf16), `small` (int8 weights), or `auto`: `fast`
            where the processor has bf16, else `exact`.
        engine: what computes; None takes the fastest that works, or what the environment says
            (`LIKEWISE_ENGINE`).
        offline: download nothing; None asks the environment (`LIKEWISE_OFFLINE`).

    Raises:
        ModelNotFound: no place has it; the message names every place tried.
        ModelUnsupported: it asks for what isn't computed here.
        ModelCorrupt: its files are damaged.
    """
    from likewise.cli import resolve
    from likewise.models.locate import locate
    from likewise.runtime import service

    place = resolve.place(offline=offline, precision=precision, engine=engine)
    found = locate(model, cache=place.cache, offline=place.offline)
    return service.load(
        found.folder,
        name=found.name,
        precision=place.precision,
        engine=place.engine,
        cache=place.cache,
    )


def bind(
    database: str | Path,
    table: str,
    *,
    text: str,
    name: str | None = None,
    key: tuple[str, ...] = (),
    chunk: str = DEFAULT_CHUNK,
    model: Service | str = DEFAULT_MODEL,
) -> Binding:
    r"""Bind a SQLite table: from now on its rows have vectors that follow them.

    Binding again with the same definition opens what is there.

    Args:
        database: the file; it must exist.
        table: the table whose rows get vectors.
        text: template over its columns, such as `{title}\n{body}`.
        name: the binding's name; None takes the table's, in lower case.
        key: columns that name a row; empty for the primary key.
        chunk: how long texts are cut.
        model: a loaded model, or the name of one to load.

    Raises:
        SettingsError: a name or the template is wrong.
        NoKey: nothing names a row for good.
        SchemaDrift: no such table or column.
        BindingExists: a binding of that name is defined otherwise.
        SpaceMismatch: it holds vectors of another model.
        DatabaseError: the file can't be used.
    """
    from likewise.server.bindings import splitter
    from likewise.server.databases import create

    loaded = load(model) if isinstance(model, str) else model
    spec = BindingSpec(
        name=name or table.lower(),
        source=f"sqlite:{Path(database).resolve()}",
        table=table,
        text=text,
        key=key,
        model=loaded.space.model,
        chunk=chunk,
    )
    splitter(loaded, spec)  # a binding that can't be worked on mustn't be left behind
    record = create(spec, loaded.space.with_chunker(chunk))
    return Binding(record, loaded, owns_model=isinstance(model, str))


def open(database: str | Path, name: str | None = None, *, model: Service | None = None) -> Binding:
    """Open a binding that is there, by name or, where the file has only one, without.

    Raises:
        BindingNotFound: there is none of that name; the message lists those there are.
        ModelNotFound: its model isn't to be had.
        SpaceMismatch: `model` isn't the one it was built with.
        DatabaseError: the file can't be used.
    """
    from likewise.server import databases

    if name is None:
        records = databases.records(f"sqlite:{Path(database).resolve()}")
        if len(records) != 1:
            names = ", ".join(record.spec.name for record in records) or "none"
            raise BindingNotFound(f"which binding of {database}? There are: {names}")
        record = records[0]
    else:
        record = databases.record(f"sqlite:{Path(database).resolve()}", name)
    loaded = model if model is not None else load(record.spec.model)
    return Binding(record, loaded, owns_model=model is None)


class Binding:
    """A table whose vectors follow its rows while this is open; close it, or use it in a `with`.

    Its threads embed what changes (whoever changes it) and keep the index in step.
    """

    def __init__(self, record: BindingRecord, model: Service, *, owns_model: bool) -> None:
        from likewise.server.bindings import LiveBinding

        self.record = record
        self.model = model
        self._owns_model = owns_model
        self._live = LiveBinding(record, model)
        self._live.start()
        self._closed = threading.Event()

    @property
    def name(self) -> str:
        """The binding's name."""
        return self.record.spec.name

    def search(self, text: str, k: int = 10, *, fresh_only: bool = False) -> list[Result]:
        """The `k` rows nearest to `text`, best first, each as the table has it now.

        Raises:
            InputError: `text` is empty, or `k` is out of range.
        """
        return self._live.search(text, k, fresh_only=fresh_only)

    def status(self) -> Status:
        """Rows, current, pending, parked, lag."""
        from likewise.binding.status import status

        return status(self._live.source, self._live.table)

    def sync(self, timeout_s: float = 60.0) -> None:
        """Wait until every change committed before this call is searchable or parked.

        Raises:
            BindingError: it wasn't within `timeout_s` seconds; the message says what is in the way.
        """
        deadline = monotonic() + timeout_s
        while not self._is_in_step():
            if monotonic() > deadline:
                pending, trouble = self.status().pending, self._live.trouble
                raise BindingError(
                    f"binding {self.name}: {pending} changes still wait after {timeout_s:g} s; "
                    + (f"in the way: {trouble}" if trouble else "give it more time")
                )
            self._closed.wait(_POLL_S)

    def verify(self, *, repair: bool = True) -> Audit:
        """Compare rows with stored vectors, both ways; with `repair`, mend what differs."""
        from likewise.binding.reconcile import verify

        return verify(self._live.source, self._live.table, repair=repair)

    def close(self) -> None:
        """Stop following; what is stored stays. Closing twice does nothing."""
        if not self._closed.is_set():
            self._closed.set()
            self._live.stop()
            if self._owns_model:
                self.model.close()

    def _is_in_step(self) -> bool:
        # Not only pending == 0: while source and store are being compared, more may turn up.
        return self.status().state == "idle" and self._live.is_followed()

    def __enter__(self) -> Binding:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
