"""Paths that two dialects claim: which one a body is taken for, and what fits none."""

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.testclient import TestClient

from likewise.server.app import build
from likewise.server.dialects import shared_paths
from likewise.server.dialects.shared_paths import Shape
from tests.unit.server.fakes import FakeModel


@pytest.fixture
def client() -> TestClient:
    return TestClient(build({"m": FakeModel(gives=("scores",), labels=("relevance",))}))


def test_keys_choose_the_dialect(client: TestClient) -> None:
    assert client.post("/rerank", json={"query": "a", "texts": ["a"]}).json()[0]["index"] == 0
    assert client.post("/tokenize", json={"inputs": "a"}).json()[0][0]["id"] == 0
    for body in ({"texts": None, "query": "a"}, {"texts": ["a"]}):
        assert client.post("/rerank", json=body).json()["error_type"] == "Validation"


@pytest.mark.parametrize(("path", "key"), [("/rerank", "texts"), ("/tokenize", "inputs")])
def test_a_body_that_fits_nothing(client: TestClient, path: str, key: str) -> None:
    answer = client.post(path, json={"query": "a"})
    assert answer.status_code == 422
    assert f"the body must have {key!r} (Text Embeddings Inference)" in answer.json()["error"]
    for raw in (b"", b"[]", b"{"):
        assert client.post(path, content=raw).status_code == (422 if raw == b"[]" else 400)


def test_another_dialect_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    async def theirs(request: Request, raw: bytes) -> Response:
        seen.append((request.scope["likewise"]["dialect"], raw))
        return PlainTextResponse("theirs")

    both = (shared_paths.RERANK[0], Shape("documents", "cohere", theirs, "others"))
    monkeypatch.setattr(shared_paths, "RERANK", both)
    client = TestClient(build({"m": FakeModel(gives=("scores",), labels=("relevance",))}))
    raw = b'{"query": "a", "documents": ["b"]}'
    assert client.post("/rerank", content=raw).text == "theirs"
    assert seen == [("cohere", raw)]
    assert client.post("/rerank", json={"query": "a", "texts": ["a"]}).status_code == 200
    neither = client.post("/rerank", json={"query": "a"}).json()["error"]
    assert "'texts' (Text Embeddings Inference) or 'documents' (others)" in neither
    both_keys = client.post("/rerank", json={"query": "a", "texts": ["a"], "documents": ["b"]})
    assert both_keys.status_code == 200
    assert both_keys.headers["x-likewise-ignored"] == "documents"
