"""What an endpoint may do to a connection: it is left in time, and takes no more than its share."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from likewise.base.errors import EndpointGarbled, EndpointUnavailable
from likewise.client.address import parse
from likewise.client.endpoint import Endpoint
from likewise.client.http import Http
from tests.remote_kit import Reply, Scripted, scripted
from tests.support import LIMIT

EVERY_S = 0.02
HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted() as made:
        yield made


class Raw:
    """A server that sends `first`, and then `more` again and again, for as long as one listens."""

    def __init__(self, first: bytes, more: bytes) -> None:
        self._first, self._more = first, more
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ending = threading.Event()
        self.asked = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"openai:m@http://127.0.0.1:{self._listener.getsockname()[1]}/v1"

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection:
                if self._ending.is_set():
                    return
                connection.recv(65536)
                self.asked.set()
                try:
                    connection.sendall(self._first)
                    while not self._ending.wait(EVERY_S):
                        connection.sendall(self._more)
                except ConnectionError:
                    pass

    def close(self) -> None:
        self._ending.set()
        socket.create_connection(self._listener.getsockname()).close()
        self._thread.join()
        self._listener.close()


DRIPPING = {
    "nothing": (b"", b""),
    "a head": (HEAD + b"x-a: ", b"a"),
    "interim answers": (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    "a chunk's extension": (HEAD + b"transfer-encoding: chunked\r\n\r\n1;", b"a"),
    "a body": (HEAD + b"content-length: 100000\r\n\r\n", b" "),
}


@pytest.fixture
def raw() -> Iterator[Callable[[str], Raw]]:
    made: list[Raw] = []

    def make(what: str) -> Raw:
        made.append(Raw(*DRIPPING[what]))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize("what", DRIPPING)
def test_an_answer_that_never_ends_is_left(raw: Callable[[str], Raw], what: str) -> None:
    endpoint = Endpoint(parse(f"{raw(what).address}?timeout=0.3"), wait=lambda seconds: None)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(endpoint.embed, ["a"], 1, lane="interactive", overflow="refuse")
        try:
            with pytest.raises(EndpointUnavailable, match="within 0.3 s"):
                call.result(LIMIT)
        finally:
            endpoint.close()


def test_a_query_has_its_patience_and_not_the_whole_time(
    raw: Callable[[str], Raw], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("likewise.client.endpoint.PATIENCE_S", {"interactive": 0.2, "bulk": 60})
    endpoint = Endpoint(parse(f"{raw('nothing').address}?timeout=3600"))
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(endpoint.embed, ["a"], 1, lane="interactive", overflow="refuse")
        try:
            with pytest.raises(EndpointUnavailable, match=r"within 0.\d* s$"):
                call.result(LIMIT)
        finally:
            endpoint.close()


@pytest.mark.parametrize("what", ["nothing", "a head", "a body"])
def test_closing_ends_an_answer_that_is_awaited(raw: Callable[[str], Raw], what: str) -> None:
    there = raw(what)
    endpoint = Endpoint(parse(f"{there.address}?timeout=3600"))
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(endpoint.embed, ["a"], 1, lane="bulk", overflow="refuse")
        assert there.asked.wait(LIMIT)
        endpoint.close()
        with pytest.raises(EndpointUnavailable, match="closed"):
            call.result(LIMIT)


@pytest.mark.parametrize("how", ["gzip", "gzip, gzip", "br"])
def test_a_packed_answer_is_not_unpacked(server: Scripted, how: str) -> None:
    bomb = gzip.compress(gzip.compress(bytes(2**22)))
    endpoint = Endpoint(parse(server.address), wait=lambda seconds: None)
    server.otherwise = lambda asked: Reply(body=bomb, headers={"content-encoding": how})
    with pytest.raises(EndpointGarbled, match=f"packed \\('{how}'\\)"):
        endpoint.embed(["a"], 1, lane="bulk", overflow="refuse")
    server.otherwise = lambda asked: Reply(503, bomb, {"content-encoding": how})
    with pytest.raises(EndpointUnavailable, match="503$"):
        endpoint.embed(["a"], 1, lane="interactive", overflow="refuse")
    assert {asked.headers["accept-encoding"] for asked in server.asked} == {"identity"}
    endpoint.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_this_machine_is_asked_without_a_proxy(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        http = Http(f"https://{host}:9", is_secure=True)
        try:
            with pytest.raises(EndpointUnavailable, match="can't be reached"):
                http.ask(f"https://{host}:9/x", None, {}, seconds=30, most=100, hint="")
        finally:
            http.close()
        proxy.setblocking(False)
        with pytest.raises(BlockingIOError):
            proxy.accept()
