"""What clients of Azure, Cohere, infinity, Jina, llama.cpp, NVIDIA NIM and Voyage send and read."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from likewise.server import notices
from likewise.server.app import build
from likewise.server.guard import Guard
from tests.unit.server.dialects.fake_scorer import FakeScorer, shared_words
from tests.unit.server.fakes import FakeModel, by_hand

NAME = "fake/lengths"
LONG = "one two three four five six seven eight nine"


@pytest.fixture
def model() -> FakeModel:
    return FakeModel()


@pytest.fixture
def client(model: FakeModel) -> Iterator[TestClient]:
    with TestClient(build({NAME: model})) as client:
        yield client


@pytest.fixture
def reranker() -> Iterator[TestClient]:
    with TestClient(build({NAME: FakeScorer(outputs=("scores",))})) as client:
        yield client


def gave(client: TestClient, path: str, body: dict[str, Any]) -> Any:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


# Azure


@pytest.mark.parametrize(
    "path", [f"/openai/deployments/{NAME.rpartition('/')[2]}/embeddings", "/openai/v1/embeddings"]
)
def test_paths_of_azure(client: TestClient, path: str) -> None:
    body = {"input": ["a b"], "model": NAME}
    answer = client.post(f"{path}?api-version=2024-10-21", json=body, headers={"api-key": "any"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["data"][0]["embedding"] == pytest.approx(by_hand("a b").tolist())


def test_azures_path_names_the_model(client: TestClient) -> None:
    body = {"input": ["a"], "model": NAME}
    answer = client.post("/openai/deployments/nothing/embeddings", json=body)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"


# Jina, Voyage


@pytest.mark.parametrize(
    "task",
    ["retrieval.query", "retrieval.passage", "text-matching", "classification", "separation"],
)
def test_each_task_of_jina_gives_the_plain_vector_without_prompts(
    client: TestClient, model: FakeModel, task: str
) -> None:
    body = {"model": NAME, "input": [{"text": "a fox"}], "task": task, "encoding_type": "float"}
    found = gave(client, "/v1/embeddings", body)
    assert found["data"][0]["embedding"] == pytest.approx(by_hand("a fox").tolist())


def test_a_task_that_has_no_prompt_beside_others_is_refused() -> None:
    model = FakeModel(prompts={"query": "q: "})
    with TestClient(build({NAME: model})) as client:
        answer = client.post("/v1/embeddings", json={"input": "a", "task": "classification"})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "task"


def test_jinas_older_name_of_the_type(client: TestClient) -> None:
    body = {"input": ["a"], "encoding_type": "base64"}
    written = gave(client, "/v1/embeddings", body)["data"][0]["embedding"]
    assert np.frombuffer(base64.b64decode(written), "<f4").tolist() == by_hand("a").tolist()
    answer = client.post("/v1/embeddings", json={**body, "embedding_type": "float"})
    assert answer.json()["error"]["param"] == "encoding_type"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"model": "nope", "input": ["a"]}),
        ("/v1/embeddings", {"input": []}),
        ("/v1/embeddings", {"input": ["a"], "output_dimension": -1}),
        ("/v1/rerank", {"query": "a", "documents": [], "top_k": 1}),
        ("/v1/rerank", {"model": "nope", "query": "a", "documents": ["b"]}),
        ("/v1/ranking", {"query": "a", "passages": []}),
        ("/nothing", {}),
    ],
)
def test_a_refusal_says_why_in_detail_too(
    client: TestClient, path: str, body: dict[str, Any]
) -> None:
    answer = client.post(path, json=body)
    assert 400 <= answer.status_code < 500
    told = answer.json()
    assert told["detail"] == told["error"]["message"] != ""


DOCUMENTS = ["x", "a b", "a", "b"]


@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank", "/v2/rerank"])
def test_voyages_answer_of_rerank(reranker: TestClient, path: str) -> None:
    asked = {"query": "a b", "documents": DOCUMENTS, "model": NAME, "truncation": True}
    found = gave(reranker, path, {**asked, "top_k": 2, "return_documents": False})
    assert [one["index"] for one in found["data"]] == [1, 2]
    assert all(set(one) == {"index", "relevance_score"} for one in found["data"])
    assert found["object"] == "list"
    assert found["usage"]["total_tokens"] > 0
    every = gave(reranker, path, {**asked, "top_k": None, "return_documents": True})
    assert [one["document"] for one in every["data"]] == ["a b", "a", "b", "x"]


def test_clients_of_voyage_that_send_neither_find_data(reranker: TestClient) -> None:
    # As npm's voyageai and Weaviate do.
    asked = {"query": "a", "documents": DOCUMENTS, "model": NAME}
    found = gave(reranker, "/v1/rerank", asked)
    scores = [one["relevance_score"] for one in found["results"]]
    assert [one["relevance_score"] for one in found["data"]] == scores
    assert "document" not in found["data"][0]
    assert "data" not in gave(reranker, "/v1/rerank", {**asked, "top_n": 1})
    assert "data" not in gave(reranker, "/v2/rerank", asked)


@pytest.mark.parametrize(
    ("changes", "param"),
    [({"top_k": 0}, "top_k"), ({"top_k": 1, "top_n": 2}, "top_k"), ({"top_k": 1.5}, "top_k")],
)
def test_bad_numbers_of_voyage(reranker: TestClient, changes: dict[str, Any], param: str) -> None:
    answer = reranker.post("/v1/rerank", json={"query": "a", "documents": ["b"], **changes})
    assert answer.json()["error"]["param"] == param


def test_voyages_truncation_is_followed_by_rerank(reranker: TestClient) -> None:
    asked = {"query": "a", "documents": [LONG]}
    assert reranker.post("/v1/rerank", json={**asked, "truncation": False}).status_code == 400
    answer = reranker.post("/v1/rerank", json={**asked, "truncation": True})
    assert answer.headers["x-likewise-truncated"] == "0"


# NVIDIA NIM


@pytest.mark.parametrize(
    ("truncate", "overflow", "side"),
    [("NONE", "refuse", None), ("START", "cut", "left"), ("END", "cut", "right")],
)
def test_nims_truncate(
    client: TestClient, model: FakeModel, truncate: str, overflow: str, side: str | None
) -> None:
    body = {
        "model": NAME, "input": ["a"], "input_type": "passage", "truncate": truncate,
        "modality": ["text"], "encoding_format": "float", "user": "u",
    }  # fmt: skip
    gave(client, "/v1/embeddings", body)
    assert model.asked[0]["overflow"] == overflow
    assert model.asked[0].get("side") == side


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"truncate": "MIDDLE"}, "truncate"),
        ({"truncate": "START", "truncation_side": "right"}, "truncation_side"),
        ({"modality": ["text", "image"]}, "modality"),
    ],
)
def test_what_nim_cant_mean(client: TestClient, changes: dict[str, Any], param: str) -> None:
    answer = client.post("/v1/embeddings", json={"input": "a", **changes})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize("path", ["/v1/ranking", "/ranking"])
def test_nims_ranking(reranker: TestClient, path: str) -> None:
    body = {
        "model": NAME, "query": {"text": "a b"}, "truncate": "END",
        "passages": [{"text": text} for text in DOCUMENTS],
    }  # fmt: skip
    found = gave(reranker, path, body)
    expected = sorted(range(4), key=lambda at: -shared_words("a b", DOCUMENTS[at]))
    assert [one["index"] for one in found["rankings"]] == expected
    assert found["rankings"][0] == {"index": 1, "logit": shared_words("a b", "a b")}
    assert set(found) == {"rankings", "usage"}


def test_a_passage_that_is_too_long(reranker: TestClient) -> None:
    body = {"query": {"text": "a"}, "passages": [{"text": LONG}]}
    refused = reranker.post("/v1/ranking", json=body)
    assert refused.status_code == 400
    assert refused.headers["x-likewise-error"] == "input_too_long"
    cut = reranker.post("/v1/ranking", json={**body, "truncate": "END"})
    assert cut.headers["x-likewise-truncated"] == "0"


# llama.cpp


@pytest.mark.parametrize("path", ["/embedding", "/embeddings"])
@pytest.mark.parametrize(
    ("content", "texts"),
    [
        ("a b", ["a b"]),
        (["a", "b c"], ["a", "b c"]),
        ([1, 2], ["xx"]),
        ([[1], [2, 3]], ["x", "xx"]),
    ],
)
def test_llama_cpp(client: TestClient, path: str, content: Any, texts: list[str]) -> None:
    found = gave(client, path, {"content": content})
    assert [one["index"] for one in found] == list(range(len(texts)))
    for one, text in zip(found, texts, strict=True):
        assert set(one) == {"index", "embedding"}
        (row,) = one["embedding"]
        if isinstance(content, str) or isinstance(content[0], str):
            assert row == pytest.approx(by_hand(text).tolist())


def test_llama_cpps_own_route_takes_openais_name(client: TestClient) -> None:
    assert gave(client, "/embedding", {"input": "a"})[0]["index"] == 0
    assert gave(client, "/embeddings", {"input": "a", "content": "b"})["object"] == "list"
    packed = gave(client, "/embedding", {"content": "a", "encoding_format": "base64"})
    row = np.frombuffer(base64.b64decode(packed[0]["embedding"][0]), "<f4")
    assert row.tolist() == by_hand("a").tolist()


@pytest.mark.parametrize(
    ("path", "field"), [("/embedding", "content"), ("/v1/embeddings", "input")], ids=str
)
def test_llama_cpps_vectors_as_they_are(
    client: TestClient, model: FakeModel, path: str, field: str
) -> None:
    gave(client, path, {field: "a", "embd_normalize": -1})
    assert (model.asked[0]["unit"], model.asked[0]["raw"]) == (False, True)
    gave(client, path, {field: "a", "embd_normalize": 2})
    assert (model.asked[1]["unit"], model.asked[1]["raw"]) == (True, False)


@pytest.mark.parametrize("more", [{"embd_normalize": 0}, {"embd_normalize": -1, "normalize": True}])
def test_other_norms_are_refused(client: TestClient, more: dict[str, Any]) -> None:
    answer = client.post("/v1/embeddings", json={"input": "a", **more})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "embd_normalize")


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/embedding", {}, "'content' is missing"),
        ("/embedding", {"content": ""}, "empty"),
        ("/embedding", {"content": []}, "empty list"),
        ("/embedding", {"content": "a", "input": "b"}, "not both"),
        ("/embedding", {"content": "a", "embd_normalize": 1}, "embd_normalize is 1"),
        ("/embedding", {"content": "a", "image_data": [{"data": "x"}]}, "only texts"),
        ("/embeddings", {"content": ["a", 1]}, "mixes texts and token ids"),
    ],
)
def test_llama_cpps_refusals(
    client: TestClient, path: str, body: dict[str, Any], words: str
) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert words in error["message"]
    assert (error["code"], error["type"]) == (400, "invalid_request_error")


def test_a_body_of_neither(client: TestClient) -> None:
    answer = client.post("/embeddings", json={"text": "a"})
    assert answer.status_code == 400
    assert "must have 'input' (OpenAI)" in answer.json()["error"]["message"]


# Lists of models


def test_the_list_serves_clients_of_infinity_and_cohere(client: TestClient) -> None:
    found = client.get("/models").json()
    (row,) = found["data"]
    stats = row["stats"]
    assert set(stats) == {"queue_fraction", "queue_absolute", "results_pending", "batch_size"}
    assert all(isinstance(one, int | float) for one in stats.values())
    (listed,) = found["models"]
    assert listed == {
        "name": NAME, "endpoints": ["embed"], "finetuned": False, "context_length": 8
    }  # fmt: skip
    assert client.get("/v1/models?endpoint=embed").json()["models"] == [listed]
    assert client.get("/v1/models?endpoint=rerank").json()["models"] == []
    one = client.get(f"/v1/models/{NAME}").json()
    assert (one["name"], one["endpoints"], one["id"]) == (NAME, ["embed"], NAME)


# Paths and methods


@pytest.mark.parametrize(
    "path", ["//v1/embeddings", "/v1//embeddings", "///v1//embeddings?x=//", "//embeddings"]
)
def test_a_doubled_slash_reaches_its_route(client: TestClient, path: str) -> None:
    answer = client.post(f"http://testserver{path}", json={"input": "a"})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "//embed"), ("POST", "/v1//rerank"), ("POST", "/api//embed"), ("GET", "/v1//models")],
)
def test_of_every_dialect(client: TestClient, method: str, path: str) -> None:
    answer = client.request(method, f"http://testserver{path}", json={})
    assert answer.status_code != 404, answer.text


@pytest.mark.parametrize("path", ["//admin/models", "//health", "/%2fv1/embeddings", "//nothing"])
def test_routes_of_our_own_have_one_spelling(client: TestClient, path: str) -> None:
    assert client.get(f"http://testserver{path}").status_code == 404


def test_names_of_models_keep_their_slashes(client: TestClient) -> None:
    found = client.get(f"http://testserver/v1/models/https://huggingface.co/{NAME}")
    assert found.status_code == 200


def test_head_is_get_without_the_body(client: TestClient) -> None:
    paths = [
        route.path for route in client.app.routes  # type: ignore[attr-defined]
        if "GET" in getattr(route, "methods", ()) and "{" not in route.path
    ]  # fmt: skip
    assert "/v1/models" in paths
    for path in paths:
        got, head = client.get(path), client.head(path)
        assert head.status_code == got.status_code, path
        assert not head.content
        assert head.headers.get("content-type") == got.headers.get("content-type")


def test_the_routes_can_be_looked_at_in_a_browser(client: TestClient) -> None:
    there = client.get("/docs", follow_redirects=False)
    assert (there.status_code, there.headers["location"]) == (303, "docs/")
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    for path in client.get("/openapi.json").json()["paths"]:
        assert f"<code>{path}</code>" in page.text


def test_nothing_is_ignored_of_what_these_clients_send(client: TestClient) -> None:
    sent: list[dict[str, Any]] = [
        {"input": ["a"], "encoding_type": "float", "late_chunking": False, "normalized": True},
        {"input": ["a"], "input_type": "document", "truncation": True, "output_dtype": "float"},
        {"input": ["a"], "input_type": "query", "truncate": "NONE", "modality": "text"},
    ]
    for body in sent:
        answer = client.post("/v1/embeddings", json=body)
        assert answer.status_code == 200, answer.text
        assert notices.IGNORED_HEADER not in answer.headers


def test_probes_need_no_key_by_either_method(tmp_path: Any) -> None:
    from likewise.server.keys import KeyRing

    keys = KeyRing(None, {"LIKEWISE_API_KEY": ("k" * 40, False)})
    with TestClient(build({NAME: FakeModel()}, guard=Guard(keys=keys))) as client:
        for path in ("/health", "/ready", "/ping"):
            assert client.head(path).status_code == client.get(path).status_code
            assert client.head(path).status_code in (200, 503)
        assert client.head("/v1/models").status_code == 401
        own = {"authorization": "Bearer " + "k" * 40}
        assert client.head("/v1/models", headers=own).status_code == 200
        refused = client.post("/v1/embeddings", json={"input": "a"}).json()
        assert refused["error"]["code"] == "invalid_api_key"
        assert refused["error"]["type"] == "invalid_request_error"
