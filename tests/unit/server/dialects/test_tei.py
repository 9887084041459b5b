"""Text Embeddings Inference's dialect on the real application, over a model computed by hand."""

import math
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pytest
from starlette.testclient import TestClient

from likewise.base.errors import EngineError, LikewiseError, ModelError, Overloaded
from likewise.server.app import build
from likewise.server.dialects import shared_paths, tei
from likewise.server.routing import Spoken
from tests.unit.server.fakes import DIMENSIONS, FakeModel, by_hand

NAME = "fake/lengths"
LONG = "one two three four five six seven eight nine"


@pytest.fixture
def model() -> FakeModel:
    return FakeModel()


@pytest.fixture
def client(model: FakeModel) -> Iterator[TestClient]:
    with TestClient(build({NAME: model}, max_body_bytes=200_000)) as client:
        yield client


def gave(client: TestClient, path: str, body: object) -> Any:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def refused(client: TestClient, path: str, body: object, status: int = 422) -> dict[str, str]:
    answer = client.post(path, json=body)
    assert answer.status_code == status, answer.text
    error: dict[str, str] = answer.json()
    assert set(error) == {"error", "error_type"}
    return error


def cross_encoder(*labels: str, **more: Any) -> FakeModel:
    return FakeModel(gives=("scores",), labels=labels, **more)


@pytest.mark.parametrize(
    ("inputs", "handed_on"),
    [
        ("abc de", ["abc de"]),
        (["abc"], ["abc"]),
        (["a", "bb b", "a"], ["a", "bb b", "a"]),
        ([5, 6, 7], [[5, 6, 7]]),
        ([[5], [6, 7]], [[5], [6, 7]]),
        (["a", [6, 7], "b"], ["a", [6, 7], "b"]),
    ],
)
def test_embed(client: TestClient, model: FakeModel, inputs: Any, handed_on: list[Any]) -> None:
    got = gave(client, "/embed", {"inputs": inputs})
    assert model.asked[0]["inputs"] == handed_on
    expected = [by_hand(each if isinstance(each, str) else "x" * len(each)) for each in handed_on]
    np.testing.assert_array_equal(np.array(got, np.float32), np.stack(expected))


def test_what_embed_asks_the_model_for(client: TestClient, model: FakeModel) -> None:
    model.prompts = {"query": "Q: "}
    gave(client, "/embed", {"inputs": "a"})
    first = model.asked[0]
    assert (first["unit"], first["overflow"], first["side"]) == (True, "cut", None)
    assert (first["prompt"], first["dimensions"], first["dialect"]) == ("", None, "tei")
    assert first["lane"] == "interactive"
    body = {
        "inputs": ["a"] * 5, "normalize": False, "truncate": False, "prompt_name": "query",
        "truncation_direction": "Left", "encoding_format": "float",
        "options": {"wait_for_model": True, "use_cache": False},
    }  # fmt: skip
    gave(client, "/embed", body)
    second = model.asked[1]
    assert (second["unit"], second["overflow"], second["side"]) == (False, "refuse", "left")
    assert (second["prompt"], second["lane"]) == ("Q: ", "bulk")


@pytest.mark.parametrize(
    ("direction", "side"), [("Left", "left"), ("left", "left"), ("Right", "right"), (None, None)]
)
def test_truncation_direction(
    client: TestClient, model: FakeModel, direction: str | None, side: str | None
) -> None:
    for path in ("/embed", "/embed_all"):
        gave(client, path, {"inputs": "a", "truncation_direction": direction})
        assert model.asked[-1]["side"] == side


def test_the_folders_default_prompt_goes_before_every_text(
    client: TestClient, model: FakeModel
) -> None:
    model.prompts, model.default_prompt_name = {"doc": "D: ", "query": "Q: "}, "doc"
    gave(client, "/embed", {"inputs": "a"})
    gave(client, "/embed", {"inputs": "a", "prompt_name": "query"})
    assert [asked["prompt"] for asked in model.asked] == ["D: ", "Q: "]
    assert gave(client, "/tokenize", {"inputs": "a"})[0][1]["text"] == "D:"


