"""Reranking on the real application, over a model that can be computed by hand."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from likewise.base.errors import Overloaded
from likewise.server.app import build
from likewise.vectors.activate import sigmoid
from likewise.vectors.maxsim import maxsim
from tests.unit.server.dialects.fake_scorer import FakeScorer, each_word, shared_words
from tests.unit.server.fakes import by_hand

NAME = "fake/lengths"
QUERY = "red fox"
DOCUMENTS = ["a dog", "red red fox", "the fox", "a cow", "red fox"]
RAW = [shared_words(QUERY, document) for document in DOCUMENTS]
ORDER = [1, 4, 2, 0, 3]
PATHS = ["/rerank", "/v1/rerank", "/v2/rerank"]


@pytest.fixture
def model() -> FakeScorer:
    return FakeScorer(outputs=("scores",))


@pytest.fixture
def client(model: FakeScorer) -> Iterator[TestClient]:
    with TestClient(build({NAME: model}, max_body_bytes=1_000_000)) as client:
        yield client


def ranked(client: TestClient, path: str = "/v1/rerank", **changes: Any) -> dict[str, Any]:
    answer = client.post(path, json={"query": QUERY, "documents": DOCUMENTS} | changes)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def refused(
    client: TestClient, status: int = 400, path: str = "/v1/rerank", **changes: Any
) -> dict[str, str]:
    answer = client.post(path, json={"query": QUERY, "documents": DOCUMENTS} | changes)
    assert answer.status_code == status, answer.text
    error: dict[str, str] = answer.json()["error"]
    if path != "/rerank":
        assert answer.json()["message"] == error["message"]
    return error


@pytest.mark.parametrize("path", PATHS)
def test_documents_come_by_score_and_equal_ones_by_place(client: TestClient, path: str) -> None:
    body = ranked(client, path)
    assert [each["index"] for each in body["results"]] == ORDER
    got = [each["relevance_score"] for each in body["results"]]
    np.testing.assert_allclose(got, sigmoid(np.array(RAW, np.float32))[ORDER], rtol=1e-6)
    assert body["model"] == NAME
    assert body["object"] == "list"
    tokens = sum(2 + len(document.split()) for document in DOCUMENTS)
    assert body["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert body["meta"]["tokens"] == {"input_tokens": tokens, "output_tokens": 0}
    assert body["meta"]["api_version"] == {"version": "2" if "v2" in path else "1"}
    assert body["meta"]["billed_units"] == {"search_units": 1}
    assert body["id"].startswith("rerank-") and isinstance(body["created"], int)
    assert "truncated" not in body


def test_what_scored_is_said(client: TestClient) -> None:
    answer = client.post("/rerank", json={"query": "a", "documents": ["b"]})
    assert answer.headers["x-likewise-scored-by"] == "cross-encoder"
    assert "x-likewise-truncated" not in answer.headers


@pytest.mark.parametrize(
    ("path", "asked", "returned"),
    [
        ("/rerank", None, True),
        ("/v1/rerank", None, True),
        ("/v2/rerank", None, False),
        ("/v1/rerank", False, False),
        ("/v2/rerank", True, True),
    ],
)
def test_documents_go_back_as_each_dialect_expects(
    client: TestClient, path: str, asked: bool | None, returned: bool
) -> None:
    results = ranked(client, path, return_documents=asked)["results"]
    assert all(("document" in each) is returned for each in results)
    if returned:
        assert [each["document"] for each in results] == [{"text": DOCUMENTS[n]} for n in ORDER]


@pytest.mark.parametrize(("returns", "documents"), [(True, DOCUMENTS), (None, [None] * 5)])
def test_infinitys_documents_are_bare_texts(
    client: TestClient, returns: bool | None, documents: list[str | None]
) -> None:
    body = ranked(client, "/rerank", raw_scores=False, return_documents=returns)
    assert body["object"] == "rerank"
    assert [each["document"] for each in body["results"]] == [documents[n] for n in ORDER]


@pytest.mark.parametrize("asked", [{"raw_scores": True}, {"use_activation": False}])
def test_raw_scores(client: TestClient, model: FakeScorer, asked: dict[str, bool]) -> None:
    results = ranked(client, "/rerank", **asked)["results"]
    assert [each["relevance_score"] for each in results] == [RAW[n] for n in ORDER]
    assert model.asked[0]["raw"] is True


@pytest.mark.parametrize(("top_n", "count"), [(None, 5), (0, 5), (2, 2), (5, 5), (50, 5)])
def test_top_n(client: TestClient, top_n: int | None, count: int) -> None:
    results = ranked(client, "/v2/rerank", top_n=top_n)["results"]
    assert [each["index"] for each in results] == ORDER[:count]


def test_documents_as_objects_and_parts(client: TestClient, model: FakeScorer) -> None:
    documents = [
        {"text": "red fox", "page": 3},
        {"content": "a dog"},
        {"content": [{"type": "text", "text": "the fox"}]},
    ]
    results = ranked(client, query={"text": QUERY}, documents=documents)["results"]
    assert model.asked[0]["inputs"] == [(QUERY, text) for text in ("red fox", "a dog", "the fox")]
    assert [each["document"] for each in results] == [
        {"text": "red fox", "page": 3},
        {"text": "the fox"},
        {"text": "a dog"},
    ]


def test_rank_fields(client: TestClient, model: FakeScorer) -> None:
    documents = [{"title": "fox", "year": 1999, "text": "x"}, {"year": 2.5, "title": "", "a": []}]
    results = ranked(client, documents=documents, rank_fields=["title", "year"])["results"]
    read = [text for _, text in model.asked[-1]["inputs"]]
    assert read == ["title: fox\nyear: 1999", "title: \nyear: 2.5"]
    assert results[0]["document"] == documents[0]
    assert results[1]["document"] == documents[1] | {"text": read[1]}
    ranked(client, documents=documents, rank_fields=["title"])
    assert [text for _, text in model.asked[-1]["inputs"]] == ["fox", ""]


def test_long_documents_are_cut_first_where_asked(client: TestClient, model: FakeScorer) -> None:
    documents = ["one  two three", "four", "five six seven eight"]
    asked = {"query": "q", "documents": documents, "max_tokens_per_doc": 2}
    answer = client.post("/v2/rerank", json=asked)
    assert [text for _, text in model.asked[0]["inputs"]] == ["one  two", "four", "five six"]
    assert answer.headers["x-likewise-truncated"] == "0,2"
    assert answer.headers["x-likewise-truncated-count"] == "2"
    assert answer.json()["truncated"] == [0, 2]
    assert answer.json()["meta"]["warnings"] == ["documents were cut: 2 of 3"]
    given = client.post("/v1/rerank", json=asked).json()["results"]
    assert {each["document"]["text"] for each in given} == set(documents)


def test_pairs_that_the_model_cut_are_said(client: TestClient) -> None:
    long = "one two three four five six seven eight nine"
    answer = client.post("/rerank", json={"query": "q", "documents": ["a", long]})
    assert answer.headers["x-likewise-truncated"] == "1"
    assert answer.json()["truncated"] == [1]


def test_options_reach_the_model(client: TestClient, model: FakeScorer) -> None:
    ranked(
        client,
        model="lengths",
        truncate_prompt_tokens=3,
        truncation_side="left",
        instruction="judge",
        request_id="7",
        user="me",
        priority=1,
        max_chunks_per_doc=10,
    )
    asked = model.asked[0]
    assert (asked["limit"], asked["side"], asked["overflow"]) == (3, "left", "cut")
    assert (asked["prompt"], asked["raw"], asked["lane"]) == ("judge", False, "bulk")
    ranked(client, documents=DOCUMENTS[:4], truncate_prompt_tokens=-1)
    assert model.asked[1]["lane"] == "interactive"
    assert "limit" not in model.asked[1]
    assert ranked(client, request_id="7")["id"] == "rerank-7"


def test_infinitys_name_for_no_model(client: TestClient) -> None:
    body = ranked(client, "/rerank", model="default/not-specified", raw_scores=False)
    assert body["model"] == NAME


@pytest.mark.parametrize(
    ("changes", "param", "words"),
    [
        ({"documents": []}, "documents", "documents is an empty list"),
        ({"documents": ["a"] * 10_001}, "documents", "10001 documents in one request"),
        ({"documents": None}, "documents", "expected array, got null"),
        ({"documents": [3]}, "documents[0]", "got int"),
        ({"documents": ["a", {"title": "x"}]}, "documents", "documents[1] has no text, only 'titl"),
        ({"documents": [{}]}, "documents", "documents[0] has no text, only nothing"),
        (
            {"documents": [{"content": [{"type": "image_url", "image_url": {}}]}]},
            "documents",
            "documents[0].content has a part of type image_url; only text",
        ),
        (
            {"documents": [{"content": [{"type": "text", "text": "a"}] * 2}]},
            "documents",
            "documents[0].content has 2 parts; send one",
        ),
        ({"documents": [{"content": ["a"]}]}, "documents", "a part of type ?"),
        ({"query": ""}, "query", "query is empty"),
        ({"query": {"image": "x"}}, "query", "query has no text, only 'image'"),
        ({"query": 3}, "query", "query: expected str | object, got int"),
        ({"top_n": -1}, "top_n", "top_n is -1; it must be at least 0"),
        ({"max_chunks_per_doc": 0}, "max_chunks_per_doc", "must be at least 1"),
        ({"max_tokens_per_doc": 0}, "max_tokens_per_doc", "must be at least 1"),
        ({"truncate_prompt_tokens": 0}, "truncate_prompt_tokens", "must be at least 1, or -1"),
        ({"truncation_side": "up"}, "truncation_side", "invalid enum value 'up'"),
        ({"add_special_tokens": False}, "add_special_tokens", "can't be false here"),
        ({"rank_fields": ["a"]}, "rank_fields", "documents[0] is a text"),
        ({"rank_fields": []}, "rank_fields", "rank_fields is an empty list"),
        (
            {"rank_fields": ["b"], "documents": [{"a": "x"}]},
            "rank_fields",
            "documents[0] has no text or number called 'b'; it has 'a'",
        ),
        ({"by": "guess"}, "by", "invalid enum value 'guess'"),
        ({"by": "cosine"}, "by", "gives no vectors, which scoring by cosine needs; it gives sco"),
        ({"by": "maxsim"}, "by", "gives no tokens"),
    ],
)
@pytest.mark.parametrize("path", PATHS)
def test_bad_requests(
    client: TestClient,
    model: FakeScorer,
    path: str,
    changes: dict[str, Any],
    param: str,
    words: str,
) -> None:
    error = refused(client, path=path, **changes)
    assert words in error["message"]
    assert error["param"] == param
    assert not model.asked


def test_errors_are_said_in_both_shapes(client: TestClient, model: FakeScorer) -> None:
    """Cohere's client reads `message`, Jina's readers `error`."""
    assert refused(client, 404, model="other")["code"] == "model_not_found"
    model.fails = Overloaded("too much")
    assert refused(client, 503)["code"] == "overloaded"


def test_a_model_of_several_labels_is_refused() -> None:
    model = FakeScorer(outputs=("scores",), labels=("no", "maybe", "yes"))
    with TestClient(build({NAME: model})) as client:
        error = refused(client)
        assert error["code"] == "model_unsupported"
        assert "3 numbers for a pair (no, maybe, yes), not one score" in error["message"]
        assert not model.asked


@pytest.mark.parametrize("outputs", [("vectors",), ("sparse",)])
def test_a_model_that_is_no_reranker_says_how_to_ask(outputs: tuple[str, ...]) -> None:
    model = FakeScorer(outputs=outputs)
    with TestClient(build({NAME: model})) as client:
        error = refused(client)
        assert (error["code"], error["param"]) == ("model_unsupported", "model")
        assert ('"by": "cosine"' in error["message"]) is (outputs == ("vectors",))
        assert ("'x-likewise-rerank: cosine'" in error["message"]) is (outputs == ("vectors",))
        assert not model.asked


@pytest.mark.parametrize("way", ["body", "header"])
def test_by_cosine_where_the_request_says_so(way: str) -> None:
    model = FakeScorer()
    asked: dict[str, Any] = {"query": QUERY, "documents": DOCUMENTS}
    headers = {"x-likewise-rerank": "cosine"} if way == "header" else {}
    with TestClient(build({NAME: model})) as client:
        body = asked | ({"by": "cosine"} if way == "body" else {})
        answer = client.post("/v2/rerank", json=body, headers=headers)
    assert answer.headers["x-likewise-scored-by"] == "cosine"
    cosines = np.array([by_hand(QUERY) @ by_hand(document) for document in DOCUMENTS])
    results = answer.json()["results"]
    assert [each["index"] for each in results] == list(np.argsort(-cosines, kind="stable"))
    np.testing.assert_allclose(
        [each["relevance_score"] for each in results], -np.sort(-cosines), atol=1e-6
    )
    first, second = model.asked
    assert (first["inputs"], first["kind"]) == ([QUERY], "query")
    assert (second["inputs"], second["kind"]) == (DOCUMENTS, "document")
    assert first["unit"] and second["unit"]
    assert first["lane"] == second["lane"] == "bulk"
    assert answer.json()["usage"]["total_tokens"] == 2 + sum(len(d.split()) for d in DOCUMENTS)


def test_an_unknown_way_in_the_header() -> None:
    with TestClient(build({NAME: FakeScorer()})) as client:
        body = {"query": "a", "documents": ["b"]}
        answer = client.post("/rerank", json=body, headers={"x-likewise-rerank": "magic"})
        assert answer.status_code == 400
        assert "'magic'; known: cross-encoder, maxsim, cosine" in answer.json()["error"]["message"]


def test_a_model_of_many_vectors_ranks_by_maxsim() -> None:
    model = FakeScorer(outputs=("tokens",))
    with TestClient(build({NAME: model})) as client:
        answer = client.post("/rerank", json={"query": QUERY, "documents": DOCUMENTS})
    assert answer.headers["x-likewise-scored-by"] == "maxsim"
    expected = [maxsim(each_word(QUERY), each_word(document)) for document in DOCUMENTS]
    for each in answer.json()["results"]:
        np.testing.assert_allclose(each["relevance_score"], expected[each["index"]], rtol=1e-6)
    assert [asked["kind"] for asked in model.asked] == ["query", "document"]
    assert all(asked["gives"] == ("tokens",) for asked in model.asked)


@pytest.mark.parametrize("outputs", [("vectors",), ("tokens",)])
def test_an_instruction_is_for_models_that_read_pairs(outputs: tuple[str, ...]) -> None:
    model = FakeScorer(outputs=outputs)
    asked_by = "cosine" if outputs == ("vectors",) else "maxsim"
    with TestClient(build({NAME: model})) as client:
        error = refused(client, instruction="judge", by=asked_by)
        assert error["param"] == "instruction"
        assert not model.asked


def test_a_query_that_was_cut_concerns_every_document() -> None:
    long = "one two three four five six seven eight nine"
    with TestClient(build({NAME: FakeScorer()})) as client:
        body = {"query": long, "documents": ["a", "b"], "by": "cosine"}
        assert client.post("/rerank", json=body).json()["truncated"] == [0, 1]
        body = {"query": "q", "documents": ["a", long], "by": "cosine"}
        assert client.post("/rerank", json=body).json()["truncated"] == [1]


def test_the_metrics_name_the_dialect(client: TestClient, model: FakeScorer) -> None:
    for path, changes in (
        ("/rerank", {}),
        ("/rerank", {"raw_scores": False}),
        ("/v1/rerank", {}),
        ("/v2/rerank", {}),
    ):
        ranked(client, path, **changes)
    assert [asked["dialect"] for asked in model.asked] == ["vllm", "infinity", "cohere", "cohere"]
