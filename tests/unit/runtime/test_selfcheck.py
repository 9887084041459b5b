"""Lower precision is used only while it gives the vectors of full precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likewise.engines import names, openvino
from likewise.engines.openvino import OpenVinoEngine
from likewise.models.card import read_card
from likewise.models.tokenize import Tokenizer
from likewise.runtime import selfcheck
from likewise.runtime.service import load
from tests.conformance.tiny import write_bert


class Coarse(OpenVinoEngine):
    """Calls itself bf16 and adds an error of a known size."""

    error = 0.0

    def __init__(self, card: Any, *, precision: str, threads: int | None) -> None:
        super().__init__(card, precision="f32", threads=threads)
        self._is_coarse = precision != "f32"
        if self._is_coarse:
            self.precision = "bf16"

    def stream(self) -> Any:
        """Vectors moved by `error` along the first axis."""
        exact = super().stream()
        if not self._is_coarse:
            return exact
        moved = np.eye(1, 32, dtype=np.float32) * self.error
        return lambda batch: {"vectors": exact(batch)["vectors"] + moved}


@pytest.mark.parametrize(("error", "runs"), [(0.001, "bf16"), (0.5, "f32"), (np.nan, "f32")])
def test_the_fallback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: float, runs: str
) -> None:
    monkeypatch.setattr(openvino, "Coarse", Coarse, raising=False)
    monkeypatch.setattr(names, "ENGINES", {})
    table = {"coarse": "likewise.engines.openvino:Coarse"}
    monkeypatch.setattr("likewise.runtime.service.ENGINES", table)
    monkeypatch.setattr(Coarse, "error", error)
    service = load(write_bert(tmp_path / "model"), engine="coarse", precision="bf16")
    try:
        info = service.info()
        assert info["precision"] == runs
        assert (info["selfcheck_worst_cosine"] >= selfcheck.THRESHOLD) == (runs == "bf16")
        assert ("fallback" in info) == (runs == "f32")
        if runs == "f32":
            assert "running in f32" in info["fallback"]
    finally:
        service.close()


def test_full_precision_agrees_with_itself(tmp_path: Path) -> None:
    card = read_card(write_bert(tmp_path / "model"))
    forward = OpenVinoEngine(card, precision="f32", threads=1).stream()
    assert selfcheck.compare(Tokenizer(card), forward, forward).worst_cosine > 0.999999