def test_parameters_a_level_deeper(client: TestClient, model: FakeModel) -> None:
    parameters = {"normalize": False, "truncate": False, "truncation_direction": "left"}
    gave(client, "/embed", {"inputs": "a", "parameters": parameters})
    asked = model.asked[0]
    assert (asked["unit"], asked["overflow"], asked["side"]) == (False, "refuse", "left")
    body = {"inputs": "a", "truncate": True, "parameters": {"truncate": False}}
    assert "contradict" in refused(client, "/embed", body)["error"]


def test_dimensions(client: TestClient, model: FakeModel) -> None:
    gave(client, "/embed", {"inputs": "a", "dimensions": 2})
    gave(client, "/embed", {"inputs": "a", "dimensions": DIMENSIONS, "normalize": False})
    gave(client, "/embed", {"inputs": "a", "dimensions": 2, "normalize": False})
    assert [asked["dimensions"] for asked in model.asked] == [2, DIMENSIONS, 2]
    assert [asked["unit"] for asked in model.asked] == [True, False, False]
    assert [asked["raw"] for asked in model.asked] == [False, True, True]
    error = refused(client, "/embed", {"inputs": "a", "dimensions": 0})
    assert error == {"error": "dimensions must be at least 1", "error_type": "Validation"}
    assert len(model.asked) == 3


def test_headers_say_what_it_took(client: TestClient, model: FakeModel) -> None:
    headers = client.post("/embed", json={"inputs": ["abc de", [1, 2, 3]]}).headers
    assert headers["x-compute-type"] == "cpu"
    assert (headers["x-compute-characters"], headers["x-compute-tokens"]) == ("9", "5")
    assert headers["x-tokenization-time"] == "2"
    assert (headers["x-queue-time"], headers["x-inference-time"]) == ("3", "4")
    assert headers["x-total-time"] == headers["x-compute-time"]
    assert headers["x-total-time"].isdecimal()
    assert "x-likewise-truncated" not in headers
    model.facts = {"engine_version": "torch 2.9 on NVIDIA H100"}
    assert client.post("/embed", json={"inputs": "a"}).headers["x-compute-type"] == "gpu+optimized"
    model.facts["slow"] = True
    assert client.post("/embed", json={"inputs": "a"}).headers["x-compute-type"] == "gpu"
    model.facts["engine_version"] = "torch 2.9 on cpu, cpu"
    assert client.post("/embed", json={"inputs": "a"}).headers["x-compute-type"] == "cpu"


@pytest.mark.parametrize("path", ["/embed", "/embed_all"])
def test_truncation_is_said_or_refused(client: TestClient, path: str) -> None:
    answer = client.post(path, json={"inputs": [LONG, "short", LONG], "truncate": None})
    assert answer.headers["x-likewise-truncated"] == "0,2"
    assert answer.headers["x-likewise-truncated-count"] == "2"
    error = refused(client, path, {"inputs": LONG, "truncate": False})
    assert error == {"error": "input 0 has 9 tokens", "error_type": "Validation"}


def test_embed_all(client: TestClient, model: FakeModel) -> None:
    got = gave(client, "/embed_all", {"inputs": ["ab c", [7]]})
    assert [len(each) for each in got] == [4, 3]
    np.testing.assert_array_equal(np.array(got[0][1], np.float32), by_hand("ab"))
    assert model.asked[0]["gives"] == ("states",)


