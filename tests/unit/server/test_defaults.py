"""What the operator says for requests that leave it open: prompt, long texts, token ids."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from starlette.testclient import TestClient

from likewise.base.errors import SettingsError
from likewise.server.app import build
from likewise.server.defaults import Defaults
from likewise.server.guard import Guard
from tests.unit.server.dialects.fake_scorer import FakeScorer
from tests.unit.server.fakes import MAX_TOKENS, FakeModel

PROMPTS = {"query": "q: ", "passage": "p: ", "empty": ""}
LONG = "w " * (MAX_TOKENS + 9)


def served(model: Any, **said: Any) -> TestClient:
    """An application over `model` whose operator `said` that."""
    guard = Guard(defaults=Defaults(**said))
    return TestClient(build({model.name: model}, guard=guard))


def shape_of(path: str, text: Any = "a", **fields: Any) -> dict[str, Any]:
    """A body for `path` that asks for the vector of one text."""
    if path in ("/similarity",):
        return {"inputs": {"source_sentence": text, "sentences": ["b"]}, "parameters": fields}
    if path == "/vertex":
        return {"instances": [{"inputs": text, **fields}]}
    if path == "/v2/embed":
        return {"texts": [text], "input_type": "classification", **fields}
    if path == "/v1/embed":
        return {"texts": [text], **fields}
    name = {"/api/embed": "input", "/api/embeddings": "prompt", "/pooling": "input"}.get(path)
    name = name or ("input" if path.startswith("/v1") else "inputs")
    return {name: text, "model": "fake/lengths", **fields}


VECTOR_ROUTES = (
    "/embed",
    "/embed_all",
    "/",
    "/invocations",
    "/vertex",
    "/similarity",
    "/v1/embeddings",
    "/pooling",
    "/api/embed",
    "/api/embeddings",
    "/v1/embed",
    "/v2/embed",
)


@pytest.mark.parametrize("path", VECTOR_ROUTES)
def test_a_default_prompt_goes_before_every_text(path: str) -> None:
    for said in ({"prompt": "p: "}, {"prompt_name": "passage"}):
        model = FakeModel(prompts=PROMPTS, default_prompt_name="query")
        answer = served(model, **said).post(path, json=shape_of(path))
        assert answer.status_code == 200, answer.text
        assert [asked["prompt"] for asked in model.asked] == ["p: "]


@pytest.mark.parametrize(
    ("path", "body"), [("/predict", {"inputs": "a"}), ("/classify", {"input": ["a"]})]
)
def test_also_before_a_text_that_is_classified(path: str, body: dict[str, Any]) -> None:
    model = FakeModel(gives=("scores",), labels=("x", "y"), facts={"labels": ["x", "y"]})
    if path == "/classify":
        model = FakeScorer(outputs=("scores",), labels=("a", "b"))
    answer = served(model, prompt="p: ").post(path, json=body)
    assert answer.status_code == 200, answer.text
    assert model.asked[0]["prompt"] == "p: "


@pytest.mark.parametrize(
    ("path", "fields", "told"),
    [
        ("/embed", {"prompt_name": "empty"}, {"prompt": ""}),
        ("/similarity", {"prompt_name": "query"}, {"prompt": "q: "}),
        ("/v1/embeddings", {"prompt_name": "empty"}, {"prompt_name": "empty"}),
        ("/v1/embeddings", {"input_type": "query"}, {"kind": "query"}),
        ("/v1/embeddings", {"task": "retrieval.passage"}, {"prompt_name": "passage"}),
        ("/v2/embed", {"input_type": "search_query"}, {"kind": "query"}),
        ("/v2/embed", {"input_type": "search_document"}, {"prompt_name": "passage"}),
    ],
)
def test_a_request_that_names_a_prompt_gets_that_one(
    path: str, fields: dict[str, Any], told: dict[str, str]
) -> None:
    model = FakeModel(prompts=PROMPTS)
    answer = served(model, prompt="p: ").post(path, json=shape_of(path, **fields))
    assert answer.status_code == 200, answer.text
    names = ("prompt", "prompt_name", "kind")
    assert {name: model.asked[0][name] for name in names if name in model.asked[0]} == told


def test_a_name_that_the_model_has_not_is_refused() -> None:
    client = served(FakeModel(prompts=PROMPTS), prompt_name="pasage")
    for path in ("/embed", "/v1/embeddings", "/pooling"):
        answer = client.post(path, json=shape_of(path))
        assert answer.status_code in (400, 422)
        assert "default_prompt_name is 'pasage'" in answer.text and "passage" in answer.text
    assert client.post("/embed", json={"inputs": "a", "prompt_name": "empty"}).status_code == 200


def test_two_default_prompts_are_refused() -> None:
    with pytest.raises(SettingsError, match="give one of them"):
        Defaults(prompt="a", prompt_name="b")


PAIRS = {
    "/rerank": {"query": "a", "texts": ["b"]},
    "/v1/rerank": {"query": "a", "documents": ["b"]},
    "/score": {"text_1": "a", "text_2": "b"},
    "/predict": {"inputs": [["a", "b"]]},
}


def scorer_at(path: str) -> Any:
    """A model that scores pairs, for TEI's routes or for the others."""
    if path in ("/rerank", "/predict"):
        return FakeModel(gives=("scores",), labels=("relevance",), facts={"labels": ["relevance"]})
    return FakeScorer(outputs=("scores",))


@pytest.mark.parametrize("path", list(PAIRS))
def test_a_pair_has_no_place_for_a_default_prompt(path: str) -> None:
    model = scorer_at(path)
    assert served(model).post(path, json=PAIRS[path]).status_code == 200
    for said in ({"prompt": "p: "}, {"prompt_name": "query"}):
        answer = served(model, **said).post(path, json=PAIRS[path])
        assert answer.status_code == (422 if path in ("/rerank", "/predict") else 400)
        assert "can't be done to a pair of texts" in answer.text
    assert len(model.asked) == 1


