"""The admin routes over HTTP: what they do, what they refuse, and whom."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from likewise.runtime.making import Options, Wanted
from likewise.runtime.registry import Registry
from likewise.server.app import build
from tests.conformance.tiny import write_bert
from tests.support import LIMIT, wait_until
from tests.unit.server.fakes import FakeModel

AT = "/admin/models"


HERE = ("127.0.0.1", 50000)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    registry = Registry(Options(tmp_path / "cache", offline=True, precision="exact", threads=1))
    write_bert(tmp_path / "one")
    write_bert(tmp_path / "two", pooling="cls")
    registry.add("one", Wanted(str(tmp_path / "one")))
    yield registry
    registry.close()


@pytest.fixture
def client(registry: Registry) -> Iterator[TestClient]:
    app = build(registry)
    with TestClient(app, client=HERE) as client:
        yield client


def post(client: TestClient, path: str, **body: Any) -> Any:
    answer = client.post(AT + path, json=body)
    return answer.json() if answer.status_code == 200 else (answer.status_code, answer.json())


def refused(client: TestClient, path: str, **body: Any) -> tuple[int, str, str]:
    answer = client.post(AT + path, json=body)
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["message"]


def test_load_unload_reload(client: TestClient, tmp_path: Path) -> None:
    (listed,) = client.get(AT).json()["models"]
    assert (listed["model"], listed["state"], listed["source"]) == (
        "one", "unloaded", str(tmp_path / "one"),
    )  # fmt: skip
    told = post(client, "/load", model="one", aliases=["first"])
    assert (told["model"], told["state"], told["aliases"]) == ("one", "loaded", ["first"])
    assert told["seconds"] > 0
    assert told["holders"] == 0
    body = client.get(AT).json()
    assert body["resident_bytes"] == body["models"][0]["resident_bytes"] > 0
    vectors = client.post("/v1/embeddings", json={"input": "w1 w2", "model": "first"}).json()
    assert vectors["model"] == "one"

    write_bert(tmp_path / "one", pooling="cls")
    told = post(client, "/reload", model="first")
    assert (told["model"], told["generation"], told["space_changed"]) == ("one", 2, True)
    assert "can't be compared" in told["note"]
    changed = client.post("/v1/embeddings", json={"input": "w1 w2", "model": "one"}).json()
    assert changed["data"][0]["embedding"] != vectors["data"][0]["embedding"]
    assert "note" not in post(client, "/reload", model="one")

    assert post(client, "/unload", model="one")["was_loaded"] is True
    assert post(client, "/unload", model="one")["was_loaded"] is False
    assert client.get("/v1/models").json()["data"][0]["id"] == "one"
    assert client.get("/health").json()["models"]["one"]["state"] == "unloaded"
    # The next request loads it.
    assert client.post("/v1/embeddings", json={"input": "w1 w2"}).status_code == 200


def test_a_model_that_wasnt_in_the_list(client: TestClient, tmp_path: Path) -> None:
    told = post(
        client, "/load", model=str(tmp_path / "two"), keep_alive="5m", aliases=["b"], pinned=False
    )
    assert (told["model"], told["keep_alive_s"], told["pinned"]) == ("two", 300, False)
    assert 299 < told["expires_in_s"] <= 300
    assert client.post("/v1/embeddings", json={"input": "w1", "model": "b"}).status_code == 200
    assert post(client, "/load", model="b", keep_alive=-1)["expires_at"] is None
    assert post(client, "/alias", alias="c", model="b") == {"alias": "c", "model": "two"}
    assert post(client, "/alias", alias="b", model=None) == {"alias": "b", "model": None}
    assert client.post("/v1/embeddings", json={"input": "w1", "model": "b"}).status_code == 404


def test_what_is_refused(client: TestClient, tmp_path: Path) -> None:
    for path, body, status, code, words in (
        ("/load", {"model": "org/none"}, 404, "model_not_found", "working offline"),
        ("/load", {"model": "/none"}, 404, "model_not_found", "isn't a folder"),
        ("/load", {"model": "one", "engine": "torhc"}, 400, "invalid_input", "'torch'"),
        ("/load", {"model": "one", "keep_alive": "soon"}, 400, "invalid_input", "length of time"),
        ("/load", {"model": "one", "precision": "odd"}, 400, "invalid_input", "precision"),
        ("/load", {"model": "one", "presicion": "x"}, 400, "invalid_input", "'precision'"),
        ("/load", {}, 400, "invalid_input", "'model' is missing"),
        ("/unload", {"model": "two"}, 404, "model_not_found", "served: one"),
        ("/reload", {"model": "two"}, 404, "model_not_found", "served: one"),
        ("/alias", {"alias": "one", "model": "one"}, 409, "admin_error", "own name"),
        ("/alias", {"alias": "x", "model": None}, 404, "model_not_found", "no alias"),
    ):
        got = refused(client, path, **body)
        assert got[:2] == (status, code), (path, body, got)
        assert words in got[2]
    # What couldn't be loaded isn't left in the list.
    assert [each["model"] for each in client.get(AT).json()["models"]] == ["one"]
    post(client, "/load", model="one")
    assert refused(client, "/load", model="one", precision="small")[1] == "admin_error"
    answer = client.delete(f"{AT}/one")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "admin_error")
    assert (tmp_path / "one" / "config.json").is_file()
    assert client.put(AT).status_code == 405


def test_who_may(registry: Registry) -> None:
    app = build(registry)

    def ask(**headers: str) -> int:
        with TestClient(app, client=HERE) as client:
            return client.post(f"{AT}/unload", json={"model": "one"}, headers=headers).status_code

    assert ask(**{"x-forwarded-for": "10.0.0.9"}) == 403
    assert ask() == 200
    assert ask(origin="http://testserver") == 200
    assert ask(origin="https://evil.example") == 403
    assert ask(origin="null") == 403
    app.state.keys = object()
    assert ask() == 403


@pytest.mark.parametrize(("is_admin", "status"), [(True, 200), (False, 403)])
def test_an_admin_key_is_enough(registry: Registry, is_admin: bool, status: int) -> None:
    app = build(registry)
    app.state.keys = object()

    async def keyed(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope.setdefault("state", {})["caller"] = {"is_admin": is_admin}
        await app(scope, receive, send)

    with TestClient(keyed) as client:
        for method, path, body in (
            ("GET", "", None),
            ("POST", "/load", {"model": "one"}),
            ("POST", "/reload", {"model": "one"}),
            ("POST", "/alias", {"alias": "x", "model": "one"}),
            ("POST", "/unload", {"model": "one"}),
        ):
            assert client.request(method, AT + path, json=body).status_code == status
        answer = client.delete(f"{AT}/one")
        assert answer.status_code == (409 if is_admin else 403)


def test_models_that_are_fixed() -> None:
    app = build({"m": FakeModel()})
    with TestClient(app, client=HERE) as client:
        assert client.get(AT).json()["error"]["code"] == "admin_error"


def test_the_load_goes_on_when_the_client_hangs_up(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio

    begun, go_on = threading.Event(), threading.Event()
    load = registry._loader.load

    def slow(*args: Any) -> Any:
        begun.set()
        assert go_on.wait(LIMIT)
        return load(*args)

    monkeypatch.setattr(registry._loader, "load", slow)
    app = build(registry)
    sent: list[Any] = []
    messages = [{"type": "http.request", "body": b'{"model": "one"}', "more_body": False}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await asyncio.to_thread(begun.wait, 30)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": f"{AT}/load", "raw_path": b"", "root_path": "",
        "query_string": b"", "headers": [], "http_version": "1.1", "scheme": "http",
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    assert sent == []
    go_on.set()
    wait_until(lambda: registry.model("one").state == "loaded")
    assert registry.model("one").facts()["holders"] == 0