def test_embed_sparse() -> None:
    model = FakeModel(gives=("sparse",))
    with TestClient(build({NAME: model})) as client:
        got = gave(client, "/embed_sparse", {"inputs": ["ab c de", "x"]})
        expected = [{"index": 1, "value": 1.0}, {"index": 2, "value": 2.0}]
        assert got == [expected, [{"index": 1, "value": 1.0}]]
        error = refused(client, "/embed", {"inputs": "a"}, 424)
        assert error == {"error": f"{NAME} gives no vectors", "error_type": "Backend"}


def test_embed_sparse_of_a_model_that_has_none(client: TestClient) -> None:
    assert refused(client, "/embed_sparse", {"inputs": "a"}, 424)["error_type"] == "Backend"


def test_similarity(client: TestClient, model: FakeModel) -> None:
    model.prompts = {"query": "Q: "}
    body = {
        "inputs": {"source_sentence": "a cat", "sentences": ["a dog", "a cat", LONG]},
        "parameters": {"prompt_name": "query", "truncation_direction": "left"},
    }
    answer = client.post("/similarity", json=body)
    source = by_hand("a cat")
    expected = [float(source @ by_hand(each)) for each in ("a dog", "a cat", LONG)]
    np.testing.assert_allclose(answer.json(), expected, atol=1e-6)
    assert answer.headers["x-likewise-truncated"] == "3"
    (asked,) = model.asked
    assert (asked["prompt"], asked["side"], asked["unit"]) == ("Q: ", "left", True)
    empty = {"inputs": {"source_sentence": "a", "sentences": []}}
    assert refused(client, "/similarity", empty, 400)["error_type"] == "Empty"


THREE = ("low", "middle", "high")


def softmax(*raw: float) -> list[float]:
    shares = [math.exp(each) for each in raw]
    return [each / sum(shares) for each in shares]


def sigmoid(raw: float) -> float:
    return 1 / (1 + math.exp(-raw))


@pytest.mark.parametrize(
    ("inputs", "handed_on"),
    [("a text", ["a text"]), (["a text"], ["a text"]), (["a", "b a"], [("a", "b a")])],
)
def test_predict_one(inputs: Any, handed_on: list[Any]) -> None:
    model = cross_encoder(*THREE)
    with TestClient(build({NAME: model})) as client:
        got = gave(client, "/predict", {"inputs": inputs})
        assert [each["label"] for each in got] == ["low", "middle", "high"]
        first = 0.6 if isinstance(handed_on[0], str) else 1.0
        expected = softmax(first, first - 1, first - 2)
        np.testing.assert_allclose([each["score"] for each in got], expected, atol=1e-6)
        (asked,) = model.asked
        assert asked["inputs"] == handed_on and asked["raw"] is True


def test_predict_many_keeps_the_order_of_texts_and_pairs() -> None:
    model = cross_encoder(*THREE)
    with TestClient(build({NAME: model})) as client:
        body = {"inputs": [["q d", "q d"], ["abcd"], ["q", "d"], [LONG]], "raw_scores": True}
        answer = client.post("/predict", json=body)
        best = [each[0]["score"] for each in answer.json()]
        np.testing.assert_allclose(best, [2, 0.4, 0, 4.4], atol=1e-6)
        assert answer.headers["x-likewise-truncated"] == "3"
        assert answer.headers["x-compute-tokens"] == str(4 + 1 + 2 + 8)
        assert [len(asked["inputs"]) for asked in model.asked] == [2, 2]
        model.asked.clear()
        gave(client, "/predict", {"inputs": [["a"], ["a", "b"]] * 3})
        assert {asked["lane"] for asked in model.asked} == {"bulk"}


@pytest.mark.parametrize(
    ("config", "labels", "more", "expected"),
    [
        ({}, THREE, {}, softmax(0.1, -0.9, -1.9)),
        ({}, ("one",), {}, [sigmoid(0.1)]),
        ({"problem_type": "multi_label_classification"}, THREE, {},
         [sigmoid(0.1), sigmoid(-0.9), sigmoid(-1.9)]),
        ({}, THREE, {"raw_scores": True}, [0.1, -0.9, -1.9]),
    ],
)  # fmt: skip
def test_what_scores_go_through(
    config: dict[str, str], labels: tuple[str, ...], more: Any, expected: list[float]
) -> None:
    with TestClient(build({NAME: cross_encoder(*labels, config=config)})) as client:
        got = gave(client, "/predict", {"inputs": "a", **more})
        np.testing.assert_allclose([each["score"] for each in got], expected, atol=1e-6)


