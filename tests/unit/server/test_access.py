"""Letting no one in: every route is guarded but a few, by keys with lanes and limits."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from likewise.runtime import metrics
from likewise.server import access
from likewise.server.app import build
from likewise.server.guard import Guard
from likewise.server.keys import Key, KeyFile, KeyRing, change, hash_of, moment
from tests.unit.server.fakes import FakeModel

NOW = 1_800_000_000.0
KEY = "k" * 40
ADMIN = "a" * 40
BODY = {"input": "abc"}


def ring(path: Path, **options: Any) -> KeyRing:
    """A ring with KEY, called `me`, and ADMIN, called `root`."""

    def edit(old: KeyFile) -> KeyFile:
        me = Key("me", hash_of(KEY, old.salt).hex(), moment(NOW), **options)
        root = Key("root", hash_of(ADMIN, old.salt).hex(), moment(NOW), admin=True)
        return KeyFile(old.salt, (me, root))

    change(path, edit)
    return KeyRing(path)


@pytest.fixture
def model() -> FakeModel:
    return FakeModel()


@pytest.fixture
def client(tmp_path: Path, model: FakeModel) -> Iterator[TestClient]:
    guard = Guard(keys=ring(tmp_path / "keys.jsonl"))
    with TestClient(build({"m": model}, guard=guard)) as client:
        yield client


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer  {KEY} "},
        {"authorization": basic("", KEY)},
        {"authorization": basic("anybody", KEY)},
        {"api-key": KEY},
        {"x-api-key": KEY},
    ],
)
def test_a_key_is_let_in_in_each_way_that_clients_send_it(
    client: TestClient, headers: dict[str, str]
) -> None:
    assert client.post("/v1/embeddings", json=BODY, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": f"Bearer {KEY}x"},
        {"authorization": f"Bearer {KEY[:-1]}"},
        {"authorization": "Bearer"},
        {"authorization": KEY},
        {"authorization": f"Digest {KEY}"},
        {"authorization": basic(KEY, "")},
        {"authorization": basic("a", "b" * 40)},
        {"authorization": "Basic ????"},
        {"authorization": "Basic " + base64.b64encode(b"\xff\xfe:x").decode()},
        # The first one counts; another doesn't make up for it.
        {"authorization": "Bearer none", "api-key": KEY},
        {"api-key": ""},
        {"x-api-key": KEY.upper()},
        {"x-api-key": "k" * 10_000},
        {"cookie": f"key={KEY}"},
    ],
)
def test_others_are_not(client: TestClient, model: FakeModel, headers: dict[str, str]) -> None:
    answer = client.post("/v1/embeddings", json=BODY, headers=headers)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"
    assert answer.headers["x-likewise-error"] == "unauthorised"
    assert answer.headers["www-authenticate"] == 'Bearer realm="likewise"'
    assert not model.asked
    assert client.post(f"/v1/embeddings?api_key={KEY}&key={KEY}", json=BODY).status_code == 401


PATHS = sorted({r.path for r in build({"m": FakeModel()}).routes if isinstance(r, Route)})
MADE_UP = (
    "/nothing",
    "/health/",
    "/health//",
    "/%2fhealth",
    "/HEALTH",
    "/v1",
    "/docs",
    "/openapi.json",
)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "FOO")


@pytest.mark.parametrize("path", [*PATHS, *MADE_UP])
def test_every_route_and_method_is_guarded_but_those_for_probes(
    client: TestClient, path: str
) -> None:
    assert len(PATHS) > 8
    for method in METHODS:
        status = client.request(method, path, json=BODY).status_code
        if (method, path) in access.PUBLIC:
            assert status in (200, 503), (method, path)
        else:
            assert status == 401, (method, path)


def test_what_is_public_is_exactly_this() -> None:
    assert access.PUBLIC == {
        ("GET", "/health"), ("GET", "/ready"), ("GET", "/ping"), ("HEAD", "/"),
        ("HEAD", "/health"), ("HEAD", "/ready"), ("HEAD", "/ping"),
    }  # fmt: skip


def test_a_wrong_key_doesnt_close_what_is_public(client: TestClient) -> None:
    assert client.get("/health", headers={"api-key": "wrong"}).status_code == 200


def test_a_browser_is_asked_for_the_key_and_a_program_isnt(client: TestClient) -> None:
    for accept, scheme in (("text/html,*/*;q=0.8", "Basic"), ("*/*", "Bearer")):
        answer = client.get("/", headers={"accept": accept})
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == f'{scheme} realm="likewise"'
    page = {"authorization": basic("", KEY), "accept": "text/html"}
    assert "Search" in client.get("/", headers=page).text


def test_a_refusal_has_the_shape_of_the_paths_dialect(client: TestClient) -> None:
    assert set(client.post("/v1/embeddings").json()["error"]) >= {"message", "type", "code"}
    # No route of Ollama's has it, but that is how their paths look.
    assert isinstance(client.post("/api/whatever").json()["error"], str)


def test_who_asks_is_in_the_scope(tmp_path: Path) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["state"]["caller"])
        await Response()(scope, receive, send)

    guarded = access.Access(app, ring(tmp_path / "keys.jsonl", lane="bulk"), CollectorRegistry())
    for key in (KEY, ADMIN):
        TestClient(guarded).get("/", headers={"api-key": key})
    assert seen == [
        {"name": "me", "lane": "bulk", "is_admin": False},
        {"name": "root", "lane": None, "is_admin": True},
    ]


def test_a_key_for_bulk_work_stays_in_its_lane(tmp_path: Path, model: FakeModel) -> None:
    guard = Guard(keys=ring(tmp_path / "keys.jsonl", lane="bulk"))
    with TestClient(build({"m": model}, guard=guard)) as client:
        headers = {"api-key": KEY, "x-likewise-lane": "interactive"}
        assert client.post("/v1/embeddings", json=BODY, headers=headers).status_code == 200
        client.post("/v1/embeddings", json=BODY, headers={"api-key": ADMIN})
    assert [asked["lane"] for asked in model.asked] == ["bulk", "interactive"]


def test_an_expired_key_is_refused_as_such(tmp_path: Path, model: FakeModel) -> None:
    registry = CollectorRegistry()
    guard = Guard(keys=ring(tmp_path / "keys.jsonl", expires_at=moment(1000)))
    with TestClient(build({"m": model}, guard=guard, registry=registry)) as client:
        answer = client.post("/v1/embeddings", json=BODY, headers={"api-key": KEY})
        assert (answer.status_code, "has expired" in answer.text) == (401, True)
        client.get("/metrics")
        client.get("/metrics", headers={"api-key": "wrong"})
        text = client.get("/metrics", headers={"api-key": ADMIN}).text
    for reason in ("missing", "unknown", "expired"):
        assert f'likewise_http_unauthorised_total{{reason="{reason}"}} 1.0' in text


class Clocked:
    """A guarded application whose time stands still until it is moved."""

    def __init__(
        self, path: Path, model: FakeModel, monkeypatch: pytest.MonkeyPatch, **limits: int
    ):
        self.now = 0.0
        original = access.Access.__init__

        def init(this: Any, *args: Any, **options: Any) -> None:
            original(this, *args, clock=lambda: self.now, **options)

        monkeypatch.setattr(access.Access, "__init__", init)
        self.client = TestClient(build({"m": model}, guard=Guard(keys=ring(path, **limits))))

    def ask(self, text: str = "abc", key: str = KEY) -> Any:
        return self.client.post("/v1/embeddings", json={"input": text}, headers={"api-key": key})


def test_requests_a_minute(
    tmp_path: Path, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = metrics.REJECTED.labels("", "", "openai", "rate_limited")._value.get()
    clocked = Clocked(tmp_path / "k", model, monkeypatch, requests_per_minute=3)
    assert [clocked.ask().status_code for _ in range(4)] == [200, 200, 200, 429]
    refused = clocked.ask()
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert refused.headers["x-likewise-error"] == "rate_limited"
    # Clients of Jina and Voyage read nothing else, and try again only where they find it.
    assert refused.json()["detail"] == refused.json()["error"]["message"]
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert "3 requests a minute" in refused.json()["error"]["message"]
    assert refused.headers["retry-after"] == "20"
    assert clocked.ask(key=ADMIN).status_code == 200
    clocked.now = 20
    assert [clocked.ask().status_code for _ in range(2)] == [200, 429]
    assert len(model.asked) == 5
    after = metrics.REJECTED.labels("", "", "openai", "rate_limited")._value.get()
    assert after - before == 3


def test_tokens_a_minute_are_charged_when_they_are_known(
    tmp_path: Path, model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    clocked = Clocked(tmp_path / "k", model, monkeypatch, tokens_per_minute=6)
    assert clocked.ask("a b c d").status_code == 200
    # Two are left: it is let in, and overdraws by two.
    assert clocked.ask("a b c d").status_code == 200
    refused = clocked.ask("a")
    assert refused.status_code == 429
    assert "6 tokens a minute" in refused.json()["error"]["message"]
    assert refused.headers["retry-after"] == "30"
    clocked.now = 29
    assert clocked.ask("a").status_code == 429
    clocked.now = 30.001
    assert clocked.ask("a").status_code == 200
    text = clocked.client.get("/metrics", headers={"api-key": ADMIN}).text
    assert 'likewise_key_tokens_total{key="me"} 9.0' in text
    assert 'likewise_key_requests_total{key="me"} 3.0' in text


def test_hidden_states_and_scores_are_charged_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = FakeModel(gives=("vectors", "states", "scores"), labels=("relevance",))
    clocked = Clocked(tmp_path / "k", model, monkeypatch, tokens_per_minute=1000)
    key = {"api-key": KEY}
    for path, body in (
        ("/embed_all", {"inputs": ["a b", "c"]}),
        ("/rerank", {"query": "a", "texts": ["b c", "d"]}),
    ):
        assert clocked.client.post(path, json=body, headers=key).status_code == 200
    text = clocked.client.get("/metrics", headers={"api-key": ADMIN}).text
    assert 'likewise_key_tokens_total{key="me"} 8.0' in text


def test_a_revoked_key_is_refused_without_a_restart(tmp_path: Path, client: TestClient) -> None:
    headers = {"api-key": KEY}
    assert client.get("/v1/models", headers=headers).status_code == 200
    path = tmp_path / "keys.jsonl"
    change(path, lambda old: KeyFile(old.salt, tuple(k for k in old.keys if k.name != "me")))
    assert client.get("/v1/models", headers=headers).status_code == 401
    assert client.get("/v1/models", headers={"api-key": ADMIN}).status_code == 200


def test_without_keys_everybody_is_let_in(model: FakeModel) -> None:
    app = build({"m": model})
    assert app.state.keys is None
    assert TestClient(app).post("/v1/embeddings", json=BODY).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"content-encoding": "gzip"}, 415, "unsupported_media_type"),
        ({"content-encoding": "identity, br"}, 415, "unsupported_media_type"),
        ({"content-type": "multipart/form-data; boundary=x"}, 415, "unsupported_media_type"),
        ({"content-encoding": "identity"}, 200, None),
        ({"content-type": "application/x-www-form-urlencoded"}, 200, None),
        ({"content-type": "text/plain"}, 200, None),
        ({f"x-{at}": "" for at in range(100)}, 431, "headers_too_large"),
        ({"x-large": "x" * 33_000}, 431, "headers_too_large"),
    ],
)
def test_heads_and_codings(
    model: FakeModel, headers: dict[str, str], status: int, code: str | None
) -> None:
    client = TestClient(build({"m": model}))
    answer = client.post("/v1/embeddings", content=b'{"input": "a"}', headers=headers)
    assert answer.status_code == status
    if code is not None:
        assert answer.json()["error"]["code"] == code
        assert answer.headers["connection"] == "close"
        assert not model.asked


def test_a_long_url(model: FakeModel) -> None:
    client = TestClient(build({"m": model}))
    assert client.get("/search?q=" + "x" * 20_000).json()["error"]["code"] == "uri_too_long"


def test_more_inputs_than_one_request_may_have(model: FakeModel) -> None:
    client = TestClient(build({"m": model}, guard=Guard(max_inputs=3)))
    assert client.post("/v1/embeddings", json={"input": ["a"] * 3}).status_code == 200
    refused = client.post("/v1/embeddings", json={"input": ["a"] * 4})
    assert refused.status_code == 400
    assert "4 inputs in one request; the most is 3" in refused.text
    assert len(model.asked) == 1
