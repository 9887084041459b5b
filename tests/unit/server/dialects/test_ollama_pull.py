"""Adding and taking away models in Ollama's dialect, and who may."""

import json
import threading
from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from likewise.base.errors import ModelNotFound, ModelUnsupported
from likewise.server.app import build
from tests.unit.server.fake_catalogue import FakeCatalogue, FakeEntry, FakeListing

HERE = ("127.0.0.1", 50_000)
MINILM = "sentence-transformers/all-MiniLM-L6-v2"


def client_of(
    catalogue: FakeListing, *, host: str | None = "127.0.0.1", keys: object = None, **caller: Any
) -> TestClient:
    app = build(catalogue)
    if keys is not None:
        app.state.keys = keys
    told = Told(app, caller)
    client = TestClient(told, client=HERE if host is None else (host, 50_000))
    client.headers.pop("origin", None)
    return client


class Told:
    """Says who asks, as the check of keys does."""

    def __init__(self, app: ASGIApp, caller: dict[str, Any]) -> None:
        self._app, self._caller = app, caller

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._caller:
            scope.setdefault("state", {})["caller"] = self._caller
        await self._app(scope, receive, send)


def lines(client: TestClient, **body: object) -> list[dict[str, Any]]:
    answer = client.post("/api/pull", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.splitlines()]


def refused(client: TestClient, status: int, method: str = "POST", **body: object) -> str:
    path = "/api/pull" if method == "POST" else "/api/delete"
    answer = client.request(method, path, json=body)
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    return str(answer.json()["error"])


def test_pulling_says_how_far_it_is() -> None:
    catalogue = FakeCatalogue()
    assert lines(client_of(catalogue), model="all-minilm") == [
        {"status": "pulling manifest"},
        {"status": f"pulling {MINILM} from the hub", "digest": MINILM, "completed": 0},
        {
            "status": f"pulling {MINILM} from the hub",
            "digest": MINILM,
            "completed": 50,
            "total": 100,
        },
        {"status": "success"},
    ]
    assert list(catalogue.entries) == [MINILM]


def test_pulling_without_progress() -> None:
    found = lines(client_of(FakeCatalogue(steps=0)), name="org/x:latest", insecure=False)
    assert found == [{"status": "pulling manifest"}, {"status": "success"}]


def test_pulling_in_one_answer() -> None:
    catalogue = FakeCatalogue()
    answer = client_of(catalogue).post("/api/pull", json={"model": "org/x", "stream": False})
    assert answer.json() == {"status": "success"}
    assert list(catalogue.entries) == ["org/x"]


@pytest.mark.parametrize("stream", [True, False])
def test_what_fails_at_once_has_its_status(stream: bool) -> None:
    client = client_of(FakeCatalogue(steps=0, fails=ModelNotFound("no network")))
    assert refused(client, 404, model="org/x", stream=stream) == "no network"


def test_what_fails_later_is_the_last_line() -> None:
    client = client_of(FakeCatalogue(fails=ModelUnsupported("pickles")))
    assert lines(client, model="org/x")[-1] == {"error": "pickles"}


def test_a_bug_while_pulling_is_said_without_details() -> None:
    found = lines(client_of(FakeCatalogue(fails=RuntimeError("secret"))), model="org/x")
    assert "bug" in found[-1]["error"]
    assert "secret" not in str(found)


def test_lines_come_while_it_is_fetched() -> None:
    """The gate opens only once the first lines were read."""
    import asyncio

    gate = threading.Event()
    app = build(FakeCatalogue(gate=gate))
    sent: list[dict[str, Any]] = []

    async def talk() -> None:
        scope = {
            "type": "http", "method": "POST", "path": "/api/pull", "headers": [],
            "query_string": b"", "root_path": "", "client": HERE, "asgi": {"spec_version": "2.4"},
        }  # fmt: skip
        body = {"type": "http.request", "body": b'{"model": "org/x"}', "more_body": False}

        async def receive() -> Any:
            return body

        async def send(message: Any) -> None:
            sent.append(message)
            if b"completed" in message.get("body", b""):
                gate.set()

        await app(scope, receive, send)

    asyncio.run(talk())
    assert b"success" in b"".join(message.get("body", b"") for message in sent)


