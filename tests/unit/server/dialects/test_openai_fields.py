"""What Jina's, Voyage's, vLLM's and infinity's clients send beside OpenAI's own fields."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
from starlette.testclient import TestClient

from likewise.server.app import build
from likewise.server.dialects.openai_answer import EmbeddingsAnswer
from likewise.server.dialects.openai_request import EmbeddingsRequest
from likewise.vectors.quantize import QUANTISERS
from tests.unit.server.fakes import DIMENSIONS, FakeModel, by_hand

NAME = "fake/lengths"
TEXTS = ["abc de", "aeiou"]
VECTORS = np.stack([by_hand(text) for text in TEXTS])


@pytest.fixture
def model() -> FakeModel:
    return FakeModel(prompts={"classification": "c: ", "search_query": "q: ", "query": "Q: "})


@pytest.fixture
def client(model: FakeModel) -> Iterator[TestClient]:
    with TestClient(build({NAME: model})) as client:
        yield client


def sent(client: TestClient, **fields: Any) -> Any:
    answer = client.post("/v1/embeddings", json={"input": TEXTS} | fields)
    assert answer.status_code == 200, answer.text
    return answer


def rows(client: TestClient, **fields: Any) -> list[Any]:
    return [each["embedding"] for each in sent(client, **fields).json()["data"]]


def asked(client: TestClient, model: FakeModel, **fields: Any) -> dict[str, Any]:
    sent(client, **fields)
    return model.asked[-1]


def test_every_field_may_be_null(client: TestClient, model: FakeModel) -> None:
    plain = asked(client, model)
    nulls = dict.fromkeys(EmbeddingsRequest.__struct_fields__)
    answer = client.post("/v1/embeddings", json=nulls | {"input": TEXTS})
    assert answer.status_code == 200, answer.text
    assert model.asked[-1] == plain
    assert plain == {
        "inputs": TEXTS, "dimensions": None, "overflow": "cut", "unit": True, "raw": False,
        "special": True, "lane": "interactive", "deadline": None, "dialect": "openai",
    }  # fmt: skip


def test_the_answer_is_what_it_is_declared_to_be(client: TestClient) -> None:
    for fields in ({}, {"encoding_format": "base64"}, {"embedding_type": ["float", "binary"]}):
        raw = sent(client, **fields).content
        answer = msgspec.json.decode(raw, type=EmbeddingsAnswer)
        assert set(answer) == set(json.loads(raw))


def test_an_answer_has_an_id_and_a_time(client: TestClient) -> None:
    first, second = (sent(client).json() for _ in range(2))
    assert first["id"].startswith("embd-")
    assert first["id"] != second["id"]
    assert isinstance(first["created"], int)
    assert sent(client, request_id="mine").json()["id"] == "embd-mine"
    headers = sent(client).headers
    times = [f"x-{part}-time" for part in ("total", "tokenization", "queue", "inference")]
    assert all(headers[name].isdecimal() for name in times)


def test_objects_with_a_text(client: TestClient, model: FakeModel) -> None:
    assert asked(client, model, input=[{"text": "a"}, "b"])["inputs"] == ["a", "b"]


@pytest.mark.parametrize("field", ["dimensions", "output_dimension"])
def test_widths(client: TestClient, model: FakeModel, field: str) -> None:
    assert asked(client, model, **{field: 2})["dimensions"] == 2
    for width in (2, DIMENSIONS):
        told = asked(client, model, **{field: width, "normalize": False})
        assert (told["dimensions"], told["unit"], told["raw"]) == (width, False, True)


def test_a_width_of_nothing_is_the_models_and_is_named(
    client: TestClient, model: FakeModel
) -> None:
    assert asked(client, model, dimensions=0)["dimensions"] is None
    assert sent(client, dimensions=0).headers["x-likewise-ignored"] == "dimensions"


@pytest.mark.parametrize("field", ["normalize", "normalized", "use_activation"])
def test_lengths(client: TestClient, model: FakeModel, field: str) -> None:
    for unit in (True, False):
        told = asked(client, model, **{field: unit})
        assert (told["unit"], told["raw"]) == (unit, not unit)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"input_type": "document"}, "document"),
        ({"input_type": "query"}, "query"),
        ({"input_type": "passage"}, "document"),
        ({"input_type": "search_document"}, "document"),
        ({"task": "retrieval.query"}, "query"),
        ({"task": "retrieval.passage"}, "document"),
    ],
)
def test_kinds(client: TestClient, model: FakeModel, fields: dict[str, str], kind: str) -> None:
    told = asked(client, model, **fields)
    assert told["kind"] == kind
    assert "prompt_name" not in told


@pytest.mark.parametrize(
    ("field", "name"),
    [
        ("task", "classification"),
        ("input_type", "classification"),
        # The model's own prompt of that name goes before what the name means elsewhere.
        ("input_type", "search_query"),
        ("prompt_name", "anything: the model knows"),
    ],
)
def test_prompts_by_name(client: TestClient, model: FakeModel, field: str, name: str) -> None:
    told = asked(client, model, **{field: name})
    assert told["prompt_name"] == name
    assert "kind" not in told


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"truncation": True}, {"overflow": "cut"}),
        ({"truncation": False}, {"overflow": "refuse"}),
        ({"truncate": False, "truncation": False}, {"overflow": "refuse"}),
        ({"truncate_prompt_tokens": -1}, {"overflow": "cut"}),
        ({"truncate_prompt_tokens": 3}, {"overflow": "cut", "limit": 3}),
        ({"truncation_side": "left"}, {"side": "left"}),
        ({"truncation_side": "right"}, {"side": "right"}),
        ({"add_special_tokens": False}, {"special": False}),
        ({"add_special_tokens": True}, {"special": True}),
        ({"priority": 1}, {"lane": "bulk"}),
        ({"priority": 0}, {"lane": "interactive"}),
        ({"modality": "text", "mm_processor_kwargs": {}, "cache_salt": "x"}, {}),
    ],
)
def test_options(
    client: TestClient, model: FakeModel, fields: dict[str, Any], told: dict[str, Any]
) -> None:
    found = asked(client, model, **fields)
    assert {name: found[name] for name in told} == told
    if "limit" not in told:
        assert "limit" not in found


@pytest.mark.parametrize("field", ["embedding_type", "embedding_types", "output_dtype"])
@pytest.mark.parametrize("kind", ["int8", "uint8", "binary", "ubinary"])
def test_integers(client: TestClient, field: str, kind: Any) -> None:
    want = QUANTISERS[kind](VECTORS)
    for value in (kind, [kind]):
        got = rows(client, **{field: value})
        assert all(isinstance(number, int) for row in got for number in row)
        np.testing.assert_array_equal(got, want)
    packed = rows(client, **{field: kind}, encoding_format="base64")
    for row, numbers in zip(packed, want, strict=True):
        np.testing.assert_array_equal(np.frombuffer(base64.b64decode(row), want.dtype), numbers)


def test_floats_and_base64_by_type(client: TestClient) -> None:
    np.testing.assert_array_equal(np.array(rows(client, output_dtype="float"), np.float32), VECTORS)
    for row, vector in zip(rows(client, embedding_type="base64"), VECTORS, strict=True):
        np.testing.assert_array_equal(np.frombuffer(base64.b64decode(row), "<f4"), vector)


def test_several_types_come_by_name(client: TestClient) -> None:
    first, second = rows(client, embedding_type=["float", "ubinary", "base64", "float"])
    assert list(first) == ["float", "ubinary", "base64"]
    np.testing.assert_array_equal(np.float32(first["float"]), VECTORS[0])
    assert first["ubinary"] == QUANTISERS["ubinary"](VECTORS)[0].tolist()
    assert base64.b64decode(second["base64"]) == VECTORS[1].tobytes()
    both = rows(client, embedding_types=["float", "int8"], encoding_format="base64")
    assert base64.b64decode(both[0]["int8"]) == QUANTISERS["int8"](VECTORS)[0].tobytes()


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize(("dtype", "code"), [("float32", "f4"), ("float16", "f2")])
def test_base64_of_other_floats(client: TestClient, dtype: str, code: str, order: str) -> None:
    fields = {"encoding_format": "base64", "embed_dtype": dtype, "endianness": order}
    mark = "<" if order == "little" else ">"
    for row, vector in zip(rows(client, **fields), VECTORS, strict=True):
        numbers = np.frombuffer(base64.b64decode(row), mark + code)
        np.testing.assert_array_equal(numbers, vector.astype(code))


def test_bytes_are_described_in_a_header(client: TestClient) -> None:
    answer = sent(client, encoding_format="bytes", embed_dtype="float16", endianness="big")
    assert answer.headers["content-type"] == "application/octet-stream"
    said = json.loads(answer.headers["metadata"])
    assert said["model"] == NAME
    assert said["id"].startswith("embd-")
    assert said["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    for index, item in enumerate(said["data"]):
        assert (item["index"], item["shape"]) == (index, [DIMENSIONS])
        assert (item["embed_dtype"], item["endianness"]) == ("float16", "big")
        numbers = np.frombuffer(answer.content[item["start"] : item["end"]], ">f2")
        np.testing.assert_array_equal(numbers, VECTORS[index].astype("f2"))
    assert len(said["data"]) == 2
    assert item["end"] == len(answer.content)


def test_bytes_alone(client: TestClient) -> None:
    answer = sent(client, encoding_format="bytes_only")
    assert answer.content == VECTORS.tobytes()
    assert "metadata" not in answer.headers
    many = sent(client, input=["a"] * 257, encoding_format="bytes_only")
    assert len(many.content) == 257 * 4 * DIMENSIONS


def test_bytes_say_what_was_cut(client: TestClient) -> None:
    answer = sent(client, input=["a", "a " * 20], encoding_format="bytes_only")
    assert answer.headers["x-likewise-truncated"] == "1"


def test_openais_own_library_isnt_handed_bytes_of_integers(client: TestClient) -> None:
    body = {"input": "a", "output_dtype": "int8", "encoding_format": "base64"}
    answer = client.post("/v1/embeddings", json=body, headers={"x-stainless-lang": "python"})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "encoding_format"
    body["encoding_format"] = "float"
    answer = client.post("/v1/embeddings", json=body, headers={"x-stainless-lang": "python"})
    assert answer.status_code == 200


def test_late_chunking(client: TestClient, model: FakeModel) -> None:
    got = np.array(rows(client, late_chunking=True, task="retrieval.passage"), np.float32)
    together = by_hand("".join(TEXTS))
    want = together + VECTORS
    np.testing.assert_allclose(got, want / np.linalg.norm(want, axis=1, keepdims=True), atol=1e-6)
    told = model.asked[-1]
    assert (told["late"], told["kind"], told["overflow"]) == (True, "document", "cut")
    assert "special" not in told
    told = asked(client, model, late_chunking=True, task="classification", dimensions=2)
    assert (told["prompt_name"], told["dimensions"]) == ("classification", 2)
    raw = np.array(rows(client, late_chunking=True, normalized=False), np.float32)
    np.testing.assert_allclose(np.linalg.norm(raw, axis=1), 2, atol=1e-5)
    assert "late" not in asked(client, model, late_chunking=False)


def test_messages(client: TestClient, model: FakeModel) -> None:
    said = [{"role": "system", "content": "be"}, {"role": "user", "content": "ab"}]
    parts = [{"role": "user", "content": [{"type": "text", "text": t} for t in "xy"]}]
    for messages, written in (
        (said, ["<system>be<user>ab"]),
        ([said, parts], ["<system>be<user>ab", "<user>x+y"]),
    ):
        answer = client.post("/v1/embeddings", json={"messages": messages})
        assert answer.status_code == 200, answer.text
        told = model.asked[-1]
        assert told["inputs"] == written
        assert (told["prompt"], told["special"]) == ("", False)
        assert "kind" not in told
    body: dict[str, Any] = {"messages": said, "add_generation_prompt": True}
    body |= {"add_special_tokens": True, "chat_template_kwargs": {"extra": 1}}
    client.post("/v1/embeddings", json=body)
    assert model.asked[-1]["inputs"] == ["<system>be<user>ab<next>extra"]
    assert model.asked[-1]["special"] is True


USER = [{"role": "user", "content": "a"}]


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"dimensions": 2, "output_dimension": 3}, "output_dimension", "say different things"),
        ({"normalize": True, "normalized": False}, "normalized", "say different things"),
        ({"truncate": True, "truncation": False}, "truncation", "say different things"),
        ({"embedding_type": "int8", "output_dtype": "float"}, "output_dtype", "different things"),
        ({"output_dimension": -1}, "dimensions", "at least 1"),
        ({"embedding_type": "int8", "normalized": False}, "normalize", "vectors of length 1"),
        ({"embedding_type": "int4"}, "embedding_type", "invalid enum value 'int4'"),
        ({"embedding_type": []}, "embedding_type", "names no type"),
        ({"output_dtype": "int8", "embed_dtype": "float16"}, "embed_dtype", "for floats"),
        ({"embed_dtype": "fp8_e4m3"}, "embed_dtype", "invalid enum value 'fp8_e4m3'"),
        ({"endianness": "middle"}, "endianness", "invalid enum value"),
        ({"encoding_format": "bytes", "output_dtype": "int8"}, "encoding_format", "not int8"),
        ({"encoding_format": "bytes", "input": ["a"] * 257}, "encoding_format", "most is 256"),
        ({"task": "text-matching"}, "task", "no prompt of that name"),
        ({"input_type": "clustering"}, "input_type", "no prompt of that name"),
        ({"input_type": "query", "task": "x"}, "task", "both choose the prompt"),
        ({"prompt_name": "a", "input_type": "query"}, "prompt_name", "both choose the prompt"),
        ({"truncate_prompt_tokens": 0}, "truncate_prompt_tokens", "number of tokens"),
        ({"truncate_prompt_tokens": -2}, "truncate_prompt_tokens", "number of tokens"),
        (
            {"truncate_prompt_tokens": 5, "truncate": False},
            "truncate_prompt_tokens",
            "not to be",
        ),
        ({"truncation_side": "middle"}, "truncation_side", "invalid enum value"),
        ({"modality": "image"}, "modality", "only 'text'"),
        ({"mm_processor_kwargs": {"a": 1}}, "mm_processor_kwargs", "only texts"),
        ({"input": [{"image": "data:"}]}, "input[0].image", "input[0]: unknown field 'image'"),
        ({"input": [{"text": ""}]}, "input", "empty text at input position 0"),
        ({"input": ["a", [1], {"text": "b"}]}, "input", "mixes texts and token ids"),
        ({"late_chunking": True, "add_special_tokens": False}, "add_special_tokens", "late"),
        ({"late_chunking": True, "messages": USER, "input": None}, "late_chunking", "messages"),
        ({"chat_template": "x"}, "chat_template", "own template"),
        ({"continue_final_message": True}, "continue_final_message", "isn't followed"),
        ({"add_generation_prompt": True}, "add_generation_prompt", "goes with messages"),
        ({"chat_template_kwargs": {"a": 1}}, "chat_template_kwargs", "goes with messages"),
        ({"messages": USER}, "messages", "not both"),
        ({"input": None, "messages": []}, "messages", "empty list"),
        ({"input": None, "messages": [[]]}, "messages", "empty conversation"),
        ({"input": None, "messages": [*USER, USER]}, "messages", "mixes"),
        ({"input": None, "messages": USER, "prompt_name": "query"}, "prompt_name", "leave out"),
        ({"input": None, "messages": USER, "task": "x"}, "task", "leave out"),
        ({"input": None, "messages": [{"role": "user"}]}, "content", "'content' is missing"),
        (
            {"input": None, "messages": [{"role": "user", "content": "a", "tool_calls": []}]},
            "messages[0].tool_calls",
            "messages[0]: unknown field 'tool_calls'",
        ),
        (
            {"input": None, "messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages",
            "a part of the type 'image_url'",
        ),
        ({"input": None, "messages": [{"role": "nobody", "content": "a"}]}, "messages", "nobody"),
        ({"input": None, "messages": [USER] * 2049}, "messages", "the most is 2048"),
    ],
)
def test_refusals(
    client: TestClient, model: FakeModel, fields: dict[str, Any], param: str, words: str
) -> None:
    answer = client.post("/v1/embeddings", json={"input": TEXTS} | fields)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert words in error["message"]
    assert error["param"] == param
    assert not model.asked
