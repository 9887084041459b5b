"""`/api/embed` and `/api/embeddings` on the real application, over a model to compute by hand."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from likewise.base.errors import (
    DeadlineExceeded,
    DimensionsError,
    EngineError,
    LikewiseError,
    NotFinite,
    Overloaded,
)
from likewise.models.short_names import OLLAMA as KNOWN
from likewise.server.app import build
from likewise.server.dialects.ollama import Options
from tests.unit.server.fake_catalogue import FakeEntry, FakeListing
from tests.unit.server.fakes import DIMENSIONS, FakeModel, by_hand

NAME = "fake/lengths"
LONG = "one two three four five six seven eight nine"


@pytest.fixture
def model() -> FakeModel:
    return FakeModel()


@pytest.fixture
def catalogue(model: FakeModel) -> FakeListing:
    return FakeListing(FakeEntry(NAME, model, aliases=("mine",)))


@pytest.fixture
def client(catalogue: FakeListing) -> Iterator[TestClient]:
    with TestClient(build(catalogue, max_body_bytes=100_000)) as client:
        yield client


def embedded(client: TestClient, **body: Any) -> dict[str, Any]:
    answer = client.post("/api/embed", json=body)
    assert answer.status_code == 200, answer.text
    content: dict[str, Any] = answer.json()
    return content


def refused(client: TestClient, body: object, status: int = 400, path: str = "/api/embed") -> str:
    answer = client.post(path, json=body)
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    return str(answer.json()["error"])


def test_one_text(client: TestClient, model: FakeModel) -> None:
    body = embedded(client, model="lengths", input="abc de")
    assert list(body) == [
        "model", "embeddings", "total_duration", "load_duration", "prompt_eval_count",
    ]  # fmt: skip
    assert body["model"] == "lengths"
    (vector,) = body["embeddings"]
    np.testing.assert_array_equal(np.float32(vector), by_hand("abc de"))
    assert body["prompt_eval_count"] == 2
    assert 0 < body["load_duration"] < body["total_duration"]
    assert model.asked[0]["unit"] is True
    # Which prompt goes before a text isn't said: the folder's default one, if it has one.
    assert not {"prompt", "prompt_name", "kind"} & model.asked[0].keys()


def test_many_texts_come_in_order(client: TestClient) -> None:
    texts = ["a", "bb b", "ccc", "a"]
    body = embedded(client, model=NAME, input=texts)
    for text, vector in zip(texts, body["embeddings"], strict=True):
        np.testing.assert_array_equal(np.float32(vector), by_hand(text))


def test_the_name_is_given_back_as_it_was_asked(client: TestClient) -> None:
    for name in (NAME, "lengths:latest", "MINE", "mine:latest"):
        assert embedded(client, model=name, input="a")["model"] == name
    assert embedded(client, input="a")["model"] == NAME
    assert embedded(client, model="", input="a")["model"] == NAME


@pytest.mark.parametrize("body", [{}, {"input": None}, {"input": ""}, {"input": []}])
def test_without_texts_the_model_is_only_loaded(
    client: TestClient, catalogue: FakeListing, model: FakeModel, body: dict[str, Any]
) -> None:
    assert embedded(client, model="mine", **body) == {"model": "mine", "embeddings": []}
    assert catalogue.leased == [(NAME, None)]
    assert catalogue.entries[NAME].state == "loaded"
    assert not model.asked


def test_an_empty_text_in_a_list_is_a_text(client: TestClient, model: FakeModel) -> None:
    assert len(embedded(client, model=NAME, input=["", "a"])["embeddings"]) == 2
    assert model.asked[0]["inputs"] == ["", "a"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [(300, 300), (0.5, 0.5), (-1, math.inf), ("10m", 600), ("-1m", math.inf), (None, None)],
)
@pytest.mark.parametrize(
    ("path", "field"), [("/api/embed", "input"), ("/api/embeddings", "prompt")]
)
def test_keep_alive(
    client: TestClient, catalogue: FakeListing, path: str, field: str, written: object, meant: float
) -> None:
    answer = client.post(path, json={"model": NAME, field: "a", "keep_alive": written})
    assert answer.status_code == 200
    assert catalogue.leased == [(NAME, meant)]


@pytest.mark.parametrize("path", ["/api/embed", "/api/embeddings"])
def test_keep_alive_zero_without_texts_unloads(
    client: TestClient, catalogue: FakeListing, path: str
) -> None:
    embedded(client, model=NAME, input="a")
    unload = {"model": NAME, "keep_alive": 0}
    assert client.post(path, json=unload).status_code == 200
    assert catalogue.entries[NAME].state == "unloaded"
    assert catalogue.leased[1:] == [(NAME, 0)]
    # It isn't loaded only to be unloaded.
    assert client.post(path, json=unload).status_code == 200
    assert len(catalogue.leased) == 2


@pytest.mark.parametrize("written", ["-1", "", "ten minutes", True, [5], {}])
def test_keep_alive_that_is_no_duration(
    client: TestClient, catalogue: FakeListing, written: object
) -> None:
    assert "keep_alive" in refused(client, {"model": NAME, "input": "a", "keep_alive": written})
    assert not catalogue.leased


@pytest.mark.parametrize("truncate", [None, True])
def test_truncation_is_said(client: TestClient, truncate: bool | None) -> None:
    sent = {"model": NAME, "input": [LONG, "short", LONG], "truncate": truncate}
    answer = client.post("/api/embed", json=sent)
    assert answer.headers["x-likewise-truncated"] == "0,2"
    assert answer.headers["x-likewise-truncated-count"] == "2"
    assert "truncated" not in answer.json()
    assert answer.json()["prompt_eval_count"] == 8 + 1 + 8


def test_truncation_is_refused_when_asked(client: TestClient) -> None:
    error = refused(client, {"model": NAME, "input": ["a", LONG], "truncate": False})
    assert error.startswith("the input length exceeds the context length: input 1 has 9 tokens")


@pytest.mark.parametrize(
    ("asked", "handed_on"),
    [(2, 2), (DIMENSIONS, None), (DIMENSIONS + 1, None), (0, None), (-3, None), (None, None)],
)
def test_dimensions(
    client: TestClient, model: FakeModel, asked: int | None, handed_on: int | None
) -> None:
    embedded(client, model=NAME, input="a", dimensions=asked)
    assert model.asked[0]["dimensions"] == handed_on


def test_num_ctx_is_a_limit(client: TestClient, model: FakeModel) -> None:
    embedded(client, model=NAME, input="a", options={"num_ctx": 2048})
    embedded(client, model=NAME, input="a", options={})
    embedded(client, model=NAME, input="a")
    # JSON of Lua and others has no whole numbers; zero is what a field without a value is in Go.
    for unset in (512.0, 0, 0.0, -1, None):
        embedded(client, model=NAME, input="a", options={"num_ctx": unset})
    limits = [asked["limit"] for asked in model.asked]
    assert limits == [2048, None, None, 512, None, None, None, None]
    sent = {"model": NAME, "input": "a", "options": {"num_ctx": -1}}
    answer = client.post("/api/embed", json=sent)
    assert answer.headers["x-likewise-ignored"] == "options.num_ctx"


def test_options_that_change_nothing_are_taken(client: TestClient) -> None:
    given = {
        "num_batch": 512, "num_gpu": -1, "num_thread": 4, "main_gpu": 0, "low_vram": False,
        "use_mmap": True, "use_mlock": False, "numa": False, "seed": 7, "temperature": 0.0,
        "top_k": 40, "top_p": 0.9, "min_p": 0, "tfs_z": 1, "typical_p": 1.0, "repeat_last_n": 64,
        "repeat_penalty": 1.1, "mirostat": 0, "mirostat_eta": 0.1, "mirostat_tau": 5,
        "num_predict": -1, "num_keep": 0, "stop": ["x"], "f16_kv": True, "embedding_only": True,
        "presence_penalty": 0.0, "frequency_penalty": 0, "penalize_newline": True,
        "logits_all": False, "vocab_only": False, "num_gqa": 1,
    }  # fmt: skip
    assert set(given) | {"num_ctx"} == set(Options.__struct_fields__)
    plain = embedded(client, model=NAME, input="a")["embeddings"]
    assert embedded(client, model=NAME, input="a", options=given)["embeddings"] == plain
    # LangChain sends every option, null where it isn't set.
    nothing = dict.fromkeys(Options.__struct_fields__)
    assert embedded(client, model=NAME, input="a", options=nothing)["embeddings"] == plain


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_ctx": "2048"}, "options.num_ctx: expected int | null, got str"),
        ({"num_ctx": 2.5}, "options.num_ctx: expected int | null, got float"),
        (["num_ctx"], "options: expected object | null, got array"),
    ],
)
def test_options_that_are_refused(client: TestClient, options: object, words: str) -> None:
    assert words in refused(client, {"model": NAME, "input": "a", "options": options})


@pytest.mark.parametrize("given", [[1, 2], [[1, 2]], 3, {"a": "b"}, ["a", 1], [None], True])
def test_inputs_of_other_kinds(client: TestClient, model: FakeModel, given: object) -> None:
    assert refused(client, {"model": NAME, "input": given}).startswith("invalid input type: input")
    assert not model.asked


def test_bad_bodies(client: TestClient) -> None:
    for path in ("/api/embed", "/api/embeddings"):
        answer = client.post(path, content=b" ")
        assert (answer.status_code, answer.json()) == (400, {"error": "missing request body"})
        assert client.post(path, content=b"{").status_code == 400
    assert "(did you mean 'input'?)" in refused(client, {"model": NAME, "inputs": "a"})
    error = refused(client, {"model": NAME, "prompt": ["a"]}, path="/api/embeddings")
    assert error.startswith("invalid input type: prompt")
    assert "dimensions" in refused(client, {"model": NAME, "input": "a", "dimensions": "2"})
    answer = client.post("/api/embed", json={"model": NAME, "input": "a" * 100_000})
    assert (answer.status_code, set(answer.json())) == (413, {"error"})
    assert client.get("/api/embed").json() == {"error": "/api/embed takes POST, not GET"}
    assert set(client.get("/api/nothing").json()) == {"error"}


@pytest.mark.parametrize("path", ["/api/embed", "/api/embeddings"])
def test_an_unknown_model(client: TestClient, path: str) -> None:
    error = refused(client, {"model": "nomic-embed-text"}, 404, path)
    assert error.startswith('model "nomic-embed-text" not found, try pulling it first')


@pytest.mark.parametrize(
    ("fails", "status", "words"),
    [
        (NotFinite("row 3"), 400, "embedding contains NaN or Inf values: row 3"),
        (Overloaded("full"), 503, "server busy, please try again.  maximum pending requests"),
        (DeadlineExceeded("late"), 503, "late"),
        (DimensionsError("not 2"), 400, "not 2"),
        (EngineError("broken"), 500, "broken"),
    ],
)
def test_the_models_errors_go_out(
    client: TestClient, model: FakeModel, fails: LikewiseError, status: int, words: str
) -> None:
    model.fails = fails
    assert refused(client, {"model": NAME, "input": "a"}, status).startswith(words)


def test_the_older_route(client: TestClient, model: FakeModel) -> None:
    answer = client.post("/api/embeddings", json={"model": NAME, "prompt": "abc de"})
    assert list(answer.json()) == ["embedding"]
    np.testing.assert_array_equal(np.float32(answer.json()["embedding"]), by_hand("abc de"))
    asked = model.asked[0]
    assert (asked["unit"], asked["overflow"]) == (True, "refuse")
    assert not {"prompt", "prompt_name", "kind"} & asked.keys()
    for body in ({}, {"prompt": ""}, {"prompt": None}):
        sent = client.post("/api/embeddings", json={"model": NAME, **body})
        assert sent.json() == {"embedding": []}
    error = refused(client, {"model": NAME, "prompt": LONG}, path="/api/embeddings")
    assert error.startswith("the input length exceeds the context length")
    options = {"model": NAME, "prompt": "a", "options": {"num_ctx": 5}}
    assert client.post("/api/embeddings", json=options).status_code == 200
    assert model.asked[-1]["limit"] == 5


def test_every_option_and_known_name_is_documented(repo: Path) -> None:
    page = (repo / "docs" / "ollama.md").read_text(encoding="utf-8")
    for name in (*Options.__struct_fields__, *KNOWN):
        assert f"`{name}`" in page, name


def test_without_a_name_the_model_that_gives_vectors_answers() -> None:
    scorer = FakeEntry("a/scorer", FakeModel(gives=("scores",)), state="loaded")
    embedder = FakeEntry(NAME, state="loaded")
    with TestClient(build(FakeListing(scorer, embedder))) as client:
        assert embedded(client, input="a")["model"] == NAME
        sent = client.post("/api/embeddings", json={"prompt": "a"})
        assert sent.status_code == 200
    several = FakeListing(embedder, FakeEntry("b/other", state="loaded"))
    with TestClient(build(several)) as client:
        assert "--default-model" in refused(client, {"input": "a"})
