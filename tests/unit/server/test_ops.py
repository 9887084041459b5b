"""Health, metrics and the middleware that counts and checks hosts."""

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from likewise.server.app import LOOPBACK_HOSTS, build
from likewise.version import __version__
from tests.unit.server.fakes import FakeModel


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(build({"m": FakeModel()})) as client:
        yield client


def test_health(client: TestClient) -> None:
    body = client.get("/health").json()
    assert body["status"] == "ok"
    assert body["version"] == __version__
    assert body["models"]["m"]["engine"] == "by hand"
    assert body["uptime_s"] >= 0
    assert body["unix"] > 1.7e9


def samples(client: TestClient, name: str) -> dict[str, float]:
    lines = client.get("/metrics").text.splitlines()
    found = (line.rpartition(" ") for line in lines if line.startswith(name + "{"))
    return {labels: float(value) for labels, _, value in found}


def test_each_request_is_counted_once(client: TestClient) -> None:
    for _ in range(3):
        client.post("/v1/embeddings", json={"input": "a"})
    client.post("/v1/embeddings", json={"input": ""})
    client.get("/v1/models/m")
    counted = samples(client, "likewise_http_requests_total")
    line = 'likewise_http_requests_total{{dialect="openai",method="{}",route="{}",status="{}"}}'
    assert counted[line.format("POST", "/v1/embeddings", 200)] == 3
    assert counted[line.format("POST", "/v1/embeddings", 400)] == 1
    assert counted[line.format("GET", "/v1/models/{name:path}", 200)] == 1
    timed = samples(client, "likewise_http_request_seconds_count")
    series = 'likewise_http_request_seconds_count{dialect="openai",route="/v1/embeddings"}'
    assert timed[series] == 4


def test_made_up_paths_are_one_series(client: TestClient) -> None:
    for at in range(5):
        client.get(f"/made/up/{at}")
    counted = samples(client, "likewise_http_requests_total")
    assert [key for key in counted if "made" in key] == []
    only = (
        'likewise_http_requests_total{dialect="unknown",method="GET",route="unknown",status="404"}'
    )
    assert counted[only] == 5


def test_what_a_request_asked_of_a_model_is_counted(client: TestClient) -> None:
    client.post("/v1/embeddings", json={"input": ["one", "two words", "a"]})
    client.get("/health")
    who = 'dialect="openai",lane="interactive",model="m"'
    for name, total in (("inputs", 3), ("tokens", 4)):
        name = f"likewise_request_{name}"
        assert samples(client, f"{name}_sum") == {f"{name}_sum{{{who}}}": total}
        assert samples(client, f"{name}_count") == {f"{name}_count{{{who}}}": 1}
    name = "likewise_serialise_seconds_count"
    assert samples(client, name) == {f'{name}{{dialect="openai"}}': 1}


def test_made_up_methods_are_one_series(client: TestClient) -> None:
    for at in range(3):
        client.request(f"MADE{at}", "/health")
    counted = samples(client, "likewise_http_requests_total")
    assert [value for key, value in counted.items() if 'method="other"' in key] == [3]
    assert not [key for key in counted if "MADE" in key]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:7997", "localhost:1", "[::1]:7997"])
def test_names_of_this_machine_are_answered(host: str) -> None:
    app = build({"m": FakeModel()}, allowed_hosts=LOOPBACK_HOSTS)
    with TestClient(app) as client:
        assert client.get("/health", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:7997", "ollama", "127.0.0.1.evil.example"]
)
def test_other_names_are_refused(host: str) -> None:
    """See DNS rebinding: a page of a stranger that resolves its own name to 127.0.0.1."""
    app = build({"m": FakeModel()}, allowed_hosts=LOOPBACK_HOSTS)
    with TestClient(app) as client:
        answer = client.get("/health", headers={"host": host})
        assert answer.status_code == 421
        assert "--allow-host" in answer.json()["error"]["message"]


def test_the_page_may_load_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/", headers={"accept": "text/html"})
    assert page.status_code == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    for path in ("/console/page.css", "/console/page.js", "/favicon.svg"):
        part = client.get(path)
        assert part.status_code == 200
        again = client.get(path, headers={"if-none-match": part.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        # Relative, so that it is found below a path prefix too.
        assert f'"{path[1:]}"' in page.text
    assert "http://" not in page.text.replace("http://www.w3.org/2000/svg", "")
    assert client.get("/console/../app.py").status_code == 404
