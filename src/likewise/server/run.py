"""Running: answers until a signal says stop, then finishes what was accepted and returns."""

from __future__ import annotations

import contextlib
import functools
import signal
import threading
from typing import TYPE_CHECKING, Any, Protocol, cast

import uvicorn

from likewise.base.clock import monotonic
from likewise.server.guard import Guard
from likewise.server.terminal import has_gone
from likewise.server.wire import Wire

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from types import FrameType

    from starlette.types import ASGIApp

GRACE_S = 60
"""How long accepted requests may take to be answered after a signal to stop."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run(
    app: ASGIApp,
    listener: socket.socket,
    *,
    on_ready: Callable[[], None] | None = None,
    on_stop: Callable[[], None] | None = None,
    on_hup: Callable[[], None] | None = None,
    drain_s: float = 0.0,
    beside: Beside | None = None,
) -> None:
    """Answer requests until SIGINT or SIGTERM; accepted requests are answered before it returns.

    `on_hup` is called at each SIGHUP. Without it, and where the terminal is gone, SIGHUP is one of
    the signals to stop.

    `on_ready` is called once requests are being answered, `on_stop` as soon as a signal comes. From
    then on connections are taken for `drain_s` more, so that who sends requests here has the time
    to see that this server isn't ready any more. A second signal drops what still runs. `beside`
    starts and stops with it.
    """
    whole = server(app, on_ready=on_ready, on_stop=on_stop, drain_s=drain_s, beside=beside)
    whole.on_hup = on_hup
    whole.run(sockets=[listener])


def server(
    app: ASGIApp,
    *,
    on_ready: Callable[[], None] | None = None,
    on_stop: Callable[[], None] | None = None,
    drain_s: float = 0.0,
    beside: Beside | None = None,
) -> Server:
    """A server that `run` and tests start; setting its `should_exit` stops it.

    What guards it is what the application was built with.
    """
    state = getattr(app, "state", None)
    guard: Guard = getattr(state, "guard", None) or Guard()
    refused = getattr(state, "cut_off", None)
    certificate, key = guard.certificate or (None, None)

    def cut_off(reason: str) -> None:
        if refused is not None:
            refused.labels(reason).inc()

    config = uvicorn.Config(
        app,
        # A class, as far as uvicorn is concerned.
        http=cast("Any", functools.partial(Wire, guard=guard, cut_off=cut_off)),
        timeout_keep_alive=cast("int", guard.keep_alive_s),
        ssl_certfile=certificate,
        ssl_keyfile=key,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        # The application does it, once it has seen who really sends (`app.build`).
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE_S,
    )
    return Server(config, on_ready, on_stop, drain_s, beside)


class Beside(Protocol):
    """Another server of the same application, in the same event loop."""

    async def start(self) -> None:
        """Begin to answer."""
        ...

    async def stop(self, grace_s: float) -> None:
        """Take nothing more; what runs may take `grace_s` seconds to end."""
        ...


class Server(uvicorn.Server):
    """uvicorn, except that it drains, and that a signal ends in a return and isn't raised again."""

    def __init__(
        self,
        config: uvicorn.Config,
        on_ready: Callable[[], None] | None,
        on_stop: Callable[[], None] | None,
        drain_s: float,
        beside: Beside | None = None,
    ) -> None:
        super().__init__(config)
        self._beside = beside
        self._on_ready = on_ready
        self._on_stop = on_stop
        self._drain_s = drain_s
        self._stop_at: float | None = None
        self.on_hup: Callable[[], None] | None = None
        """What SIGHUP does, where it doesn't stop the server."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer."""
        await super().startup(sockets)
        if self._beside is not None and not self.should_exit:
            await self._beside.start()
        if self._on_ready is not None and not self.should_exit:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop taking requests, and answer those that run."""
        if self._beside is not None:
            await self._beside.stop(0 if self.force_exit else GRACE_S)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Not ready from now on; stop after the time to drain, or at once the second time."""
        del sig, frame
        if self._stop_at is not None:
            self.should_exit = self.force_exit = True
            return
        self._stop_at = monotonic() + self._drain_s
        if self._on_stop is not None:
            self._on_stop()
        if not self._drain_s:
            self.should_exit = True

    def _hung_up(self, sig: int, frame: FrameType | None) -> None:
        if self.on_hup is None or has_gone():
            self.handle_exit(sig, frame)
        else:
            self.on_hup()

    async def on_tick(self, counter: int) -> bool:
        """Whether to stop taking connections."""
        if self._stop_at is not None and monotonic() >= self._stop_at:
            self.should_exit = True
        return await super().on_tick(counter)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take the signals to stop while serving, and give them back afterwards."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in _SIGNALS}
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, self._hung_up)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
