"""Below a path of another address: with the prefix or without, and who is believed about it."""

from __future__ import annotations

import re
from urllib.parse import urljoin

import pytest
from starlette.testclient import TestClient

from likewise.base.errors import SettingsError
from likewise.server.app import build
from likewise.server.prefix import Behind, behind, is_prefix
from likewise.server.run import server
from tests.unit.server.fakes import FakeModel


def client(stands: Behind | None, *, address: str = "10.0.0.7") -> TestClient:
    app = build({"m": FakeModel()}, behind=stands)
    return TestClient(app, client=(address, 5000), follow_redirects=False)


def servers(asking: TestClient, path: str, prefix: str | None = None) -> object:
    headers = {} if prefix is None else {"x-forwarded-prefix": prefix}
    return asking.get(path, headers=headers).json().get("servers")


def test_every_route_answers_with_the_prefix_and_without() -> None:
    asking = client(behind("/emb/", ()))
    for path in ("/emb/v1/embeddings", "/v1/embeddings"):
        assert asking.post(path, json={"input": "a"}).status_code == 200
    assert asking.get("/emb/v1/models/m").json()["id"] == "m"
    assert asking.get("/emb/health").status_code == 200
    for path in ("/embv1/embeddings", "/other/v1/embeddings", "/emb/emb/v1/embeddings"):
        assert asking.post(path, json={"input": "a"}).status_code == 404


def test_without_a_prefix_nothing_is_taken_from_paths() -> None:
    assert client(None).post("/emb/v1/embeddings", json={"input": "a"}).status_code == 404


@pytest.mark.parametrize("page", ["/", "/emb/"])
def test_what_the_page_links_to_lies_below_the_prefix(page: str) -> None:
    asking = client(behind("/emb", ()))
    text = asking.get(page, headers={"accept": "text/html"}).text
    links = re.findall(r'(?:src|href)="([^"#]+)"', text)
    assert len(links) >= 4
    for link in links:
        assert asking.get(urljoin(f"http://host{page}", link)).status_code == 200
        assert not link.startswith("/")
    script = asking.get(urljoin(page, "console/page.js")).text
    fetched = re.findall(r'fetch\(\s*[`"\']([^`"\']+)', script)
    assert fetched and not [each for each in fetched if each.startswith("/")]


def test_a_proxy_that_takes_the_prefix_away_shows_the_page() -> None:
    asking = client(None)
    assert asking.get("/").text == "Ollama is running"
    assert "console/page.js" in asking.get("/", headers={"x-forwarded-prefix": "/emb"}).text


def test_the_prefix_without_its_slash_leads_to_the_page() -> None:
    answer = client(behind("/emb", ())).get("/emb")
    assert (answer.status_code, answer.headers["location"]) == (308, "/emb/")


def test_the_document_says_where_the_routes_are() -> None:
    asking = client(behind("/emb", ()))
    assert servers(asking, "/emb/openapi.json") == [{"url": "/emb"}]
    assert servers(asking, "/openapi.json") == [{"url": "/emb"}]
    assert servers(client(None), "/openapi.json") is None


@pytest.mark.parametrize(
    ("proxies", "address", "told", "believed"),
    [
        (["10.0.0.0/8"], "10.0.0.7", "/emb", "/emb"),
        (["10.0.0.7"], "10.0.0.7", "/a/b-c/", "/a/b-c"),
        (["10.0.0.0/8"], "192.0.2.1", "/emb", None),
        (["::1"], "::1", "/emb", "/emb"),
        ([], "127.0.0.1", "/emb", None),
        (["unix"], "127.0.0.1", "/emb", None),
        (["unix"], "", "/emb", "/emb"),
        (["10.0.0.7"], "", "/emb", None),
        (["10.0.0.7"], "testclient", "/emb", None),
        (["10.0.0.0/8"], "10.0.0.7", "//evil.example", None),
        (["10.0.0.0/8"], "10.0.0.7", "/a/../b", None),
        (["10.0.0.0/8"], "10.0.0.7", '/"><script>', None),
        (["10.0.0.0/8"], "10.0.0.7", "https://evil.example", None),
    ],
)
def test_a_forwarded_prefix_is_believed_of_trusted_proxies_alone(
    proxies: list[str], address: str, told: str, believed: str | None
) -> None:
    asking = client(behind("", proxies), address=address)
    expected = None if believed is None else [{"url": believed}]
    assert servers(asking, "/openapi.json", told) == expected
    # It says where links lead, and nothing of who asks or what is asked for.
    assert asking.get("/health", headers={"x-forwarded-prefix": told}).status_code == 200