def test_predict_as_hugging_faces_client_asks() -> None:
    with TestClient(build({NAME: cross_encoder(*THREE)})) as client:
        for path in ("/", "/predict"):
            parameters = {"function_to_apply": "sigmoid", "top_k": 2}
            (got,) = gave(client, path, {"inputs": "a", "parameters": parameters})
            np.testing.assert_allclose(
                [each["score"] for each in got], [sigmoid(0.1), sigmoid(-0.9)], atol=1e-6
            )
        both = {"inputs": "a", "raw_scores": True, "parameters": {"function_to_apply": "softmax"}}
        assert "contradict" in refused(client, "/predict", both)["error"]
        none = {"inputs": "a", "parameters": {"top_k": 0}}
        assert "top_k must be at least 1" in refused(client, "/predict", none)["error"]


def test_rerank() -> None:
    model = cross_encoder("relevance")
    with TestClient(build({NAME: model})) as client:
        body: dict[str, Any] = {"query": "a b c", "texts": ["x", "c b", "a b c", ""]}
        got = gave(client, "/rerank", body)
        assert [each["index"] for each in got] == [2, 1, 0, 3]
        np.testing.assert_allclose(
            [each["score"] for each in got], [sigmoid(n) for n in (3, 2, 0, 0)], atol=1e-6
        )
        assert set(got[0]) == {"index", "score"}
        got = gave(client, "/rerank", {**body, "raw_scores": True, "return_text": True})
        assert got[0] == {"index": 2, "text": "a b c", "score": 3.0}
        assert gave(client, "/rerank", {**body, "top_n": 1}) == [
            {"index": 2, "score": pytest.approx(sigmoid(3))}
        ]
        assert model.asked[0]["inputs"][1] == ("a b c", "c b")
        assert model.asked[0]["raw"] is True
        error = refused(client, "/rerank", {**body, "texts": []}, 400)
        assert error == {
            "error": "`texts` cannot be empty; send at least one",
            "error_type": "Empty",
        }
        assert refused(client, "/rerank", {**body, "query": ""}, 400)["error_type"] == "Empty"


@pytest.mark.parametrize("labels", [(), THREE])
def test_what_is_no_reranker_says_so(labels: tuple[str, ...]) -> None:
    model = cross_encoder(*labels) if labels else FakeModel()
    with TestClient(build({NAME: model})) as client:
        error = refused(client, "/rerank", {"query": "a", "texts": ["b"]}, 424)
        assert error["error"].startswith("model is not a re-ranker model")
        assert error["error_type"] == "Backend"
        assert ('"by": "cosine"' in error["error"]) == (not labels)
        assert not model.asked


def test_a_bi_encoder_reranks_by_cosine_when_told_to(client: TestClient, model: FakeModel) -> None:
    body = {"query": "a cat", "texts": ["x" * 30, "a dog"], "by": "cosine"}
    got = gave(client, "/rerank", body)
    assert [each["index"] for each in got] == [1, 0]
    assert got[0]["score"] == pytest.approx(float(by_hand("a cat") @ by_hand("a dog")))
    assert [(asked["kind"], asked["unit"]) for asked in model.asked] == [
        ("query", True),
        ("document", True),
    ]
    cut = client.post("/rerank", json={**body, "query": LONG})
    assert cut.headers["x-likewise-truncated"] == "0,1"
    assert "by" in refused(client, "/rerank", {**body, "by": "dot"})["error"]


