"""Pages of other origins: those on the list may use the server, the others can't."""

import base64
import functools
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from likewise.base.errors import SettingsError
from likewise.server.app import LOOPBACK_HOSTS, build
from likewise.server.guard import Guard
from likewise.server.origin_patterns import DEFAULT_ORIGINS, Patterns, require_origins
from tests.unit.server.fakes import FakeModel
from tests.unit.server.test_access import BODY, KEY, ring

APP = "https://app.example"
PREFLIGHT = {
    "origin": APP,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-likewise-lane,x-stainless-os",
}


def client(path: Path | None = None, *origins: str) -> TestClient:
    keys = None if path is None else ring(path / "keys.jsonl")
    return TestClient(
        build({"m": FakeModel()}, guard=Guard(keys=keys, cors_origins=origins)),
        base_url="http://likewise.local:7997",
    )


def ask(client: TestClient, **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post("/v1/embeddings", json=BODY, headers=named)


def test_a_preflight_of_a_listed_origin_needs_no_key(tmp_path: Path) -> None:
    answer = client(tmp_path, APP).options("/v1/embeddings", headers=PREFLIGHT)
    assert (answer.status_code, answer.content) == (204, b"")
    got = answer.headers
    assert got["access-control-allow-origin"] == APP
    assert got["access-control-allow-headers"] == PREFLIGHT["access-control-request-headers"]
    assert "POST" in got["access-control-allow-methods"]
    assert got["vary"] == "Origin"
    assert "access-control-allow-credentials" not in got


def test_any_other_preflight_is_a_request_like_others(tmp_path: Path) -> None:
    for origins in ((), ("https://other.example",)):
        answer = client(tmp_path, *origins).options("/v1/embeddings", headers=PREFLIGHT)
        assert answer.status_code == 401
        assert "access-control-allow-origin" not in answer.headers
    assert client(None).options("/v1/embeddings", headers=PREFLIGHT).status_code == 403


def test_a_listed_page_can_read_answers_and_refusals(tmp_path: Path) -> None:
    asking = client(tmp_path, APP)
    for answer, status in (
        (ask(asking, origin=APP, authorization=f"Bearer {KEY}"), 200),
        (ask(asking, origin=APP), 401),
    ):
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == APP
        assert answer.headers["access-control-expose-headers"] == "*"
        assert "access-control-allow-credentials" not in answer.headers
        assert "Origin" in answer.headers["vary"]
    other = ask(asking, origin="https://app.example.evil", authorization=f"Bearer {KEY}")
    assert other.status_code == 200
    assert "access-control-allow-origin" not in other.headers
    # A cache must not give the one answer to the other.
    assert "Origin" in other.headers["vary"]


def test_every_origin_never_has_credentials(tmp_path: Path) -> None:
    answer = ask(client(tmp_path, "*"), origin=APP, authorization=f"Bearer {KEY}")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://likewise.local:7997", 200),
        ("https://likewise.local:7997", 200),
        ("HTTP://LIKEWISE.LOCAL:7997", 200),
        ("http://likewise.local:3000", 403),
        ("http://likewise.local", 403),
        ("http://evil.example", 403),
        ("http://evil.example/http://likewise.local:7997", 403),
        ("null", 403),
        ("", 403),
    ],
)
def test_without_keys_pages_elsewhere_are_kept_out(origin: str, status: int) -> None:
    """A form or a fetch of any page reaches the loopback address through the browser."""
    answer = ask(client(), origin=origin, content_type="text/plain")
    assert answer.status_code == status, answer.text
    if status == 403:
        assert answer.json()["error"]["code"] == "forbidden"
        assert "--cors-origin" in answer.json()["error"]["message"]


def test_without_keys_a_listed_page_is_let_in() -> None:
    assert ask(client(None, APP), origin=APP).status_code == 200
    assert ask(client(None, APP), origin=APP.upper()).status_code == 200


