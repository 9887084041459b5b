"""Bodies as other servers read them: unknown fields, nulls and numbers; and `--strict`."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import msgspec
import pytest
from starlette.requests import Request
from starlette.testclient import TestClient

from likewise.base.errors import InputError
from likewise.server import lenient, notices
from likewise.server.app import build
from likewise.server.guard import Guard
from tests.unit.server.dialects.fake_scorer import FakeScorer
from tests.unit.server.fakes import FakeModel

EMBEDDER = "embedder"
RERANKER = "reranker"
SCORER = "scorer"

BODIES: list[tuple[str, str, dict[str, Any]]] = [
    (EMBEDDER, "/embed", {"inputs": "a"}),
    (EMBEDDER, "/embed_all", {"inputs": "a"}),
    (EMBEDDER, "/similarity", {"inputs": {"source_sentence": "a", "sentences": ["b"]}}),
    (EMBEDDER, "/vertex", {"instances": [{"inputs": "a"}]}),
    (EMBEDDER, "/", {"inputs": "a"}),
    (EMBEDDER, "/invocations", {"inputs": "a"}),
    (EMBEDDER, "/tokenize", {"inputs": "a"}),
    (EMBEDDER, "/tokenize", {"prompt": "a"}),
    (EMBEDDER, "/decode", {"ids": [3, 4]}),
    (EMBEDDER, "/detokenize", {"tokens": [3, 4]}),
    (EMBEDDER, "/v1/embeddings", {"input": "a"}),
    (EMBEDDER, "/embeddings", {"input": ["a"]}),
    (EMBEDDER, "/v1/embed", {"texts": ["a"]}),
    (EMBEDDER, "/v2/embed", {"texts": ["a"], "input_type": "search_document"}),
    (EMBEDDER, "/pooling", {"input": "a"}),
    (RERANKER, "/rerank", {"query": "a", "texts": ["b"]}),
    (RERANKER, "/predict", {"inputs": "a"}),
    (SCORER, "/rerank", {"query": "a", "documents": ["b"]}),
    (SCORER, "/v1/rerank", {"query": "a", "documents": ["b"]}),
    (SCORER, "/v2/rerank", {"query": "a", "documents": ["b"]}),
    (SCORER, "/score", {"text_1": "a", "text_2": "b"}),
    (SCORER, "/classify", {"input": "a"}),
]
"""A body for each route of another server's that reads one."""

OPTIONAL: list[tuple[str, str, dict[str, Any]]] = [
    (EMBEDDER, "/embed", {"truncate": None, "normalize": None, "dimensions": None}),
    (EMBEDDER, "/embed", {"parameters": None, "options": {"use_cache": None}}),
    (EMBEDDER, "/embed", {"truncation_direction": None, "prompt_name": None, "model": None}),
    (EMBEDDER, "/tokenize", {"add_special_tokens": None, "prompt_name": None}),
    (EMBEDDER, "/decode", {"skip_special_tokens": None}),
    (EMBEDDER, "/v1/embed", {"truncate": None, "input_type": None, "embedding_types": None}),
    (EMBEDDER, "/v2/embed", {"truncate": None, "max_tokens": None, "priority": None}),
    (EMBEDDER, "/pooling", {"encoding_format": None, "add_special_tokens": None}),
    (RERANKER, "/rerank", {"raw_scores": None, "return_text": None, "documents": None}),
    (RERANKER, "/predict", {"raw_scores": None, "parameters": {"top_k": None}}),
    (SCORER, "/v1/rerank", {"add_special_tokens": None, "top_n": None}),
    (SCORER, "/score", {"add_special_tokens": None, "queries": None}),
]
"""Fields that may be left out, as null."""


def models() -> dict[str, FakeModel]:
    return {
        EMBEDDER: FakeModel(gives=("vectors", "states")),
        RERANKER: FakeModel(gives=("scores",), labels=("fits",)),
        SCORER: FakeScorer(outputs=("scores",)),
    }


@pytest.fixture(scope="module")
def clients() -> dict[str, TestClient]:
    return {name: TestClient(build({name: model})) for name, model in models().items()}


@pytest.fixture(scope="module")
def strict() -> dict[str, TestClient]:
    return {
        name: TestClient(build({name: model}, guard=Guard(strict=True)))
        for name, model in models().items()
    }


def body_of(name: str, path: str) -> dict[str, Any]:
    return next(body for model, at, body in BODIES if (model, at) == (name, path))


