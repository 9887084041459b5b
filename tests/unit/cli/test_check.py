"""`likewise models check`: what it compares, what it says, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likewise.cli import main
from likewise.runtime import parity
from likewise.runtime.selfcheck import THRESHOLDS
from tests.conformance.head_folders import write_tokenizer, write_transformer
from tests.conformance.tiny import write_bert

Run = Callable[..., tuple[int, str, str]]
BIG: dict[str, Any] = {"hidden_size": 128, "intermediate_size": 192, "vocab_size": 200}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `models check` offline: the exit code, what it said, what it noted."""
    monkeypatch.setenv("LIKEWISE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LIKEWISE_OFFLINE", "1")

    def run(*argv: str | Path) -> tuple[int, str, str]:
        code = main.run(["models", "check", *(str(each) for each in argv), "--threads", "1"])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def ends_with(found: dict[str, Any]) -> int:
    """The exit code that goes with these rows.

    Random weights don't have to bear bf16: on a CPU that has it, `fast` may be refused.
    """
    assert found["exact"]["result"] == "PASS" and found["small"]["result"] == "PASS"
    is_refused = found["fast"]["result"] == "FAIL"
    return main.EXIT_FOUND_TROUBLE if is_refused else main.EXIT_OK


def rows(said: str) -> dict[str, Any]:
    """The rows of `--json`, by profile."""
    return {row["profile"]: row for row in json.loads(said)}


def test_a_row_for_each_profile(run: Run, tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "model", **BIG)
    code, said, noted = run(folder)
    assert code == main.EXIT_OK
    heading, exact, fast, small = (line.split() for line in said.splitlines())
    assert heading == ["profile", "precision", "worst", "mean", "result"]
    assert exact == ["exact", "f32", "1.000000", "1.000000", "PASS"]
    assert small[:2] == ["small", "int8"] and small[-1] == "PASS"
    assert 0.99 < float(small[2]) <= float(small[3]) < 1
    assert fast[0] == "fast" and (fast[-1] == "PASS" or "fast: precision fast: bf16" in noted)


def test_below_what_is_asked_it_fails(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_bert(tmp_path / "model", **BIG)
    monkeypatch.setitem(THRESHOLDS, "small", 0.9999999)
    code, said, noted = run(folder, "--json")
    assert code == main.EXIT_FOUND_TROUBLE
    found = rows(said)
    assert (found["exact"]["result"], found["small"]["result"]) == ("PASS", "FAIL")
    # The self-check asks the same, so that the model wouldn't even run that way.
    assert "running exact, in f32" in found["small"]["problem"]


@pytest.mark.torch
def test_against_sentence_transformers(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_bert(tmp_path / "model", **BIG)
    write_tokenizer(folder)
    code, said, noted = run(folder, "--against", "sentence-transformers", "--json")
    assert code == ends_with(rows(said))
    exact = rows(said)["exact"]
    assert exact["against_worst"] >= 0.99999 and exact["result"] == "PASS"
    assert rows(said)["small"]["against_worst"] >= 0.99
    real = parity.give
    wrong = np.eye(1, 128, dtype=np.float32)

    def otherwise(service: Any) -> Any:
        output, method = real(service)
        return output, lambda texts: method(texts) + wrong

    monkeypatch.setattr(parity, "give", otherwise)
    code, said, noted = run(folder, "--against", "sentence-transformers")
    assert code == main.EXIT_FOUND_TROUBLE
    assert "FAIL" in said and "to theirs, at least 0.99999 is asked for" in noted


@pytest.mark.torch
def test_scores_are_compared_with_a_cross_encoder(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_transformer(folder, "bert", "SequenceClassification", num_labels=1)
    write_tokenizer(folder)
    code, said, _ = run(folder, "--against", "sentence-transformers", "--json")
    assert code == ends_with(rows(said))
    assert rows(said)["exact"]["against_worst"] >= 0.99999


def test_against_model2vec(run: Run, tmp_path: Path) -> None:
    from tests.conformance.test_static import save_model2vec

    save_model2vec(tmp_path / "model")
    code, said, _ = run(tmp_path / "model", "--against", "model2vec", "--json")
    assert code == main.EXIT_OK
    assert rows(said)["exact"]["against_worst"] >= 0.99999
    assert rows(said)["small"]["result"] == "not here"
    code, _, noted = run(write_bert(tmp_path / "bert"), "--against", "model2vec")
    assert code == main.EXIT_REFUSED and "isn't a table of token vectors" in noted


def test_what_is_missing_is_named(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sentence_transformers", None)
    code, _, noted = run(write_bert(tmp_path / "model"), "--against", "sentence-transformers")
    assert code == main.EXIT_REFUSED
    assert "-m pip install sentence-transformers" in noted
