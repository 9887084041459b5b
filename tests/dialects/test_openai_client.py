"""OpenAI's own client against a real server with the real model."""

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest

from likewise.runtime.service import Service
from likewise.vectors.quantize import binary

pytestmark = pytest.mark.model
NAME = "sentence-transformers/all-MiniLM-L6-v2"


@pytest.fixture(scope="module")
def client(base_url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{base_url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_the_clients_default_is_base64_and_gives_the_models_vectors(
    client: openai.OpenAI, model: Service
) -> None:
    texts = ["a cat", "ein Hund", "🦊 le renard"]
    answer = client.embeddings.create(model="all-MiniLM-L6-v2", input=texts)
    got = np.array([each.embedding for each in answer.data], dtype=np.float32)
    np.testing.assert_allclose(got, model.embed(texts), atol=1e-6)
    assert answer.model == NAME
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 6


def test_numbers_and_base64_are_the_same_vector(client: openai.OpenAI) -> None:
    kinds = [
        client.embeddings.create(model=NAME, input="a cat", encoding_format=kind)
        for kind in ("float", "base64")
    ]
    numbers = kinds[0].data[0].embedding
    packed = np.frombuffer(_decoded(kinds[1].data[0].embedding), dtype="<f4")
    np.testing.assert_allclose(np.array(numbers, np.float32), packed, atol=1e-6)


def _decoded(embedding: object) -> bytes:
    import base64

    assert isinstance(embedding, str)
    return base64.b64decode(embedding)


def test_token_ids_are_the_same_as_their_text(client: openai.OpenAI, model: Service) -> None:
    """[CLS] a cat [SEP]: what the model's own tokenizer makes of the text."""
    ids = [101, 1037, 4937, 102]
    for given in (ids, [ids]):
        answer = client.embeddings.create(model=NAME, input=given)
        got = np.array(answer.data[0].embedding, dtype=np.float32)
        np.testing.assert_allclose(got, model.embed(["a cat"])[0], atol=1e-5)
        assert answer.usage.prompt_tokens == 4


def test_a_text_alone_equals_itself_in_a_large_request(client: openai.OpenAI) -> None:
    texts = [f"number {n} " + "word " * (n % 50) for n in range(300)]
    together = client.embeddings.create(model=NAME, input=texts)
    assert [each.index for each in together.data] == list(range(300))
    for at in (0, 49, 299):
        alone = client.embeddings.create(model=NAME, input=texts[at]).data[0].embedding
        np.testing.assert_allclose(together.data[at].embedding, alone, atol=1e-5)


def test_a_hundred_thousand_characters_are_cut_and_said_so(client: openai.OpenAI) -> None:
    long = "word " * 20_000
    raw = client.embeddings.with_raw_response.create(model=NAME, input=["short", long])
    assert raw.headers["x-likewise-truncated"] == "1"
    assert raw.parse().usage.prompt_tokens == 3 + 256
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model=NAME, input=["short", long], extra_body={"truncate": False})
    assert refused.value.code == "input_too_long"
    # Counted no further than is needed to know that it is too long.
    assert re.search(r"input 1 has at least \d+ tokens", str(refused.value))


def test_dimensions(client: openai.OpenAI) -> None:
    answer = client.embeddings.create(model=NAME, input="a", dimensions=384)
    assert len(answer.data[0].embedding) == 384
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model=NAME, input="a", dimensions=100)
    assert refused.value.code == "invalid_dimensions"
    assert refused.value.param == "dimensions"
    assert "384" in str(refused.value)


