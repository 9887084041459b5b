"""Cohere's own clients, and litellm's, against a real server with real models."""

import asyncio
import base64
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cohere
import cohere.errors
import httpx
import numpy as np
import pytest

from likewise.base.types import CutSide
from likewise.runtime import service
from likewise.runtime.service import Service
from likewise.server.app import LOOPBACK_HOSTS, build
from likewise.server.listen import address_of, listen
from likewise.server.run import server
from likewise.vectors import quantize
from likewise.vectors.maxsim import maxsim
from tests.conformance.tiny import write_cross_encoder
from tests.support import LIMIT

# The clients' own warnings aren't ours to mend.
pytestmark = [pytest.mark.model, pytest.mark.filterwarnings("ignore")]

MINI = "sentence-transformers/all-MiniLM-L6-v2"
TINY = "tiny/cross-encoder"
LATE = "tiny/colbert"
QUERY = "w1 w2 w3"
DOCUMENTS = ["w4 w5", "w1 w2", "w9", "w3 w3 w3 w20", "w7 w8 w1"]
TEXTS = ["a cat", "ein Hund", "🦊 le renard"]


@pytest.fixture(scope="module")
def mini(model_folder: Path) -> Iterator[Service]:
    loaded = service.load(model_folder, name=MINI, precision="f32")
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = write_cross_encoder(tmp_path_factory.mktemp("tiny") / "cross-encoder")
    loaded = service.load(folder, name=TINY, precision="f32")
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def address(mini: Service, tiny: Service) -> Iterator[str]:
    yield from served({MINI: mini, TINY: tiny})


def served(models: Mapping[str, Service]) -> Iterator[str]:
    listener = listen("127.0.0.1", 0)
    running = server(build(models, allowed_hosts=LOOPBACK_HOSTS))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
    thread.start()
    yield address_of(listener)
    running.should_exit = True
    thread.join()
    listener.close()


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    """Cohere's clients don't close their own."""
    with httpx.Client(timeout=LIMIT) as client:
        yield client


@pytest.fixture(scope="module")
def v2(address: str, http: httpx.Client) -> cohere.ClientV2:
    return cohere.ClientV2("none", base_url=address, max_retries=0, httpx_client=http)


@pytest.fixture(scope="module")
def v1(address: str, http: httpx.Client) -> cohere.Client:
    return cohere.Client("none", base_url=address, max_retries=0, httpx_client=http)


def require_ranking(results: Sequence[Any], expected: np.ndarray, count: int = 5) -> None:
    """The best `count`, in order, with the scores that the model gives."""
    assert [each.index for each in results] == list(np.argsort(-expected, kind="stable"))[:count]
    for each in results:
        assert abs(each.relevance_score - expected[each.index]) < 1e-5


def test_rerank_v2(v2: cohere.ClientV2, tiny: Service) -> None:
    expected = tiny.score(QUERY, DOCUMENTS)
    assert np.ptp(expected) > 0.01, "the model must tell documents apart"
    answer = v2.rerank(model=TINY, query=QUERY, documents=DOCUMENTS)
    require_ranking(answer.results, expected)
    assert answer.meta is not None and answer.meta.api_version is not None
    assert answer.meta.api_version.version == "2"
    best = v2.rerank(model="cross-encoder", query=QUERY, documents=DOCUMENTS, top_n=2)
    require_ranking(best.results, expected, 2)


def test_rerank_v2_with_shortened_documents(v2: cohere.ClientV2, tiny: Service) -> None:
    raw = v2.with_raw_response.rerank(
        model=TINY, query=QUERY, documents=DOCUMENTS, max_tokens_per_doc=2
    )
    require_ranking(
        raw.data.results, tiny.score(QUERY, [" ".join(d.split()[:2]) for d in DOCUMENTS])
    )
    assert raw.headers["x-likewise-truncated"] == "3,4"
    assert raw.data.meta is not None
    assert raw.data.meta.warnings == ["documents were cut: 2 of 5"]


