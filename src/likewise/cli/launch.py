"""What serve, up and demo have in common: take the port, load, start, answer, stop in order."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from likewise.base.errors import BindingNotFound, EndpointUnavailable, LikewiseError
from likewise.base.log import fields, logger
from likewise.cli import catalogue, output, resolve
from likewise.cli.guarding import guard_of
from likewise.cli.launched import Launch as Launch
from likewise.cli.reloading import Reload
from likewise.cli.settings import DEFAULT_HOST

if TYPE_CHECKING:
    import socket
    from collections.abc import Collection, Iterator, Sequence

    from starlette.applications import Starlette

    from likewise.base.bound import BindingRecord
    from likewise.base.protocols import BoundModel
    from likewise.base.spec import BindingSpec
    from likewise.cli.catalogue import Catalogued
    from likewise.server.bindings import LiveBinding
    from likewise.server.guard import Guard
    from likewise.server.run import Beside
    from likewise.server.serving import Listed
    from likewise.server.tracing import Tracer

_log = logger("cli")
_NOT_AS_SET = (
    "the settings ask for another model, text or passages than its vectors are of; the old ones "
    "answer until you run:"
)
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Running:
    """What is being served, for those who say so."""

    url: str
    models: Sequence[Listed]
    bindings: tuple[LiveBinding, ...]
    grpc_address: str | None = None
    """`host:port` of gRPC, where it is served."""


def serve(
    launch: Launch,
    on_ready: Callable[[Running], None] | None = None,
    *,
    before: Callable[[Running], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        launch: what to serve, and where.
        on_ready: called once requests are answered; it must return soon. `announce` when None.
        before: called when everything is loaded and bindings are being worked on, with no
            request answered yet.

    Raises:
        AddressInUse: a port is taken; nothing was loaded.
        MissingExtra: gRPC is wanted and not installed; nothing was loaded.
        SettingsError: the server can't be guarded as it should be; nothing was loaded.
        LikewiseError: a model or a binding can't be served.
    """
    from likewise.server import memory
    from likewise.server.listen import address_of

    memory.limit()
    for said in resolve.not_followed():
        output.warn(f"{said}; see docs/coming-from.md")
    guard = guard_of(launch.guarding, DEFAULT_HOST if launch.reaching.uds else launch.host)
    launch.reaching.behind()
    server = threading.Thread(target=_import_server, name="import-server")
    with contextlib.ExitStack() as cleanup:
        listener = _listener(launch, cleanup)
        held = _held_for_grpc(launch, cleanup)
        cleanup.enter_context(_stopped_by_sigterm())
        if launch.databases or launch.specs:
            # sqlite-vec imports a part of numpy without numpy: not while another thread is at it.
            import numpy  # noqa: F401 - see above
        server.start()
        # However this ends: a thread that imports while the interpreter ends shows a traceback.
        cleanup.callback(server.join)
        tracer = _tracer(launch.otlp_endpoint, cleanup)
        models = cleanup.enter_context(catalogue.opened(launch.place, launch.keeping))
        models.expect([*launch.models, *(spec.model for spec in launch.specs)])
        bindings = tuple(_live(launch, models, cleanup))
        is_empty = not bindings and launch.keeping.models_dir is None
        for name in launch.models or ((None,) if is_empty else ()):
            models.serve(name)
        models.start()
        server.join()
        url = address_of(listener, is_secure=guard.certificate is not None)
        grpc_address = None if held is None else address_of(held).partition("//")[2]
        running = Running(url, models.registry.models(), bindings, grpc_address)
        if before is not None:
            before(running)
        app = _app(launch, models, bindings, guard, tracer)
        app.state.secret = cleanup.enter_context(_written_down(launch, url, bindings))
        from likewise.server.run import run

        run(
            app,
            listener,
            on_ready=lambda: (on_ready or announce)(running),
            on_stop=app.state.readiness.drain,
            on_hup=Reload(launch, app, models).begin,
            drain_s=launch.drain_s,
            beside=None if held is None else _grpc(launch, app, guard, held),
        )