def test_refusals_are_the_clients_own_exceptions(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.embeddings.create(model="text-embedding-3-small", input="a")
    assert unknown.value.code == "model_not_found"
    assert NAME in str(unknown.value)
    bad: str | list[str]
    for bad in ("", []):
        with pytest.raises(openai.BadRequestError) as empty:
            client.embeddings.create(model=NAME, input=bad)
        assert empty.value.code == "invalid_input"
    with pytest.raises(openai.BadRequestError, match="token id"):
        client.embeddings.create(model=NAME, input=[[101, 99_999_999, 102]])
    with pytest.raises(openai.BadRequestError, match="token id"):
        client.embeddings.create(model=NAME, input=[[-1]])


def test_the_asynchronous_client(base_url: str, model: Service) -> None:
    async def ask() -> Any:
        async with openai.AsyncOpenAI(
            base_url=f"{base_url}/v1", api_key="none", max_retries=0
        ) as client:
            answers = [
                client.embeddings.create(model=NAME, input=text) for text in ("one", "two", "three")
            ]
            found = await asyncio.gather(*answers)
            with pytest.raises(openai.NotFoundError):
                await client.embeddings.create(model="nothing", input="a")
            return found

    got = np.array([one.data[0].embedding for one in asyncio.run(ask())], np.float32)
    np.testing.assert_allclose(got, model.embed(["one", "two", "three"]), atol=1e-5)


def test_what_other_clients_send_goes_through_this_one(
    client: openai.OpenAI, model: Service
) -> None:
    texts = ["a cat", "two dogs"]
    floats = client.embeddings.create(
        model=NAME,
        input=texts,
        extra_body={"task": "retrieval.query", "truncate_prompt_tokens": -1, "normalized": True},
    )
    got = np.array([each.embedding for each in floats.data], np.float32)
    np.testing.assert_allclose(got, model.embed(texts, kind="query"), atol=1e-5)
    bits = client.embeddings.create(
        model=NAME, input=texts, encoding_format="float", extra_body={"embedding_type": "binary"}
    )
    want = binary(model.embed(texts))
    np.testing.assert_array_equal([each.embedding for each in bits.data], want)
    with pytest.raises(openai.BadRequestError, match="float32"):
        client.embeddings.create(model=NAME, input=texts, extra_body={"embedding_type": "binary"})


def test_texts_are_cut_where_it_is_asked(client: openai.OpenAI, model: Service) -> None:
    words = "one two three four five six"
    for side, kept in (("right", "one two three"), ("left", "four five six")):
        extra = {"truncate_prompt_tokens": 5, "truncation_side": side}
        raw = client.embeddings.with_raw_response.create(model=NAME, input=words, extra_body=extra)
        assert raw.headers["x-likewise-truncated"] == "0"
        got = np.array(raw.parse().data[0].embedding, np.float32)
        np.testing.assert_allclose(got, model.embed([kept])[0], atol=1e-5)


def test_without_special_tokens(client: openai.OpenAI, model: Service) -> None:
    extra = {"add_special_tokens": False}
    text = client.embeddings.create(model=NAME, input="a cat", extra_body=extra)
    ids = client.embeddings.create(model=NAME, input=[1037, 4937], extra_body=extra)
    assert text.usage.prompt_tokens == ids.usage.prompt_tokens == 2
    np.testing.assert_allclose(text.data[0].embedding, ids.data[0].embedding, atol=1e-5)
    assert not np.allclose(text.data[0].embedding, model.embed(["a cat"])[0], atol=1e-3)


def test_bytes(client: openai.OpenAI, base_url: str, model: Service) -> None:
    texts = ["a cat", "two dogs"]
    body = {"model": NAME, "input": texts, "encoding_format": "bytes", "embed_dtype": "float16"}
    answer = client.post(
        "/embeddings", body=body, cast_to=openai._legacy_response.HttpxBinaryResponseContent
    )
    said = json.loads(answer.response.headers["metadata"])
    got = [np.frombuffer(answer.content[at["start"] : at["end"]], "<f2") for at in said["data"]]
    np.testing.assert_allclose(np.array(got, np.float32), model.embed(texts), atol=1e-3)


def test_messages_need_a_chat_template(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="has no chat template"):
        client.post(
            "/embeddings",
            body={"model": NAME, "messages": [{"role": "user", "content": "a"}]},
            cast_to=object,
        )


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [NAME, "all-minilm:latest"]
    assert client.models.retrieve("all-MiniLM-L6-v2").id == NAME
