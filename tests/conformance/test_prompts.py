"""One table of what goes before a text: every route, remote model, binding and command agrees.

The oracle is sentence-transformers: `encode` for texts of which nothing is said, `encode_query` for
queries, and `encode_document` for documents of a folder without a default prompt.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from starlette.testclient import TestClient

import likewise
from likewise.base.errors import SpaceMismatch
from likewise.cli.main import run
from likewise.client.names import connected
from likewise.models.overrides import Overrides
from likewise.runtime import service
from likewise.runtime.service import Service
from likewise.server.app import build
from likewise.server.defaults import Defaults
from likewise.server.guard import Guard
from tests.conformance.folders import write_folder
from tests.conformance.tiny import write_json
from tests.dialects.conftest import serving
from tests.remote_kit import without_key

pytestmark = pytest.mark.torch

NAME = "tiny"
TEXT, OTHER = "w9 w10 w11", "w12 w13"
QUERY, PASSAGE, DOCUMENT = "w1 w2 ", "w3 w4 ", "w5 w6 "
FOLDERS: dict[str, dict[str, Any]] = {
    "nothing said": {},
    "query and passage": {"prompts": {"query": QUERY, "passage": PASSAGE}},
    "passage by default": {
        "prompts": {"query": QUERY, "passage": PASSAGE},
        "default_prompt_name": "passage",
    },
    "query and document": {"prompts": {"query": QUERY, "document": DOCUMENT}},
}
NEAR = 1e-5


class Given(NamedTuple):
    """A folder, its model, and the vectors of `TEXT` by what is said of it."""

    name: str
    folder: Path
    model: Service
    expected: dict[str, np.ndarray]


@pytest.fixture(scope="module", params=list(FOLDERS))
def given(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Each folder, loaded."""
    from sentence_transformers import SentenceTransformer

    folder = write_folder(tmp_path_factory.mktemp("m") / NAME, ["Pooling", "Normalize"])
    said = FOLDERS[request.param]
    write_json(folder / "config_sentence_transformers.json", said)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    has_default = said.get("default_prompt_name") is not None
    ways = {
        "plain": theirs.encode,
        "query": theirs.encode_query,
        # With a default prompt a document that has none of its own is like any other text.
        "document": theirs.encode if has_default else theirs.encode_document,
        "passage": lambda texts: theirs.encode(texts, prompt=PASSAGE),
    }
    expected = {kind: np.asarray(encode([TEXT])[0]) for kind, encode in ways.items()}
    model = service.load(folder, name=NAME, precision="exact", threads=1)
    yield Given(request.param, folder, model, expected)
    model.close()


def near(found: Any, expected: Any) -> bool:
    """Whether both are one vector."""
    return bool(np.abs(np.asarray(found, np.float32) - expected).max() < NEAR)


PLAIN: list[tuple[str, dict[str, Any], Any]] = [
    ("/embed", {"inputs": TEXT}, lambda a: a[0]),
    ("/embed", {"inputs": [TEXT], "prompt_name": None}, lambda a: a[0]),
    ("/", {"inputs": [TEXT]}, lambda a: a[0]),
    ("/invocations", {"inputs": [TEXT]}, lambda a: a[0]),
    ("/vertex", {"instances": [{"inputs": TEXT}]}, lambda a: a["predictions"][0][0]),
    ("/embed_all", {"inputs": TEXT}, lambda a: unit(np.mean(a[0], axis=0))),
    ("/v1/embeddings", {"input": TEXT}, lambda a: a["data"][0]["embedding"]),
    ("/embeddings", {"input": [TEXT], "model": NAME}, lambda a: a["data"][0]["embedding"]),
    ("/v1/embeddings", {"input": [{"text": TEXT}]}, lambda a: a["data"][0]["embedding"]),
    ("/pooling", {"input": TEXT}, lambda a: a["data"][0]["data"]),
    ("/api/embed", {"model": NAME, "input": TEXT}, lambda a: a["embeddings"][0]),
    ("/api/embeddings", {"model": NAME, "prompt": TEXT}, lambda a: a["embedding"]),
    ("/v1/embed", {"texts": [TEXT]}, lambda a: a["embeddings"][0]),
    (
        "/v2/embed",
        {"texts": [TEXT], "input_type": "clustering"},
        lambda a: a["embeddings"]["float"][0],
    ),
    ("/embedding", {"content": TEXT}, lambda a: a[0]["embedding"][0]),
]


