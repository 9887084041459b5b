"""Cohere's embeddings dialect on the real application, over a model computed by hand."""

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from likewise.server.app import build
from tests.unit.server.dialects.fake_scorer import FakeScorer
from tests.unit.server.fakes import DIMENSIONS, by_hand

NAME = "fake/lengths"
LONG = "one two three four five six seven eight nine"
TEXTS = ["abc", "d e"]


@pytest.fixture
def model() -> FakeScorer:
    return FakeScorer()


@pytest.fixture
def client(model: FakeScorer) -> Iterator[TestClient]:
    with TestClient(build({NAME: model}, max_body_bytes=100_000)) as client:
        yield client


def embedded(client: TestClient, path: str = "/v2/embed", **changes: Any) -> dict[str, Any]:
    answer = client.post(path, json=asked(**changes))
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def asked(**changes: Any) -> dict[str, Any]:
    body = {"model": NAME, "texts": TEXTS, "input_type": "search_document"} | changes
    return {name: value for name, value in body.items() if value is not None}


def test_by_type(client: TestClient) -> None:
    types = ["float", "int8", "uint8", "binary", "ubinary", "base64"]
    body = embedded(client, embedding_types=types)
    assert body["response_type"] == "embeddings_by_type"
    assert body["texts"] == TEXTS and isinstance(body["id"], str)
    assert body["meta"] == {"api_version": {"version": "2"}, "billed_units": {"input_tokens": 3}}
    found = body["embeddings"]
    assert list(found) == types
    for at, text in enumerate(TEXTS):
        vector = by_hand(text)
        np.testing.assert_array_equal(np.float32(found["float"][at]), vector)
        packed = np.frombuffer(base64.b64decode(found["base64"][at]), "<f4")
        np.testing.assert_array_equal(packed, vector)
        assert found["int8"][at] == [round(127 * float(n)) for n in vector]
        assert found["uint8"][at] == [round(127 * float(n)) + 128 for n in vector]
        bits = sum(128 >> place for place, n in enumerate(vector) if n > 0)
        assert found["ubinary"][at] == [bits]
        assert found["binary"][at] == [bits - 128]


@pytest.mark.parametrize("types", [None, []])
def test_numbers_by_default(client: TestClient, types: list[str] | None) -> None:
    assert list(embedded(client, embedding_types=types)["embeddings"]) == ["float"]
    body = embedded(client, "/v1/embed", embedding_types=types)
    assert body["response_type"] == "embeddings_floats"
    assert body["meta"]["api_version"] == {"version": "1"}
    for row, text in zip(body["embeddings"], TEXTS, strict=True):
        np.testing.assert_array_equal(np.float32(row), by_hand(text))


def test_v1_by_type(client: TestClient) -> None:
    body = embedded(client, "/v1/embed", embedding_types=["int8"], input_type=None)
    assert body["response_type"] == "embeddings_by_type"
    assert len(body["embeddings"]["int8"][0]) == DIMENSIONS


def test_inputs_of_parts(client: TestClient, model: FakeScorer) -> None:
    inputs = [{"content": [{"type": "text", "text": text}]} for text in TEXTS]
    assert embedded(client, texts=None, inputs=inputs)["texts"] == TEXTS
    assert model.asked[0]["inputs"] == TEXTS


@pytest.mark.parametrize(
    ("input_type", "prompts", "default", "words"),
    [
        ("search_query", {}, None, {"kind": "query"}),
        ("search_document", {}, None, {"kind": "document"}),
        ("search_document", {"passage": "p: "}, None, {"prompt_name": "passage"}),
        ("search_document", {"document": "", "passage": "p: "}, None, {"prompt_name": "document"}),
        (
            "search_query",
            {"search_query": "q: ", "query": ""},
            None,
            {"prompt_name": "search_query"},
        ),
        # The model puts its own default prompt before a text of which nothing is said.
        ("classification", {}, None, {}),
        ("classification", {"document": "d: "}, None, {}),
        ("classification", {"other": "o: "}, "other", {}),
        ("clustering", {"clustering": "c: ", "o": ""}, "o", {"prompt_name": "clustering"}),
        ("classification", {"classification": "c: "}, None, {"prompt_name": "classification"}),
    ],
)
@pytest.mark.parametrize("path", ["/v1/embed", "/v2/embed"])
def test_what_goes_before_a_text(
    client: TestClient,
    model: FakeScorer,
    path: str,
    input_type: str,
    prompts: dict[str, str],
    default: str | None,
    words: dict[str, str],
) -> None:
    model.prompts, model.default_prompt_name = prompts, default
    embedded(client, path, input_type=input_type)
    names = ("kind", "prompt", "prompt_name")
    assert {name: model.asked[0][name] for name in names if name in model.asked[0]} == words
    assert model.asked[0]["unit"] is True