def _written_down(
    launch: Launch, url: str, bindings: Sequence[LiveBinding]
) -> contextlib.AbstractContextManager[str]:
    """Where `likewise search` finds this server; the secret that shows that it is the one."""
    from likewise.base.spec import without_password
    from likewise.cli.running import Followed, written_down

    followed = [
        Followed(each.name, without_password(each.record.spec.store_address)) for each in bindings
    ]
    return written_down(launch.place.cache, url, followed)


def _listener(launch: Launch, cleanup: contextlib.ExitStack) -> socket.socket:
    """The Unix socket, or the port, taken before anything slow is done."""
    if launch.reaching.uds is not None:
        from likewise.server.unix_socket import unix_listener

        return cleanup.enter_context(unix_listener(launch.reaching.uds, launch.reaching.mode))
    from likewise.server.listen import listen

    listener = listen(launch.host, launch.port)
    cleanup.callback(listener.close)
    return listener


def _held_for_grpc(launch: Launch, cleanup: contextlib.ExitStack) -> socket.socket | None:
    """The port for gRPC, taken before anything slow is done; None where none is wanted."""
    if launch.grpc_port is None:
        return None
    from likewise.server.grpc.service import require_grpc
    from likewise.server.listen import listen

    require_grpc()
    held = listen(launch.host, launch.grpc_port)
    cleanup.callback(held.close)
    return held


def _grpc(launch: Launch, app: Starlette, guard: Guard, held: socket.socket) -> Beside:
    from likewise.server.grpc.service import GrpcServer

    port = held.getsockname()[1]
    return GrpcServer(app, launch.host, port, certificate=guard.certificate, held=held)


def _tracer(endpoint: str | None, cleanup: contextlib.ExitStack) -> Tracer | None:
    """What traces requests, if they are to be sent anywhere; before anything slow is done."""
    if endpoint is None:
        return None
    from likewise.server.tracing import Tracer

    tracer = Tracer.to(endpoint)
    cleanup.callback(tracer.close)
    return tracer


@contextlib.contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """End a start as Ctrl-C does, with what was begun put away: copies of models are large."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    hup = signal.signal(signal.SIGHUP, _too_early)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGHUP, hup)


def _too_early(number: int, frame: object) -> None:
    """Settings are being read just now; a terminal that went away ends this."""
    from likewise.server.terminal import has_gone

    if has_gone():
        raise KeyboardInterrupt


def _app(
    launch: Launch,
    models: Catalogued,
    bindings: Sequence[LiveBinding],
    guard: Guard,
    tracer: Tracer | None,
) -> Starlette:
    from likewise.runtime.metrics import REGISTRY
    from likewise.server.app import LOOPBACK_HOSTS, build

    hosts: Collection[str] | None = None
    # A page of another host can't make a browser open a Unix socket, and a proxy before it may
    # call it by any name.
    if launch.host in _LOOPBACK and launch.reaching.uds is None:
        hosts = (*LOOPBACK_HOSTS, *(name.lower() for name in launch.allowed_hosts))
    app = build(
        models.registry,
        bindings,
        registry=REGISTRY,
        max_body_bytes=launch.max_body_mib * 2**20,
        allowed_hosts=hosts,
        guard=guard,
        tracer=tracer,
        behind=launch.reaching.behind(),
    )
    app.state.timeout_s = launch.keeping.timeout_s
    return app


def _import_server() -> None:
    """Import what answers requests while the model is compiled, which leaves a core idle."""
    import likewise.server.app
    import likewise.server.run  # noqa: F401 - only so that it is there


def announce(running: Running) -> None:
    """Say what is served and where."""
    for model in running.models:
        facts = model.facts()
        how = f"{facts['engine']}, {facts['precision']}" if "engine" in facts else model.state
        output.note(f"serving {model.name} ({how})")
    for binding in running.bindings:
        output.note(f"serving binding {binding.name} of {binding.bound_to}")
    if running.grpc_address is not None:
        output.note(f"listening for gRPC on {running.grpc_address}")
    output.note(f"listening on {running.url} (Ctrl-C stops)")


def _live(
    launch: Launch, models: Catalogued, cleanup: contextlib.ExitStack
) -> Iterator[LiveBinding]:
    """The bindings to serve: those of the settings, made where there is none, and stored ones."""
    if not launch.databases and not launch.specs:
        return
    from likewise.server.bindings import LiveBinding

    found = [_settled(spec, models) for spec in launch.specs]
    found += [(record, _no_notice) for record in _stored(launch.databases)]
    begun: list[LiveBinding] = []
    cleanup.callback(all_stop, begun, models)
    for record, notice in found:
        name = record.spec.name
        live = LiveBinding(
            record,
            functools.partial(models.bound, binding=name),
            notice=notice,
            release=functools.partial(models.unbound, binding=name),
        )
        begun.append(live)
        live.start()
        yield live


def all_stop(live: Sequence[LiveBinding], models: Catalogued) -> None:
    """All at once: none waits for an endpoint, or for another binding's batch."""
    with contextlib.ExitStack() as stops:
        for each in live:
            stops.callback(each.stop)
            each.begin_stop()
        models.hush()


