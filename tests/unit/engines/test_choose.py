"""Which engine a model gets, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from likewise.base.errors import MissingExtra, ModelUnsupported
from likewise.engines import choose as choosing
from likewise.engines.choose import choose
from likewise.models.card import ModelCard, read_card
from tests.conformance.tiny import SMALL, write_bert, write_json, write_tokenizer


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A machine that has these packages and perhaps a GPU."""

    def has(*packages: str, gpu: bool = False) -> None:
        monkeypatch.setattr(choosing, "is_installed", lambda package: package in packages)
        monkeypatch.setattr(choosing, "_has_gpu", lambda: gpu)

    return has


def bert(folder: Path, *, graph: bool = False, weights: bool = True, **config: Any) -> ModelCard:
    """A BERT, or what `config` makes of it."""
    write_bert(folder)
    write_json(folder / "config.json", SMALL | config)
    if graph:
        (folder / "onnx").mkdir()
        (folder / "onnx" / "model.onnx").write_bytes(b"a graph")
    if not weights:
        (folder / "model.safetensors").unlink()
    return read_card(folder)


def static(folder: Path) -> ModelCard:
    """A table of token vectors."""
    folder.mkdir()
    write_tokenizer(folder)
    write_json(folder / "config.json", {"model_type": "model2vec"})
    save_file({"embeddings": np.ones((64, 4), np.float32)}, folder / "model.safetensors")
    return read_card(folder)


def test_what_is_written_here_runs_packed(tmp_path: Path, machine: Any) -> None:
    card = bert(tmp_path / "model", graph=True)
    machine("torch", "transformers")
    choice = choose(card)
    assert (choice.engine, choice.slow) == ("openvino", None)
    assert choice.facts() == {"engine_why": choice.why, "slow": False}
    assert "bert is written here" in choice.why
    machine("torch", "transformers", gpu=True)
    assert choose(card).engine == "torch" and "a GPU is there" in choose(card).why
    machine(gpu=True)
    assert choose(card).engine == "openvino"


def test_tables_are_added_up(tmp_path: Path, machine: Any) -> None:
    machine("torch", gpu=True)
    assert choose(static(tmp_path / "model")).engine == "static"


def test_a_graph_is_taken_where_there_is_nothing_else(tmp_path: Path, machine: Any) -> None:
    machine("torch", "transformers")
    choice = choose(bert(tmp_path / "only", graph=True, weights=False))
    assert choice.engine == "onnx_file" and "ships only model.onnx" in choice.why
    assert choice.facts()["slow"] and "padding" in choice.facts()["slow_because"]
    machine()
    choice = choose(bert(tmp_path / "other", graph=True, model_type="albert"))
    assert choice.engine == "onnx_file" and "albert isn't written here" in choice.why


def test_others_are_for_transformers_if_it_is_there(tmp_path: Path, machine: Any) -> None:
    card = bert(tmp_path / "model", model_type="albert", graph=True)
    machine("torch", "transformers")
    choice = choose(card)
    assert choice.engine == "torch_any" and choice.slow is not None
    machine("torch")
    with pytest.raises(MissingExtra, match=r"'albert' isn't written here.*likewise\[torch-any\]"):
        choose(bert(tmp_path / "without", model_type="albert"))


def test_what_is_asked_for_is_taken(tmp_path: Path, machine: Any) -> None:
    machine()
    card = bert(tmp_path / "model", graph=True)
    assert choose(card, "torch").engine == "torch" and choose(card, "torch").why == "asked for"
    assert choose(card, "onnx_file").slow is not None
    with pytest.raises(ModelUnsupported, match="unknown engine 'opnvino'.*mean 'openvino'.*auto, "):
        choose(card, "opnvino")
