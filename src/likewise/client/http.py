"""One request over HTTP and its answer, within a time and a size: an endpoint may be anything.

httpx and httpcore are imported here and nowhere else.
"""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import weakref
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import httpcore
import httpx

from likewise.base.clock import monotonic
from likewise.base.errors import EndpointGarbled, EndpointUnavailable, SettingsError
from likewise.base.loopback import is_loopback
from likewise.client.answers import Answer
from likewise.version import __version__

if TYPE_CHECKING:
    import ssl

CONNECT_S = 10.0
_ENVIRONMENT = "HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE or SSL_CERT_DIR"


class Http:
    """Connections to where an endpoint is. Safe to use from several threads; `close` it."""

    def __init__(self, url: str, *, is_secure: bool) -> None:
        """Nothing is sent yet.

        Raises:
            SettingsError: `url` isn't one, or what the environment says of proxies and
                certificates can't be used.
        """
        self._network = _Network()
        try:
            httpx.URL(url)
        except (httpx.InvalidURL, UnicodeError) as wrong:
            raise SettingsError(
                f"remote model: its URL isn't one: {wrong}", param="model"
            ) from None
        try:
            # No proxy can reach this machine's own addresses, whatever NO_PROXY says.
            host = httpx.URL(url).host
            straight = {f"all://{_bracketed(host)}": None} if is_loopback(host) else None
            self._client = httpx.Client(
                # Nothing is unpacked: a few bytes may become as many as there is memory.
                headers={"user-agent": f"likewise/{__version__}", "accept-encoding": "identity"},
                follow_redirects=False,
                # Reading all the authorities takes longer than a request; plain http has none.
                verify=is_secure,
                # A proxy sees nothing of what goes through it to https, and all of the rest.
                trust_env=is_secure,
                mounts=straight,
            )
        except (ImportError, OSError, ValueError, httpx.InvalidURL) as wrong:
            # An address of a proxy may have a password in it, which isn't repeated.
            shown = type(wrong).__name__ if isinstance(wrong, ValueError) else wrong
            raise SettingsError(
                f"no connection can be made as the environment asks for: {shown}; look at "
                f"{_ENVIRONMENT}"
            ) from None
        _watch(self._client, self._network)
        # One that nobody closed leaves no connection behind.
        self._end = weakref.finalize(self, self._client.close)

    def ask(
        self,
        url: str,
        content: bytes | None,
        headers: Mapping[str, str],
        *,
        seconds: float,
        most: int,
        hint: str,
    ) -> Answer:
        """The answer to `content`, posted, or to GET; read within `seconds` and `most` bytes.

        Raises:
            EndpointUnavailable: it can't be reached, or took longer, which `hint` explains.
            EndpointGarbled: the answer is longer, or packed.
        """
        self._network.until.at = monotonic() + seconds
        method = "GET" if content is None else "POST"
        timeout = httpx.Timeout(seconds, connect=min(seconds, CONNECT_S))
        try:
            with self._client.stream(
                method, url, content=content, headers=dict(headers), timeout=timeout
            ) as response:
                body = _read(response, url, most)
                return Answer(url, response.status_code, response.headers, body)
        except httpx.TimeoutException:
            raise EndpointUnavailable(f"{url} didn't answer within {seconds:.3g} s{hint}") from None
        except httpx.RequestError as failed:
            reason = str(failed) or type(failed).__name__
            raise EndpointUnavailable(f"{url} can't be reached: {reason}") from None
        except (httpx.InvalidURL, UnicodeError) as wrong:
            raise SettingsError(f"{url} isn't a URL: {wrong}", param="model") from None
        except RuntimeError:
            # httpx has no error of its own for a client that was closed.
            if not self._network.is_closed:
                raise
            raise EndpointUnavailable(f"{url} isn't asked any more: it was closed") from None

    def close(self) -> None:
        """End all connections, those too on which an answer is awaited."""
        self._network.close()
        self._end()


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _read(response: httpx.Response, url: str, most: int) -> bytes:
    packed = response.headers.get("content-encoding", "identity").strip().lower()
    if packed not in ("", "identity"):
        if not response.is_success:
            return b""
        raise EndpointGarbled(f"{url} answers packed ({packed[:20]!r}), which it wasn't asked for")
    read = bytearray()
    for part in response.iter_raw():
        read += part
        if len(read) > most:
            raise EndpointGarbled(f"{url} answers with more than {most:,} bytes")
    return bytes(read)


def _watch(client: httpx.Client, network: _Network) -> None:
    """Have all of a client's connections made by `network`.

    httpx's own times are for each read, of which there may be any number before an answer's head
    is complete, and it has no public way to another one.
    """
    mounted: list[Any] = [client._transport, *client._mounts.values()]
    for transport in mounted:
        if transport is not None:
            if not hasattr(transport._pool, "_network_backend"):
                raise AssertionError("httpx keeps its network elsewhere; this is a bug")
            transport._pool._network_backend = network


class _Until(threading.local):
    """Until when the request of this thread is to be answered, by the monotonic clock."""

    at = math.inf

    def left(self, timeout: float | None, late: type[Exception]) -> float:
        """Seconds left, at most `timeout`; `late` is raised when there are none."""
        left = self.at - monotonic()
        if left <= 0:
            raise late("the answer takes too long")
        return left if timeout is None else min(left, timeout)


class _Network(httpcore.NetworkBackend):
    """Connections on which nothing lasts longer than `until`, and which can be ended meanwhile."""

    def __init__(self) -> None:
        self.until = _Until()
        self.is_closed = False
        self._inner = httpcore.SyncBackend()
        self._streams: weakref.WeakSet[_Stream] = weakref.WeakSet()
        self._lock = threading.Lock()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        left = self.until.left(timeout, httpcore.ConnectTimeout)
        stream = self._inner.connect_tcp(host, port, left, local_address, socket_options)
        return self.watched(stream)

    def watched(self, stream: httpcore.NetworkStream) -> httpcore.NetworkStream:
        made = _Stream(stream, self)
        with self._lock:
            self._streams.add(made)
            is_closed = self.is_closed
        if is_closed:
            made.end()
        return made

    def close(self) -> None:
        with self._lock:
            self.is_closed = True
            streams = list(self._streams)
        for each in streams:
            each.end()


class _Stream(httpcore.NetworkStream):
    """A connection, plain or encrypted."""

    def __init__(self, inner: httpcore.NetworkStream, network: _Network) -> None:
        self._inner = inner
        self._network = network

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        left = self._network.until.left(timeout, httpcore.ReadTimeout)
        return self._inner.read(max_bytes, left)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        left = self._network.until.left(timeout, httpcore.WriteTimeout)
        self._inner.write(buffer, left)

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        left = self._network.until.left(timeout, httpcore.ConnectTimeout)
        made = self._inner.start_tls(ssl_context, server_hostname, left)
        return self._network.watched(made)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)

    def close(self) -> None:
        self._inner.close()

    def end(self) -> None:
        """Wake whoever reads: closing alone doesn't, where another thread waits in a read."""
        with contextlib.suppress(OSError):
            # Not the method of an encrypted one, which takes its state away from the reader.
            socket.socket.shutdown(self._inner.get_extra_info("socket"), socket.SHUT_RDWR)
