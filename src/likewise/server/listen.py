"""Socket and certificate: tried before anything slow is done, so that trouble is said at once."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

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


def address_of(listener: socket.socket, *, is_secure: bool = False) -> str:
    """The URL of a listening socket; with a port of 0, the one that was given."""
    if listener.family == socket.AF_UNIX:
        return f"unix:{listener.getsockname()}"
    host, port = listener.getsockname()[:2]
    scheme = "https" if is_secure else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def require_certificate(certificate: Path | None, key: Path | None) -> tuple[Path, Path] | None:
    """Both files, once it is sure that a server can speak https with them; None without either.

    Raises:
        SettingsError: only one is given, or they can't be read, aren't PEM, don't belong together,
            or the key wants a passphrase.
    """
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        missing = "certificate (--tls-cert)" if certificate is None else "key (--tls-key)"
        raise SettingsError(f"https needs a certificate and its key; the {missing} is missing")
    import ssl

    for path in (certificate, key):
        try:
            path.open("rb").close()
        except OSError as refused:
            raise SettingsError(f"{path}: can't be read: {refused.strerror}") from refused

    def no_passphrase() -> str:
        raise SettingsError(f"{key} wants a passphrase; give a key without one")

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, no_passphrase)
    except ssl.SSLError as wrong:
        reason = (wrong.reason or "they aren't PEM").lower().replace("_", " ")
        raise SettingsError(
            f"{certificate} and {key} aren't a certificate in PEM and its key: {reason}"
        ) from wrong
    return certificate, key