def test_rerank_v1(v1: cohere.Client, tiny: Service) -> None:
    expected = tiny.score(QUERY, DOCUMENTS)
    answer = v1.rerank(model=TINY, query=QUERY, documents=DOCUMENTS, return_documents=True)
    require_ranking(answer.results, expected)
    for each in answer.results:
        assert each.document is not None and each.document.text == DOCUMENTS[each.index]
    bare = v1.rerank(model=TINY, query=QUERY, documents=DOCUMENTS, return_documents=False)
    assert all(each.document is None for each in bare.results)


def test_rerank_v1_of_objects(v1: cohere.Client, tiny: Service) -> None:
    objects: list[Any] = [{"text": text, "title": f"w{at}"} for at, text in enumerate(DOCUMENTS)]
    answer = v1.rerank(model=TINY, query=QUERY, documents=objects, return_documents=True)
    require_ranking(answer.results, tiny.score(QUERY, DOCUMENTS))
    assert answer.results[0].document is not None
    assert answer.results[0].document.model_dump() == objects[answer.results[0].index]
    joined = [f"title: w{at}\ntext: {text}" for at, text in enumerate(DOCUMENTS)]
    answer = v1.rerank(model=TINY, query=QUERY, documents=objects, rank_fields=["title", "text"])
    require_ranking(answer.results, tiny.score(QUERY, joined))


def test_the_clients_that_await(address: str, tiny: Service, mini: Service) -> None:
    async def talk() -> None:
        async with httpx.AsyncClient(timeout=LIMIT) as own:
            late = cohere.AsyncClientV2("none", base_url=address, httpx_client=own)
            early = cohere.AsyncClient("none", base_url=address, httpx_client=own)
            first, second, third = await asyncio.gather(
                late.rerank(model=TINY, query=QUERY, documents=DOCUMENTS),
                early.rerank(model=TINY, query=QUERY, documents=DOCUMENTS),
                late.embed(model=MINI, input_type="search_query", texts=TEXTS),
            )
        expected = tiny.score(QUERY, DOCUMENTS)
        require_ranking(first.results, expected)
        require_ranking(second.results, expected)
        got = np.array(third.embeddings.float_, np.float32)
        np.testing.assert_allclose(got, mini.embed(TEXTS), atol=1e-6)

    asyncio.run(talk())


def test_refusals_are_the_clients_own_exceptions(v2: cohere.ClientV2, v1: cohere.Client) -> None:
    with pytest.raises(cohere.errors.NotFoundError) as unknown:
        v2.rerank(model="rerank-v3.5", query="a", documents=["b"])
    assert MINI in unknown.value.body["message"]
    with pytest.raises(cohere.errors.BadRequestError) as bi_encoder:
        v1.rerank(model=MINI, query="a", documents=["b"])
    assert "say so" in bi_encoder.value.body["message"]
    with pytest.raises(cohere.errors.BadRequestError) as empty:
        v2.rerank(model=TINY, query="a", documents=[])
    assert "documents is an empty list" in empty.value.body["message"]
    with pytest.raises(cohere.errors.BadRequestError) as images:
        v2.embed(model=MINI, input_type="image", images=["data:image/png;base64,AAAA"])
    assert "images aren't embedded here" in images.value.body["message"]


def test_a_bi_encoder_ranks_where_a_header_asks(v2: cohere.ClientV2, mini: Service) -> None:
    texts = ["a dog", "tax forms", "a kitten plays"]
    answer = v2.rerank(
        model=MINI,
        query="a cat",
        documents=texts,
        request_options={"additional_headers": {"x-likewise-rerank": "cosine"}},
    )
    expected = mini.embed(texts) @ mini.embed(["a cat"], kind="query")[0]
    require_ranking(answer.results, expected, 3)
    by_body = v2.rerank(
        model=MINI,
        query="a cat",
        documents=texts,
        request_options={"additional_body_parameters": {"by": "cosine"}},
    )
    require_ranking(by_body.results, expected, 3)