@pytest.mark.parametrize("caller", [{}, {"name": "reader", "is_admin": False}])
def test_a_model_that_is_there_needs_no_admin(caller: dict[str, Any]) -> None:
    for catalogue in (FakeListing(FakeEntry(MINILM)), FakeCatalogue(FakeEntry(MINILM))):
        client = client_of(catalogue, host="10.0.0.9", keys=("k",), **caller)
        for name in (MINILM, "all-minilm", "ALL-MiniLM-L6-v2:latest"):
            assert lines(client, model=name) == [
                {"status": "pulling manifest"},
                {"status": "success"},
            ]
            answer = client.post("/api/pull", json={"model": name, "stream": False})
            assert answer.json() == {"status": "success"}


@pytest.mark.parametrize(
    ("host", "keys", "caller", "allowed"),
    [
        ("127.0.0.1", None, {}, True),
        ("::1", None, {}, True),
        ("127.8.8.8", None, {}, True),
        ("127.0.0.1", (), {}, False),
        ("", None, {}, True),
        ("10.0.0.9", None, {}, False),
        ("somewhere", None, {}, False),
        ("127.0.0.1", ("k",), {}, False),
        ("127.0.0.1", ("k",), {"is_admin": False}, False),
        ("10.0.0.9", ("k",), {"is_admin": True}, True),
    ],
)
def test_who_may(host: str, keys: object, caller: dict[str, Any], allowed: bool) -> None:
    catalogue = FakeCatalogue(FakeEntry("old"))
    client = client_of(catalogue, host=host, keys=keys, **caller)
    if allowed:
        assert lines(client, model="org/x")[-1] == {"status": "success"}
        assert client.request("DELETE", "/api/delete", json={"model": "old"}).status_code == 200
        return
    words = "needs an admin key" if keys is not None else "the server's own machine"
    assert words in refused(client, 403, model="org/x")
    assert words in refused(client, 403, "DELETE", model="old")
    # Nor does it tell what there is.
    assert words in refused(client, 403, "DELETE", model="nothing")
    assert list(catalogue.entries) == ["old"]


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("origin", "https://example.com", False),
        ("origin", "null", False),
        ("origin", "http://testserver", True),
        ("x-forwarded-for", "127.0.0.1", False),
        ("x-real-ip", "127.0.0.1", False),
        ("forwarded", "for=127.0.0.1", False),
    ],
)
def test_pages_and_proxies_may_not(name: str, value: str, allowed: bool) -> None:
    client = client_of(FakeCatalogue())
    answer = client.post("/api/pull", json={"model": "org/x"}, headers={name: value})
    assert answer.status_code == (200 if allowed else 403)


def test_a_fixed_list_says_so() -> None:
    client = client_of(FakeListing(FakeEntry("old")))
    for method, name in (("POST", "org/x"), ("DELETE", "old")):
        assert "serves a fixed list of models" in refused(client, 409, method, model=name)


def test_what_is_no_name_on_the_hub_is_not_fetched() -> None:
    catalogue = FakeCatalogue()
    for name in ("/etc", "../x", "llama3", "org/x:q4_0"):
        assert "can't be pulled" in refused(client_of(catalogue), 400, model=name)
    assert not catalogue.entries


@pytest.mark.parametrize("body", [{}, {"model": ""}, {"name": None}, {"force": True, "name": ""}])
@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_bad_bodies(method: str, body: dict[str, Any]) -> None:
    error = refused(client_of(FakeCatalogue()), 400, method, **body)
    assert "'model' is missing" in error


def test_delete() -> None:
    catalogue = FakeCatalogue(FakeEntry(MINILM), FakeEntry("mine", is_own_folder=True))
    client = client_of(catalogue)
    answer = client.request("DELETE", "/api/delete", json={"name": "all-minilm"})
    assert (answer.status_code, answer.content) == (200, b"")
    assert catalogue.removed == [MINILM]
    error = refused(client, 404, "DELETE", model="all-minilm")
    assert error.startswith("model 'all-minilm' not found")
    assert "a folder of yours" in refused(client, 409, "DELETE", model="mine")
