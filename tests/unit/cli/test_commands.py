"""Commands as a user runs them, on the real model and real files."""

import io
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import numpy as np
import pytest

from likewise.cli import main, resolve
from likewise.models import shelf
from likewise.runtime import service
from likewise.runtime.service import Service
from tests.conformance.tiny import write_bert, write_json
from tests.support import BUSY_MS

pytestmark = pytest.mark.model

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def model(model_folder: Path) -> Iterator[Service]:
    loaded = service.load(model_folder, precision="f32")
    yield loaded
    loaded.close()


@pytest.fixture
def run(
    tmp_path: Path,
    model_cache: Path,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Runs a command in an empty folder, offline: the exit code, what it said, what it noted."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIKEWISE_HOME", str(model_cache))
    monkeypatch.setenv("LIKEWISE_OFFLINE", "1")

    def run(*argv: str | Path) -> tuple[int, str, str]:
        code = main.run([str(each) for each in argv])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "app.db"
    db = apsw.Connection(str(path))
    db.execute("CREATE TABLE pages (id INTEGER PRIMARY KEY, title TEXT, body TEXT)")
    db.execute(
        "INSERT INTO pages (title, body) VALUES"
        " ('Cats', 'They purr and sleep.'), ('Planets', 'Jupiter is the largest.'),"
        " ('Pasta', 'Boil it in salted water.')"
    )
    db.close()
    return path


def bound(run: Run, *more: str) -> tuple[int, str, str]:
    text = ("--text", "{title}: {body}")
    return run(
        "bind", "add", "pages", "--source", "sqlite:app.db", "--table", "pages", *text, *more
    )


def execute(path: Path, sql: str) -> None:
    db = apsw.Connection(str(path))
    db.set_busy_timeout(BUSY_MS)  # a worker may be writing
    db.execute(sql)
    db.close()


