"""Hosts that a server on loopback answers to, and what those of the private network reach."""

import functools
import socket

import pytest
from starlette.testclient import TestClient

from likewise.server.app import LOOPBACK_HOSTS, build
from likewise.server.hosts import trust_of
from tests.unit.server.fakes import FakeModel

SURE = [
    "localhost", "LOCALHOST", "127.0.0.1", "127.8.9.1", "0.0.0.0", "[::1]", "[::]", "app.localhost",
    "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.0.7", "[fd00::5]", "[::ffff:127.0.0.1]",
    "[::ffff:10.0.0.1]",
]  # fmt: skip
PRIVATE = ["host.docker.internal", "mybox.local", "HOST.containers.INTERNAL", socket.gethostname()]
FOREIGN = [
    "evil.example", "ollama", "8.8.8.8", "172.32.0.1", "100.64.0.1", "169.254.169.254", "192.0.2.1",
    "[2001:db8::1]", "[::ffff:8.8.8.8]", "[fe80::1]", "localhost.evil.example", "localhost.",
    "evillocal", "internal", "local", "127.0.0.1.evil.example", "127.1", "2130706433", "0x7f000001",
    "[::1", "::1", "[127.0.0.1]", "x.internal.evil.example", "evil.example.localhost.", "[evil]",
]  # fmt: skip


@functools.cache
def client() -> TestClient:
    app = build({"m": FakeModel()}, allowed_hosts=(*LOOPBACK_HOSTS, "named.example"))
    return TestClient(app, base_url="http://127.0.0.1:7997")


def status(host: str, path: str = "/api/version", **headers: str) -> int:
    return client().get(path, headers={"host": host, **headers}).status_code


@pytest.mark.parametrize("port", ["", ":7997"])
@pytest.mark.parametrize("host", ["", *SURE])
def test_local_addresses_and_names_reach_everything(host: str, port: str) -> None:
    assert status(host + port) == 200
    assert status(host + port, "/bindings") == 200


@pytest.mark.parametrize("port", ["", ":7997"])
@pytest.mark.parametrize("host", PRIVATE)
def test_names_of_the_private_network_reach_models(host: str, port: str) -> None:
    for path in ("/api/version", "/v1/models", "/", "/health"):
        assert status(host + port, path) == 200, path
    for path in ("/bindings", "/search?q=x", "/admin/models", "/metrics"):
        assert status(host + port, path) == 421, path


def test_a_page_that_somebody_in_the_network_redirected_here_sends_nothing() -> None:
    for path in ("/api/embed", "/v1/embeddings", "/api/pull"):
        headers = {"host": "evil.local:7997", "origin": "http://evil.local:7997"}
        answer = client().post(path, json={"model": "m", "input": "a"}, headers=headers)
        assert answer.status_code == 403, path


@pytest.mark.parametrize("port", ["", ":7997"])
@pytest.mark.parametrize("host", FOREIGN)
def test_other_hosts_are_refused(host: str, port: str) -> None:
    assert status(host + port) == 421
    assert trust_of(host.lower()) == "foreign"


def test_a_host_that_was_allowed_reaches_everything() -> None:
    assert status("named.example:80", "/bindings") == 200
    assert status("NAMED.example", "/bindings") == 200
    assert status("x.named.example", "/api/version") == 421


def test_the_refusal_says_what_to_do() -> None:
    answer = client().get("/bindings", headers={"host": "mybox.local"})
    message = answer.json()["error"]["message"]
    assert "'mybox.local' at this path" in message
    assert "--allow-host" in message
    assert answer.json()["error"]["code"] == "host_not_allowed"
