"""Pages of other origins: those on the list may use the server, the others can't."""

import base64
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from likewise.base.errors import SettingsError
from likewise.server.app import build
from likewise.server.guard import Guard, require_origins
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
    "origin", ["app.example", "https://", "https://a/b", "https://*.example", "null", "a b://c", ""]
)
def test_what_isnt_an_origin_is_refused(origin: str) -> None:
    with pytest.raises(SettingsError, match="isn't an origin"):
        require_origins([origin])
    require_origins(["*", "http://localhost:3000", "app://obsidian.md", "https://[::1]:8"])
