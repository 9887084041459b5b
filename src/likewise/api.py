"""The front door for programs: load or reach a model, bind a table, open a binding, search it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from likewise.base.chunking import DEFAULT_CHUNK
from likewise.base.clock import monotonic
from likewise.base.errors import BindingError, BindingNotFound, SettingsError
from likewise.base.locks import set_lock_seconds
from likewise.base.log import fields, logger
from likewise.base.same import escapes_notice, keeps_escapes
from likewise.base.spec import (
    DEFAULT_MODEL,
    SOURCES,
    BindingSpec,
    scheme_of,
    without_password,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from likewise.base.bound import BindingRecord
    from likewise.base.precision import Precision
    from likewise.base.protocols import BoundModel
    from likewise.base.types import Audit, Freshness, Result
    from likewise.binding.status import Status
    from likewise.client.embedder import RemoteEmbedder
    from likewise.runtime.service import Service
    from likewise.server.loaded import Loaded

_log = logger("api")
_POLL_S = 0.02
_SWITCH_S = 60.0


def load(
    model: str | Path = DEFAULT_MODEL,
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
        SettingsError: it is the address of a remote model, which `connect` reaches.
    """
    from likewise.cli import resolve
    from likewise.client.names import is_remote
    from likewise.models.locate import locate
    from likewise.runtime import service

    model = str(model)
    if is_remote(model):
        raise SettingsError(
            f"{model} is a remote model: reach it with likewise.connect({model!r})", param="model"
        )
    place = resolve.place(offline=offline, precision=precision, engine=engine)
    found = locate(model, cache=place.cache, offline=place.offline, answer_s=place.hub_answer_s)
    return service.load(
        found.folder,
        name=found.name,
        precision=place.precision,
        engine=place.engine,
        cache=place.cache,
        # What likewise.toml here says of models counts for commands too.
        overrides=place.overrides.of(found.name, model),
    )


def connect(address: str) -> RemoteEmbedder:
    """A model behind an endpoint: `connect("tei:http://host:8080").embed(["a text"])`.

    `address` is `openai:MODEL@URL`, `tei:URL` or `ollama:MODEL@URL`, with options behind a `?`
    (docs/remote.md). A key comes from the environment: OPENAI_API_KEY for OpenAI itself, else
    LIKEWISE_REMOTE_KEY.

    Raises:
        SettingsError: it isn't such an address.
        MissingExtra: httpx isn't installed.
        ModelNotFound: the endpoint doesn't have the model.
        EndpointError: it can't be asked, doesn't let us in, or answers something else.
    """
    from likewise.cli import resolve
    from likewise.client.names import connected

    return connected(address, resolve.remote_key)


