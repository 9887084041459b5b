"""Architectures that only transformers knows, against sentence-transformers, text by text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likewise.base.errors import ModelCorrupt, ModelUnsupported
from likewise.models.card import read_card
from tests.conformance.folders import TEXTS, ours, theirs, worst, write_modules
from tests.conformance.tiny import WORDS, write_json, write_net

pytestmark = pytest.mark.torch

SIZES = {"vocab_size": len(WORDS), "max_position_embeddings": 64, "pad_token_id": 0}
BERTISH = {
    **SIZES,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}
T5 = {
    "vocab_size": len(WORDS),
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 4,
    "pad_token_id": 0,
    "decoder_start_token_id": 0,
}
# (model_type, changes, pooling); which of them padding changes is asserted below.
MODELS: dict[str, tuple[str, dict[str, Any], str]] = {
    "albert": ("albert", {**BERTISH, "embedding_size": 16}, "mean"),
    "megatron-bert": ("megatron-bert", BERTISH, "cls"),
    "rembert": ("rembert", {**BERTISH, "input_embedding_size": 16}, "mean"),
    "t5": ("t5", T5, "mean"),
    "gpt2, last token": (
        "gpt2",
        {"vocab_size": len(WORDS), "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
        "lasttoken",
    ),
    "convbert": ("convbert", {**BERTISH, "embedding_size": 32}, "mean"),
    "fnet": ("fnet", {k: v for k, v in BERTISH.items() if k != "num_attention_heads"}, "mean"),
}
CHANGED_BY_PADDING = {"convbert", "fnet"}


def write_foreign(folder: Path, name: str, seed: int = 0) -> Path:
    """A folder around a random model of transformers."""
    import torch
    from transformers import AutoConfig, AutoModel

    model_type, sizes, pooling = MODELS[name]
    torch.manual_seed(seed)
    config = AutoConfig.for_model(model_type, **sizes)
    net = AutoModel.from_config(config).eval()
    with torch.no_grad():
        for weight in net.parameters():
            # As they are made, vectors of different texts hardly differ.
            weight.normal_(0, 0.2) if weight.dim() > 1 else weight.add_(0.1)
    write_net(folder, net, pooling=pooling)
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "pad_token": "[PAD]",
            "unk_token": "[UNK]",
            "model_max_length": 64,
        },
    )
    write_modules(folder, [("Pooling", {"embedding_dimension": 32, "pooling_mode": pooling}, None)])
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_it_matches_sentence_transformers(tmp_path: Path, name: str) -> None:
    folder = write_foreign(tmp_path / "model", name)
    together = ours(folder, TEXTS, engine="torch_any")
    alone = np.concatenate([theirs(folder, [text]) for text in TEXTS])
    assert worst(together, alone) < 1e-5
    assert np.abs(together - alone).max() < 1e-4
    assert np.abs(alone[2] - alone[3]).max() > 1e-2


@pytest.mark.parametrize("name", MODELS)
def test_it_says_what_it_does(tmp_path: Path, name: str) -> None:
    from likewise.engines.torch_any import TorchAnyEngine

    engine = TorchAnyEngine(read_card(write_foreign(tmp_path / "model", name)), device="cpu")
    assert "the slow way" in engine.why
    assert ("equal length" in engine.why) == (name in CHANGED_BY_PADDING)
    assert engine.precision == "f32"
    engine.close()


def test_it_knows_what_it_can_run(tmp_path: Path) -> None:
    from likewise.engines.torch_any import TorchAnyEngine

    folder = write_foreign(tmp_path / "model", "albert")
    assert TorchAnyEngine.can_run(read_card(folder))
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", {**config, "model_type": "nothing-known"})
    assert not TorchAnyEngine.can_run(read_card(folder))
    with pytest.raises(ModelUnsupported, match="'nothing-known' is neither written here nor known"):
        TorchAnyEngine(read_card(folder))


def test_decoders_of_encoders_are_refused(tmp_path: Path) -> None:
    from likewise.engines.torch_any import TorchAnyEngine

    folder = write_foreign(tmp_path / "model", "albert")
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", {**config, "model_type": "bart", "is_encoder_decoder": True})
    with pytest.raises(ModelUnsupported, match="'bart' is an encoder with a decoder"):
        TorchAnyEngine(read_card(folder))


def test_missing_weights_are_never_made_up(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    from likewise.engines.torch_any import TorchAnyEngine

    folder = write_foreign(tmp_path / "model", "albert")
    weights = load_file(folder / "model.safetensors")
    gone = next(name for name in weights if name.endswith("ffn.weight"))
    save_file(
        {name: value for name, value in weights.items() if name != gone},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(ModelCorrupt, match=f"lack '{gone}'"):
        TorchAnyEngine(read_card(folder))


def test_bf16_comes_near(tmp_path: Path) -> None:
    from likewise.engines.batch import PackedBatch
    from likewise.engines.torch_any import TorchAnyEngine

    card = read_card(write_foreign(tmp_path / "model", "albert"))
    batch = PackedBatch.of([[5, 6, 7, 8], [9, 10], [11] * 20])
    exact, fast = (
        TorchAnyEngine(card, precision=one, device="cpu").stream()(batch)["vectors"]
        for one in ("exact", "fast")
    )
    assert fast.dtype == np.float32
    assert 0 < worst(fast, exact) < 1e-3