def test_a_browser_that_sends_no_origin_is_judged_by_what_it_says() -> None:
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200)):
        assert ask(client(), sec_fetch_site=site).status_code == status
    # A link to the page.
    assert client().get("/", headers={"sec-fetch-site": "cross-site"}).status_code == 200


def test_a_remembered_key_is_no_use_to_pages_elsewhere(tmp_path: Path) -> None:
    basic = "Basic " + base64.b64encode(f":{KEY}".encode()).decode()
    asking = client(tmp_path)
    assert ask(asking, authorization=basic, origin="https://evil.example").status_code == 403
    assert ask(asking, authorization=basic, origin="http://likewise.local:7997").status_code == 200
    assert ask(asking, authorization=basic).status_code == 200


@pytest.mark.parametrize(
    "origin",
    [
        "app.example", "https://", "https://a/b", "https://*.example", "null", "a b://c", "",
        "https://*", "HTTP://*", "wss://*", "*://*", "*://localhost", "app://*:*", "app://*.md",
        "http://localhost:*/", "http://local*:3", "http://localhost:3*", "https://*:443",
    ],
)  # fmt: skip
def test_what_isnt_an_origin_is_refused(origin: str) -> None:
    with pytest.raises(SettingsError, match="isn't an origin"):
        require_origins([origin])


def test_what_is_an_origin_or_a_pattern_is_taken() -> None:
    require_origins(["*", "http://localhost:3000", "app://obsidian.md", "https://[::1]:8"])
    require_origins(["http://localhost:*", "https://[::1]:*", "app://*", "chrome-extension://*"])
    require_origins(DEFAULT_ORIGINS)


@pytest.mark.parametrize(
    ("pattern", "meant", "others"),
    [
        (
            "http://localhost:*",
            ("http://localhost", "http://localhost:3000", "HTTP://LOCALHOST:65535"),
            (
                "https://localhost:3000", "http://localhost.evil.example:80", "http://localhost:x",
                "http://localhost:3000:80", "http://localhost:", "http://localhost:3000/",
                "http://evil.example/http://localhost:3000", "http://evil.example#@localhost:1",
                "http://xlocalhost:1", "http://localhost:3000@evil.example", "null", "",
            ),
        ),
        ("https://[::1]:*", ("https://[::1]", "https://[::1]:8"), ("https://[::1]8", "https://::1")),
        (
            "app://*",
            ("app://obsidian.md", "app://", "app://a:1"),
            ("http://app", "myapp://x", "app:x", "app://a/b", "app://a b", "https://app://x"),
        ),
        ("Chrome-Extension://*", ("chrome-extension://abcd",), ("moz-extension://abcd",)),
        ("https://App.example", ("https://app.example",), ("https://app.example:443",)),
        ("*", ("https://evil.example", "null"), ()),
    ],
)  # fmt: skip
def test_patterns(pattern: str, meant: tuple[str, ...], others: tuple[str, ...]) -> None:
    patterns = Patterns([pattern])
    assert patterns
    assert [one for one in meant if not patterns.match(one)] == []
    assert [one for one in others if patterns.match(one)] == []


LOCAL_PAGES = [
    "http://localhost", "http://localhost:3000", "https://localhost:8443", "http://127.0.0.1:5173",
    "https://127.0.0.1", "http://0.0.0.0:80", "app://obsidian.md", "file://", "file://x",
    "tauri://localhost", "vscode-webview://0f1e", "vscode-file://vscode-app",
]  # fmt: skip
OTHER_PAGES = [
    "null", "https://app.example", "http://localhost.app.example", "http://[::1]:3000",
    "http://127.0.0.2:80", "http://192.168.1.2", "chrome-extension://abc", "moz-extension://abc",
    "capacitor://localhost", "http://mybox.local:3000", "ws://localhost:1",
]  # fmt: skip


