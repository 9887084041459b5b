"""What is said of a model by likewise.toml and by flags reaches it, and nothing else."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

import likewise
from likewise.base.errors import SettingsError
from likewise.cli import launch, launched, main, overriding, settings
from likewise.models.overrides import Overrides, OverrideTable
from likewise.runtime import service
from likewise.server.app import build
from tests.conformance.tiny import write_bert, write_json
from tests.support import LIMIT

Run = Callable[..., tuple[int, str, str]]
FILE = """
[models."all-minilm"]
pooling = "cls+mean"
prompts = { query = "q: ", other = "o: " }
default_prompt_name = ""
max_length = 7
matryoshka = [8, 16]
truncate_dim = 24
similarity = "dot"

[models."./tiny"]
matryoshka = "any"
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command beside a model called tiny."""
    write_bert(tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIKEWISE_HOME", str(tmp_path / "home"))

    def run(*argv: str | Path) -> tuple[int, str, str]:
        code = main.run([str(each) for each in argv])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def test_a_table_of_likewise_toml(tmp_path: Path) -> None:
    read = settings.parse(FILE)
    table = overriding.table(read.models, tmp_path)
    expected = Overrides(
        pooling=("cls", "mean"),
        prompts={"query": "q: ", "other": "o: "},
        default_prompt_name="",
        max_length=7,
        matryoshka=(8, 16),
        truncate_dim=24,
        similarity="dot",
    )
    for name in ("all-minilm", "sentence-transformers/all-MiniLM-L6-v2", "all-MiniLM-L6-v2"):
        assert table.of(name) == expected, name
    assert table.of("tiny", str(tmp_path / "tiny")) == Overrides(matryoshka="any")
    assert not table.of("tiny", "elsewhere/tiny") and not table.of("another/model")
    assert Overrides.of_facts(expected.facts()) == expected


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('pooling = "median"', "median.* isn't known"),
        ('pooling = "mean+mean"', "must name each mode once"),
        ('matryoshka = "some"', 'write a list of widths, or "any"'),
        ("matryoshka = [0]", "matryoshka must be at least 1"),
        ("max_length = 0", "max_length must be at least 1"),
        ('similarity = "cosin"', "did you mean 'cosine'"),
        ('poling = "cls"', r"unknown key 'poling' in \[models\].*did you mean 'pooling'"),
    ],
)
def test_what_makes_no_sense_is_named(line: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        overriding.table(settings.parse(f'[models."a/b"]\n{line}\n').models)


def test_flags_go_before_the_file() -> None:
    table = OverrideTable(
        {"a/b": Overrides(pooling=("cls",), prompts={"x": "1", "y": "2"}, max_length=5)},
        Overrides(pooling=("max",), prompts={"x": "3"}),
    )
    assert table.of("a/b") == Overrides(
        pooling=("max",), prompts={"x": "3", "y": "2"}, max_length=5
    )
    assert table.of("c/d") == table.everywhere


def test_settings_read_again_keep_the_flags(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "likewise.toml").write_text('[server]\nmodels = ["./tiny"]\n')
    seen: list[OverrideTable] = []

    def served(asked: launched.Launch) -> None:
        read_again = asked.again
        assert read_again is not None
        again = threading.Thread(target=lambda: seen.append(read_again().place.overrides))
        again.start()
        again.join(LIMIT)
        seen.append(asked.place.overrides)

    monkeypatch.setattr(launch, "serve", served)
    code, _, err = run("up", "--pooling", "cls")
    assert code == 0, err
    assert seen[0] == seen[1] == OverrideTable({}, Overrides(pooling=("cls",)))


def shown(run: Run, *flags: str) -> dict[str, Any]:
    code, out, err = run("models", "show", "./tiny", "--json", "--precision", "exact", *flags)
    assert code == 0, err
    facts: dict[str, Any] = json.loads(out)
    return facts


def test_models_show_says_what_was_overridden(run: Run, tmp_path: Path) -> None:
    plain = shown(run)
    assert "override" not in plain and plain["also_cut_to"] == []
    flags = ("--pooling", "cls", "--max-length", "9", "--prompt-text", "query=q: ")
    facts = shown(run, *flags, "--matryoshka", "8,16", "--similarity", "dot")
    assert facts["override"] == {
        "pooling": ["cls"],
        "prompts": {"query": "q: "},
        "max_length": 9,
        "matryoshka": [8, 16],
        "similarity": "dot",
    }
    assert (facts["pooling"], facts["max_tokens"]) == ("cls", 9)
    assert facts["also_cut_to"] == [8, 16] and facts["prompts"] == {"query": "q: "}
    (tmp_path / "likewise.toml").write_text('[models."./tiny"]\npooling = "max"\n')
    assert shown(run)["override"] == {"pooling": ["max"]}
    code, out, _ = run("models", "show", "./tiny", "--no-load")
    assert code == 0 and "override.pooling" in out


def test_a_line_end_may_be_typed_in_a_prompt(run: Run, tmp_path: Path) -> None:
    meant = {"query": "Find {it}\n{q}:\t\\ \\d"}
    assert shown(run, "--prompt-text", r"query=Find {it}\n{q}:\t\\ \d")["prompts"] == meant
    for line in (
        r"prompts = { query = 'Find {it}\n{q}:\t\\ \d' }",
        r'prompts = { query = "Find {it}\n{q}:\t\\\\ \\d" }',
    ):
        (tmp_path / "likewise.toml").write_text(f'[models."./tiny"]\n{line}\n')
        assert shown(run)["prompts"] == meant


@pytest.mark.parametrize("spelt", ["./models/tiny", "models/tiny", "tiny"])
def test_a_folder_may_be_spelt_in_several_ways(run: Run, tmp_path: Path, spelt: str) -> None:
    write_bert(tmp_path / "models" / "tiny")
    (tmp_path / "likewise.toml").write_text(f'[models."{spelt}"]\npooling = "cls"\n')
    for asked in ("./models/tiny", "models/tiny", tmp_path / "models" / "tiny"):
        code, out, err = run("models", "show", asked, "--json", "--no-load")
        assert code == 0, err
        assert json.loads(out)["override"] == {"pooling": ["cls"]}, asked
    other = json.loads(run("models", "show", "tiny", "--json", "--no-load")[1])
    assert ("override" in other) == (spelt == "tiny"), "another folder of that last name"


def test_embed_follows_both(run: Run, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("w1 w2 w3\n")

    def embedded(*flags: str) -> np.ndarray:
        made = tmp_path / "out.npy"
        code, _, err = run("embed", "texts.txt", "-o", made, "-m", "./tiny", *flags)
        assert code == 0, err
        found: np.ndarray = np.load(made)
        return found

    mean, cls = embedded(), embedded("--pooling", "cls")
    assert np.abs(mean - cls).max() > 0.01
    (tmp_path / "likewise.toml").write_text('[models."./tiny"]\npooling = "cls"\n')
    assert np.abs(embedded() - cls).max() < 1e-6
    assert np.abs(embedded("--pooling", "mean") - mean).max() < 1e-6
    assert embedded("--truncate-dim", "8").shape == (1, 8)


def test_the_python_interface_follows_the_file_and_bindings_keep_what_was_said(
    run: Run, tmp_path: Path
) -> None:
    db = sqlite3.connect(tmp_path / "app.db")
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT)")
    db.execute("INSERT INTO t (a) VALUES ('w1 w2 w3')")
    db.commit()
    db.close()
    bound = ("bind", "add", "n", "--source", "sqlite:app.db", "--table", "t", "--text", "{a}")
    code, _, err = run(*bound, "-m", "./tiny", "--chunk", "tokens:16/2", "--pooling", "cls")
    assert code == 0 and 'likewise.toml, table [models."./tiny"]' in err, err
    code, _, err = run("search", "n", "w1", "--db", "app.db")
    assert code == 2 and "pooling: 'cls' there, 'mean' here" in err
    assert "write that into a table" in err
    (tmp_path / "likewise.toml").write_text('[models."./tiny"]\npooling = "cls"\n')
    code, out, err = run("search", "n", "w1", "--db", "app.db")
    assert code == 0 and "w1 w2 w3" in out, err
    with contextlib.closing(likewise.load("./tiny")) as loaded:
        assert loaded.info()["pooling"] == "cls"


@pytest.mark.parametrize(
    "flags", [("--pooling", "median"), ("--matryoshka", "x"), ("--prompt-text", "q")], ids=str
)
def test_wrong_flags(run: Run, flags: tuple[str, ...]) -> None:
    code, _, err = run("models", "show", "./tiny", *flags)
    assert code == 2 and flags[1] in err


def test_flags_and_several_models(run: Run) -> None:
    code, _, err = run("serve", "./tiny", "all-minilm", "--pooling", "cls", "--port", "0")
    assert code == 2 and '[models."NAME"]' in err
    code, _, err = run("serve", "--models-dir", ".", "--pooling", "cls", "--port", "0")
    assert code == 2 and '[models."NAME"]' in err


@pytest.fixture(scope="module")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, TestClient]]:
    """A server of the plain model, and one that was told that it may be cut to 8."""
    folder = write_bert(tmp_path_factory.mktemp("models") / "tiny")
    plain = service.load(folder, precision="exact")
    told = service.load(folder, precision="exact", overrides=Overrides(matryoshka=(8,)))
    assert plain.space.fingerprint == told.space.fingerprint
    with TestClient(build({"tiny": plain})) as one, TestClient(build({"tiny": told})) as two:
        yield one, two
    plain.close()
    told.close()


ASKED: dict[str, dict[str, Any]] = {
    "/v1/embeddings": {"model": "tiny", "input": "w1", "dimensions": 8},
    "/embed": {"inputs": "w1", "dimensions": 8},
    "/api/embed": {"model": "tiny", "input": "w1", "dimensions": 8},
    "/v2/embed": {
        "model": "tiny",
        "texts": ["w1"],
        "input_type": "search_document",
        "embedding_types": ["float"],
        "output_dimension": 8,
    },
}


@pytest.mark.parametrize("path", ASKED)
def test_a_width_that_the_operator_names_is_cut_to(
    clients: tuple[TestClient, TestClient], path: str
) -> None:
    plain, told = clients
    refused = plain.post(path, json=ASKED[path])
    assert refused.status_code in (400, 422), refused.text
    assert "--matryoshka" in refused.text and "likewise.toml" in refused.text
    answer = told.post(path, json=ASKED[path])
    assert answer.status_code == 200, answer.text
    vectors = _lists(answer.json())
    assert [len(each) for each in vectors] == [8]
    assert abs(np.linalg.norm(vectors[0]) - 1) < 1e-4, "cut, then made length 1"


def _lists(value: Any) -> list[list[float]]:
    """The lists of numbers in an answer."""
    if isinstance(value, list) and value and all(isinstance(each, float) for each in value):
        return [value]
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [found for each in inside for found in _lists(each)]


def test_only_what_changes_vectors_is_another_space(tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "tiny")

    def space(**said: Any) -> str:
        loaded = service.load(folder, precision="exact", overrides=Overrides(**said))
        loaded.close()
        return loaded.space.fingerprint

    plain = space()
    assert space(matryoshka="any", similarity="dot", default_prompt_name="") == plain
    assert space(prompts={"other": "x: "}) == plain
    others = [
        space(pooling=("cls",)),
        space(max_length=9),
        space(truncate_dim=8),
        space(prompts={"query": "q: "}),
        space(prompts={"a": "x: "}, default_prompt_name="a"),
    ]
    assert len({plain, *others}) == 6
    # What the operator says and what the files say are one space.
    write_json(folder / "1_Pooling/config.json", {"pooling_mode": "cls"})
    assert space() == others[0]