def unit(vector: Any) -> Any:
    """The vector at length 1."""
    return np.asarray(vector) / np.linalg.norm(vector)


def asked(client: TestClient, path: str, body: dict[str, Any]) -> Any:
    """The answer's JSON."""
    answer = client.post(path, json=body)
    assert answer.status_code == 200, (path, answer.text)
    return answer.json()


def test_no_route_puts_anything_before_a_text_of_its_own_accord(given: Given) -> None:
    with TestClient(build({NAME: given.model})) as client:
        for path, body, vector in PLAIN:
            found = vector(asked(client, path, body))
            assert near(found, given.expected["plain"]), (path, body)
        body = {"inputs": {"source_sentence": TEXT, "sentences": [TEXT, OTHER]}}
        same, other = asked(client, "/similarity", body)
        expected = given.model.embed([TEXT, OTHER])
        assert same == pytest.approx(1, abs=NEAR)
        assert other == pytest.approx(float(expected[0] @ expected[1]), abs=NEAR)
        tokens = asked(client, "/tokenize", {"inputs": TEXT})[0]
        prompt = PASSAGE if given.name == "passage by default" else ""
        assert len(tokens) == 2 + len((prompt + TEXT).split())


OPENAI: list[tuple[str, dict[str, Any], str]] = [
    ("/v1/embeddings", {"input_type": "query"}, "query"),
    ("/v1/embeddings", {"input_type": "search_query"}, "query"),
    ("/v1/embeddings", {"task": "retrieval.query"}, "query"),
    ("/v1/embed", {"input_type": "search_query"}, "query"),
    ("/v2/embed", {"input_type": "search_query"}, "query"),
    ("/v1/embeddings", {"input_type": "document"}, "document"),
    ("/v1/embeddings", {"input_type": "passage"}, "document"),
    ("/v1/embeddings", {"task": "retrieval.passage"}, "document"),
    ("/v1/embed", {"input_type": "search_document"}, "document"),
    ("/v2/embed", {"input_type": "search_document"}, "document"),
]


def test_a_request_that_says_what_a_text_is_gets_the_prompt_for_it(given: Given) -> None:
    with TestClient(build({NAME: given.model})) as client:
        for path, said, kind in OPENAI:
            # A request's word for documents means the folder's, whatever that calls them.
            means = "passage" if kind == "document" and "passage" in given.name else kind
            field = "input" if path == "/v1/embeddings" else "texts"
            answer = asked(client, path, {field: [TEXT], **said})
            if path == "/v1/embeddings":
                found = answer["data"][0]["embedding"]
            else:
                rows = answer["embeddings"]
                found = (rows["float"] if path == "/v2/embed" else rows)[0]
            assert near(found, given.expected[means]), (path, said)
        for name, text in FOLDERS[given.name].get("prompts", {}).items():
            expected = given.model.embed([TEXT], prompt=text)[0]
            answer = asked(client, "/embed", {"inputs": TEXT, "prompt_name": name})
            assert near(answer[0], expected)
            answer = asked(client, "/v1/embeddings", {"input": TEXT, "prompt_name": name})
            assert near(answer["data"][0]["embedding"], expected)


def test_programs(given: Given) -> None:
    model, expected = given.model, given.expected
    assert near(model.embed([TEXT])[0], expected["plain"])
    assert near(model.submit([TEXT]).result(60).vectors[0], expected["plain"])
    for kind in ("query", "document"):
        assert near(model.embed([TEXT], kind=kind)[0], expected[kind])