def bind(
    source: str | Path,
    table: str = "",
    *,
    text: str,
    name: str | None = None,
    key: tuple[str, ...] = (),
    chunk: str = DEFAULT_CHUNK,
    dtype: str = "float32",
    model: BoundModel | str | Path = DEFAULT_MODEL,
    query: str = "",
    glob: str = "",
    store: str | Path = "",
) -> Binding:
    r"""Bind rows: from now on they have vectors that follow them.

    Binding again with the same definition opens what is there.

    Args:
        source: where the rows are: a SQLite file that exists, or an address:
            `sqlite:PATH`, `duckdb:PATH`, `postgresql://…`, `files:FOLDER`.
        table: the table or view whose rows get vectors.
        text: template over its columns, such as `{title}\n{body}`. A line end may stand in it as it
            is or as a backslash and an n, which mean the same here as in a shell and in
            `likewise.toml`: `\n` a line end, `\t` a tab, `\\` a backslash, `{{` and `}}` braces.
        name: the binding's name; None takes the table's, in lower case.
        key: columns that name a row; empty for the primary key.
        chunk: how long texts are cut: `WAY:SIZE/OVERLAP`, in tokens, where WAY is `tokens`,
            `sentences`, `headings` or `code`.
        dtype: as what numbers vectors are kept; in Postgres also `float16`.
        model: a loaded model, the name of one to load, or a remote model or its address.
        query: a SELECT whose rows get vectors, in place of a table; `key` names columns of it.
        glob: which files of a folder, such as `**/*.md`.
        store: the database that keeps the vectors, as `source` is given; empty for the source's
            own.

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

    if name is None and not table:
        raise SettingsError("name the binding; there is no table to take a name from", param="name")
    models = _loaded()
    loaded = models(str(model)) if isinstance(model, str | Path) else model
    spec = BindingSpec(
        name=name or table.lower(),
        source=_address(source),
        table=table,
        text=text,
        key=key,
        model=loaded.space.model,
        chunk=chunk,
        dtype=dtype,
        query=query,
        glob=glob,
        store=_address(store) if store else "",
    ).as_typed()
    splitter(loaded, spec)  # a binding that can't be worked on mustn't be left behind
    record = create(spec, loaded.space.stored_as(chunk, dtype), loaded)
    if keeps_escapes(record, spec):
        # Not as a value: those are quoted, which would double the backslashes of the command.
        _log.warning(fields(f"binding {spec.name}: {escapes_notice(record)}"))
    models.add(record.spec.model, loaded)
    return Binding(record, models)


def open(
    database: str | Path, name: str | None = None, *, model: BoundModel | None = None
) -> Binding:
    """Open a binding that is there, by name or, where the database has only one, without.

    `database` holds the vectors: a file, or an address such as `postgresql://…`.

    Raises:
        BindingNotFound: there is none of that name; the message lists those there are.
        ModelNotFound: its model isn't to be had.
        SpaceMismatch: `model` isn't the one it was built with.
        DatabaseError: the database can't be used.
    """
    from likewise.server import databases

    address = _address(database)
    if name is None:
        records = databases.records(address)
        if len(records) != 1:
            names = ", ".join(record.spec.name for record in records) or "none"
            shown = without_password(str(database))
            raise BindingNotFound(f"which binding of {shown}? There are: {names}")
        record = records[0]
    else:
        record = databases.record(address, name)
    models = _loaded()
    if model is not None:
        models.add(record.spec.model, model)
    return Binding(record, models)


def _address(given: str | Path) -> str:
    """An address as it is, with a whole path; a plain path by its ending.

    Whoever names a database also says, in the environment, how long to wait for one.
    """
    from likewise.cli import resolve

    set_lock_seconds(resolve.lock_seconds())
    if isinstance(given, str) and scheme_of(given) in SOURCES and ":" in given:
        return resolve.source(given, Path())
    return resolve.address(str(given), Path())


def _loaded() -> Loaded:
    from likewise.client.names import is_remote
    from likewise.server.loaded import Loaded

    return Loaded(lambda name: connect(name) if is_remote(name) else load(name))


class Binding:
    """Rows whose vectors follow them while this is open; close it, or use it in a `with`.

    Its threads embed what changes (whoever changes it) and keep the index in step.
    """

    def __init__(self, record: BindingRecord, models: Loaded) -> None:
        from likewise.server.bindings import LiveBinding

        self._models = models
        self._live = LiveBinding(record, self._models)
        self._live.start()
        self._closed = threading.Event()

    @property
    def record(self) -> BindingRecord:
        """What is bound, and the generation that answers."""
        return self._live.record

    @property
    def model(self) -> BoundModel:
        """The model of the generation that answers."""
        return self._models(self.record.spec.model)

    @property
    def name(self) -> str:
        """The binding's name."""
        return self.record.spec.name

    def search(
        self, text: str, k: int = 10, *, freshness: Freshness = "any", wait_s: float = 5.0
    ) -> list[Result]:
        """The `k` rows nearest to `text`, best first, each as the table has it now.

        `any` takes whatever vectors there are, `fresh` only those of rows' present texts; `wait`
        waits for up to `wait_s` seconds until all that was committed before is searchable.

        Raises:
            InputError: `text` is empty, or `k` is out of range.
            NotYetSearchable: it took longer; the message says what is in the way.
        """
        return self._live.search(text, k, freshness=freshness, wait_s=wait_s)

    def status(self) -> Status:
        """Rows, current, pending, parked, lag."""
        return self._live.status()

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

    def swap(
        self,
        model: BoundModel | str | None = None,
        *,
        chunk: str | None = None,
        text: str | None = None,
        allow_parked: bool = False,
        progress: Callable[[Status], None] | None = None,
    ) -> Audit:
        """Change the model, the text or how it is cut, while searches are answered; waits for it.

        The old vectors are kept and followed until `finish`. What isn't given stays, `text` is
        written as for `bind`; a swap that
        was interrupted goes on when nothing is given.

        Raises:
            SettingsError: nothing would change.
            BindingExists: another swap is under way, or the vectors from before are still kept.
            BindingError: the new vectors can't take over; the old ones answer as before.
            ModelNotFound: no place has the model.
        """
        from likewise.server import swapping

        if model is not None and not isinstance(model, str):
            self._models.add(model.space.model, model)
            model = model.space.model
        begun = swapping.begin(self.record, self._models, model=model, chunk=chunk, text=text)
        with swapping.towards(begun, self._models, allow_parked=allow_parked) as swap:
            audit = swap.run(progress)
        self._wait_for(begun)
        if audit is None:
            raise AssertionError("nobody stops it; this is a bug")
        return audit

    def rollback(self) -> None:
        """Let the vectors from before the last swap answer again; those of now are kept in turn.

        Raises:
            BindingNotFound: there are none.
        """
        from likewise.server import swapping

        before = swapping.previous(self.record.spec.store_address, self.name)
        swapping.roll_back(before, self._models)
        self._wait_for(before)

    def finish(self) -> None:
        """Drop the vectors from before the last swap: there is no way back then.

        Raises:
            BindingNotFound: there are none.
        """
        from likewise.server import swapping

        swapping.finish(self.record.spec.store_address, self.name)

    def retry(self) -> int:
        """Put the rows that couldn't be embedded back on the queue; gives how many."""
        from likewise.server.databases import retry_parked

        return retry_parked(self.record)

    def pause(self) -> None:
        """Stop all workers of the binding, wherever they run; changes go on being noted."""
        from likewise.server.databases import pause

        pause(self.record, True)

    def resume(self, *, accept_deletes: bool = False) -> None:
        """Let a paused binding go on; with `accept_deletes`, rows gone all at once are meant so."""
        from likewise.server.databases import pause

        pause(self.record, False, accept_deletes=accept_deletes)

    def close(self) -> None:
        """Stop following; what is stored stays. Closing twice does nothing."""
        if not self._closed.is_set():
            self._closed.set()
            self._live.begin_stop()
            self._models.hush()
            self._live.stop()
            self._models.close()

    def _wait_for(self, record: BindingRecord) -> None:
        """Until searches are answered by that generation.

        Raises:
            BindingError: something is in the way; it is cut over all the same.
        """
        deadline = monotonic() + _SWITCH_S
        while self._live.record.generation != record.generation:
            if monotonic() > deadline:
                raise BindingError(
                    f"binding {self.name}: generation {record.generation} is the current one and "
                    f"doesn't answer here yet; in the way: {self._live.trouble or 'nothing known'}"
                )
            self._closed.wait(_POLL_S)

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
