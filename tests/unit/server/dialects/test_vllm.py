"""vLLM's pooling dialect on the real application, over a model that can be computed by hand."""

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from likewise.server.app import build
from likewise.vectors.activate import sigmoid, softmax
from likewise.vectors.maxsim import maxsim
from likewise.version import __version__
from tests.unit.server.dialects.fake_scorer import FakeScorer, each_word, label_scores, shared_words
from tests.unit.server.fakes import MAX_TOKENS, by_hand

NAME = "fake/lengths"
LONG = "one two three four five six seven eight nine"
LABELS = ("anger", "bliss", "calm")


def as_rows(numbers: list[float]) -> np.ndarray:
    return np.array(numbers, np.float32)


def application(model: FakeScorer) -> TestClient:
    return TestClient(build({NAME: model}, max_body_bytes=1_000_000))


@pytest.fixture
def reranker() -> Iterator[TestClient]:
    with application(FakeScorer(outputs=("scores",))) as client:
        yield client


@pytest.fixture
def classifier() -> Iterator[TestClient]:
    with application(FakeScorer(outputs=("scores",), labels=LABELS)) as client:
        yield client


@pytest.fixture
def encoder() -> Iterator[TestClient]:
    with application(FakeScorer()) as client:
        yield client


def answered(client: TestClient, path: str, body: object) -> dict[str, Any]:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def refused(client: TestClient, path: str, body: object, status: int = 400) -> dict[str, Any]:
    answer = client.post(path, json=body)
    assert answer.status_code == status, answer.text
    error: dict[str, Any] = answer.json()["error"]
    return error


@pytest.mark.parametrize("path", ["/score", "/v1/score"])
def test_one_with_many(reranker: TestClient, path: str) -> None:
    body = {"text_1": "red fox", "text_2": ["a fox", "red fox"]}
    answer = reranker.post(path, json=body)
    assert answer.headers["x-likewise-scored-by"] == "cross-encoder"
    found = answer.json()
    expected = sigmoid(as_rows([shared_words("red fox", text) for text in body["text_2"]]))
    assert [(each["index"], each["object"]) for each in found["data"]] == [
        (0, "score"), (1, "score"),
    ]  # fmt: skip
    np.testing.assert_allclose([each["score"] for each in found["data"]], expected, rtol=1e-6)
    assert found["object"] == "list" and found["model"] == NAME
    assert found["id"].startswith("score-")
    assert found["usage"] == {"prompt_tokens": 8, "total_tokens": 8, "completion_tokens": 0}


@pytest.mark.parametrize("first", ["text_1", "queries", "query", "data_1"])
@pytest.mark.parametrize("second", ["text_2", "documents", "items", "data_2"])
def test_every_pair_of_names(reranker: TestClient, first: str, second: str) -> None:
    content = {"content": [{"type": "text", "text": "fox"}]}
    found = answered(reranker, "/score", {first: "fox fox", second: [content, "x"]})
    assert [each["score"] for each in found["data"]] == [
        0.5, pytest.approx(float(sigmoid(as_rows([-1]))[0])),
    ]  # fmt: skip


WORDS = st.lists(st.text("ab ", min_size=1, max_size=5), max_size=4)


@settings(deadline=None, max_examples=40)
@given(WORDS, WORDS)
def test_broadcasting(first: list[str], second: list[str]) -> None:
    with application(FakeScorer(outputs=("scores",))) as client:
        answer = client.post("/score", json={"queries": first, "documents": second})
    if not first or not second or len(first) not in (1, len(second)):
        assert answer.status_code == 400
        return
    queries = first if len(first) > 1 else first * len(second)
    raw = [shared_words(*pair) for pair in zip(queries, second, strict=True)]
    got = [each["score"] for each in answer.json()["data"]]
    np.testing.assert_allclose(got, sigmoid(as_rows(raw)), rtol=1e-5)


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"text_2": "a"}, "text_1", "a side is missing of text_1, queries, query, data_1"),
        ({"text_1": "a"}, "text_2", "a side is missing of text_2, documents, items, data_2"),
        ({"text_1": "a", "queries": "b", "text_2": "c"}, "queries", "text_1 and queries are the"),
        ({"text_1": [], "text_2": "a"}, "text_1", "a side is an empty list"),
        ({"text_1": ["a", "b"], "text_2": "a"}, "text_1", "2 texts can't be paired with 1"),
        ({"text_1": "a", "text_2": ["a"] * 10_001}, "text_2", "10001 texts to score"),
        ({"text_1": "a", "text_2": [{"image": 1}]}, "text_2", "text_2[0] has no text, only 'im"),
        ({"text_1": LONG, "text_2": "a"}, "input", "input 0 has 10 tokens"),
    ],
)
def test_bad_scores(reranker: TestClient, body: object, param: str, words: str) -> None:
    error = refused(reranker, "/score", body)
    assert words in error["message"]
    assert error["param"] == param


