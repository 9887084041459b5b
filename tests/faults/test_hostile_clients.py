"""Clients that mean no good, over raw sockets: each gets one answer or none, and is cut off."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from likewise.server.app import LOOPBACK_HOSTS, build
from likewise.server.guard import Guard
from likewise.server.listen import listen
from likewise.server.run import server
from tests.support import LIMIT, started, wait_until
from tests.unit.server.fakes import FakeModel

PATH = b"/v1/embeddings"
GOOD = b'{"input": "abc"}'
PATIENCE_S = LIMIT


class Served:
    """A real server in a thread, and what it counted."""

    def __init__(self, guard: Guard | None = None) -> None:
        self.model = FakeModel()
        self.registry = CollectorRegistry()
        app = build(
            {"m": self.model}, registry=self.registry, allowed_hosts=LOOPBACK_HOSTS, guard=guard
        )
        self._listener = listen("127.0.0.1", 0)
        self.port = self._listener.getsockname()[1]
        self._server = server(app)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._listener]}
        )
        self._thread.start()

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)

    def talk(self, *parts: bytes) -> bytes:
        """All that comes back, until the server ends the connection."""
        with self.connect() as client:
            for part in parts:
                # It may have had enough before we have said all.
                with contextlib.suppress(ConnectionError):
                    client.sendall(part)
            return rest_of(client)

    def counted(self, name: str) -> dict[str, float]:
        """The samples of one metric: labels as they are written, to the value."""
        text = generate_latest(self.registry).decode()
        found = re.findall(rf"^{name}{{(.*)}} (\S+)$", text, re.MULTILINE)
        return {labels: float(value) for labels, value in found}

    def answers_still(self) -> None:
        url = f"http://127.0.0.1:{self.port}/v1/embeddings"
        assert httpx.post(url, content=GOOD, timeout=LIMIT).status_code == 200


def rest_of(client: socket.socket) -> bytes:
    parts = []
    with contextlib.suppress(ConnectionError):
        while part := client.recv(65536):
            parts.append(part)
    return b"".join(parts)


def statuses(answer: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


def post(body: bytes = GOOD, *headers: bytes, close: bool = True) -> bytes:
    """A whole request."""
    lines = [b"POST " + PATH + b" HTTP/1.1", b"Host: localhost", *headers]
    if not any(h.lower().startswith((b"content-length", b"transfer-encoding")) for h in headers):
        lines.append(b"Content-Length: %d" % len(body))
    if close:
        lines.append(b"Connection: close")
    return b"\r\n".join([*lines, b"", body])


@pytest.fixture
def served() -> Iterator[Served]:
    running = Served(Guard(head_timeout_s=PATIENCE_S * 4, body_timeout_s=PATIENCE_S * 4))
    yield running
    running.stop()


CHUNKED = b"Transfer-Encoding: chunked"
SMUGGLED = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
AMBIGUOUS = {
    "length and chunks": post(b"0\r\n\r\n" + SMUGGLED, b"Content-Length: 6", CHUNKED),
    "chunks and length": post(b"0\r\n\r\n" + SMUGGLED, CHUNKED, b"Content-Length: 6"),
    "two lengths": post(GOOD + SMUGGLED, b"Content-Length: 16", b"Content-Length: 60"),
    "the same length twice": post(GOOD, b"Content-Length: 16", b"Content-Length: 16"),
    "a list of lengths": post(GOOD, b"Content-Length: 16, 16"),
    "a length below 0": post(GOOD, b"Content-Length: -1"),
    "a length with a sign": post(GOOD, b"Content-Length: +16"),
    "a length in hexadecimal": post(GOOD, b"Content-Length: 0x10"),
    "a length that no number holds": post(GOOD, b"Content-Length: " + b"9" * 40),
    "no length": post(GOOD, b"Content-Length:"),
    "a length with a space in it": post(GOOD, b"Content-Length: 1 6"),
    "a space before the colon": post(GOOD, b"Content-Length : 16"),
    "chunks, with a space before the colon": post(b"0\r\n\r\n", b"Transfer-Encoding : chunked"),
    "xchunked": post(b"0\r\n\r\n" + SMUGGLED, b"Transfer-Encoding: xchunked"),
    "chunked in quotes": post(b"0\r\n\r\n", b'Transfer-Encoding: "chunked"'),
    "chunked after a vertical tab": post(b"0\r\n\r\n", b"Transfer-Encoding:\x0bchunked"),
    "chunked on the next line": post(b"0\r\n\r\n", b"Transfer-Encoding:\r\n chunked"),
    "chunked, then identity": post(b"0\r\n\r\n", b"Transfer-Encoding: chunked, identity"),
    "identity, then chunked": post(b"0\r\n\r\n", b"Transfer-Encoding: identity, chunked"),
    "gzip, then chunked": post(b"0\r\n\r\n", b"Transfer-Encoding: gzip, chunked"),
    "chunked twice": post(b"0\r\n\r\n", CHUNKED, CHUNKED),
    "identity alone": post(GOOD, b"Transfer-Encoding: identity"),
    "chunks in HTTP/1.0": post(b"0\r\n\r\n", CHUNKED).replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    "a chunk's size below 0": post(b"-3\r\nabc\r\n0\r\n\r\n", CHUNKED),
    "a chunk's size in C's way": post(b"0x10\r\n" + GOOD + b"\r\n0\r\n\r\n", CHUNKED),
    "a chunk's size that no number holds": post(b"F" * 17 + b"\r\nabc", CHUNKED),
    "a chunk longer than it says": post(b"3\r\nabcd\r\n0\r\n\r\n", CHUNKED),
    "chunks with bare LF": post(b"10\n" + GOOD + b"\n0\n\n", CHUNKED),
    "bare LF everywhere": post().replace(b"\r\n", b"\n"),
    "a bare LF": post(GOOD, b"A: b\nTransfer-Encoding: chunked"),
    "a bare CR": post(GOOD, b"A: b\rTransfer-Encoding: chunked"),
    "a NUL in a value": post(GOOD, b"A: b\x00"),
    "a NUL in a name": post(GOOD, b"A\x00: b"),
    "a folded header": post(GOOD, b"A: b\r\n c: d"),
    "two hosts": post(GOOD, b"Host: evil.example"),
    "no version": b"GET /v1/models\r\n\r\n",
    "a version that isn't ours": b"GET /v1/models HTTP/2.0\r\nHost: localhost\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0" * 9,
    "a tunnel": b"CONNECT localhost:22 HTTP/1.1\r\nHost: localhost\r\n\r\nSSH-2.0\r\n",
    "TLS": bytes.fromhex("1603010200010001fc0303") + b"\x07" * 500,
    "noise": b"\xff" * 5000,
    "a space in the path": b"GET /v1/ models HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


@pytest.mark.parametrize("request_", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_what_could_be_read_in_two_ways_is_refused_once_and_nothing_behind_it_is_read(
    served: Served, request_: bytes
) -> None:
    answer = served.talk(request_ + SMUGGLED)
    assert statuses(answer) == [400], answer
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"connection: close" in head
    assert json.loads(body)["error"]["code"] == "bad_request"
    assert not served.model.asked
    served.answers_still()


PLAIN = {
    "chunks": post(b"6\r\n" + GOOD[:6] + b"\r\nA\r\n" + GOOD[6:] + b"\r\n0\r\n\r\n", CHUNKED),
    "chunks, shouted": post(b"10\r\n" + GOOD + b"\r\n0\r\n\r\n", b"transfer-encoding: CHUNKED"),
    "extensions": post(b'10;a=b;c="d"\r\n' + GOOD + b"\r\n0\r\n\r\n", CHUNKED),
    "empty lines before it": b"\r\n\r\n" + post(),
    "HTTP/1.0": post().replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    "a word about continuing": post(GOOD, b"Expect: 100-continue"),
}


@pytest.mark.parametrize("request_", PLAIN.values(), ids=PLAIN)
def test_what_is_unusual_and_clear_is_read(served: Served, request_: bytes) -> None:
    answer = served.talk(request_)
    assert [status for status in statuses(answer) if status != 100] == [200], answer
    assert served.model.asked[0]["inputs"] == ["abc"]


@pytest.mark.parametrize("at_once", [True, False])
def test_another_protocol_offered_is_not_taken_and_the_body_is_read(
    served: Served, at_once: bool
) -> None:
    """Java's client offers HTTP/2 with its first request."""
    offer = (b"Upgrade: h2c", b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA")
    sent = post(GOOD, *offer, b"Connection: Upgrade, HTTP2-Settings", close=False)
    parts = [sent + SMUGGLED] if at_once else [sent[:-5], sent[-5:]]
    answer = served.talk(*parts)
    assert statuses(answer) == [200], answer
    assert served.model.asked[0]["inputs"] == ["abc"]


def test_what_stands_behind_the_body_is_no_header(served: Served) -> None:
    chunks = b"10\r\n" + GOOD + b"\r\n0\r\nX-Likewise-Lane: nonsense\r\n\r\n"
    assert statuses(served.talk(post(chunks, CHUNKED))) == [200]


def test_requests_in_a_row_are_answered_in_their_order(served: Served) -> None:
    bodies = [b'{"input": "%s"}' % (b"x" * at) for at in range(1, 20)]
    answer = served.talk(
        b"".join(post(body, close=False) for body in bodies[:-1]) + post(bodies[-1])
    )
    assert statuses(answer) == [200] * len(bodies)
    assert [len(asked["inputs"][0]) for asked in served.model.asked] == list(range(1, 20))


def test_noise_behind_a_request_is_not_its_answer(served: Served) -> None:
    served.model.held = threading.Event()
    with served.connect() as client:
        client.sendall(post(close=False) + b"\xff\xff noise\r\n\r\n")
        wait_until(lambda: served.model.asked, what="the first request's arrival")
        served.model.held.set()
        answer = rest_of(client)
    assert statuses(answer) == [200], answer
    assert b"connection: close" in answer


def test_a_refusal_is_not_followed_by_another_one_for_the_same_request(served: Served) -> None:
    with served.connect() as client:
        # Answered from its head alone, while the body goes on and turns into noise.
        client.sendall(b"POST /nothing HTTP/1.1\r\nHost: localhost\r\n" + CHUNKED + b"\r\n\r\n")
        answer = client.recv(65536)
        client.sendall(b"zz noise\r\n")
        answer += rest_of(client)
    assert statuses(answer) == [404], answer


def test_what_was_refused_is_not_carried_out_as_well(served: Served) -> None:
    """The parser finds fault with this one's framing only behind the whole head."""
    head = b"GET /search?q=a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n"
    assert statuses(served.talk(head)) == [400]
    served.answers_still()
    assert not any("/search" in labels for labels in served.counted("likewise_http_requests_total"))


def test_an_error_in_a_later_requests_body_doesnt_overtake_the_first_answer(
    served: Served,
) -> None:
    served.model.held = threading.Event()
    with served.connect() as client:
        client.sendall(post(close=False) + post(b"zz\r\n", CHUNKED) + SMUGGLED)
        wait_until(lambda: served.model.asked, what="the first request's arrival")
        served.model.held.set()
        answer = rest_of(client)
    assert statuses(answer) == [200, 400], answer
    assert len(served.model.asked) == 1


BAD_BODIES = {
    "deep, closed": b'{"input": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep, open": b'{"input": ' + b"[" * 100_000,
    "deep in a field that isn't known": b'{"x": ' + b'{"a":' * 100_000,
    "a large number": b'{"input": "a", "dimensions": 1e400}',
    "a long number": b'{"input": "a", "dimensions": ' + b"1" * 10_000 + b"}",
    "a long token id": b'{"input": [' + b"1" * 10_000 + b"]}",
    "a long number below 0": b'{"input": [-' + b"1" * 10_000 + b"]}",
    "a name twice": b'{"input": "a", "input": "b"}',
    "another name twice": b'{"model": "m", "input": "a", "model": "n"}',
    "a NUL": b'{"input": "a\x00b"}',
    "only NULs": b"\x00" * 1000,
    "a byte-order mark": b'\xef\xbb\xbf{"input": "a"}',
    "UTF-16": '{"input": "a"}'.encode("utf-16"),
    "UTF-16 without its mark": '{"input": "a"}'.encode("utf-16-le"),
    "UTF-32": '{"input": "a"}'.encode("utf-32"),
    "half a surrogate": b'{"input": "\\ud800"}',
    "the other half": b'{"input": "a\\udc00b"}',
    "a surrogate in UTF-8": b'{"input": "\xed\xa0\x80"}',
    "overlong UTF-8": b'{"input": "\xc0\xaf"}',
    "a text that doesn't end": b'{"input": "' + b"a" * 31 * 2**20,
    "an escape that doesn't end": b'{"input": "\\u12',
    "31 MiB of brackets": b"[" * 31 * 2**20,
    "31 MiB of nothing": b" " * 31 * 2**20,
    "31 MiB for a name": b'{"' + b"a" * 31 * 2**20 + b'": 1}',
    "31 MiB of empty lists": b'{"input": [' + b"[]," * (31 * 2**20 // 3) + b"[]]}",
    "31 MiB of quotes": b'{"input": [' + b'"\\"' * (31 * 2**20 // 3),
    "31 MiB of brackets in a text": b'{"input": "' + b"[" * 31 * 2**20 + b'", "dimensions": "x"}',
    "31 MiB for a model": b'{"input": "a", "model": "' + b"m" * 31 * 2**20 + b'"}',
    "33 MiB": b'{"input": "' + b"a" * 33 * 2**20 + b'"}',
}

PROGRAM = """
from likewise.server.app import build
from likewise.server.listen import listen
from likewise.server.run import run
from tests.unit.server.fakes import FakeModel
listener = listen("127.0.0.1", 0)
print(listener.getsockname()[1], flush=True)
run(build({"m": FakeModel()}), listener)
"""


@pytest.fixture(scope="module")
def process(repo: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server in a process of its own, which memory can be seen to go up and down in."""
    command = [sys.executable, "-c", PROGRAM]
    with started(
        command, cwd=repo, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        try:
            assert running.stdout is not None
            yield f"http://127.0.0.1:{running.stdout.readline().strip()}", running
        finally:
            running.terminate()
            _, said = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 0
    assert "Traceback" not in said


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES)
def test_bodies_made_to_harm_are_refused_in_bounded_memory(
    process: tuple[str, subprocess.Popen[str]], body: bytes
) -> None:
    url, running = process
    answer = httpx.post(f"{url}/v1/embeddings", content=body, timeout=LIMIT)
    assert answer.status_code in (400, 404, 413), answer.text
    error = answer.json()["error"]
    assert error["code"] in ("invalid_input", "body_too_large", "model_not_found")
    assert len(answer.content) < 10_000
    memory = psutil.Process(running.pid).memory_info()
    assert memory.rss < 600 * 2**20
    assert httpx.post(f"{url}/v1/embeddings", content=GOOD, timeout=LIMIT).status_code == 200


def test_a_head_without_an_end_is_cut_off(served: Served) -> None:
    for beginning in (
        b"GET /" + b"a" * 100_000,
        b"GET / HTTP/1.1\r\nA: " + b"a" * 100_000,
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000,
        b"\r\n" * 50_000,
    ):
        answer = served.talk(beginning)
        # Many lines before a request are no request; what was sent may overtake the answer.
        assert statuses(answer) in ([431], []), answer
    assert served.counted("likewise_http_cut_off_total")['reason="head_too_large"'] == 4
    served.answers_still()


def test_chunks_of_nothing_but_extensions_are_cut_off(served: Served) -> None:
    answer = served.talk(post(b"1;" + b"a" * 1_000_000, CHUNKED))
    assert statuses(answer) in ([400], []), answer
    # Behind the body, too.
    answer = served.talk(post(b"10\r\n" + GOOD + b"\r\n0\r\nA: " + b"a" * 1_000_000, CHUNKED))
    assert statuses(answer) in ([400], []), answer
    served.answers_still()


@pytest.fixture
def impatient() -> Iterator[Served]:
    running = Served(
        Guard(head_timeout_s=0.3, body_timeout_s=0.3, keep_alive_s=0.3, max_connections=5)
    )
    yield running
    running.stop()


@pytest.mark.parametrize(
    ("beginning", "drip", "expected"),
    [
        (b"", None, [408]),
        (b"", b"\r\n", [408]),
        (b"GET / HT", None, [408]),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nA: ", b"a", [408]),
        (post(GOOD, b"Content-Length: 100"), None, [408]),
        (post(b"", b"Content-Length: 1000000"), b" ", [408]),
        (post(b"", CHUNKED), b"1\r\n \r\n", [408]),
        (post(close=False), None, [200]),
        (post(close=False), b"\r\n", [200, 408]),
    ],
    ids=["nothing", "empty lines", "half a line", "a slow header", "half a body", "a slow body",
         "slow chunks", "idle", "idle, with empty lines"],
)  # fmt: skip
def test_a_slow_client_is_cut_off(
    impatient: Served, beginning: bytes, drip: bytes | None, expected: list[int]
) -> None:
    answer = b""
    with impatient.connect() as client:
        client.sendall(beginning)
        client.settimeout(0.05)
        for _ in range(int(20 * PATIENCE_S)):
            try:
                part = client.recv(65536)
            except TimeoutError:
                if drip is not None:
                    with contextlib.suppress(ConnectionError):
                        client.sendall(drip)
                continue
            except ConnectionError:
                break
            if not part:
                break
            answer += part
        else:
            pytest.fail("it is still connected")
    assert statuses(answer) == expected, answer
    if beginning.startswith(b"POST") and expected == [408]:
        # The handler's own words, in its dialect's shape, long before the connection gives up.
        assert b"the body didn't come within 0.3 s" in answer
    impatient.answers_still()


def test_a_slow_body_that_nobody_reads_any_more_is_cut_off(impatient: Served) -> None:
    """Its request was answered from the head; it may not hold the connection all the same."""
    from likewise.server import wire

    before, wire._BACKSTOP_S = wire._BACKSTOP_S, 0.0
    try:
        beginning = b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\n"
        assert statuses(impatient.talk(beginning)) == [404]
    finally:
        wire._BACKSTOP_S = before
    wait_until(lambda: 'reason="slow_body"' in impatient.counted("likewise_http_cut_off_total"))


def test_more_connections_than_there_may_be_are_refused_in_words(impatient: Served) -> None:
    with contextlib.ExitStack() as held:
        for _ in range(5):
            held.enter_context(impatient.connect())
        answer = impatient.talk(post(close=False))
        assert statuses(answer) == [503], answer
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"retry-after: 1" in head
        assert json.loads(body)["error"]["code"] == "overloaded"
        assert not impatient.model.asked

    wait_until(lambda: statuses(impatient.talk(post())) == [200], what="room for another one")


def test_a_client_that_cuts_off_is_no_bug(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    endings = {
        "in its body": post(GOOD, b"Content-Length: 1000"),
        "in a chunk": post(b"FF\r\nabc", CHUNKED),
        "before its body": post(b"", b"Content-Length: 1000"),
    }
    for sent in endings.values():
        with served.connect() as client:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            assert rest_of(client) == b""
    with served.connect() as client:
        client.sendall(post(GOOD, b"Content-Length: 1000"))
        # A reset instead of an end.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")

    def gone() -> bool:
        counted = served.counted("likewise_http_requests_total")
        left = [count for labels, count in counted.items() if 'status="499"' in labels]
        return sum(left) == len(endings) + 1

    wait_until(gone, what="four clients counted as gone")
    assert "Traceback" not in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert not served.model.asked
    served.answers_still()


def test_a_client_that_leaves_requests_in_a_row_behind_frees_the_first_too(served: Served) -> None:
    served.model.held = threading.Event()
    with served.connect() as client:
        client.sendall(post(close=False) + post(close=False))
        wait_until(lambda: served.model.futures, what="the first request's arrival")
    wait_until(lambda: served.model.futures[0].cancelled(), what="its end")
    served.model.held.set()


def test_many_that_do_all_of_this_at_once_leave_a_working_server(served: Served) -> None:
    attacks = [*AMBIGUOUS.values(), post(GOOD, b"Content-Length: 1000"), b"GET /" + b"a" * 100_000]
    failed: list[Any] = []

    def attack(own: int) -> None:
        for sent in attacks[own::4]:
            try:
                with served.connect() as client, contextlib.suppress(ConnectionError):
                    client.sendall(sent)
                    client.shutdown(socket.SHUT_WR)
                    rest_of(client)
                served.answers_still()
            except BaseException as wrong:  # noqa: BLE001 - shown by the test
                failed.append(wrong)

    threads = [threading.Thread(target=attack, args=(own,)) for own in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    running = generate_latest(served.registry).decode()
    assert "likewise_http_requests_running 0.0" in running
