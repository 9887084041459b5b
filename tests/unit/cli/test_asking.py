"""Asking a running server: never through a proxy that could read the key, and never elsewhere."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from likewise.base.errors import SettingsError
from likewise.cli import asking
from likewise.cli.asking import Refused
from tests.unit.cli.test_guarding import make_certificate

KEY = "a-key-that-nobody-else-may-see"
PROXIES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


class Server:
    """Answers everything with `answer`, or sends it on to `sends_to`; notes what came."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.sends_to = ""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                outer.seen.append(f"{self.path} {self.headers.get('authorization', '')}")
                body = b'{"models": []}'
                self.send_response(307 if outer.sends_to else 200)
                if outer.sends_to:
                    self.send_header("location", outer.sends_to)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.at = f"127.0.0.1:{self.http.server_port}"


@contextlib.contextmanager
def running() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        server.http.server_close()
        thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as one:
        yield one


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with running() as one:
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        for name in PROXIES:
            monkeypatch.setenv(name, f"http://{one.at}")
        yield one


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_this_machine_is_asked_without_the_proxy(server: Server, proxy: Server, host: str) -> None:
    url = f"http://{host}:{server.http.server_port}"
    assert asking.ask(url, "/admin/models", has="models", key=KEY) == {"models": []}
    assert server.seen == [f"/admin/models Bearer {KEY}"]
    assert proxy.seen == []


def test_a_key_for_plain_http_elsewhere_isnt_shown_to_the_proxy(proxy: Server) -> None:
    # A name that no resolver knows: the connection fails at once, and the proxy hears nothing.
    with pytest.raises(SettingsError, match="nothing answers"):
        asking.ask("http://host.invalid:1", "/admin/models", has="models", key=KEY, timeout_s=30)
    assert proxy.seen == []


def test_https_elsewhere_goes_through_the_proxy_which_sees_no_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            taken, _ = listener.accept()
            with taken:
                heard.append(taken.recv(4000))
                taken.sendall(b"HTTP/1.1 502 No\r\ncontent-length: 0\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        for name in ("HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(SettingsError):
            asking.ask("https://host.invalid:1", "/x", has="models", key=KEY, timeout_s=30)
        thread.join()
    assert heard[0].startswith(b"CONNECT host.invalid:1 ")
    assert KEY.encode() not in heard[0]


def test_nothing_is_followed_elsewhere_with_the_key(server: Server) -> None:
    with running() as elsewhere:
        server.sends_to = f"http://{elsewhere.at}/stolen"
        with pytest.raises(Refused, match="307"):
            asking.ask(f"http://{server.at}", "/admin/models", has="models", key=KEY)
        assert elsewhere.seen == []


def test_a_certificate_that_isnt_known_is_no_missing_server(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path)
    with running() as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        plain = server.http.socket
        server.http.socket = context.wrap_socket(plain, server_side=True)
        plain.close()
        with pytest.raises(SettingsError, match="isn't accepted: self-signed.*SSL_CERT_FILE"):
            asking.ask(f"https://{server.at}", "/admin/models", has="models")
