"""Bodies that Ollama takes and strict JSON doesn't; what was changed is said in a header."""

import json
import random
from typing import Any

import pytest
from starlette.testclient import TestClient

from likewise.server.app import build
from likewise.server.dialects.ollama import EmbeddingsRequest, EmbedRequest
from likewise.server.dialects.ollama_bodies import _in_characters
from likewise.server.guard import Guard
from tests.unit.server.fake_catalogue import FakeCatalogue, FakeEntry
from tests.unit.server.fakes import FakeModel

NAME = "fake/lengths"


class Asking:
    """A server of one model, and what reached the model."""

    def __init__(self, *, strict: bool = False) -> None:
        self.model = FakeModel()
        catalogue = FakeCatalogue(FakeEntry(NAME, self.model))
        self.client = TestClient(build(catalogue, guard=Guard(strict=strict)))

    def post(self, content: bytes, path: str = "/api/embed") -> Any:
        return self.client.post(path, content=content)

    def texts(self) -> list[str]:
        """The texts of the last request that was computed."""
        found: list[str] = self.model.asked[-1]["inputs"]
        return found


@pytest.fixture
def asking() -> Asking:
    return Asking()


WARNED = [
    # Cut by its length in JavaScript, in the middle of an emoji.
    (rb'{"model":"lengths","input":"ab\ud83d"}', ["ab\ufffd"], "U+FFFD"),
    (rb'{"model":"lengths","input":["\uDE00ab", "\ud83d\ude00", "ok"]}',
     ["\ufffdab", "\U0001f600", "ok"], "U+FFFD"),
    (rb'{"model":"lengths","input":"\ud83d\ud83d\ude00\\ud83d"}',
     ["\ufffd\U0001f600\\ud83d"], "U+FFFD"),
    (rb'{"model":"lengths","input":"\ud83dx\u0041"}', ["\ufffdxA"], "U+FFFD"),
    (b'{"model":"lengths","input":"a\xff\xfeb"}', ["a\ufffd\ufffdb"], "U+FFFD"),
    (b'{"model":"lengths","input":"caf\xe9"}', ["caf\ufffd"], "U+FFFD"),
    (b'{"model":"lengths","input":"a"} trailing', ["a"], "behind the JSON object"),
    (b'{"model":"lengths","input":"a"}\x00', ["a"], "behind the JSON object"),
    (b'{"model":"lengths","input":"a"}{"model":"lengths","input":"b"}', ["a"], "behind the JSON"),
    (b' {"model":"lengths","input":"a}"}\n]', ["a}"], "behind the JSON object"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "texts", "warned"), WARNED)
def test_what_is_changed_is_said(
    asking: Asking, content: bytes, texts: list[str], warned: str
) -> None:
    answer = asking.post(content)
    assert answer.status_code == 200, answer.text
    assert asking.texts() == texts
    assert warned in answer.headers["x-likewise-warning"]
    strict = Asking(strict=True)
    assert strict.post(content).status_code == 400
    assert not strict.model.asked


def whole(text: str) -> str:
    """`text` with U+FFFD for each half of a surrogate pair that is alone."""
    units = text.encode("utf-16-le", "surrogatepass")
    return units.decode("utf-16-le", "replace")


def test_halves_are_found_wherever_they_stand() -> None:
    """Compared with Python's own reader of JSON, which leaves halves in its texts."""
    pieces = [
        rb"\ud83d", rb"\ude00", rb"\uD83D", rb"\uDE00", rb"\ud7ff", rb"\ue000", rb"\u0041", rb"\\",
        rb"\n", rb"\"", b"ud83d", b"d83d", b"a", b"\xc3\xa9", b"\xf0\x9f\x98\x80", b"x" * 65_529,
    ]  # fmt: skip
    chance = random.Random(7)
    for _ in range(3_000):
        weights = [9] * (len(pieces) - 1) + [0.05]
        raw = b'"%s"' % b"".join(chance.choices(pieces, weights, k=chance.randrange(1, 12)))
        found = json.loads(_in_characters(raw))
        # Two halves that come from an escape and a character never make a pair.
        assert found == whole(json.loads(raw)), raw
        assert found.encode()


def test_what_would_take_long_is_left_as_it_is() -> None:
    many = b'"%s"' % (rb"\ud83d" * 10_001)
    assert _in_characters(many) == many
    slashes = b'"%s"' % (b"\\" * 200_000 + rb"\ud83d")
    assert _in_characters(slashes) == slashes
    assert json.loads(_in_characters(b'"%s\xff"' % (b"a" * 65_535))) == "a" * 65_535 + "\ufffd"


def test_plain_bodies_have_no_headers(asking: Asking) -> None:
    for content in (
        b'{"model":"lengths","input":"a"}', b' {"model":"lengths","input":"a"}\r\n\t ',
        rb'{"model":"lengths","input":"\ud83d\ude00 \\ud83d"}',
    ):  # fmt: skip
        answer = asking.post(content)
        assert answer.status_code == 200, answer.text
        assert not {"x-likewise-warning", "x-likewise-ignored"} & set(answer.headers)
    assert asking.texts() == ["\U0001f600 \\ud83d"]


