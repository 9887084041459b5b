"""Decoders on every engine of `nets`: tiny random weights, against transformers in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likewise.engines.batch import PackedBatch
from tests.conformance.test_engines import worst_cosine_distance
from tests.conformance.tiny import WORDS, write_net

pytestmark = pytest.mark.torch

LENGTHS = (1, 2, 7, 3, 19, 64, 5, 150, 33)
LONGEST = 256
SIZES: dict[str, Any] = {
    "vocab_size": len(WORDS),
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": LONGEST,
    "pad_token_id": 0,
}
ODD = {"hidden_size": 20, "num_attention_heads": 5, "num_key_value_heads": 1, "head_dim": 6}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 5e3,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
}
GEMMA = {"query_pre_attn_scalar": 11, "sliding_window": 16}
WINDOWED = {"use_sliding_window": True, "sliding_window": 10, "max_window_layers": 1}

CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama, grouped": ("llama", {}),
    "llama, one head of keys, odd": ("llama", ODD),
    "llama, every bias": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama, llama3 rope": ("llama", {"rope_parameters": LLAMA3}),
    "llama, linear rope": (
        "llama",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 3.0}},
    ),
    "llama, dynamic rope": (
        "llama",
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 3.0}},
    ),
    "mistral, window": ("mistral", {"sliding_window": 12}),
    "mistral, no window, own head": ("mistral", {"sliding_window": None, "head_dim": 16}),
    "mistral, head derived, odd": (
        "mistral",
        {**ODD, "hidden_size": 30, "head_dim": None, "sliding_window": 300},
    ),
    "qwen2": ("qwen2", {"head_dim": 6}),
    "qwen2, both ways": ("qwen2", {"head_dim": 6, "is_causal": False}),
    "qwen2, last layers windowed": ("qwen2", {"head_dim": 6, **WINDOWED}),
    "qwen2, both ways in a window": ("qwen2", {"head_dim": 6, **WINDOWED, "is_causal": False}),
    "qwen2, yarn rope": ("qwen2", {"head_dim": 6, "rope_parameters": YARN}),
    "qwen3": ("qwen3", {}),
    "qwen3, odd, biased": ("qwen3", {**ODD, "attention_bias": True}),
    "qwen3, layers listed": (
        "qwen3",
        {
            "use_sliding_window": True,
            "sliding_window": 7,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
    ),
    "qwen3, yarn with its factor": (
        "qwen3",
        {"rope_parameters": {**YARN, "attention_factor": 0.8}},
    ),
    "gemma": ("gemma", {}),
    "gemma, gelu means tanh": ("gemma", {**ODD, "hidden_act": "gelu"}),
    "gemma3, both ways": ("gemma3_text", {**GEMMA, "use_bidirectional_attention": True}),
    "gemma3, causal": ("gemma3_text", {**GEMMA, "num_hidden_layers": 7}),
    "gemma3, odd, layers listed": (
        "gemma3_text",
        {
            **ODD,
            **GEMMA,
            "sliding_window": 9,
            "use_bidirectional_attention": True,
            "layer_types": ["full_attention", "sliding_attention", "full_attention"],
        },
    ),
    "eurobert": ("eurobert", {}),
    "eurobert, odd, biased": ("eurobert", {**ODD, "attention_bias": True, "mlp_bias": True}),
}


def build(model_type: str, changes: dict[str, Any], *, seed: int = 0) -> Any:
    """A network of transformers with weights that let every part of it count."""
    import torch
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(seed)
    config = AutoConfig.for_model(model_type, **{**SIZES, **changes})
    net = AutoModel.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for name, weight in net.named_parameters():
            weight.normal_(0, 0.3)
            if "norm" in name and "gemma" not in model_type:
                weight.add_(1)
    return net


def texts(lengths: tuple[int, ...] = LENGTHS, seed: int = 1) -> list[list[int]]:
    """Random token ids of these lengths."""
    pick = np.random.default_rng(seed)
    return [pick.integers(4, len(WORDS), length).tolist() for length in lengths]


def last_states(net: Any, batch: list[list[int]]) -> Any:
    """What transformers computes for the last token of each text, alone: float64."""
    import torch

    with torch.no_grad():
        rows = [net(input_ids=torch.tensor([ids])).last_hidden_state[0, -1] for ids in batch]
    return torch.stack(rows).double().numpy()


@pytest.mark.parametrize(("model_type", "changes"), CONFIGS.values(), ids=list(CONFIGS))
def test_random_decoders_match_transformers(
    make: Any, tmp_path: Path, model_type: str, changes: dict[str, Any]
) -> None:
    net = build(model_type, changes)
    folder = write_net(tmp_path / "model", net, pooling="lasttoken", longest=LONGEST)
    batch = texts()
    forward = make(folder).stream()
    ours = forward(PackedBatch.of(batch))["vectors"]
    theirs = last_states(net, batch)
    assert worst_cosine_distance(ours, theirs) < 1e-6
    assert np.abs(ours - theirs).max() < 2e-4 * np.abs(theirs).max()
    alone = np.concatenate([forward(PackedBatch.of([ids]))["vectors"] for ids in batch])
    assert np.abs(alone - ours).max() < 2e-5 * np.abs(theirs).max()


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
@pytest.mark.parametrize("changes", [{}, {"hidden_size": 128, "intermediate_size": 600}])
def test_weights_in_16_bits_are_taken_as_they_are(
    make: Any, tmp_path: Path, kind: str, changes: dict[str, Any]
) -> None:
    import torch
    from transformers import AutoModel

    net = build("qwen2", {"head_dim": 6, **changes}).to(getattr(torch, kind))
    folder = write_net(tmp_path / "model", net, pooling="lasttoken", longest=LONGEST)
    batch = texts((1, 7, 19))
    ours = make(folder).stream()(PackedBatch.of(batch))["vectors"]
    # Read anew: `to` has rounded the rotary frequencies as well.
    net = AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    theirs = last_states(net.eval(), batch)
    assert worst_cosine_distance(ours, theirs) < 1e-6
    assert np.abs(ours - theirs).max() < 2e-4 * np.abs(theirs).max()


def test_large_matrices_are_multiplied_one_by_one(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from likewise.engines import openvino_ops

    net = build("qwen3", {"attention_bias": True})
    folder = write_net(tmp_path / "model", net, pooling="lasttoken", longest=LONGEST)
    monkeypatch.setattr(openvino_ops, "LARGE", 1)
    batch = texts((1, 7, 19))
    ours = make(folder).stream()(PackedBatch.of(batch))["vectors"]
    assert worst_cosine_distance(ours, last_states(net, batch)) < 1e-6