def test_too_long_pairs_are_cut_where_asked(reranker: TestClient) -> None:
    body = {"text_1": LONG, "text_2": ["a", "b"], "truncate_prompt_tokens": -1}
    answer = reranker.post("/score", json=body)
    assert answer.headers["x-likewise-truncated"] == "0,1"
    assert answer.json()["truncated"] == [0, 1]
    body["truncate_prompt_tokens"] = 4
    assert reranker.post("/score", json=body).json()["usage"]["prompt_tokens"] == 8


def test_raw_scores(reranker: TestClient) -> None:
    body = {"text_1": "a", "text_2": "b", "use_activation": False}
    assert answered(reranker, "/score", body)["data"][0]["score"] == -1


def test_a_bi_encoder_scores_by_cosine_and_says_so() -> None:
    model = FakeScorer()
    with application(model) as client:
        answer = client.post("/score", json={"text_1": ["abc", "d e"], "text_2": ["x", "yy y"]})
    assert answer.headers["x-likewise-scored-by"] == "cosine"
    expected = [by_hand("abc") @ by_hand("x"), by_hand("d e") @ by_hand("yy y")]
    got = [each["score"] for each in answer.json()["data"]]
    np.testing.assert_allclose(got, expected, atol=1e-6)
    assert [asked["kind"] for asked in model.asked] == ["query", "document"]
    assert answer.json()["usage"]["total_tokens"] == 6


def test_cut_texts_of_many_with_many(encoder: TestClient) -> None:
    body = {"text_1": ["a", LONG, "b"], "text_2": [LONG, "b", "c"], "truncate_prompt_tokens": -1}
    assert answered(encoder, "/score", body)["truncated"] == [0, 1]


def test_a_model_of_many_vectors_scores_by_maxsim() -> None:
    with application(FakeScorer(outputs=("vectors", "tokens"))) as client:
        body = {"text_1": "abc de", "text_2": ["x", "yy y"]}
        answer = client.post("/score", json=body)
        assert answer.headers["x-likewise-scored-by"] == "maxsim"
        expected = [maxsim(each_word("abc de"), each_word(text)) for text in ("x", "yy y")]
        got = [each["score"] for each in answer.json()["data"]]
        np.testing.assert_allclose(got, expected, rtol=1e-6)
        answer = client.post("/score", json=body | {"by": "cosine"})
        assert answer.headers["x-likewise-scored-by"] == "cosine"


def test_several_labels_are_no_score(classifier: TestClient) -> None:
    error = refused(classifier, "/score", {"text_1": "a", "text_2": "b"})
    assert error["code"] == "model_unsupported"
    assert "/classify gives them all" in error["message"]


@pytest.mark.parametrize("path", ["/classify", "/v1/classify"])
def test_classes(classifier: TestClient, path: str) -> None:
    texts = ["abab b", "c"]
    found = answered(classifier, path, {"input": texts})
    assert found["object"] == "list" and found["id"].startswith("classify-")
    for at, (text, each) in enumerate(zip(texts, found["data"], strict=True)):
        assert (each["index"], each["num_classes"]) == (at, 3)
        assert each["label"] == ("bliss", "calm")[at]
        np.testing.assert_allclose(each["probs"], softmax(label_scores(text, 3)), rtol=1e-6)
    assert found["usage"]["total_tokens"] == 3


