"""Hugging Face's own client, and plain requests, against a real server with real models."""

import asyncio
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub.errors import HfHubHTTPError

from likewise.runtime import service
from likewise.runtime.service import Service
from likewise.server.app import LOOPBACK_HOSTS, build
from likewise.server.listen import address_of, listen
from likewise.server.run import server
from tests.conformance.tiny import write_bert, write_cross_encoder, write_json
from tests.support import LIMIT

pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore")]
NAME = "sentence-transformers/all-MiniLM-L6-v2"
TEXTS = ["a cat", "ein Hund", "🦊 le renard"]


@pytest.fixture(scope="module")
def model(model_folder: Path) -> Iterator[Service]:
    loaded = service.load(model_folder, name=NAME, precision="f32")
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = write_cross_encoder(tmp_path_factory.mktemp("classifier"), labels=3)
    loaded = service.load(folder, name="tiny/classifier", precision="f32")
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def prompted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """An embedder with prompts, whose folder doesn't normalise, and that may be cut to 8."""
    folder = write_bert(tmp_path_factory.mktemp("prompted"), normalise=False)
    prompts = {"prompts": {"query": "w1 w2 "}, "matryoshka_dimensions": [8]}
    write_json(folder / "config_sentence_transformers.json", prompts)
    loaded = service.load(folder, name="tiny/prompted", precision="f32")
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def url(model: Service, classifier: Service, prompted: Service) -> Iterator[str]:
    listener = listen("127.0.0.1", 0)
    models = {each.name: each for each in (model, classifier, prompted)}
    running = server(build(models, allowed_hosts=LOOPBACK_HOSTS))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
    thread.start()
    yield address_of(listener)
    running.should_exit = True
    thread.join()
    listener.close()


@pytest.fixture(scope="module")
def client(url: str) -> huggingface_hub.InferenceClient:
    return huggingface_hub.InferenceClient(model=url, token="none")


def post(url: str, body: object) -> tuple[Any, Any]:
    """The answer's JSON, and its headers."""
    asked = urllib.request.Request(url, json.dumps(body).encode(), method="POST")
    with urllib.request.urlopen(asked, timeout=LIMIT) as answer:
        return json.load(answer), answer.headers


def test_the_models_vectors(client: huggingface_hub.InferenceClient, model: Service) -> None:
    got = client.feature_extraction(TEXTS)
    assert got.shape == (3, 384)
    np.testing.assert_allclose(got, model.embed(TEXTS), atol=1e-5)
    alone = client.feature_extraction(TEXTS[1], normalize=True, truncate=True)
    np.testing.assert_allclose(alone, model.embed(TEXTS[1:2]), atol=1e-5)


def test_a_folder_that_does_not_normalise(url: str, prompted: Service) -> None:
    tiny = huggingface_hub.InferenceClient(model=f"{url}/embed?model=tiny/prompted", token="none")
    own = prompted.embed(["w3 w4"])
    assert abs(np.linalg.norm(own) - 1) > 0.1
    np.testing.assert_allclose(tiny.feature_extraction("w3 w4", normalize=False), own, atol=1e-5)
    unit = own / np.linalg.norm(own)
    np.testing.assert_allclose(tiny.feature_extraction("w3 w4"), unit, atol=1e-5)
    short = tiny.feature_extraction("w3 w4", dimensions=8)
    expected = own[:, :8] / np.linalg.norm(own[:, :8])
    np.testing.assert_allclose(short, expected, atol=1e-5)


def test_prompts(url: str, prompted: Service, client: huggingface_hub.InferenceClient) -> None:
    tiny = huggingface_hub.InferenceClient(model=f"{url}/embed?model=tiny/prompted", token="none")
    got = tiny.feature_extraction("w3", prompt_name="query", normalize=False)
    np.testing.assert_allclose(got, prompted.embed(["w1 w2 w3"], prompt=""), atol=1e-5)
    plain = tiny.feature_extraction("w3", normalize=False)
    assert np.abs(got - plain).max() > 0.01
    with pytest.raises(HfHubHTTPError) as refused:
        client.feature_extraction("a", prompt_name="query")
    assert refused.value.response.status_code == 422
    assert refused.value.response.json()["error_type"] == "Validation"


def test_truncation(client: huggingface_hub.InferenceClient, model: Service) -> None:
    text = "cat " * 300 + "dog " * 300
    for side, kept in (("left", "dog"), ("right", "cat")):
        got = client.feature_extraction(text, truncation_direction=side)
        np.testing.assert_allclose(got, model.embed([f"{kept} " * 254]), atol=1e-5)
    with pytest.raises(HfHubHTTPError) as refused:
        client.feature_extraction(text, truncate=False)
    assert refused.value.response.status_code == 422
    assert "input 0 has 602 tokens" in refused.value.response.json()["error"]