def test_tokenize(client: TestClient, model: FakeModel) -> None:
    model.prompts = {"query": "Q: "}
    got = gave(client, "/tokenize", {"inputs": "ab c"})
    assert got == [
        [
            {"id": 0, "text": "<", "special": True, "start": None, "stop": None},
            {"id": 2, "text": "ab", "special": False, "start": 0, "stop": 2},
            {"id": 1, "text": "c", "special": False, "start": 3, "stop": 4},
            {"id": 0, "text": ">", "special": True, "start": None, "stop": None},
        ]
    ]
    body = {"inputs": ["ab", "c"], "add_special_tokens": False, "prompt_name": "query"}
    got = gave(client, "/tokenize", body)
    assert [[each["text"] for each in one] for one in got] == [["Q:", "ab"], ["Q:", "c"]]
    assert got[0][1]["start"] == 3
    assert refused(client, "/tokenize", {"inputs": []}, 400)["error_type"] == "Empty"


def test_decode(client: TestClient) -> None:
    assert gave(client, "/decode", {"ids": [0, 2, 1]}) == ["xx x"]
    body = {"ids": [[0, 2], [1]], "skip_special_tokens": False}
    assert gave(client, "/decode", body) == ["< xx", "x"]
    error = refused(client, "/decode", {"ids": [99]})
    assert error == {"error": "input 0 holds token id 99", "error_type": "Tokenizer"}
    assert refused(client, "/decode", {"ids": [[1], []]}, 400)["error_type"] == "Empty"
    assert "mixes" in refused(client, "/decode", {"ids": [1, [2]]})["error"]


@pytest.mark.parametrize("path", ["/", "/invocations"])
def test_the_default_task(path: str) -> None:
    text = {"inputs": "ab"}
    compared = {"inputs": {"source_sentence": "a", "sentences": ["a"]}}
    with TestClient(build({NAME: FakeModel()})) as client:
        assert len(gave(client, path, text)[0]) == DIMENSIONS
        assert gave(client, path, compared) == pytest.approx([1])
    with TestClient(build({NAME: FakeModel(gives=("sparse",))})) as client:
        assert gave(client, path, text) == [[{"index": 2, "value": 1.0}]]
    with TestClient(build({NAME: FakeModel(gives=("vectors", "sparse"))})) as client:
        assert len(gave(client, path, text)[0]) == DIMENSIONS
    with TestClient(build({NAME: cross_encoder("a", "b")})) as client:
        assert [each["label"] for each in gave(client, path, text)] == ["a", "b"]
    with TestClient(build({NAME: cross_encoder("relevance")})) as client:
        ranks = gave(client, path, {"query": "a", "texts": ["b", "a"]})
        assert [each["index"] for each in ranks] == [1, 0]
        assert [each["label"] for each in gave(client, path, text)] == ["relevance"]
        assert refused(client, path, {"input": "a"})["error_type"] == "Validation"


def test_the_page_stays_where_it_is(client: TestClient) -> None:
    answer = client.get("/", headers={"accept": "text/html,*/*;q=0.8"})
    assert "html" in answer.headers["content-type"]


def test_vertex(client: TestClient, model: FakeModel) -> None:
    body = {
        "instances": [
            {"inputs": ["a", "b"]},
            {"inputs": LONG},
            {"inputs": {"source_sentence": "a", "sentences": ["a"]}},
        ]
    }
    answer = client.post("/vertex", json=body)
    first, second, third = answer.json()["predictions"]
    np.testing.assert_array_equal(np.float32(first), np.stack([by_hand("a"), by_hand("b")]))
    np.testing.assert_array_equal(np.float32(second), [by_hand(LONG)])
    assert third == pytest.approx([1])
    assert answer.headers["x-likewise-truncated"] == "1"
    assert answer.headers["x-compute-tokens"] == str(2 + 8 + 2)
    assert answer.headers["x-queue-time"] == "3"
    assert {asked["lane"] for asked in model.asked} == {"interactive"}
    gave(client, "/vertex", {"instances": [{"inputs": "a"}] * 5})
    assert {asked["lane"] for asked in model.asked[3:]} == {"bulk"}


