"""The OpenAI dialect on the real application, over a model that can be computed by hand."""

import base64
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError

import numpy as np
import pytest
from starlette.testclient import TestClient

from likewise.base.errors import DimensionsError, EngineError, NotFinite, Overloaded
from likewise.server.app import build
from tests.unit.server.fakes import DIMENSIONS, MAX_TOKENS, FakeModel, by_hand

NAME = "fake/lengths"
LONG = "one two three four five six seven eight nine"


@pytest.fixture
def model() -> FakeModel:
    return FakeModel()


@pytest.fixture
def client(model: FakeModel) -> Iterator[TestClient]:
    with TestClient(build({NAME: model}, max_body_bytes=100_000)) as client:
        yield client


def refused(client: TestClient, body: object, status: int = 400) -> dict[str, str]:
    answer = client.post("/v1/embeddings", json=body)
    assert answer.status_code == status, answer.text
    error: dict[str, str] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


@pytest.mark.parametrize("path", ["/v1/embeddings", "/embeddings"])
def test_one_text(client: TestClient, path: str) -> None:
    answer = client.post(path, json={"model": NAME, "input": "abc de"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body["object"] == "list"
    assert body["model"] == NAME
    assert body["usage"] == {"prompt_tokens": 2, "total_tokens": 2}
    (only,) = body["data"]
    assert (only["object"], only["index"]) == ("embedding", 0)
    np.testing.assert_array_equal(np.float32(only["embedding"]), by_hand("abc de"))
    assert "x-likewise-truncated" not in answer.headers


def test_many_texts_come_in_order(client: TestClient) -> None:
    texts = ["a", "bb b", "ccc", "a"]
    data = client.post("/v1/embeddings", json={"input": texts}).json()["data"]
    assert [each["index"] for each in data] == [0, 1, 2, 3]
    for text, each in zip(texts, data, strict=True):
        np.testing.assert_array_equal(np.float32(each["embedding"]), by_hand(text))


def test_base64_is_little_endian_float32(client: TestClient) -> None:
    body = {"input": "abc", "encoding_format": "base64"}
    sent = client.post("/v1/embeddings", json=body).json()["data"][0]["embedding"]
    numbers = struct.unpack(f"<{DIMENSIONS}f", base64.b64decode(sent))
    np.testing.assert_array_equal(np.array(numbers, np.float32), by_hand("abc"))


@pytest.mark.parametrize(
    ("given", "handed_on"), [([5, 6, 7], [[5, 6, 7]]), ([[5], [6, 7]], [[5], [6, 7]])]
)
def test_token_ids(
    client: TestClient, model: FakeModel, given: object, handed_on: list[list[int]]
) -> None:
    assert client.post("/v1/embeddings", json={"input": given}).status_code == 200
    assert model.asked[0]["inputs"] == handed_on


def test_short_and_full_names_find_the_model(client: TestClient) -> None:
    for name in (NAME, "lengths"):
        answer = client.post("/v1/embeddings", json={"model": name, "input": "a"})
        assert answer.json()["model"] == NAME


def test_options_reach_the_model(client: TestClient, model: FakeModel) -> None:
    body = {"input": "a", "dimensions": 2, "input_type": "query", "truncate": False, "user": "me"}
    assert client.post("/v1/embeddings", json=body).status_code == 200
    asked = model.asked[0]
    assert asked["dimensions"] == 2
    assert (asked["kind"], asked["overflow"], asked["lane"]) == ("query", "refuse", "interactive")


def test_a_large_request_goes_into_the_bulk_lane(client: TestClient, model: FakeModel) -> None:
    client.post("/v1/embeddings", json={"input": ["a"] * 5})
    assert model.asked[0]["lane"] == "bulk"


def test_truncation_is_said(client: TestClient) -> None:
    answer = client.post("/v1/embeddings", json={"input": [LONG, "short", LONG]})
    assert answer.headers["x-likewise-truncated"] == "0,2"
    assert answer.headers["x-likewise-truncated-count"] == "2"
    assert answer.json()["truncated"] == [0, 2]


def test_the_truncation_header_stays_short(client: TestClient) -> None:
    answer = client.post("/v1/embeddings", json={"input": [LONG] * 300})
    assert answer.headers["x-likewise-truncated"].count(",") == 99
    assert answer.headers["x-likewise-truncated-count"] == "300"
    assert answer.json()["truncated"] == list(range(300))


def test_truncation_is_refused_when_asked(client: TestClient) -> None:
    error = refused(client, {"input": LONG, "truncate": False})
    assert (error["code"], error["param"]) == ("input_too_long", "input")


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"input": ""}, "input", "empty text at input position 0"),
        ({"input": ["a", "", "b", ""]}, "input", "empty text at input position 1, 3"),
        ({"input": []}, "input", "input is an empty list"),
        ({"input": [[]]}, "input", "no token ids at input position 0"),
        ({"input": ["a", [1]]}, "input", "mixes texts and token ids"),
        ({"input": [1, "a"]}, "input", "mixes texts and token ids"),
        ({"input": ["a"] * 2049}, "input", "2049 inputs in one request; the most is 2048"),
        ({"model": NAME}, "input", "the field 'input' is missing"),
        ({"input": None}, "input", "the field 'input' is missing"),
        ({"input": 1}, "input", "input: expected str | array | null, got int"),
        ({"input": [1.5]}, "input[0]", "expected int | str | object | array, got float"),
        ({"input": [True]}, "input[0]", "got bool"),
        ({"input": "a", "model": 3}, "model", "model: expected str | null, got int"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format", "invalid enum value 'hex'"),
        ({"input": "a", "dimensions": -1}, "dimensions", "dimensions must be at least 1"),
        ({"input": "a", "dimensions": "4"}, "dimensions", "expected int | null, got str"),
        ([], None, "expected object, got array"),
    ],
)
def test_bad_requests(client: TestClient, body: object, param: str | None, words: str) -> None:
    error = refused(client, body)
    assert words in error["message"]
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "the body is empty"),
        (b"  \n", "the body is empty"),
        (b"{", "isn't valid JSON"),
        (b'{"input": "a",}', "isn't valid JSON"),
        (b'{"input": NaN}', "isn't valid JSON"),
        (b'{"input": "\xff"}', "isn't valid UTF-8 (byte 11)"),
        (b'{"input": "\\ud800"}', "isn't valid JSON"),
        (b'{"input": "\\udc00 x"}', "isn't valid JSON"),
        (b'{"input": ' + b"[" * 50_000, "input[0][0]: expected int, got array"),
    ],
)
def test_bad_bytes(client: TestClient, model: FakeModel, raw: bytes, words: str) -> None:
    answer = client.post("/v1/embeddings", content=raw)
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]
    assert answer.json()["error"]["code"] == "invalid_input"
    assert not model.asked