@pytest.mark.parametrize("dimensions", [0, 100, 385])
def test_dimensions_that_the_model_has_not(
    client: huggingface_hub.InferenceClient, dimensions: int
) -> None:
    with pytest.raises(HfHubHTTPError) as refused:
        client.feature_extraction("a", dimensions=dimensions)
    assert refused.value.response.status_code == 422
    assert refused.value.response.json()["error_type"] == "Validation"
    np.testing.assert_equal(client.feature_extraction("a", dimensions=384).shape, (1, 384))


@pytest.mark.parametrize("path", ["", "/similarity"])
def test_sentence_similarity(url: str, model: Service, path: str) -> None:
    client = huggingface_hub.InferenceClient(base_url=url + path, token="none")
    got = client.sentence_similarity(TEXTS[0], other_sentences=TEXTS)
    vectors = model.embed(TEXTS)
    np.testing.assert_allclose(got, vectors @ vectors[0], atol=1e-5)
    assert got[0] == pytest.approx(1)


def test_text_classification(url: str, classifier: Service) -> None:
    client = huggingface_hub.InferenceClient(
        model=f"{url}/predict?model=tiny/classifier", token="none"
    )
    raw = classifier.submit_labels(["w1 w2"], raw=True).result().scores[0].astype(np.float64)
    shares = np.exp(raw) / np.exp(raw).sum()
    got = client.text_classification("w1 w2")
    order = np.argsort(-raw)
    assert [each.label for each in got] == [f"label {at}" for at in order]
    np.testing.assert_allclose([each.score for each in got], shares[order], atol=1e-5)
    (best,) = client.text_classification("w1 w2", top_k=1, function_to_apply="sigmoid")
    assert best.score == pytest.approx(1 / (1 + np.exp(-raw[order[0]])), abs=1e-5)


def test_the_asynchronous_client(url: str, model: Service) -> None:
    async def talk() -> Any:
        async with huggingface_hub.AsyncInferenceClient(model=url, token="none") as client:
            return await asyncio.gather(*(client.feature_extraction(text) for text in TEXTS))

    got = asyncio.run(talk())
    np.testing.assert_allclose(np.concatenate(got), model.embed(TEXTS), atol=1e-5)


def test_tokens_and_ids_are_the_same_text(url: str, model: Service) -> None:
    (tokens,), _ = post(f"{url}/tokenize", {"inputs": "Hello 🦊 embeddings"})
    assert [each["text"] for each in tokens if not each["special"]] == [
        "Hello", "🦊", "em", "bed", "ding", "s",
    ]  # fmt: skip
    assert tokens[0] == {"id": 101, "text": "[CLS]", "special": True, "start": None, "stop": None}
    ids = [each["id"] for each in tokens]
    texts, _ = post(f"{url}/decode", {"ids": ids})
    assert texts == ["hello [UNK] embeddings"] or texts == ["hello embeddings"]
    got, headers = post(f"{url}/embed", {"inputs": [ids, "Hello 🦊 embeddings"]})
    np.testing.assert_allclose(got[0], got[1], atol=1e-6)
    np.testing.assert_allclose(got[1], model.embed(["Hello 🦊 embeddings"])[0], atol=1e-5)
    assert headers["x-compute-tokens"] == str(2 * len(ids))
    assert headers["x-compute-type"] == "cpu"


def test_info(url: str, model: Service) -> None:
    with urllib.request.urlopen(f"{url}/info", timeout=LIMIT) as answer:
        info = json.load(answer)
    assert info["model_id"] == NAME and info["model_sha"] == model.space.weights
    assert info["model_dtype"] == "float32"
    assert info["model_type"] == {"embedding": {"pooling": "mean"}}
    assert info["max_input_length"] == 256 and info["max_batch_tokens"] > 256
    assert info["engine"] == "openvino" and info["slow"] is False and info["profile"] == "exact"


def test_what_is_no_reranker_is_refused(url: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(f"{url}/rerank", {"query": "a", "texts": ["b"]})
    assert refused.value.code == 424
    got, _ = post(f"{url}/rerank", {"query": "a cat", "texts": [*TEXTS], "by": "cosine"})
    assert got[0] == {"index": 0, "score": pytest.approx(1)}


@pytest.mark.parametrize("count", [300])
def test_many_inputs_come_in_order(url: str, model: Service, count: int) -> None:
    texts = [f"number {n} " + "word " * (n % 50) for n in range(count)]
    got, _ = post(f"{url}/embed", {"inputs": texts})
    np.testing.assert_allclose(got, model.embed(texts), atol=1e-5)