def shape(answer: Any) -> Any:
    """An answer without what is new each time."""
    changing = ("id", "created")
    if isinstance(answer, dict):
        return {key: value for key, value in answer.items() if key not in changing}
    return answer


@pytest.mark.parametrize(("name", "path", "body"), BODIES)
def test_an_unknown_field_is_ignored_and_named(
    clients: dict[str, TestClient], name: str, path: str, body: dict[str, Any]
) -> None:
    plain = clients[name].post(path, json=body)
    assert plain.status_code == 200, plain.text
    assert notices.IGNORED_HEADER not in plain.headers
    answer = clients[name].post(path, json={"zzz": {"any": ["thing"]}, **body, "qqq": None})
    assert answer.status_code == 200, answer.text
    assert answer.headers[notices.IGNORED_HEADER] == "zzz, qqq"
    assert shape(answer.json()) == shape(plain.json())


@pytest.mark.parametrize(("name", "path", "body"), BODIES)
def test_a_strict_server_refuses_it(
    strict: dict[str, TestClient], name: str, path: str, body: dict[str, Any]
) -> None:
    answer = strict[name].post(path, json={**body, "zzz": 1})
    assert answer.status_code in (400, 422)
    assert "unknown field 'zzz'" in answer.text
    assert strict[name].post(path, json=body).status_code == 200


@pytest.mark.parametrize(("name", "path", "nulls"), OPTIONAL)
def test_null_is_the_same_as_left_out(
    clients: dict[str, TestClient],
    strict: dict[str, TestClient],
    name: str,
    path: str,
    nulls: dict[str, Any],
) -> None:
    body = body_of(name, path)
    plain = clients[name].post(path, json=body).json()
    for one in (clients, strict):
        if one is strict and "documents" in nulls:
            continue
        answer = one[name].post(path, json={**body, **nulls})
        assert answer.status_code == 200, answer.text
        given = answer.json()[0] if path == "/predict" else answer.json()
        assert shape(given) == shape(plain)


@pytest.mark.parametrize(
    ("name", "path", "fields"),
    [
        (EMBEDDER, "/embed", {"dimensions": 4.0}),
        (EMBEDDER, "/v1/embeddings", {"dimensions": 4e0}),
        (EMBEDDER, "/v2/embed", {"output_dimension": 4.0, "max_tokens": 8.0}),
        (SCORER, "/v1/rerank", {"top_n": 1.0}),
        (RERANKER, "/rerank", {"top_n": 1.0}),
    ],
)
def test_a_number_without_a_fraction_is_an_integer(
    clients: dict[str, TestClient], name: str, path: str, fields: dict[str, Any]
) -> None:
    body = body_of(name, path)
    answer = clients[name].post(path, json={**body, **fields})
    assert answer.status_code == 200, answer.text
    half = {key: value + 0.5 for key, value in fields.items()}
    refused = clients[name].post(path, json={**body, **half})
    assert refused.status_code in (400, 422)
    assert "got float" in refused.text


def test_a_field_that_is_close_to_a_known_one_is_warned_of(clients: dict[str, TestClient]) -> None:
    answer = clients[EMBEDDER].post("/v1/embeddings", json={"input": "a", "dimension": 2})
    assert answer.headers[notices.IGNORED_HEADER] == "dimension"
    warning = answer.headers[notices.WARNING_HEADER]
    assert warning == "the field 'dimension' was ignored (did you mean 'dimensions'?)"


def test_a_refusal_still_names_what_was_ignored(clients: dict[str, TestClient]) -> None:
    answer = clients[EMBEDDER].post("/embed", json={"inputs": "", "zzz": 1})
    assert answer.status_code == 400
    assert answer.headers[notices.IGNORED_HEADER] == "zzz"


def test_a_missing_field_that_is_there_by_another_name(clients: dict[str, TestClient]) -> None:
    answer = clients[EMBEDDER].post("/embed", json={"input": "a"})
    assert answer.status_code == 422
    assert "unknown field 'input': did you mean 'inputs'?" in answer.json()["error"]


def test_names_in_a_header_are_short_and_few(clients: dict[str, TestClient]) -> None:
    hostile = {"a,b\r\nset-cookie: x=1": 1, "é" * 500: 1} | {f"field{at}": 1 for at in range(50)}
    answer = clients[EMBEDDER].post("/embed", json={"inputs": "a", **hostile})
    assert answer.status_code == 200
    told = answer.headers[notices.IGNORED_HEADER]
    assert told.startswith("a?b??set-cookie:?x=1, " + "?" * 80 + ", field0, ")
    assert told.endswith(", and 32 more")
    assert "set-cookie" not in answer.headers