CUTS: dict[str, dict[str, Any]] = {
    "/embed": {"truncate": True},
    "/embed_all": {"truncate": True},
    "/": {"truncate": True},
    "/vertex": {"truncate": True},
    "/similarity": {"truncate": True},
    "/v1/embeddings": {"truncate": True},
    "/pooling": {"truncate_prompt_tokens": -1},
    "/api/embed": {"truncate": True},
    "/v1/embed": {"truncate": "END"},
    "/v2/embed": {"truncate": "START"},
}


@pytest.mark.parametrize("path", list(CUTS))
def test_without_auto_truncate_a_long_text_is_refused_unless_the_request_cuts_it(path: str) -> None:
    client = served(FakeModel(), truncate=False)
    refused = client.post(path, json=shape_of(path, LONG))
    assert refused.status_code in (400, 422), refused.text
    cut = client.post(path, json=shape_of(path, LONG, **CUTS[path]))
    assert cut.status_code == 200, cut.text
    if path != "/pooling":  # vLLM's own clients are refused unless they ask for a cut
        usual = served(FakeModel()).post(path, json=shape_of(path, LONG))
        assert usual.status_code == 200, usual.text


def test_nor_is_a_pair_cut() -> None:
    body: dict[str, Any] = {"query": "a", "documents": [LONG]}
    model = FakeScorer(outputs=("scores",))
    assert served(model, truncate=False).post("/v1/rerank", json=body).status_code == 400
    assert served(model).post("/v1/rerank", json=body).status_code == 200
    body |= {"truncate_prompt_tokens": -1}
    assert served(model, truncate=False).post("/v1/rerank", json=body).status_code == 200


IDS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/embeddings", {"input": [[1, 2], [3]]}),
    ("/v1/embeddings", {"input": [1, 2]}),
    ("/embeddings", {"input": [[1, 2]]}),
    ("/embed", {"inputs": [1, 2]}),
    ("/embed", {"inputs": ["a", [3]]}),
    ("/embed_all", {"inputs": [[1, 2]]}),
    ("/", {"inputs": [[1, 2]]}),
    ("/pooling", {"input": [1, 2]}),
    ("/classify", {"input": [[1, 2]]}),
    ("/classify", {"input": [[1, 2]], "raw_scores": True}),
]


def of_ids(path: str) -> Any:
    """A model that answers at `path`."""
    if path == "/classify":
        return FakeScorer(outputs=("scores",), labels=("a", "b"))
    return FakeModel()


@pytest.mark.parametrize(("path", "body"), IDS)
def test_token_ids_are_told_in_a_header(path: str, body: dict[str, Any]) -> None:
    with served(of_ids(path)) as client:
        answer = client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        assert "token ids" in answer.headers["x-likewise-warning"]
        assert "check_embedding_ctx_length=False" in answer.headers["x-likewise-warning"]
        texts = {"inputs" if "inputs" in body else "input": "a"}
        assert "x-likewise-warning" not in client.post(path, json=texts).headers


@pytest.mark.parametrize(("path", "body"), IDS)
def test_or_refused(path: str, body: dict[str, Any]) -> None:
    model = of_ids(path)
    answer = served(model, token_ids="refuse").post(path, json=body)
    assert answer.status_code in (400, 422)
    assert "check_embedding_ctx_length=False" in answer.text
    assert not model.asked, "nothing is computed"


def test_routes_that_are_about_token_ids_stay_open() -> None:
    client = served(FakeModel(), token_ids="refuse")
    for path, body in (("/decode", {"ids": [1]}), ("/detokenize", {"tokens": [1]})):
        answer = client.post(path, json=body)
        assert answer.status_code == 200 and "x-likewise-warning" not in answer.headers


def test_they_are_logged_once_for_each_client_and_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING, "likewise.server")
    application = build({"fake/lengths": FakeModel()})
    first, second = (TestClient(application, client=(host, 5000)) for host in ("10.0.0.1", "::2"))
    for client in (first, second, first):
        client.post("/v1/embeddings", json={"input": [[1, 2], [3]]})
    lines = [line for line in caplog.messages if line.startswith("token ids")]
    assert len(lines) == 2
    assert "client=10.0.0.1" in lines[0] and "model=fake/lengths" in lines[0]
    assert "client=::2" in lines[1]
    first.post("/embed", json={"inputs": [1]})
    counted = first.get("/metrics").text
    labels = 'dialect="openai",model="fake/lengths"'
    assert f"likewise_token_id_inputs_total{{{labels}}} 6.0" in counted
    assert 'likewise_token_id_inputs_total{dialect="tei",model="fake/lengths"} 1.0' in counted


def test_one_line_for_each_key(caplog: pytest.LogCaptureFixture) -> None:
    from likewise.server.keys import KeyRing

    caplog.set_level(logging.WARNING, "likewise.server")
    ring = KeyRing(None, {"FIRST": ("one-key-of-enough-length", False)})
    application = build({"fake/lengths": FakeModel()}, guard=Guard(keys=ring))
    for host in ("10.0.0.1", "10.0.0.2"):
        client = TestClient(application, client=(host, 5000))
        headers = {"authorization": "Bearer one-key-of-enough-length"}
        answer = client.post("/v1/embeddings", json={"input": [1]}, headers=headers)
        assert answer.status_code == 200, answer.text
    (line,) = [line for line in caplog.messages if line.startswith("token ids")]
    assert "key=FIRST" in line and "one-key" not in line