def test_embed_v2_in_every_type(v2: cohere.ClientV2, mini: Service) -> None:
    types = ["float", "int8", "uint8", "binary", "ubinary", "base64"]
    answer = v2.embed(model=MINI, input_type="search_document", texts=TEXTS, embedding_types=types)
    vectors, found = mini.embed(TEXTS), answer.embeddings
    np.testing.assert_allclose(np.array(found.float_, np.float32), vectors, atol=1e-6)
    assert found.base64 is not None
    packed = [np.frombuffer(base64.b64decode(one), "<f4") for one in found.base64]
    np.testing.assert_allclose(packed, vectors, atol=1e-6)
    # A number that lies between two bytes may fall on either side.
    assert np.abs(np.array(found.int8) - quantize.int8(vectors).astype(int)).max() <= 1
    np.testing.assert_array_equal(np.array(found.uint8), np.array(found.int8) + 128)
    np.testing.assert_array_equal(np.array(found.ubinary), quantize.ubinary(vectors))
    np.testing.assert_array_equal(np.array(found.binary), np.array(found.ubinary) - 128)
    assert answer.texts == TEXTS
    assert answer.meta is not None and answer.meta.billed_units is not None
    assert answer.meta.billed_units.input_tokens == sum(len(mini.tokens(text)) for text in TEXTS)


def test_embed_v2_of_inputs_and_cutting(v2: cohere.ClientV2, mini: Service) -> None:
    long = "first " + "word " * 400 + "last"
    part: Any = {"content": [{"type": "text", "text": long}]}
    sides: dict[Any, CutSide] = {"END": "right", "START": "left"}
    for truncate, side in sides.items():
        answer = v2.embed(
            model=MINI, input_type="clustering", inputs=[part], truncate=truncate, max_tokens=40
        )
        expected = mini.embed([long], side=side, limit=40)
        got = np.array(answer.embeddings.float_, np.float32)
        np.testing.assert_allclose(got, expected, atol=1e-5)
        assert answer.meta is not None and answer.meta.warnings == ["texts were cut: 1 of 1"]
    with pytest.raises(cohere.errors.BadRequestError) as refused:
        v2.embed(model=MINI, input_type="clustering", texts=[long], truncate="NONE")
    assert "input 0 has 404 tokens" in refused.value.body["message"]
    with pytest.raises(cohere.errors.BadRequestError, match="384"):
        v2.embed(model=MINI, input_type="clustering", texts=["a"], output_dimension=100)


def test_embed_v1(v1: cohere.Client, mini: Service) -> None:
    """More texts than the client sends at a time, so that it puts answers together."""
    texts = [f"number {n}" for n in range(120)]
    answer: Any = v1.embed(model=MINI, texts=texts, input_type="search_document")
    assert answer.response_type == "embeddings_floats"
    np.testing.assert_allclose(answer.embeddings, mini.embed(texts), atol=1e-5)
    assert answer.texts == texts
    typed: Any = v1.embed(
        model=MINI, texts=texts, input_type="search_document", embedding_types=["float", "int8"]
    )
    assert typed.response_type == "embeddings_by_type"
    np.testing.assert_allclose(typed.embeddings.float_, mini.embed(texts), atol=1e-5)
    assert len(typed.embeddings.int8) == 120


def posted(address: str, path: str, body: object) -> dict[str, Any]:
    """What clients without a library do."""
    answer = httpx.post(address + path, json=body, timeout=LIMIT)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_jinas_shape(address: str, tiny: Service) -> None:
    """What LangChain and Dify read: `document.text` though nobody asked for it."""
    body = {"model": TINY, "query": QUERY, "documents": DOCUMENTS, "top_n": 3}
    found = posted(address, "/v1/rerank", body)
    assert found["object"] == "list" and found["usage"]["total_tokens"] > 0
    expected = tiny.score(QUERY, DOCUMENTS)
    for each in found["results"]:
        assert each["document"]["text"] == DOCUMENTS[each["index"]]
        assert abs(each["relevance_score"] - expected[each["index"]]) < 1e-5