def _stored(addresses: Sequence[str]) -> list[BindingRecord]:
    from likewise.base.same import escapes_notice
    from likewise.base.spec import without_password
    from likewise.server.databases import records

    made = []
    for address in addresses:
        found = records(address)
        if not found:
            shown = without_password(address)
            raise BindingNotFound(
                f"{shown} has no binding; make one with 'likewise bind add NAME --source "
                f"{shown} --table TABLE --text TEMPLATE'"
            )
        for each in found:
            if (notice := escapes_notice(each)) is not None:
                output.warn(f"binding {each.spec.name}: {notice}")
        made += found
    return made


Notice = Callable[["BindingRecord"], "str | None"]
"""What is to be said of a binding as it is, if anything."""


def _no_notice(record: BindingRecord) -> str | None:
    return None


def _settled(spec: BindingSpec, models: Catalogued) -> tuple[BindingRecord, Notice]:
    """The binding of `spec`, as it is; and what tells whether it is as the settings say.

    One with the vectors of another model, text or passages is served as it is: old vectors answer
    better than nothing does. That they are old is said here, in the log, and as its trouble for as
    long as it is so.
    """
    from likewise.base.same import escapes_notice, keeps_escapes, swap_needed
    from likewise.server.bindings import splitter
    from likewise.server.databases import found_or_made, made_before

    try:
        service = models.bound(spec.model, spec.name)
    except EndpointUnavailable as away:
        there = made_before(spec)
        if there is None:
            raise
        # Its rows and vectors are here, and its own thread asks again until somebody answers.
        output.warn(f"binding {spec.name}: {away}; it is asked again")
        if keeps_escapes(there, spec):
            output.warn(f"binding {spec.name}: {escapes_notice(there)}")
        return there, _no_notice
    # Before anything is made: a binding that can't be worked on must not be left behind.
    splitter(service, spec)
    space = service.space.stored_as(spec.chunk, spec.dtype)
    record, wanted = found_or_made(spec, space, service)

    def notice(there: BindingRecord) -> str | None:
        resolved = dataclasses.replace(spec, table=there.spec.table, key=there.spec.key)
        try:
            command = swap_needed(there, resolved, space)
        except LikewiseError as otherwise:
            return str(otherwise)
        return None if command is None else f"{_NOT_AS_SET} {command}"

    if wanted is not None:
        if keeps_escapes(record, spec):
            output.warn(f"binding {spec.name}: {escapes_notice(record)}")
        output.warn(f"binding {spec.name}: {_NOT_AS_SET} {wanted}")
        # The command is no value: those are quoted, which would double its backslashes.
        _log.warning(fields(f"binding isn't as set; run: {wanted}", binding=spec.name))
    if record.space.stored_as("", "").fingerprint != space.stored_as("", "").fingerprint:
        models.unbound(spec.model, spec.name)
    return record, notice


def make_binding(spec: BindingSpec, service: BoundModel) -> BindingRecord:
    """The binding of `spec`, made in its database for its model unless it is there already.

    Raises:
        BindingExists: one of that name is there with another definition.
        SpaceMismatch: it holds vectors of another model.
        DatabaseError: the file can't be used.
    """
    from likewise.server.bindings import splitter
    from likewise.server.databases import create

    # Before anything is made: a binding that can't be worked on must not be left behind.
    splitter(service, spec)
    return create(spec, service.space.stored_as(spec.chunk, spec.dtype), service)