def test_classes_in_infinitys_shape(classifier: TestClient) -> None:
    body = {"input": ["abab b"], "raw_scores": False, "model": "default/not-specified"}
    found = answered(classifier, "/classify", body)
    assert found["object"] == "classify"
    (labelled,) = found["data"]
    assert [each["label"] for each in labelled] == ["bliss", "anger", "calm"]
    expected = -np.sort(-softmax(label_scores("abab b", 3)))
    np.testing.assert_allclose([each["score"] for each in labelled], expected, rtol=1e-6)
    found = answered(classifier, "/classify", body | {"raw_scores": True})
    assert [each["score"] for each in found["data"][0]] == [3, 2, 0]


@pytest.mark.parametrize(
    ("problem", "labels", "activation"),
    [
        (None, LABELS, softmax),
        (None, ("yes",), sigmoid),
        ("single_label_classification", LABELS, softmax),
        ("multi_label_classification", LABELS, sigmoid),
        ("regression", ("stars",), lambda x: x),
    ],
)
def test_the_activation_is_what_the_model_was_trained_for(
    problem: str | None, labels: tuple[str, ...], activation: Any
) -> None:
    config = {"problem_type": problem} if problem else {}
    with application(FakeScorer(outputs=("scores",), labels=labels, config=config)) as client:
        found = answered(client, "/classify", {"input": "abba"})
        expected = activation(label_scores("abba", len(labels)))
        np.testing.assert_allclose(found["data"][0]["probs"], expected, rtol=1e-6)
        found = answered(client, "/classify", {"input": "abba", "use_activation": False})
        assert found["data"][0]["probs"] == label_scores("abba", len(labels)).tolist()


@pytest.mark.parametrize("path", ["/classify", "/pooling"])
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "0 inputs in one request"),
        (["a"] * 10_001, "10001 inputs in one request"),
        (["a", [1]], "mixes texts and token ids"),
        ([1, "a"], "mixes texts and token ids"),
        ([1.5], "expected int | str | array, got float"),
    ],
)
def test_bad_inputs(classifier: TestClient, path: str, given: object, words: str) -> None:
    assert words in refused(classifier, path, {"input": given})["message"]


def test_a_classifier_that_isnt_one(encoder: TestClient) -> None:
    assert refused(encoder, "/classify", {"input": "a"})["code"] == "model_unsupported"


def test_too_long_texts_in_classes(classifier: TestClient) -> None:
    assert refused(classifier, "/classify", {"input": LONG})["code"] == "input_too_long"
    cut = {"input": LONG, "truncate_prompt_tokens": -1}
    assert answered(classifier, "/classify", cut)["truncated"] == [0]
    assert answered(classifier, "/classify", {"input": LONG, "raw_scores": True})["truncated"]


@pytest.mark.parametrize(
    ("given", "handed_on"), [([5, 6], [[5, 6]]), ([[5], [6, 7]], [[5], [6, 7]]), ("a", ["a"])]
)
def test_token_ids(given: object, handed_on: object) -> None:
    model = FakeScorer()
    with application(model) as client:
        answered(client, "/pooling", {"input": given})
    assert model.asked[0]["inputs"] == handed_on


@pytest.mark.parametrize("task", ["embed", None])
def test_pooled_vectors(encoder: TestClient, task: str | None) -> None:
    found = answered(encoder, "/pooling", {"input": ["abc", "d e"], "task": task})
    assert found["id"].startswith("pool-")
    for each, text in zip(found["data"], ("abc", "d e"), strict=True):
        assert each["object"] == "pooling"
        np.testing.assert_array_equal(np.float32(each["data"]), by_hand(text))


def test_pooled_vectors_of_fewer_dimensions(encoder: TestClient) -> None:
    found = answered(encoder, "/pooling", {"input": "abc", "dimensions": 2})
    vector = np.array(found["data"][0]["data"])
    assert len(vector) == 2 and np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("output", "rows"), [("tokens", each_word), ("vectors", None)])
@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_a_vector_for_each_token(output: str, rows: Any, encoding: str) -> None:
    """Of a model of many vectors its own; of another its hidden states, at length 1."""
    del rows
    model = FakeScorer(outputs=(output,))
    with application(model) as client:
        body = {"input": ["abc de", "f"], "task": "token_embed", "encoding_format": encoding}
        found = answered(client, "/pooling", body)
    assert model.asked[0]["gives"] == (("tokens",) if output == "tokens" else ("states",))
    for each, text in zip(found["data"], ("abc de", "f"), strict=True):
        got = each["data"]
        if encoding == "base64":
            got = np.frombuffer(base64.b64decode(got), "<f4").reshape(-1, 4)
        np.testing.assert_allclose(got, each_word(text), atol=1e-6)