def test_a_prefix_of_the_proxy_goes_before_ours() -> None:
    asking = client(behind("/emb", ["10.0.0.7"]))
    assert servers(asking, "/emb/openapi.json", "/outer") == [{"url": "/outer/emb"}]
    assert servers(asking, "/emb/openapi.json", "/emb") == [{"url": "/emb"}]
    answer = asking.get("/emb", headers={"x-forwarded-prefix": "/outer"})
    assert answer.headers["location"] == "/outer/emb/"


def test_metrics_and_errors_know_the_route_below_a_prefix() -> None:
    asking = client(behind("/emb", ()))
    assert asking.post("/emb/api/embed", content="{").json().keys() == {"error"}
    assert "error_type" in asking.post("/emb/embed", content="{").json()
    text = asking.get("/emb/metrics").text
    assert 'route="/api/embed"' in text and "/emb/" not in text


@pytest.mark.parametrize("path", ["likewise", "//host", "/a b", "/a/./b", "/..", "/a?b", "/a\r\nb"])
def test_what_is_no_prefix_is_refused(path: str) -> None:
    assert not is_prefix(path)
    with pytest.raises(SettingsError, match="isn't a path prefix"):
        behind(path, ())


def test_what_is_no_proxy_is_refused() -> None:
    with pytest.raises(SettingsError, match=re.escape("trusted proxy 'nginx'")):
        behind("", ["nginx"])


@pytest.mark.parametrize(
    ("peer", "said_for", "is_believed"),
    [
        ("127.0.0.1", "203.0.113.9", True),
        ("127.0.0.1", None, True),
        ("::ffff:127.0.0.1", None, True),
        ("10.0.0.7", "127.0.0.1", False),
    ],
)
def test_the_prefix_is_believed_of_who_sends_it_not_of_whom_it_sends_for(
    peer: str, said_for: str | None, is_believed: bool
) -> None:
    asking = client(behind("", ["127.0.0.1"]), address=peer)
    told = {"x-forwarded-prefix": "/outer"}
    if said_for is not None:
        told |= {"x-forwarded-for": said_for, "x-forwarded-proto": "https"}
    answer = asking.get("/openapi.json", headers=told).json()
    assert answer.get("servers") == ([{"url": "/outer"}] if is_believed else None)


def test_a_proxy_here_cant_send_for_a_trusted_one() -> None:
    asking = client(behind("", ["10.0.0.0/8"]), address="127.0.0.1")
    told = {"x-forwarded-prefix": "/outer", "x-forwarded-for": "10.0.0.7"}
    assert "servers" not in asking.get("/openapi.json", headers=told).json()


def test_who_listens_leaves_the_senders_address_to_the_application() -> None:
    assert not server(build({"m": FakeModel()})).config.proxy_headers


@pytest.mark.parametrize("path", ["//emb/v1/embeddings", "/emb//v1//embeddings", "//v1/embeddings"])
def test_doubled_slashes_reach_their_route_below_a_prefix(path: str) -> None:
    asking = client(behind("/emb", ()))
    assert asking.post(f"http://testserver{path}", json={"input": "a"}).status_code == 200


def test_routes_of_our_own_have_no_second_spelling_below_a_prefix() -> None:
    asking = client(behind("/emb", ()))
    for path in ("//emb/admin/models/unload", "/emb//admin/models/unload"):
        assert asking.post(f"http://testserver{path}", json={}).status_code == 404
