"""Lower precision is used only while it gives what full precision gives, and that is remembered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likewise.base.errors import NotFinite
from likewise.engines import openvino
from likewise.engines.batch import PackedBatch
from likewise.engines.openvino import OpenVinoEngine
from likewise.models.card import read_card
from likewise.models.tokenize import Tokenizer
from likewise.runtime import metrics, selfcheck
from likewise.runtime.ready import Remembered
from likewise.runtime.selfcheck import THRESHOLDS, Probed, agreement, compare, probe
from likewise.runtime.service import load
from tests.conformance.tiny import write_bert


class Coarse(OpenVinoEngine):
    """Calls itself bf16 and adds an error of a known size; counts what is made and computed."""

    error = 0.0
    exact_error = 0.0
    log: list[str] = []
    alive = 0

    def __init__(self, card: Any, *, precision: str, threads: int | None) -> None:
        super().__init__(card, precision="exact", threads=threads)
        self._is_coarse = precision != "exact"
        if self._is_coarse:
            self.precision = "bf16"
        assert Coarse.alive == 0, "two engines at once hold the weights twice"
        Coarse.alive += 1
        self.log.append(f"made {self.precision}")

    def stream(self) -> Any:
        """Vectors moved by `error` along the first axis."""
        exact = super().stream()
        moved = np.eye(1, 32, dtype=np.float32)
        moved = moved * (self.error if self._is_coarse else self.exact_error)

        def forward(batch: PackedBatch) -> Any:
            if len(batch.cumulative) > 2:
                self.log.append(f"ran {self.precision}")
            return {"vectors": exact(batch)["vectors"] + moved}

        return forward

    def close(self) -> None:
        """Counts."""
        if self._compiled is not None:
            Coarse.alive -= 1
        super().close()


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> type[Coarse]:
    """The engine, as one that can be chosen."""
    monkeypatch.setattr(openvino, "Coarse", Coarse, raising=False)
    table = {"coarse": "likewise.engines.openvino:Coarse"}
    monkeypatch.setattr("likewise.runtime.service.ENGINES", table)
    monkeypatch.setattr("likewise.engines.choose.ENGINES", table)
    for name, value in {"error": 0.001, "exact_error": 0.0, "log": [], "alive": 0}.items():
        monkeypatch.setattr(Coarse, name, value)
    return Coarse


def start(folder: Path, cache: Path | None = None, precision: Any = "fast") -> dict[str, Any]:
    """What a service says of itself, started and closed."""
    service = load(folder, engine="coarse", precision=precision, cache=cache, threads=1)
    info = service.info()
    service.close()
    return info


@pytest.mark.parametrize(("error", "runs"), [(0.001, "bf16"), (0.5, "f32"), (np.nan, "f32")])
def test_the_fallback(tmp_path: Path, coarse: type[Coarse], error: float, runs: str) -> None:
    coarse.error = error
    info = start(write_bert(tmp_path / "model"))
    assert info["precision"] == runs
    assert info["profile"] == {"bf16": "fast", "f32": "exact"}[runs]
    worst, least = info["selfcheck_worst_cosine"], info["selfcheck_least_cosine"]
    assert (worst >= least == THRESHOLDS["fast"]) == (runs == "bf16")
    assert ("fallback" in info) == (runs == "f32")
    if runs == "f32":
        assert "running exact, in f32" in info["fallback"]
        assert ("NaN or Inf" in info["fallback"]) == bool(np.isnan(error))
    gauge = metrics.REGISTRY.get_sample_value(
        "likewise_selfcheck_worst_cosine", {"model": info["model"], "profile": "fast"}
    )
    assert gauge == worst


def test_a_second_start_makes_one_engine_and_computes_nothing(
    tmp_path: Path, coarse: type[Coarse]
) -> None:
    folder, cache = write_bert(tmp_path / "model"), tmp_path / "cache"
    first = start(folder, cache)
    assert [line for line in coarse.log if line.startswith("made")] == [
        "made bf16",
        "made f32",
        "made bf16",
    ]
    assert sorted(set(coarse.log)) == ["made bf16", "made f32", "ran bf16", "ran f32"]
    coarse.log.clear()
    second = start(folder, cache)
    assert coarse.log == ["made bf16"]
    assert second == first


def test_a_verdict_against_a_precision_is_remembered_as_well(
    tmp_path: Path, coarse: type[Coarse]
) -> None:
    folder, cache = write_bert(tmp_path / "model"), tmp_path / "cache"
    coarse.error = 0.5
    first = start(folder, cache)
    coarse.log.clear()
    assert start(folder, cache) == first
    assert coarse.log == ["made bf16", "made f32"]


def test_what_it_depends_on_is_looked_at_anew(
    tmp_path: Path, coarse: type[Coarse], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    start(write_bert(tmp_path / "model"), cache)
    changes: tuple[tuple[Any, str, Any], ...] = (
        (coarse, "version", "another"),
        (selfcheck, "_machine", lambda: "another"),
        (selfcheck, "_code", lambda: "another"),
    )
    for owner, name, value in changes:
        monkeypatch.setattr(owner, name, value)
        coarse.log.clear()
        start(tmp_path / "model", cache)
        assert "ran f32" in coarse.log
    coarse.log.clear()
    start(write_bert(tmp_path / "other", layer_norm_eps=0.1), cache)
    assert "ran f32" in coarse.log


def test_exact_is_looked_at_once_too(tmp_path: Path, coarse: type[Coarse]) -> None:
    folder, cache = write_bert(tmp_path / "model"), tmp_path / "cache"
    assert "selfcheck_worst_cosine" not in start(folder, cache, "exact")
    assert coarse.log == ["made f32", "ran f32"]
    coarse.log.clear()
    start(folder, cache, "exact")
    assert coarse.log == ["made f32"]


@pytest.mark.parametrize("precision", ["exact", "fast"])
def test_a_model_that_gives_nan_even_in_f32_is_refused(
    tmp_path: Path, coarse: type[Coarse], precision: str
) -> None:
    coarse.exact_error = np.nan
    folder = write_bert(tmp_path / "model")
    with pytest.raises(NotFinite, match=f"{folder} gives NaN or Inf.*even in f32"):
        start(folder, tmp_path / "cache", precision)
    assert coarse.alive == 0


@pytest.mark.parametrize("content", ["{", "[1]", json.dumps({"a": "b"})])
def test_a_damaged_memory_is_ignored(tmp_path: Path, content: str) -> None:
    path = tmp_path / "selfchecks.json"
    path.write_text(content)
    known = Remembered(path)
    assert known.worst("a") is None
    known.remember("a", 0.5)
    assert known.worst("a") == 0.5


def test_full_precision_agrees_with_itself(tmp_path: Path) -> None:
    card = read_card(write_bert(tmp_path / "model"))
    forward = OpenVinoEngine(card, precision="exact", threads=1).stream()
    probed = probe(card, Tokenizer(card), forward)
    assert probed.batch.texts == len(selfcheck.PROBES)
    assert compare(probed, probed, "fast").worst_cosine > 0.999999


def two_texts(**outputs: Any) -> Probed:
    """Outputs for two texts, of two tokens and of one."""
    arrays: Any = {name: np.array(values, np.float32) for name, values in outputs.items()}
    return Probed(PackedBatch.of([[1, 2], [3]]), arrays)


def test_every_kind_of_output_is_compared() -> None:
    batch = two_texts().batch
    scores = np.array([[1.0], [3.0], [2.0]], np.float32)
    assert agreement("scores", scores, scores, batch).min() == 1
    assert agreement("scores", scores + 1, scores, batch).min() < 0.8
    assert agreement("scores", -scores, scores, batch).min() < 0
    weights = np.array([[1.0], [2.0], [0.0]], np.float32)
    turned = np.array([[2.0], [-1.0], [0.0]], np.float32)
    assert agreement("weights", weights, weights, batch) == pytest.approx([1, 1])
    assert agreement("weights", turned, weights, batch) == pytest.approx([0, 1])
    rows = np.array([[1, 0], [0, 0], [3, 4]], np.float32)
    other = np.array([[1, 0], [0, 1], [4, 3]], np.float32)
    for name in ("vectors", "sparse", "tokens"):
        assert agreement(name, rows, other, batch) == pytest.approx([1, 0, 24 / 25])


def test_the_worst_of_all_outputs_counts() -> None:
    ours = two_texts(vectors=[[1, 0], [0, 1]], scores=[[0], [1]])
    theirs = two_texts(vectors=[[1, 0], [0, 1]], scores=[[0], [2]])
    assert compare(ours, ours, "fast").worst_cosine == 1
    assert 0 < compare(ours, theirs, "fast").worst_cosine < 1
    infinite = two_texts(vectors=[[1, 0], [0, np.inf]], scores=[[0], [1]])
    assert compare(infinite, theirs, "fast").worst_cosine == -1