def test_hidden_states_as_they_are() -> None:
    with application(FakeScorer(is_normalised=False)) as client:
        body = {"input": "abc", "task": "token_embed", "use_activation": False}
        (each,) = answered(client, "/pooling", body)["data"]
        np.testing.assert_allclose(each["data"], 3 * each_word("abc"), rtol=1e-6)


def test_use_activation_where_it_can_be_followed() -> None:
    for normalised in (True, False):
        model = FakeScorer(is_normalised=normalised)
        with application(model) as client:
            body = {"input": "abc", "use_activation": False}
            answered(client, "/pooling", body)
            answered(client, "/pooling", {"input": "abc", "normalize": False})
            for asked in model.asked:
                assert (asked["unit"], asked["raw"]) == (False, True)
            both = {**body, "normalize": True}
            assert refused(client, "/pooling", both)["param"] == "use_activation"
    with application(FakeScorer(outputs=("tokens",))) as client:
        body = {"input": "abc", "use_activation": False, "task": "token_embed"}
        assert refused(client, "/pooling", body)["param"] == "use_activation"


def test_what_a_model_pools_by_itself() -> None:
    for outputs, expected in (
        (("scores",), softmax(label_scores("abba", 3)).tolist()),
        (("tokens",), each_word("abba").tolist()),
    ):
        with application(FakeScorer(outputs=outputs, labels=LABELS)) as client:
            (each,) = answered(client, "/pooling", {"input": "abba"})["data"]
            np.testing.assert_allclose(each["data"], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"input": "a", "task": "score"}, "task", "/score scores pairs of texts"),
        ({"input": "a", "task": "token_classify"}, "task", "the task token_classify isn't comp"),
        ({"input": "a", "task": "plugin"}, "task", "the task plugin isn't computed here"),
        ({"input": "a", "task": "x"}, "task", "invalid enum value 'x'"),
        ({"messages": []}, "messages", "'messages' isn't read here"),
        ({"data": {}}, "data", "'data' isn't read here"),
        ({}, "input", "the field 'input' is missing"),
        ({"input": "a", "encoding_format": "bytes"}, "encoding_format", "invalid enum value"),
        (
            {"input": "a", "task": "token_embed", "dimensions": 2},
            "dimensions",
            "'dimensions' is for the task embed, not token_embed",
        ),
        ({"input": LONG}, "input", "input 0 has 9 tokens"),
    ],
)
def test_bad_pooling(encoder: TestClient, body: object, param: str, words: str) -> None:
    error = refused(encoder, "/pooling", body)
    assert words in error["message"]
    assert error["param"] == param


def test_tokens_and_back(encoder: TestClient) -> None:
    found = answered(encoder, "/tokenize", {"prompt": "abc de", "model": "lengths"})
    assert found == {
        "count": 4, "max_model_len": MAX_TOKENS, "tokens": [101, 3, 2, 102], "token_strs": None,
    }  # fmt: skip
    body = {"prompt": "abc de", "add_special_tokens": False, "return_token_strs": True}
    found = answered(encoder, "/tokenize", body)
    assert found["token_strs"] == ["abc", "de"] and found["tokens"] == [3, 2]
    assert answered(encoder, "/detokenize", {"tokens": [3, 2]}) == {"prompt": "xxx xx"}
    assert "x" * 101 in answered(encoder, "/detokenize", {"tokens": [101]})["prompt"]


def test_bad_tokens(encoder: TestClient) -> None:
    assert refused(encoder, "/tokenize", {"messages": [{}]})["param"] == "messages"
    assert refused(encoder, "/tokenize", {"prompt": None})["param"] == "prompt"
    assert refused(encoder, "/detokenize", {"tokens": [999]})["code"] == "invalid_input"
    assert refused(encoder, "/detokenize", {"tokens": ["a"]})["param"] == "tokens[0]"


def test_version_and_load(encoder: TestClient) -> None:
    assert encoder.get("/version").json() == {"version": __version__}
    assert encoder.get("/load").json() == {"server_load": 0}
