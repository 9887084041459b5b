"""What Text Embeddings Inference's clients read of answers: places, numbers, limits, warnings."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from likewise.server.app import build
from likewise.server.guard import Guard
from tests.unit.server.fakes import FakeModel, by_hand

NAME = "fake/lengths"


@pytest.fixture
def model() -> FakeModel:
    return FakeModel()


@pytest.fixture
def client(model: FakeModel) -> Iterator[TestClient]:
    with TestClient(build({NAME: model})) as client:
        yield client


def gave(client: TestClient, path: str, body: dict[str, Any]) -> Any:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(client: TestClient, path: str, body: dict[str, Any], status: int = 422) -> Any:
    answer = client.post(path, json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_places_of_tokens_count_bytes(client: TestClient) -> None:
    found = gave(client, "/tokenize", {"inputs": "é 🦊 fox", "add_special_tokens": False})[0]
    assert [(one["start"], one["stop"]) for one in found] == [(0, 2), (3, 7), (8, 11)]
    assert [one["text"] for one in found] == ["é", "🦊", "fox"]


def test_an_empty_query_is_scored_unless_a_text_is_empty_too() -> None:
    model = FakeModel(gives=("scores",), labels=("fits",))
    with TestClient(build({NAME: model})) as client:
        assert len(gave(client, "/rerank", {"query": "", "texts": ["a", "b"]})) == 2
        error = refused(client, "/rerank", {"query": "", "texts": ["a", ""]}, 400)
        assert error["error_type"] == "Empty"


def test_scores_are_written_as_float32() -> None:
    model = FakeModel(gives=("scores",), labels=("fits",))
    with TestClient(build({NAME: model})) as client:
        text = client.post("/rerank", json={"query": "a b", "texts": ["b"]}).text
    (written,) = re.findall(r'"score":([-0-9.e]+)', text)
    assert len(written) <= len("0.1234567891")


def test_the_encoding_is_always_lists_and_that_is_said(client: TestClient) -> None:
    answer = client.post("/embed", json={"inputs": "a", "encoding_format": "base64"})
    assert isinstance(answer.json()[0], list)
    assert answer.headers["x-likewise-ignored"] == "encoding_format"


def test_unknown_ids_decode_to_nothing_and_that_is_said(client: TestClient) -> None:
    model = FakeModel(config={"vocab_size": 5})
    with TestClient(build({NAME: model})) as other:
        answer = other.post("/decode", json={"ids": [3, 999, 4, 5]})
        assert answer.status_code == 200
        assert answer.json() == gave(other, "/decode", {"ids": [3, 4]})
        assert answer.headers["x-likewise-warning"].endswith("were left out: 999, 5")


def test_the_largest_number_of_inputs_is_said_and_kept_everywhere(model: FakeModel) -> None:
    with TestClient(build({NAME: model}, guard=Guard(max_inputs=3))) as client:
        assert client.get("/info").json()["max_client_batch_size"] == 3
        for path, field in (("/embed", "inputs"), ("/tokenize", "inputs"), ("/decode", "ids")):
            one: Any = [1] if field == "ids" else "a"
            assert client.post(path, json={field: [one] * 3}).status_code == 200
            error = refused(client, path, {field: [one] * 4})
            assert "4 " in error["error"] and "the most is 3" in error["error"]


def test_info_has_numbers_where_typed_clients_want_them(client: TestClient) -> None:
    info = client.get("/info").json()
    for name in (
        "max_concurrent_requests", "max_input_length", "max_batch_tokens",
        "max_client_batch_size", "tokenization_workers",
    ):  # fmt: skip
        assert isinstance(info[name], int) and info[name] > 0, name


def test_a_sentence_is_exactly_as_its_own(client: TestClient) -> None:
    asked = {"inputs": {"source_sentence": "a fox", "sentences": ["a fox", "b"]}}
    found = gave(client, "/similarity", asked)
    assert found[0] == 1.0
    assert found[1] == pytest.approx(float(by_hand("a fox") @ by_hand("b")), abs=1e-6)


def test_an_empty_list_where_php_means_an_object(client: TestClient) -> None:
    assert gave(client, "/embed", {"inputs": "a", "parameters": [], "options": []})
    assert client.post("/embed", json={"inputs": "a", "parameters": [1]}).status_code == 422
