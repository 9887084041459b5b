"""Every name by which a model is listed finds it on every route, in every form of writing it."""

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from likewise.server.app import build
from tests.unit.server.fake_catalogue import FakeEntry, FakeListing

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
OTHER = "acme/other"


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    listing = FakeListing(FakeEntry(MINILM, aliases=("mine", "ours:v2")), FakeEntry(OTHER))
    with TestClient(build(listing)) as client:
        yield client


def _listed(client: TestClient) -> list[str]:
    tags = [one["name"] for one in client.get("/api/tags").json()["models"]]
    ids = [one["id"] for one in client.get("/v1/models").json()["data"]]
    assert ids == [MINILM, "mine", "ours:v2", "all-minilm:latest", OTHER]
    return [name for name in dict.fromkeys([*tags, *ids]) if not name.startswith(OTHER)]


FORMS = (
    "{}", " {}\n", "library/all-minilm", "registry.ollama.ai/library/all-minilm:latest",
    "http://registry.ollama.ai/library/all-minilm", "ALL-MINILM", "all-minilm:22m", "MINE:latest",
    "All-MiniLM-L6-V2", f"https://huggingface.co/{MINILM}",
)  # fmt: skip

ROUTES: dict[str, dict[str, Any]] = {
    "/v1/embeddings": {"input": "a"},
    "/embeddings": {"input": "a"},
    "/api/embed": {"input": "a"},
    "/api/embeddings": {"prompt": "a"},
    "/api/show": {},
    "/v1/embed": {"texts": ["a"], "input_type": "search_document"},
    "/v2/embed": {
        "texts": ["a"], "input_type": "search_document", "embedding_types": ["float"],
    },
    "/rerank": {"query": "a", "documents": ["b"]},
    "/v1/rerank": {"query": "a", "documents": ["b"]},
    "/v2/rerank": {"query": "a", "documents": ["b"]},
    "/tokenize": {"prompt": "a"},
    "/score": {"text_1": "a", "text_2": "b"},
    "/pooling": {"input": "a"},
}  # fmt: skip


@pytest.mark.parametrize("path", ROUTES)
def test_a_name_finds_the_same_model_on_every_route(client: TestClient, path: str) -> None:
    names = [form.format(name) for name in _listed(client) for form in FORMS]
    for name in dict.fromkeys(names):
        answer = client.post(path, json={"model": name, **ROUTES[path]})
        # Whatever else the fake model can't do: it was found.
        assert answer.status_code != 404, (path, name, answer.text)
        assert "not found" not in answer.text, (path, name, answer.text)
        if answer.status_code == 200:
            assert OTHER not in answer.text


@pytest.mark.parametrize("path", ROUTES)
def test_what_isnt_served_is_found_on_none(client: TestClient, path: str) -> None:
    for name in ("all-minilm:33m", "all-minilm:22m-q4_0", "nomic-embed-text", "nope"):
        answer = client.post(path, json={"model": name, **ROUTES[path]})
        assert answer.status_code == 404, (path, name, answer.text)
    answer = client.post(path, json={"model": "nomic-embed-text", **ROUTES[path]})
    assert "nomic-ai/nomic-embed-text-v1.5" in answer.text


@pytest.mark.parametrize("name", ["all-minilm", "all-minilm:latest", "mine", MINILM])
def test_one_model_is_told_of_by_the_name_that_was_asked(client: TestClient, name: str) -> None:
    answer = client.get(f"/v1/models/{name}")
    assert answer.status_code == 200
    told = answer.json()
    assert told["root"] == MINILM
    listed = [one["id"] for one in client.get("/v1/models").json()["data"]]
    assert told["id"] == (name if name in listed else MINILM)