def test_vertex_fails_as_a_whole_and_says_where(client: TestClient) -> None:
    body = {"instances": [{"inputs": "a"}, {"inputs": LONG, "truncate": False}, {"inputs": ""}]}
    error = refused(client, "/vertex", body)
    assert error["error"] == "instances[1]: input 0 has 9 tokens"
    assert gave(client, "/vertex", {"instances": []}) == {"predictions": []}
    assert "instances[0]" in refused(client, "/vertex", {"instances": [3]})["error"]


def test_info(client: TestClient, model: FakeModel) -> None:
    model.facts = {
        "weights": "00ff", "precision": "bf16", "pooling": "lasttoken", "why": "asked for",
        "batch_tokens": 4096, "profile": "fast", "selfcheck_worst_cosine": 0.9999, "slow": False,
        "fallback": "said so",
    }  # fmt: skip
    info = client.get("/info").json()
    assert (info["model_id"], info["model_sha"]) == (NAME, "00ff")
    assert info["model_dtype"] == "bfloat16"
    assert info["model_type"] == {"embedding": {"pooling": "last_token"}}
    assert (info["max_input_length"], info["max_batch_tokens"]) == (8, 4096)
    assert (info["auto_truncate"], info["max_client_batch_size"]) == (True, 2048)
    for name in ("precision", "why", "profile", "selfcheck_worst_cosine", "slow", "fallback"):
        assert info[name] == model.facts[name]
    assert info["engine"] == "by hand"


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (cross_encoder("no", "yes"), "classifier"),
        (cross_encoder("relevance"), "reranker"),
        (FakeModel(gives=("sparse",)), "splade"),
        (FakeModel(gives=("tokens",)), "multi_vector"),
    ],
)
def test_info_of_other_kinds(model: FakeModel, kind: str) -> None:
    with TestClient(build({NAME: model})) as client:
        found = client.get("/info").json()["model_type"]
    if not model.labels:
        assert found == {"embedding": {"pooling": kind}}
        return
    ids = {str(at): label for at, label in enumerate(model.labels)}
    assert found == {kind: {"id2label": ids, "label2id": {v: int(k) for k, v in ids.items()}}}


def test_ping(client: TestClient) -> None:
    assert client.get("/ping").json()["status"] == "ok"


def test_the_first_model_is_the_default_and_others_are_named() -> None:
    first, second = FakeModel(), FakeModel()
    with TestClient(build({"a/first": first, "b/second": second})) as client:
        gave(client, "/embed", {"inputs": "a"})
        assert (len(first.asked), len(second.asked)) == (1, 0)
        gave(client, "/embed", {"inputs": "a", "model": "b/second"})
        gave(client, "/embed_all?model=second", {"inputs": "a"})
        gave(client, "/vertex", {"instances": [{"inputs": "a"}], "model": "second"})
        instances = [{"inputs": "a", "model": "first"}, {"inputs": "a"}]
        gave(client, "/vertex", {"instances": instances, "model": "second"})
        assert (len(first.asked), len(second.asked)) == (2, 4)
        error = refused(client, "/embed?model=first", {"inputs": "a", "model": "second"})
        assert error["error"] == "two models are named: first, second"
        error = refused(client, "/embed", {"inputs": "a", "model": "secnod"}, 404)
        assert "did you mean" in error["error"] and error["error_type"] == "Validation"
        assert client.get("/info?model=nothing").status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "kind", "words"),
    [
        ({"inputs": ""}, 400, "Empty", "position 0"),
        ({"inputs": []}, 400, "Empty", "`inputs` cannot be empty"),
        ({"inputs": ["a", "", []]}, 400, "Empty", "position 1, 2"),
        ({"inputs": [1, "a"]}, 422, "Validation", "mixes token ids"),
        ({"inputs": [1, [2]]}, 422, "Validation", "mixes token ids"),
        ({"inputs": [1.5]}, 422, "Validation", "got float"),
        ({"inputs": [True]}, 422, "Validation", "got bool"),
        ({"inputs": ["a"] * 2049}, 422, "Validation", "2049 inputs"),
        ({"input": "a"}, 422, "Validation", "did you mean 'inputs'"),
        ({}, 422, "Validation", "'inputs' is missing"),
        ([], 422, "Validation", "expected object"),
        ({"inputs": "a", "prompt_name": "query"}, 422, "Validation", "its prompts: none"),
        ({"inputs": "a", "truncation_direction": "up"}, 422, "Validation", "truncation_direction"),
    ],
)
def test_bad_requests(
    client: TestClient, model: FakeModel, body: object, status: int, kind: str, words: str
) -> None:
    error = refused(client, "/embed", body, status)
    assert error["error_type"] == kind
    assert words in error["error"]
    assert not model.asked