def test_an_unknown_model_names_what_is_served(client: TestClient) -> None:
    error = refused(client, {"input": "a", "model": "lenghts"}, 404)
    assert error["code"] == "model_not_found"
    assert error["param"] == "model"
    assert "did you mean 'lengths'" in error["message"]
    assert f"served: {NAME}" in error["message"]


def test_without_a_model_several_are_ambiguous(model: FakeModel) -> None:
    with TestClient(build({"a/x": model, "b/x": model})) as client:
        error = refused(client, {"input": "a"})
        assert error["param"] == "model"
        assert "several models can do this: a/x, b/x" in error["message"]
        # A short name that two models share isn't a name.
        refused(client, {"input": "a", "model": "x"}, 404)


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_too_large(client: TestClient, model: FakeModel, declared: bool) -> None:
    raw = b'{"input": "' + b"a" * 100_000 + b'"}'
    content = raw if declared else iter([raw[:60_000], raw[60_000:]])
    answer = client.post("/v1/embeddings", content=content)
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "body_too_large"
    assert not model.asked


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (DimensionsError("no", param="dimensions"), 400, "invalid_request_error"),
        (Overloaded("too much"), 503, "server_error"),
        (EngineError("broken"), 500, "server_error"),
    ],
)
def test_the_models_errors_go_out(
    client: TestClient, model: FakeModel, error: EngineError, status: int, kind: str
) -> None:
    model.fails = error
    answer = client.post("/v1/embeddings", json={"input": "a"})
    assert answer.status_code == status
    assert answer.json()["error"]["type"] == kind
    assert answer.json()["error"]["code"] == error.code
    assert ("retry-after" in answer.headers) == error.retryable