def test_vllms_shapes(address: str, tiny: Service, mini: Service) -> None:
    expected = tiny.score(QUERY, DOCUMENTS)
    found = posted(address, "/score", {"model": TINY, "text_1": QUERY, "text_2": DOCUMENTS})
    np.testing.assert_allclose([each["score"] for each in found["data"]], expected, atol=1e-5)
    raw = posted(address, "/classify", {"model": TINY, "input": DOCUMENTS})
    alone = tiny.submit_labels(DOCUMENTS).result().scores
    np.testing.assert_allclose([each["probs"] for each in raw["data"]], alone, atol=1e-5)
    found = posted(address, "/score", {"model": MINI, "queries": TEXTS, "items": TEXTS})
    np.testing.assert_allclose([each["score"] for each in found["data"]], 1, atol=1e-5)
    found = posted(address, "/pooling", {"model": MINI, "input": TEXTS})
    np.testing.assert_allclose(
        [each["data"] for each in found["data"]], mini.embed(TEXTS), atol=1e-6
    )
    found = posted(address, "/tokenize", {"model": MINI, "prompt": "a cat"})
    assert found["tokens"] == [101, 1037, 4937, 102] and found["max_model_len"] == 256
    back = posted(address, "/detokenize", {"model": MINI, "tokens": [101, 1037, 4937, 102]})
    assert back == {"prompt": "[CLS] a cat [SEP]"}


@pytest.fixture(scope="module")
def litellm() -> Any:
    """It fetches a table of prices when it is imported, unless told that it has one."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import litellm

    return litellm


@pytest.mark.parametrize("provider", ["jina_ai", "infinity", "hosted_vllm", "cohere"])
def test_litellm(litellm: Any, address: str, tiny: Service, provider: str) -> None:
    # Infinity's answers have bare texts as documents, which nothing in its requests tells.
    returns = provider != "infinity"
    answer = litellm.rerank(
        model=f"{provider}/{TINY}",
        query=QUERY,
        documents=DOCUMENTS,
        top_n=3,
        return_documents=returns,
        api_base=address,
        api_key="none",
    )
    expected = tiny.score(QUERY, DOCUMENTS)
    order = list(np.argsort(-expected, kind="stable"))[:3]
    assert [each["index"] for each in answer.results] == order
    for each in answer.results:
        assert abs(each["relevance_score"] - expected[each["index"]]) < 1e-5
        if returns:
            assert each["document"]["text"] == DOCUMENTS[each["index"]]


@pytest.mark.torch
def test_a_model_of_many_vectors(tmp_path: Path, http: httpx.Client) -> None:
    from tests.conformance.head_folders import words
    from tests.conformance.test_multivector import write_colbert

    model = service.load(write_colbert(tmp_path), name=LATE, precision="f32")
    try:
        query, *documents = words(3, 9, 4, 12, 1, seed=3)
        (asked,) = model.embed_tokens([query], kind="query")
        expected = np.array([maxsim(asked, one) for one in model.embed_tokens(documents)])
        for address in served({LATE: model}):
            client = cohere.ClientV2("none", base_url=address, httpx_client=http)
            answer = client.rerank(model=LATE, query=query, documents=documents)
            require_ranking(answer.results, expected, 4)
            body = {"input": documents, "task": "token_embed"}
            found = posted(address, "/pooling", body)["data"]
            for each, rows in zip(found, model.embed_tokens(documents), strict=True):
                np.testing.assert_allclose(each["data"], rows, atol=1e-5)
    finally:
        model.close()


def test_the_list_of_models(v2: cohere.ClientV2, v1: cohere.Client) -> None:
    for client in (v2, v1):
        listed = client.models.list()
        found = {one.name: one for one in listed.models}
        assert found[MINI].endpoints == ["embed"]
        assert found[MINI].context_length == 256
        assert found[TINY].endpoints == ["rerank"]
        assert [one.name for one in client.models.list(endpoint="rerank").models] == [TINY]
        assert client.models.get(MINI).name == MINI


def test_a_request_without_a_model_goes_to_the_one_that_can(
    http: httpx.Client, address: str
) -> None:
    ranked = http.post(f"{address}/v2/rerank", json={"query": QUERY, "documents": DOCUMENTS})
    assert ranked.json()["model"] == TINY
    embedded = http.post(f"{address}/v1/embeddings", json={"input": TEXTS})
    assert embedded.json()["model"] == MINI
