"""Which model a request goes to that names none, or one that isn't served."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from likewise.server import notices
from likewise.server.app import build
from likewise.server.guard import Guard
from tests.unit.server.dialects.fake_scorer import FakeScorer
from tests.unit.server.fake_catalogue import FakeEntry, FakeListing
from tests.unit.server.fakes import FakeModel

QUERY = {"query": "a", "documents": ["b"]}

EMBEDS: list[tuple[str, dict[str, Any]]] = [
    ("/embed", {"inputs": "a"}),
    ("/similarity", {"inputs": {"source_sentence": "a", "sentences": ["b"]}}),
    ("/v1/embeddings", {"input": "a"}),
    ("/embeddings", {"input": "a", "model": ""}),
    ("/embeddings", {"input": "a", "model": "default/not-specified"}),
    ("/v1/embed", {"texts": ["a"]}),
    ("/v2/embed", {"texts": ["a"], "input_type": "search_document"}),
    ("/pooling", {"input": "a"}),
]
SCORES: list[tuple[str, dict[str, Any]]] = [
    ("/rerank", QUERY),
    ("/v1/rerank", QUERY),
    ("/v2/rerank", {**QUERY, "model": ""}),
    ("/score", {"text_1": "a", "text_2": "b"}),
    ("/classify", {"input": "a"}),
    ("/pooling", {"input": "a", "task": "classify"}),
]
TEI_SCORES: list[tuple[str, dict[str, Any]]] = [
    ("/rerank", {"query": "a", "texts": ["b"]}),
    ("/predict", {"inputs": "a"}),
    ("/predict", {"inputs": "a", "model": ""}),
]


def embedder() -> FakeModel:
    return FakeModel(gives=("vectors", "states"))


def scorer() -> FakeScorer:
    return FakeScorer(outputs=("scores",))


def tei_scorer() -> FakeModel:
    return FakeModel(gives=("scores",), labels=("fits",))


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize(("path", "body"), [*EMBEDS, *SCORES, *TEI_SCORES])
def test_it_goes_to_the_one_that_can(path: str, body: dict[str, Any], is_first: bool) -> None:
    embeds = (path, body) in EMBEDS
    scores: FakeModel = tei_scorer() if (path, body) in TEI_SCORES else scorer()
    models: dict[str, FakeModel] = {"embedder": embedder(), "scorer": scores}
    order = models if is_first else dict(reversed(models.items()))
    with TestClient(build(order)) as client:
        answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    asked = {name: bool(model.asked) for name, model in models.items()}
    assert asked == {"embedder": embeds, "scorer": not embeds}
    assert notices.WARNING_HEADER not in answer.headers


def test_a_score_by_cosine_goes_to_the_embedder() -> None:
    models = {"scorer": scorer(), "embedder": FakeScorer(outputs=("vectors",))}
    with TestClient(build(models)) as client:
        assert client.post("/rerank", json={**QUERY, "by": "cosine"}).status_code == 200
    assert models["embedder"].asked and not models["scorer"].asked


def test_where_several_can_the_refusal_names_them() -> None:
    models: dict[str, FakeModel] = {"a": embedder(), "b": embedder(), "c": scorer()}
    with TestClient(build(models)) as client:
        answer = client.post("/v1/embeddings", json={"input": "a"})
        assert answer.status_code == 400
        message = answer.json()["error"]["message"]
        assert "several models can do this: a, b. Name one" in message
        assert "--default-model" in message
        # Clients of TEI can't name any.
        assert client.post("/embed", json={"inputs": "a"}).status_code == 200
        assert models["a"].asked and not models["b"].asked


@pytest.mark.parametrize(
    ("default", "path", "body", "expected"),
    [
        ("b", "/v1/embeddings", {"input": "a"}, "b"),
        ("b", "/embed", {"inputs": "a"}, "b"),
        # The default can't score, and one other model can.
        ("b", "/v1/rerank", QUERY, "c"),
        ("c", "/v1/rerank", QUERY, "c"),
    ],
)
def test_the_default_settles_the_rest(
    default: str, path: str, body: dict[str, Any], expected: str
) -> None:
    models: dict[str, FakeModel] = {"a": embedder(), "b": embedder(), "c": scorer()}
    entries = [FakeEntry(name, model=model, state="loaded") for name, model in models.items()]
    with TestClient(build(FakeListing(*entries, default=default))) as client:
        answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    assert [name for name, model in models.items() if model.asked] == [expected]


def test_any_name_will_do_where_one_model_fits_a_route_of_tei() -> None:
    models: dict[str, FakeModel] = {"embedder": embedder(), "reranker": tei_scorer()}
    with TestClient(build(models)) as client:
        for path, body, name in (
            ("/embed", {"inputs": "a"}, "embedder"),
            ("/rerank", {"query": "a", "texts": ["b"]}, "reranker"),
        ):
            answer = client.post(path, json={**body, "model": "some/other"})
            assert answer.status_code == 200, answer.text
            warning = answer.headers[notices.WARNING_HEADER]
            assert warning == f"the model 'some/other' isn't served here; {name} answered"
        # The vectors of another model than the one named look right and aren't.
        refused = client.post("/v1/embeddings", json={"input": "a", "model": "some/other"})
        assert refused.status_code == 404
        assert refused.json()["error"]["code"] == "model_not_found"


def test_a_name_is_needed_where_several_fit_or_the_server_is_strict() -> None:
    body = {"inputs": "a", "model": "some/other"}
    with TestClient(build({"a": embedder(), "b": embedder()})) as client:
        assert client.post("/embed", json=body).status_code == 404
    with TestClient(build({"a": embedder()}, guard=Guard(strict=True))) as client:
        assert client.post("/embed", json=body).status_code == 404


def test_the_alias_for_every_name() -> None:
    models = {"a": embedder(), "b": embedder()}
    entries = [FakeEntry("a", models["a"]), FakeEntry("b", models["b"], aliases=("*",))]
    with TestClient(build(FakeListing(*entries))) as client:
        for path, body in (
            ("/v1/embeddings", {"input": "a", "model": "text-embedding-ada-002"}),
            ("/embed", {"inputs": "a", "model": "x"}),
        ):
            answer = client.post(path, json=body)
            assert answer.status_code == 200, answer.text
            assert answer.headers[notices.WARNING_HEADER].endswith("; b answered")
        assert client.post("/v1/embeddings", json={"input": "a", "model": "a"}).status_code == 200
    assert (len(models["a"].asked), len(models["b"].asked)) == (1, 2)
