"""A TCP relay between a worker and its server that can go silent, as a network does that is cut."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress

from tests.support import LIMIT


class Relay:
    """Listens on the loopback and carries what comes to a host and port, and back."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._speaks = threading.Event()
        self._speaks.set()
        self._is_away = self._is_closed = False
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._door.getsockname()[1]
        self._start(self._welcome)

    def cut(self) -> None:
        """Pass nothing on from now; every connection stays open at both ends."""
        self._speaks.clear()

    def mend(self) -> None:
        """Go on, first with what was sent meanwhile."""
        self._is_away = False
        self._speaks.set()

    def refuse(self) -> None:
        """As if the server's machine were there and the server not: no connection is kept."""
        self._is_away = True
        self._hang_up()

    def close(self) -> None:
        """End every connection and take no more."""
        self._is_closed = True
        self._door.shutdown(socket.SHUT_RDWR)
        self.mend()
        self._hang_up()
        # Threads come last that the one at the door starts.
        for each in self._threads:
            each.join(LIMIT)
        for one in (self._door, *self._sockets):
            one.close()

    def _hang_up(self) -> None:
        for each in list(self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _start(self, run: Callable[..., None], *values: socket.socket) -> None:
        made = threading.Thread(target=run, args=values, daemon=True)
        self._threads.append(made)
        made.start()

    def _welcome(self) -> None:
        while True:
            try:
                client, _ = self._door.accept()
            except OSError:
                return
            self._sockets.append(client)
            self._speaks.wait()
            if self._is_away or self._is_closed:
                client.close()
                continue
            server = socket.create_connection(self._target)
            self._sockets.append(server)
            self._start(self._carry, client, server)
            self._start(self._carry, server, client)

    def _carry(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while content := one.recv(1 << 16):
                self._speaks.wait()
                other.sendall(content)
            self._speaks.wait()
            other.shutdown(socket.SHUT_WR)