def test_embed_from_a_file_into_each_form(run: Run, tmp_path: Path, model: Service) -> None:
    texts = ["a cat", "", "word " * 400, "ein Hund"]
    (tmp_path / "in.txt").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    for form in ("jsonl", "npy", "parquet"):
        code, said, noted = run("embed", "in.txt", "-o", f"out.{form}", "--precision", "f32")
        assert (code, said) == (0, "")
        assert "4 texts embedded" in noted
        assert "1 texts are longer than the 256 tokens" in noted
        assert "(index 2)" in noted
    expected = model.embed(texts)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, atol=1e-6)
    written = (tmp_path / "out.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in written.splitlines()]
    np.testing.assert_allclose([each["embedding"] for each in lines], expected, atol=1e-6)
    assert [each.get("truncated", False) for each in lines] == [False, False, True, False]


def test_embed_keeps_the_order_over_many_blocks(
    run: Run, tmp_path: Path, model: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"number {at}" + " word" * (at % 30) for at in range(1000)]
    stream = io.TextIOWrapper(io.BytesIO("\n".join(texts).encode()))
    monkeypatch.setattr(sys, "stdin", stream)
    code, _, noted = run("embed", "-o", "out.npy", "--precision", "f32")
    assert code == 0, noted
    found = np.load(tmp_path / "out.npy")
    assert found.shape == (1000, 384)
    for at in (0, 255, 256, 511, 999):
        np.testing.assert_allclose(found[at], model.embed([texts[at]])[0], atol=1e-5)


def test_embed_to_standard_output_holds_nothing_but_vectors(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id,body\n1,a cat\n2,a dog\n", encoding="utf-8")
    code, said, _ = run("embed", "in.csv", "--column", "body")
    assert code == 0
    assert [json.loads(line)["text"] for line in said.splitlines()] == ["a cat", "a dog"]


@pytest.mark.parametrize(
    ("raw", "options", "words"),
    [
        (b"", (), "there is no text in in.txt"),
        (b"a\nb\xff\n", (), "line 2 isn't valid UTF-8"),
        (b"short\n" + b"word " * 400, ("--overflow", "refuse"), "input 1 has 402 tokens"),
        (b"a\n", ("-m", "no-such-model"), "no model called 'no-such-model'"),
        (b"a\n", ("-m", "org/no-such-model"), "the network: not tried"),
    ],
)
def test_embed_that_fails_leaves_nothing_behind(
    run: Run, tmp_path: Path, raw: bytes, options: tuple[str, ...], words: str
) -> None:
    (tmp_path / "in.txt").write_bytes(raw)
    code, said, noted = run("embed", "in.txt", "-o", "out.npy", *options)
    assert (code, said) == (2, "")
    assert words in noted
    assert [each.name for each in tmp_path.iterdir()] == ["in.txt"]


def test_a_binding_from_add_to_drop(run: Run, database: Path) -> None:
    code, said, _ = bound(run)
    assert (code, said) == (0, "pages: 3 rows, 3 current, 0 pending\n")
    code, said, _ = run("search", "pages", "a kitten", "--db", "app.db", "-k", "1", "--json")
    answer = json.loads(said)
    (found,) = answer["results"]
    assert found["key"] == [1]
    assert found["row"]["title"] == "Cats"
    assert found["fresh"]

    execute(database, "UPDATE pages SET body = 'A rocket flies.' WHERE id = 3")
    code, said, _ = run("bind", "status", "pages", "--db", "app.db", "--json")
    (state,) = json.loads(said)
    assert (state["rows"], state["current"], state["pending"]) == (3, 2, 1)
    code, said, _ = run("search", "pages", "boiling", "--db", "app.db")
    assert "(changed since it was embedded)" in said

    assert bound(run)[0] == 0, "adding it again goes on with it"
    code, said, _ = run("search", "pages", "space travel", "--db", "app.db", "-k", "1")
    assert "A rocket flies" in said
    assert "changed since" not in said

    code, _, noted = run("bind", "drop", "pages", "--db", "app.db", "--yes")
    assert code == 0
    code, said, _ = run("bind", "status", "--db", "app.db")
    assert (code, said) == (0, "no binding yet; make one with: likewise bind add --help\n")


def test_a_documents_place_is_its_path(run: Run, tmp_path: Path) -> None:
    (tmp_path / "handbook").mkdir()
    (tmp_path / "handbook" / "bread.md").write_text("Bread rises overnight.")
    source = ("--source", "files:handbook", "--store", "sqlite:v.db", "--text", "{text}")
    assert run("bind", "add", "book", *source)[0] == 0
    first = run("search", "book", "bread", "--db", "v.db")[1].splitlines()[0]
    assert re.fullmatch(r"1\. 0\.\d{3}  bread\.md", first)


def test_verify_says_with_its_exit_code(run: Run, database: Path) -> None:
    assert bound(run)[0] == 0
    code, said, _ = run("bind", "verify", "pages", "--db", "app.db", "--json")
    assert (code, json.loads(said)["is_clean"]) == (0, True)
    # Behind the log's back, as a restored or hand-edited file would be.
    execute(database, "DELETE FROM likewise_pages_chunk; DELETE FROM likewise_pages_row")
    code, said, _ = run("bind", "verify", "pages", "--no-repair", "--db", "app.db", "--json")
    assert (code, json.loads(said)["missing"]) == (main.EXIT_FOUND_TROUBLE, 3)
    code, _, noted = run("bind", "verify", "pages", "--db", "app.db")
    assert code == 0
    assert "queued for embedding again" in noted
    assert bound(run)[1] == "pages: 3 rows, 3 current, 0 pending\n"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"--source": "sqlite:none.db"}, "none.db: no such database file"),
        ({"--source": "postgres:x"}, "write one of sqlite:PATH"),
        ({"--table": "pagse"}, "pages"),
        ({"--text": "{titel}"}, "title"),
        ({"--text": "title"}, "names no column"),
        ({"--key": "nothing"}, "nothing"),
        ({"--chunk": "tokens:9000/1"}, "9000"),
        ({"--chunk": "sentences"}, "WAY:SIZE/OVERLAP"),
        ({"--model": "no-such-model"}, "no model called 'no-such-model'"),
    ],
)
def test_a_binding_that_cant_be(
    run: Run, database: Path, change: dict[str, str], words: str
) -> None:
    options = {"--source": "sqlite:app.db", "--table": "pages", "--text": "{title}"} | change
    code, said, noted = run(
        "bind", "add", "pages", *(each for at in options.items() for each in at)
    )
    assert (code, said) == (2, "")
    assert words in noted
    assert "Traceback" not in noted
    if (path := Path("app.db")).is_file():
        assert run("bind", "status", "--db", path)[1].startswith("no binding yet")