def test_what_is_to_be_embedded_is_never_ignored(clients: dict[str, TestClient]) -> None:
    def asked(**fields: Any) -> Any:
        return clients[EMBEDDER].post("/v1/embeddings", json={"input": [{"text": "a", **fields}]})

    assert asked(image="data:").status_code == 400
    assert asked(image=None).status_code == 200


def test_an_unknown_field_may_stand_twice_and_a_known_one_not(
    clients: dict[str, TestClient],
) -> None:
    def sent(raw: str) -> Any:
        return clients[EMBEDDER].post("/embed", content=raw)

    assert sent('{"inputs": "a", "x": 1, "x": 2}').status_code == 200
    for raw in (
        '{"inputs": "a", "inputs": "b", "x": 1}',
        '{"inputs": "a", "truncate": null, "truncate": false, "x": 1, "x": 2}',
        '{"inputs": "%s", "inputs": "b", "x": 1}' % ("a" * 5000),
    ):
        refused = sent(raw)
        assert refused.status_code == 422
        assert "is there twice" in refused.json()["error"]


def test_routes_of_our_own_stay_strict() -> None:
    with TestClient(build({EMBEDDER: FakeModel()})) as client:
        answer = client.post("/search", json={"q": "a", "kk": 3})
    assert answer.status_code == 400
    assert "unknown field 'kk'" in answer.text


class Part(msgspec.Struct, forbid_unknown_fields=True):
    """Something nested."""

    many: int
    on: bool = True


class Whole(msgspec.Struct, forbid_unknown_fields=True):
    """A body with everything that is mended."""

    parts: list[str | Part]
    one: Part | None = None
    ids: list[int] | None = None
    share: float = 0.5
    any: dict[str, Any] | None = None


class Content(msgspec.Struct, forbid_unknown_fields=True):
    """A body that holds what is to be embedded."""

    IS_CONTENT: ClassVar[bool] = True
    text: str


WHOLE = msgspec.json.Decoder(Whole)


def request_of() -> Request:
    return Request({"type": "http", "app": build({EMBEDDER: FakeModel()}), "headers": []})


def test_nested_fields_are_mended_and_named() -> None:
    request = request_of()
    raw = (
        b' {"parts": ["x\\"y", {"many": 3.0, "no": [], "on": null}, {"many": 1, "no": 2}],'
        b'"one": {"many": 2e0, "nor": "}"}, "ids": [1.0, 2], "share": 2.0, "any": {"x": 1.0}} '
    )
    found = lenient.decode(request, raw, WHOLE)
    assert found == Whole(['x"y', Part(3), Part(1)], Part(2), [1, 2], 2.0, {"x": 1.0})
    headers = notices.headers(request.scope["likewise"])
    assert headers[notices.IGNORED_HEADER] == "parts[].no, one.nor"


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b'{"parts": [], "one": {"many": 1.5}}', "one.many: expected int, got float"),
        (b'{"parts": [], "one": {"many": "1"}}', "one.many"),
        (b'{"parts": null}', "parts: expected array, got null"),
        (b'{"parts": [], "x": 1, "one": {"many": 1e999}}', "one.many"),
        (b'{"parts": [], "x": 1, "ids": [1e300]}', "ids"),
        (b'{"parts": [], "x": ' + b"[" * 90_000, "unknown field 'x'"),
        (b'{"parts": [], "x": 1', "isn't valid JSON"),
        (b'{"parts": []} {"x": 1}', "isn't valid JSON"),
    ],
)
def test_what_cant_be_mended_is_refused(raw: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        lenient.decode(request_of(), raw, WHOLE)


def test_a_body_of_very_many_entries_is_not_taken_apart() -> None:
    many = json.dumps({f"x{at}": 0 for at in range(lenient.MOST_MENDED + 1)})
    with pytest.raises(InputError, match="unknown field 'x0'"):
        lenient.decode(request_of(), b'{"parts": [], ' + many.encode()[1:], WHOLE)
    text = "a, b: c " * lenient.MOST_MENDED
    found = lenient.decode(request_of(), json.dumps({"parts": [text], "x": 0}).encode(), WHOLE)
    assert found.parts == [text]


def test_warnings_are_joined_and_plain() -> None:
    request = request_of()
    notices.warn(request, "one\r\nx: y")
    notices.warn(request, "two é")
    notices.warn(request, "two é")
    assert notices.headers(request.scope["likewise"]) == {
        notices.WARNING_HEADER: "one??x: y; two ?"
    }
