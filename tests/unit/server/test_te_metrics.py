"""The metrics under the names of Text Embeddings Inference, line by line."""

import re
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from likewise.base.errors import EngineError, LikewiseError, ModelUnsupported, NotFinite, Overloaded
from likewise.runtime import metrics
from likewise.server.app import build
from likewise.server.guard import Guard
from tests.unit.server.fakes import FakeModel


@pytest.fixture
def model() -> FakeModel:
    return FakeModel()


@pytest.fixture
def client(model: FakeModel) -> Iterator[TestClient]:
    with TestClient(build({"m": model}, registry=None)) as client:
        yield client


def lines(client: TestClient) -> list[str]:
    return [line for line in client.get("/metrics").text.splitlines() if "te_" in line]


def test_counters_have_exactly_their_names(client: TestClient) -> None:
    client.post("/v1/embeddings", json={"input": "a"})
    client.post("/v1/embeddings", json={"input": ["a", "b c"]})
    client.post("/v1/embeddings", json={"input": ""})
    shown = lines(client)
    for line in (
        'te_request_count{method="single"} 2.0',
        'te_request_count{method="batch"} 1.0',
        'te_request_success{method="single"} 1.0',
        'te_request_success{method="batch"} 1.0',
        'te_request_failure{err="tokenization"} 1.0',
        "te_embed_count 3.0",
        "te_embed_success 3.0",
        "te_predict_count 0.0",
        "te_request_duration_count 2.0",
        "te_request_tokenization_duration_count 2.0",
        "te_request_queue_duration_count 2.0",
        "te_request_inference_duration_count 2.0",
        "te_embed_inference_duration_count 3.0",
        "te_predict_duration_count 0.0",
        "te_request_input_length_sum 4.0",
        'te_request_input_length_bucket{le="1"} 2.0',
        'te_request_input_length_bucket{le="2"} 3.0',
        "te_queue_size 0.0",
    ):
        assert line in shown
    assert not [line for line in shown if "_total" in line or "_created" in line]


def test_durations_have_its_buckets(client: TestClient) -> None:
    bounds = re.findall(r'te_request_duration_bucket\{le="([^"]+)"\}', client.get("/metrics").text)
    assert len(bounds) == 36
    assert bounds[0] == "1.5e-05"
    assert float(bounds[34]) == pytest.approx(1.5e-5 * 1.5**34)
    assert bounds[35] == "+Inf"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Overloaded("no"), "overloaded"),
        (ModelUnsupported("no"), "model_type"),
        (EngineError("no"), "inference"),
        (NotFinite("no"), "missing_values"),
    ],
)
def test_failures_by_reason(
    client: TestClient, model: FakeModel, error: LikewiseError, said: str
) -> None:
    model.fails = error
    client.post("/v1/embeddings", json={"input": "a"})
    assert f'te_request_failure{{err="{said}"}} 1.0' in lines(client)


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/embed", {"inputs": ""}, "tokenization"),
        ("/embed", {"inputs": "a b c d e f g h i", "truncate": False}, "tokenization"),
        ("/embed", {"inputs": "a", "prompt_name": "no"}, "tokenization"),
        ("/embed", {"inputs": ["a"] * 5}, "batch_size"),
        ("/tokenize", {"inputs": ["a"] * 5}, None),
        ("/embed", {"inputs": []}, "validation"),
        ("/embed", {"inputs": "a", "dimensions": 0}, "validation"),
        ("/rerank", {"query": "a", "texts": []}, "validation"),
        ("/similarity", {"inputs": {"source_sentence": "a", "sentences": []}}, "validation"),
        ("/rerank", {"query": "a", "texts": ["b"]}, "model_type"),
        ("/v1/embeddings", {"input": ""}, "tokenization"),
        ("/v1/embeddings", {"input": "a", "model": "no"}, "validation"),
        ("/embed", {"inputs": 5}, None),
        ("/embed", {}, None),
        ("/embed", b"{", None),
        ("/embed", b"", None),
    ],
)
def test_what_the_client_did_is_never_inference(
    model: FakeModel, path: str, body: object, said: str | None
) -> None:
    with TestClient(build({"m": model}, guard=Guard(max_inputs=4))) as client:
        answer = client.post(
            path, **({"content": body} if isinstance(body, bytes) else {"json": body})
        )
        assert 400 <= answer.status_code < 500
        failures = [line for line in lines(client) if line.startswith("te_request_failure{")]
    assert failures == ([] if said is None else [f'te_request_failure{{err="{said}"}} 1.0'])


def test_a_list_of_one_is_a_batch_and_what_failed_was_begun(client: TestClient) -> None:
    client.post("/embed", json={"inputs": ["a"]})
    client.post("/embed", json={"inputs": ["a", ""]})
    client.post("/embed", json={"inputs": "a", "dimensions": 0})
    shown = lines(client)
    assert 'te_request_count{method="batch"} 2.0' in shown
    assert 'te_request_count{method="single"} 1.0' in shown
    assert "te_embed_count 3.0" in shown
    assert "te_embed_success 1.0" in shown


def test_what_asks_no_model_isnt_counted(client: TestClient) -> None:
    client.get("/health")
    client.get("/v1/models")
    client.post("/search", json={"q": "a"})
    client.post("/nothing", json={})
    client.put("/v1/embeddings", json={})
    assert 'te_request_count{method="single"} 0.0' in lines(client)
    assert not [line for line in lines(client) if line.startswith("te_request_failure{")]


def test_the_runtime_counts_batches() -> None:
    names = {family.name: family for family in metrics.REGISTRY.collect()}
    for name, last in (("te_batch_next_size", "4096.0"), ("te_batch_next_tokens", "1.048576e+06")):
        bounds = [
            each.labels["le"] for each in names[name].samples if each.name.endswith("_bucket")
        ]
        assert (bounds[0], bounds[-2]) == ("1.0", last)