@pytest.mark.parametrize(
    ("inputs", "status", "words"),
    [
        (["a", "b", "c"], 422, "inputs has 3 texts"),
        ([["a"], ["a", "b", "c"]], 422, "inputs[1] has 3 texts"),
        ([["a"], "b"], 422, "mixes texts with lists"),
        ([], 400, "`inputs` cannot be empty"),
        ("", 400, "inputs is empty"),
        ([[]], 400, "inputs[0] is empty"),
        ([["a"], [""]], 400, "inputs[1] is empty"),
        ([["a"]] * 2049, 422, "2049 inputs"),
    ],
)
def test_bad_predictions(inputs: object, status: int, words: str) -> None:
    model = cross_encoder("a", "b")
    with TestClient(build({NAME: model})) as client:
        assert words in refused(client, "/predict", {"inputs": inputs}, status)["error"]
        assert not model.asked


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (EngineError("broken"), 424, "Backend"),
        (ModelError("broken"), 424, "Backend"),
        (Overloaded("too much"), 429, "Overloaded"),
        (LikewiseError("what"), 500, "Backend"),
    ],
)
def test_the_models_errors_go_out(
    client: TestClient, model: FakeModel, error: LikewiseError, status: int, kind: str
) -> None:
    model.fails = error
    for path in ("/embed", "/embed_all", "/"):
        answer = client.post(path, json={"inputs": "a"})
        assert answer.status_code == status
        assert answer.json() == {"error": str(error), "error_type": kind}
        assert ("retry-after" in answer.headers) == error.retryable


def test_a_body_too_large_and_other_methods(client: TestClient) -> None:
    answer = client.post("/embed", content=b'{"inputs": "' + b"a" * 200_000 + b'"}')
    assert (answer.status_code, answer.json()["error_type"]) == (413, "Validation")
    answer = client.get("/embed")
    assert (answer.status_code, answer.json()["error_type"]) == (405, "Validation")
    answer = client.post("/embed", content=b"{")
    assert (answer.status_code, answer.json()["error_type"]) == (400, "Validation")


def test_routes_can_be_described() -> None:
    routes = [*tei.routes(), *shared_paths.routes()]
    for route in routes:
        assert isinstance(route, Spoken) and route.endpoint.__doc__
        for given in (route.body, route.answer):
            for kind in given if isinstance(given, tuple) else (given,):
                assert kind is None or msgspec.json.schema(kind)
        assert (route.body is None) == ("GET" in (route.methods or ()))


def test_a_bug_is_answered_in_the_dialect(client: TestClient, model: FakeModel) -> None:
    model.submit = None  # type: ignore[method-assign,assignment]
    error = refused(client, "/embed", {"inputs": "a"}, 500)
    assert error["error_type"] == "Backend"