@pytest.mark.parametrize(
    ("path", "kind"), [("/api/embed", EmbedRequest), ("/api/embeddings", EmbeddingsRequest)]
)
def test_names_count_in_any_case(asking: Asking, path: str, kind: Any) -> None:
    field = "input" if path == "/api/embed" else "prompt"
    values = {"model": "lengths", field: "a b", "options": {"num_ctx": 5}, "keep_alive": "5m"}
    for spell in (str.upper, str.title, str.capitalize):
        sent = {spell(name): value for name, value in values.items()}
        answer = asking.post(json.dumps(sent).encode(), path)
        assert answer.status_code == 200, answer.text
        assert "x-likewise-ignored" not in answer.headers
        assert asking.texts() == ["a b"]
        assert asking.model.asked[-1]["limit"] == 5
    assert set(values) <= set(kind.__struct_fields__)


@pytest.mark.parametrize(
    "content",
    [
        b'{"model":"lengths","input":"a","input":"b"}',
        b'{"model":"lengths","input":"a","Input":"b"}',
        b'{"model":"lengths","INPUT":"a","Input":"b"}',
        b'{"model":"x","MODEL":"lengths","input":"a"}',
        b'{"MODEL":"lengths","input":"a","input":"b"}',
    ],
)
def test_a_name_that_stands_twice_is_refused(asking: Asking, content: bytes) -> None:
    """Who looked at the first of them saw another request."""
    answer = asking.post(content)
    assert answer.status_code == 400
    assert "there twice" in answer.json()["error"]
    assert not asking.model.asked


UNKNOWN: list[tuple[str, dict[str, Any], str]] = [
    ("/api/embed", {"input": "a", "stream": False}, "stream"),
    ("/api/embed", {"input": "a", "prompt": "b", "raw": True}, "prompt, raw"),
    ("/api/embed", {"input": "a", "name": "lengths", "format": ""}, "name, format"),
    ("/api/embed", {"input": "a", "options": {"rope_frequency_base": 1.0}},
     "options.rope_frequency_base"),
    ("/api/embed", {"input": "a", "options": {"draft_num_predict": 1, "num_ctx": 4}},
     "options.draft_num_predict"),
    ("/api/embeddings", {"prompt": "a", "input": "b", "truncate": True}, "input, truncate"),
    ("/api/show", {"foo": 1}, "foo"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "more", "named"), UNKNOWN)
def test_unknown_fields_are_ignored_and_named(
    asking: Asking, path: str, more: dict[str, Any], named: str
) -> None:
    answer = asking.client.post(path, json={"model": "lengths", **more})
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-likewise-ignored"] == named
    refused = Asking(strict=True).client.post(path, json={"model": "lengths", **more})
    assert refused.status_code == 400
    assert "unknown field" in refused.json()["error"]


@pytest.mark.parametrize("field", ["prompt", "inputs", "text", "texts", "Inputs", "inptu"])
def test_texts_where_none_are_read_are_no_request_to_load(asking: Asking, field: str) -> None:
    """Ollama answers 200 without vectors, and the program goes on."""
    answer = asking.client.post("/api/embed", json={"model": "lengths", field: "a"})
    assert answer.status_code == 400
    assert f"unknown field {field!r} (did you mean 'input'?)" in answer.json()["error"]
    other = {"prompt": "input"}.get(field, field)
    answer = asking.client.post("/api/embeddings", json={"model": "lengths", other: "a"})
    assert (answer.status_code, answer.json()) == (200, {"embedding": []}) or (
        answer.status_code == 400 and "did you mean 'prompt'" in answer.json()["error"]
    )


@pytest.mark.parametrize(
    "content", [b"\xef\xbb\xbf{}", b"[]", b"null", b'"hi"', b"{'model': 'x'}", b"{", b"{}x{"]
)
def test_what_is_no_object_is_refused(asking: Asking, content: bytes) -> None:
    answer = asking.post(content)
    if content == b"{}x{":
        assert answer.status_code == 200  # the only model, and nothing to embed
        return
    assert answer.status_code == 400
    assert set(answer.json()) == {"error"}


@pytest.mark.parametrize("path", ["/api/embed", "/api/embeddings", "/api/show", "/api/pull"])
def test_an_empty_body_is_named_as_ollama_does(asking: Asking, path: str) -> None:
    for content in (b"", b" \n"):
        answer = asking.post(content, path)
        assert (answer.status_code, answer.json()) == (400, {"error": "missing request body"})


def test_deep_and_wide_bodies_are_refused_in_bounded_time(asking: Asking) -> None:
    for content in (b"[" * 50_000, b'{"a":' * 50_000, b'{"model":' + b"[" * 200_000):
        assert asking.post(content).status_code == 400


@pytest.mark.parametrize(
    "name", ["a b", "../x", "x" * 90, "all-minilm@sha256:abc", "nope:", "-x", "x/y/z/w"]
)
def test_names_that_no_model_can_have(asking: Asking, name: str) -> None:
    answer = asking.client.post("/api/embed", json={"model": name, "input": "a"})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("invalid model name")


@pytest.mark.parametrize("name", ["nope", "a/b", "h.co:80/a/b:c", "nope:latest", "_x"])
def test_names_that_no_model_has(asking: Asking, name: str) -> None:
    answer = asking.client.post("/api/embed", json={"model": name, "input": "a"})
    assert answer.status_code == 404
    assert answer.json()["error"].startswith(f'model "{name}" not found, try pulling it first')