@functools.cache
def loopback_client(path: Path | None = None, *origins: str) -> TestClient:
    keys = None if path is None else ring(path / "keys.jsonl")
    guard = Guard(keys=keys, cors_origins=origins)
    app = build({"m": FakeModel()}, guard=guard, allowed_hosts=LOOPBACK_HOSTS)
    return TestClient(app, base_url="http://127.0.0.1:7997", client=("127.0.0.1", 50_000))


@pytest.mark.parametrize("origin", LOCAL_PAGES)
def test_on_loopback_local_and_desktop_pages_use_models(origin: str) -> None:
    asking = loopback_client()
    for answer in (
        ask(asking, origin=origin),
        asking.get("/api/tags", headers={"origin": origin}),
        asking.get("/", headers={"origin": origin}),
        asking.get("/health", headers={"origin": origin}),
        ask(asking, origin=origin, sec_fetch_site="cross-site"),
    ):
        assert answer.status_code == 200, answer.text
        assert answer.headers["access-control-allow-origin"] == origin
        assert "Origin" in answer.headers["vary"]
        assert "access-control-allow-credentials" not in answer.headers
    answer = asking.options("/api/embed", headers=PREFLIGHT | {"origin": origin})
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == origin


@pytest.mark.parametrize("origin", OTHER_PAGES)
def test_no_others_do(origin: str) -> None:
    asking = loopback_client()
    for answer in (
        ask(asking, origin=origin),
        asking.get("/api/tags", headers={"origin": origin}),
        asking.options("/api/embed", headers=PREFLIGHT | {"origin": origin}),
    ):
        assert answer.status_code == 403, answer.text
        assert "access-control-allow-origin" not in answer.headers


def test_beyond_loopback_no_page_is_let_in_by_default() -> None:
    for origin in LOCAL_PAGES:
        assert ask(client(), origin=origin).status_code == 403, origin


OURS = [
    ("GET", "/search?q=x"), ("POST", "/search"), ("GET", "/bindings"), ("GET", "/admin/models"),
    ("GET", "/metrics"), ("POST", "/admin/models/m/load"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), OURS)
def test_what_isnt_about_models_is_for_listed_pages(method: str, path: str) -> None:
    headers = {"origin": "http://localhost:3000"}
    answer = loopback_client().request(method, path, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "forbidden")
    assert "more of this server than its models" in answer.json()["error"]["message"]
    assert "access-control-allow-origin" not in answer.headers
    preflight = loopback_client().options(path, headers=PREFLIGHT | headers)
    assert preflight.status_code == 403
    listed = loopback_client(None, "http://localhost:*").options(path, headers=PREFLIGHT | headers)
    assert listed.status_code == 204


@pytest.mark.parametrize(("method", "path"), [("POST", "/api/pull"), ("DELETE", "/api/delete")])
@pytest.mark.parametrize("origins", [(), ("http://localhost:*",), ("*",)])
def test_without_keys_no_page_changes_which_models_are_there(
    method: str, path: str, origins: tuple[str, ...]
) -> None:
    asking = loopback_client(None, *origins)
    body = {"model": "nomic-embed-text"}
    answer = asking.request(method, path, json=body, headers={"origin": "http://localhost:3000"})
    assert answer.status_code == 403
    assert "programs on the server's own machine" in answer.json()["error"]
    # The page can read why.
    assert answer.headers["access-control-allow-origin"] in ("http://localhost:3000", "*")


def test_a_remembered_key_is_no_use_to_local_pages(tmp_path: Path) -> None:
    basic = "Basic " + base64.b64encode(f":{KEY}".encode()).decode()
    asking = loopback_client(tmp_path)
    answer = ask(asking, authorization=basic, origin="http://localhost:3000")
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers
    sent = ask(asking, authorization=f"Bearer {KEY}", origin="http://localhost:3000")
    assert sent.status_code == 200
    assert sent.headers["access-control-allow-origin"] == "http://localhost:3000"