def test_models(client: TestClient) -> None:
    for path, owner in (("/v1/models", "likewise"), ("/models", "infinity")):
        body = client.get(path).json()
        assert body["object"] == "list"
        (only,) = body["data"]
        assert only["id"] == NAME
        assert only["object"] == "model"
        assert only["owned_by"] == owner
        assert isinstance(only["created"], int)
        assert only["dimensions"] == DIMENSIONS
        assert only["max_model_len"] == only["max_tokens"] == MAX_TOKENS
        assert (only["root"], only["parent"], only["state"]) == (NAME, None, "loaded")
        assert only["backend"] == "by hand"
        assert only["aliases"] == []
    assert client.get(f"/v1/models/{NAME}").json()["id"] == NAME
    assert client.get("/v1/models/nothing").status_code == 404


@pytest.mark.parametrize(
    ("facts", "capabilities"),
    [
        ({"gives": ["vectors", "sparse"]}, ["embed"]),
        ({"gives": ["scores"], "labels": ["LABEL_0"]}, ["rerank"]),
        ({"gives": ["scores"], "labels": ["good", "bad"]}, ["classify"]),
        ({}, None),
    ],
)
def test_what_a_model_can_do(
    client: TestClient,
    model: FakeModel,
    monkeypatch: pytest.MonkeyPatch,
    facts: dict[str, list[str]],
    capabilities: list[str] | None,
) -> None:
    monkeypatch.setattr(model, "info", lambda: facts)
    (only,) = client.get("/v1/models").json()["data"]
    assert only.get("capabilities") == capabilities
    assert "max_model_len" not in only


def test_a_client_that_hangs_up_cancels_what_waits(model: FakeModel) -> None:
    """Driven by hand, because the test client can't hang up before the answer."""
    import asyncio

    model.held = threading.Event()
    app = build({NAME: model})
    sent: list[object] = []

    async def talk() -> None:
        body = {"type": "http.request", "body": b'{"input": "a"}', "more_body": False}
        messages = iter([body, {"type": "http.disconnect"}])

        async def receive() -> object:
            return next(messages)

        async def send(message: object) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": "POST", "path": "/v1/embeddings", "headers": [],
            "query_string": b"", "root_path": "",
        }  # fmt: skip
        await app(scope, receive, send)  # type: ignore[arg-type]

    asyncio.run(talk())
    assert sent == []
    (future,) = model.futures
    assert future.cancelled()
    model.held.set()
    with pytest.raises(CancelledError):
        future.result()
    metrics = TestClient(app).get("/metrics").text
    assert 'route="/v1/embeddings",status="499"' in metrics


def test_inputs_that_failed_are_named(client: TestClient, model: FakeModel) -> None:
    model.fails = NotFinite("gave NaN or Inf (2 of 4 inputs failed: 1, 3)", inputs=(1, 3))
    answer = client.post("/v1/embeddings", json={"input": ["a", "b", "c", "d"]})
    assert answer.status_code == 500
    assert answer.json()["error"]["inputs"] == [1, 3]
    assert "2 of 4 inputs failed: 1, 3" in answer.json()["error"]["message"]