def test_the_command(
    given: Given,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LIKEWISE_HOME", str(tmp_path / "home"))
    (tmp_path / "in.txt").write_text(TEXT, encoding="utf-8")
    for more, kind in (([], "plain"), (["--kind", "query"], "query")):
        arguments = ["embed", str(tmp_path / "in.txt"), "-m", str(given.folder)]
        code = run([*arguments, "--precision", "exact", *more])
        said = capsys.readouterr()
        assert code == 0, said.err
        assert near(json.loads(said.out)["embedding"], given.expected[kind])


FORMS = ("openai:tiny@{}/v1", "tei:{}", "ollama:tiny@{}")


def test_remote_models(given: Given) -> None:
    with serving({NAME: given.model}) as url:
        for form in FORMS:
            remote = connected(form.format(url), without_key())
            with contextlib.closing(remote):
                assert near(remote.embed([TEXT])[0], given.expected["plain"]), form


@pytest.fixture
def rows(tmp_path: Path) -> Iterator[Path]:
    """A database with the text in a row."""
    path = tmp_path / "app.db"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE docs (id INTEGER PRIMARY KEY, body TEXT)")
        database.execute("INSERT INTO docs VALUES (1, ?)", (TEXT,))
        database.commit()
    yield path


def test_bindings(given: Given, rows: Path) -> None:
    expected = given.expected
    with likewise.bind(rows, "docs", text="{body}", chunk="tokens:16/0", model=given.model) as docs:
        docs.sync()
        space = docs.record.space
        (result,) = docs.search(TEXT, k=1)
        score = float(expected["query"] @ expected["document"])
        assert result.hit.score == pytest.approx(score, abs=NEAR)
    prompts = FOLDERS[given.name].get("prompts", {})
    default = prompts.get(FOLDERS[given.name].get("default_prompt_name"), "")
    assert space.query_prompt == prompts.get("query", default)
    assert space.prompt == prompts.get("document", default)


def test_bindings_of_remote_models(given: Given, rows: Path) -> None:
    with serving({NAME: given.model}) as url:
        for at, form in enumerate(FORMS):
            remote = connected(form.format(url), without_key())
            with contextlib.closing(remote):
                bound = likewise.bind(
                    rows, "docs", name=f"b{at}", text="{body}", chunk="tokens:16/0", model=remote
                )
                with bound as docs:
                    docs.sync()
                    (result,) = docs.search(TEXT, k=1)
                    assert result.hit.score == pytest.approx(1, abs=NEAR)


def test_a_binding_that_was_made_with_another_prompt_is_refused(tmp_path: Path, rows: Path) -> None:
    """Its vectors and new ones never mix, and what to type is said."""
    folder = write_folder(tmp_path / "m" / NAME, ["Pooling", "Normalize"])
    path = folder / "config_sentence_transformers.json"
    # As a folder's "passage" was put before documents once: the same words by another name.
    write_json(path, {"prompts": {"document": PASSAGE}})
    before = service.load(folder, name=NAME, precision="exact", threads=1)
    with (
        contextlib.closing(before),
        likewise.bind(rows, "docs", text="{body}", chunk="tokens:16/0", model=before) as b,
    ):
        b.sync()
    write_json(path, {"prompts": {"passage": PASSAGE}})
    after = service.load(folder, name=NAME, precision="exact", threads=1)
    with contextlib.closing(after):
        assert (before.space.prompt, after.space.prompt) == (PASSAGE, "")
        assert before.space.weights == after.space.weights, "the prompt alone tells them apart"
        with pytest.raises(SpaceMismatch, match="(?s)prompt: 'w3 w4 ' there, '' here.*bind swap"):
            likewise.bind(rows, "docs", text="{body}", chunk="tokens:16/0", model=after)
    # What the operator says of the model keeps it: the same prompt is the same space.
    said = Overrides(prompts={"document": PASSAGE})
    kept = service.load(folder, name=NAME, precision="exact", threads=1, overrides=said)
    with contextlib.closing(kept):
        likewise.bind(rows, "docs", text="{body}", chunk="tokens:16/0", model=kept).close()


def test_a_text_that_is_too_long_is_refused_in_each_servers_words(given: Given) -> None:
    text = "w9 " * 100
    most, total = 64, 102 + 2 * (given.name == "passage by default")
    guard = Guard(defaults=Defaults(truncate=False))
    for application in (build({NAME: given.model}), build({NAME: given.model}, guard=guard)):
        said = {} if application.state.defaults.truncate is False else {"truncate": False}
        with TestClient(application) as client:
            for path in ("/embed", "/embed_all", "/", "/invocations"):
                answer = client.post(path, json={"inputs": text, **said})
                assert answer.status_code == 422
                assert answer.json()["error"].startswith(
                    f"Input validation error: `inputs` must have less than {most} tokens. "
                    f"Given: {total}"
                )
                cut = client.post(path, json={"inputs": text, "truncate": True})
                assert (cut.status_code, cut.headers["x-likewise-truncated"]) == (200, "0")
            answer = client.post("/v1/embeddings", json={"input": text, **said})
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "input_too_long")
            answer = client.post("/api/embed", json={"model": NAME, "input": text, **said})
            assert answer.json()["error"].startswith("the input length exceeds the context length")
