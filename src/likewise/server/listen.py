"""The socket: taken before anything slow is done, so that a taken port is said at once."""

from __future__ import annotations

import errno
import socket

from likewise.base.errors import AddressInUse, SettingsError

_BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; connections wait in its backlog until the server runs.

    Raises:
        AddressInUse: another program listens there.
        SettingsError: `host` isn't an address of this machine, or the port isn't allowed.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError, OverflowError) as wrong:
        raise SettingsError(
            f"the host {host!r} can't be resolved: {wrong}", param="host"
        ) from wrong
    listener = socket.socket(family, kind, proto)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as refused:
        listener.close()
        raise _refused(host, port, refused) from refused
    listener.set_inheritable(False)
    return listener


def _refused(host: str, port: int, refused: OSError) -> AddressInUse | SettingsError:
    if refused.errno == errno.EADDRINUSE:
        return AddressInUse(
            f"port {port} on {host} is taken by another program (perhaps another likewise); "
            f"stop that one or choose a port with --port",
            param="port",
        )
    if refused.errno == errno.EACCES:
        return SettingsError(
            f"port {port} needs more rights than this user has; choose one above 1023",
            param="port",
        )
    return SettingsError(f"can't listen on {host} port {port}: {refused.strerror}", param="host")


def address_of(listener: socket.socket) -> str:
    """The URL of a listening socket; with a port of 0, the one that was given."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
