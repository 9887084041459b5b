"""The command `rerank`, on a tiny cross-encoder."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from likewise.cli import main
from likewise.runtime.service import load
from tests.conformance.tiny import write_bert, write_cross_encoder

Run = Callable[..., tuple[int, str, str]]
TEXTS = ["w1 w2", "w3", "w4 w5 w6", "w3"]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line: exit code, standard output, standard error."""

    def runs(*argv: str) -> tuple[int, str, str]:
        code = main.run(["rerank", *argv, "--precision", "exact", "--threads", "1", "--offline"])
        return code, *capfd.readouterr()

    return runs


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny cross-encoder."""
    return write_cross_encoder(tmp_path_factory.mktemp("models") / "reranker")


def test_texts_come_out_best_first(run: Run, reranker: Path) -> None:
    service = load(reranker, precision="exact", threads=1)
    scores = service.score("w9", TEXTS)
    service.close()
    code, said, _ = run(str(reranker), "w9", *TEXTS)
    assert code == 0
    best_first = sorted(range(4), key=lambda at: (-scores[at], at))
    assert said.splitlines() == [f"{scores[at]:.4f}\t{TEXTS[at]}" for at in best_first]
    code, said, _ = run(str(reranker), "w9", *TEXTS, "--json")
    assert code == 0
    found = json.loads(said)
    assert [each["index"] for each in found] == best_first
    assert [each["text"] for each in found] == [TEXTS[at] for at in best_first]


@pytest.mark.parametrize("argument", [(), ("-",)])
def test_texts_may_come_from_standard_input(
    run: Run, reranker: Path, monkeypatch: pytest.MonkeyPatch, argument: tuple[str, ...]
) -> None:
    _, expected, _ = run(str(reranker), "w9", *TEXTS)
    raw = io.BytesIO("\n".join(TEXTS).encode())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(raw))
    code, said, _ = run(str(reranker), "w9", *argument)
    assert (code, said) == (0, expected)


def test_a_model_without_scores_is_refused(run: Run, tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "vectors")
    code, said, noted = run(str(folder), "w9", "w1")
    assert (code, said) == (2, "")
    assert "vectors gives no scores; it gives vectors (embed())" in noted


def test_nothing_to_score_is_refused(
    run: Run, reranker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    code, _, noted = run(str(reranker), "w9")
    assert code == 2 and "no text to score" in noted