@pytest.mark.parametrize(
    ("truncate", "overflow", "side"),
    [(None, "cut", "right"), ("END", "cut", "right"), ("START", "cut", "left")],
)
def test_where_long_texts_are_cut(
    client: TestClient, model: FakeScorer, truncate: str | None, overflow: str, side: str
) -> None:
    answer = client.post("/v2/embed", json=asked(texts=["a", LONG], truncate=truncate))
    assert (model.asked[0]["overflow"], model.asked[0]["side"]) == (overflow, side)
    assert answer.headers["x-likewise-truncated"] == "1"
    assert answer.headers["x-likewise-truncated-count"] == "1"
    assert answer.json()["truncated"] == [1]
    assert answer.json()["meta"]["warnings"] == ["texts were cut: 1 of 2"]


def test_options_reach_the_model(client: TestClient, model: FakeScorer) -> None:
    body = embedded(client, output_dimension=2, max_tokens=1, priority=3)
    assert (model.asked[0]["dimensions"], model.asked[0]["limit"]) == (2, 1)
    assert model.asked[0]["dialect"] == "cohere"
    assert len(body["embeddings"]["float"][0]) == 2
    assert body["truncated"] == [1]


@pytest.mark.parametrize(
    ("changes", "param", "words"),
    [
        ({"texts": []}, "texts", "texts is missing or empty"),
        ({"texts": None}, "texts", "texts is missing or empty"),
        ({"texts": ["a", ""]}, "texts", "empty text at position 1 of texts"),
        ({"texts": ["a"] * 2049}, "texts", "2049 texts in one request; the most is 2048"),
        ({"texts": "a"}, "texts", "texts: expected array"),
        ({"images": ["data:..."]}, "images", "images aren't embedded here"),
        ({"input_type": "image"}, "input_type", "images aren't embedded here"),
        ({"input_type": "x"}, "input_type", "invalid enum value 'x'"),
        ({"embedding_types": ["hex"]}, "embedding_types[0]", "invalid enum value 'hex'"),
        ({"truncate": "end"}, "truncate", "invalid enum value 'end'"),
        ({"truncate": "NONE", "texts": [LONG]}, "input", "input 0 has 9 tokens"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/embed", "/v2/embed"])
def test_bad_requests(
    client: TestClient, path: str, changes: dict[str, Any], param: str, words: str
) -> None:
    answer = client.post(path, json=asked(**changes))
    assert answer.status_code == 400
    assert words in answer.json()["message"]
    assert answer.json()["error"]["param"] == param


@pytest.mark.parametrize(
    ("changes", "param", "words"),
    [
        ({"input_type": None}, "input_type", "the field 'input_type' is missing"),
        ({"inputs": [{"content": "a"}]}, "inputs", "give 'texts' or 'inputs', not both"),
        ({"texts": None, "inputs": []}, "inputs", "inputs is missing or empty"),
        (
            {"texts": None, "inputs": [{"content": [{"type": "image_url"}]}]},
            "inputs",
            "inputs[0].content has a part of type image_url",
        ),
        ({"output_dimension": 0}, "output_dimension", "must be at least 1"),
        ({"max_tokens": 0}, "max_tokens", "must be at least 1"),
    ],
)
def test_bad_requests_of_v2(
    client: TestClient, changes: dict[str, Any], param: str, words: str
) -> None:
    answer = client.post("/v2/embed", json=asked(**changes))
    assert answer.status_code == 400
    assert words in answer.json()["message"]
    assert answer.json()["error"]["param"] == param