def test_bindings_that_arent_there(run: Run, database: Path) -> None:
    code, _, noted = run("search", "pages", "x", "--db", "none.db")
    assert (code, "none.db: no such database file" in noted) == (2, True)
    code, _, noted = run("search", "pages", "x")
    assert (code, "which database?" in noted) == (2, True)
    assert bound(run)[0] == 0
    for argv in (("search", "page", "x"), ("bind", "verify", "page"), ("bind", "drop", "page")):
        code, _, noted = run(*argv, "--db", "app.db")
        assert (code, "did you mean 'pages'" in noted) == (2, True)
    code, _, noted = run("search", "pages", "  ", "--db", "app.db")
    assert (code, "the query is empty" in noted) == (2, True)
    code, _, noted = bound(run, "--chunk", "tokens:32/4")
    assert code == 2, "another definition under the same name"


def test_models(run: Run, model_cache: Path) -> None:
    code, said, noted = run("models", "list")
    assert code == 0
    assert "sentence-transformers/all-MiniLM-L6-v2" in said
    assert str(model_cache) in noted
    code, said, _ = run("models", "show", "all-MiniLM-L6-v2", "--json")
    info = json.loads(said)
    assert (info["dimensions"], info["max_tokens"], info["pooling"]) == (384, 256, "mean")
    assert info["size_bytes"] > 80_000_000
    assert Path(info["folder"]).is_relative_to(model_cache)
    code, said, _ = run("models", "pull", "all-MiniLM-L6-v2")
    assert Path(said.strip()).joinpath("model.safetensors").is_file()


def test_showing_a_model_says_its_prompts_and_where_it_lies(run: Run, tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "mine", matryoshka_dimensions=[16])
    prompts = {"prompts": {"query": "query: ", "document": ""}, "default_prompt_name": "query"}
    write_json(folder / "config_sentence_transformers.json", prompts)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\ntags: []\n---\n# Mine\n")
    code, said, _ = run("models", "show", str(folder), "--no-load")
    assert code == 0
    for words in (str(folder), "apache-2.0", "prompts.query", "'query: '", "also_cut_to", "bert"):
        assert words in said
    assert "precision" not in said
    code, said, _ = run("models", "show", str(folder), "--json")
    info = json.loads(said)
    assert (info["prompts"], info["also_cut_to"]) == (prompts["prompts"], [16])
    assert info["precision"] and info["engine"]


def test_removing_a_model_asks_first(
    run: Run, tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    staged = tmp_path / "cache" / "staged"
    shutil.copytree(model_folder, staged, ignore=shutil.ignore_patterns(shelf.RECORD))
    shelf.put(cache, staged, name="a/b", origin="hub", revision="r1", asked=None, licence="mit")
    monkeypatch.setenv("LIKEWISE_HOME", str(cache))
    code, _, noted = run("models", "rm", "a/b")
    assert code != 0 and "Delete this" in noted, "nobody answered"
    code, said, _ = run("models", "rm", "a/b", "--yes")
    assert code == 0 and "MiB freed" in said
    code, _, noted = run("models", "rm", "a/b", "--yes")
    assert code == 2 and "has no model 'a/b'" in noted


def test_doctor(run: Run, database: Path) -> None:
    bound(run)
    code, said, _ = run("doctor", "--db", "app.db")
    assert code == 0, said
    for words in (
        "python:",
        "processor:",
        "sqlite-vec",
        "engine:",
        "openvino (bert",
        "all is well",
    ):
        assert words in said
    assert "binding pages: 3 rows, 3 current, 0 pending" in said
    assert (
        "engine of sentence-transformers/all-MiniLM-L6-v2: openvino: bert is written here" in said
    )
    code, said, _ = run("doctor", "--db", "none.db", "-m", "no-such-model", "--json")
    wrong = {each["what"] for each in json.loads(said) if each["state"] == "wrong"}
    assert code == main.EXIT_FOUND_TROUBLE
    assert "model" in wrong
    (other,) = wrong - {"model"}
    assert other.startswith("database sqlite:") and other.endswith("/none.db")


def test_every_variable_that_is_read_is_documented(repo: Path) -> None:
    page = (repo / "docs" / "settings.md").read_text(encoding="utf-8")
    for name in resolve.ENVIRONMENT:
        assert f"`{name}`" in page
