"""A decoder's configuration: what each spelling means, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from likewise.base.errors import ModelCorrupt, ModelUnsupported
from likewise.nets.decoder import Decoder
from likewise.nets.rope import frequencies

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
}


def read(model_type: str, **changes: Any) -> Decoder:
    """The architecture of these sizes; a change of None takes the key out."""
    config = {"model_type": model_type, **SIZES, **changes}
    present = {key: value for key, value in config.items() if value is not ...}
    return Decoder.read(present, where="here")


def windows(net: Decoder) -> list[int | None]:
    """How far each layer sees."""
    return [how.window for how in net.attentions]


@pytest.mark.parametrize(
    ("model_type", "changes", "error", "says"),
    [
        ("qwen2", {"hidden_act": "mish"}, ModelUnsupported, "hidden_act 'mish'.*known: gelu"),
        ("qwen2", {"num_key_value_heads": 3}, ModelCorrupt, "4 isn't a multiple of num_key_value"),
        ("qwen2", {"head_dim": None, "hidden_size": 26}, ModelCorrupt, "26 isn't a multiple of"),
        ("qwen2", {"head_dim": 7}, ModelCorrupt, "7 of a head's 7 numbers"),
        ("qwen2", {"vocab_size": None}, ModelCorrupt, "vocab_size must be a positive whole"),
        ("qwen2", {"intermediate_size": "40"}, ModelCorrupt, "intermediate_size"),
        ("qwen2", {"rms_norm_eps": 0}, ModelCorrupt, "rms_norm_eps must be a positive number"),
        ("qwen2", {"use_bidirectional_attention": True}, ModelUnsupported, "use_bidirectional_att"),
        ("qwen2", {"bidirectional": True}, ModelUnsupported, "bidirectional is True"),
        ("llama", {"architectures": ["LlamaBiModel"]}, ModelUnsupported, "LlamaBiModel looks both"),
        (
            "mistral",
            {"architectures": ["MistralBidirectionalModel"]},
            ModelUnsupported,
            "MistralBidirectionalModel looks both ways",
        ),
        ("gemma3_text", {"is_causal": False}, ModelUnsupported, "is_causal is False"),
        ("gemma", {"use_bidirectional_attention": True}, ModelUnsupported, "use_bidirectional_att"),
        ("gemma3_text", {"attn_logit_softcapping": 50.0}, ModelUnsupported, "attn_logit_softcap"),
        ("llama", {"partial_rotary_factor": 0.5}, ModelUnsupported, "partial_rotary_factor"),
        ("llama", {"rope_scaling": {"type": "longrope"}}, ModelUnsupported, "'longrope'"),
        ("llama", {"layer_types": ["full_attention"] * 3}, ModelUnsupported, "layer_types"),
        ("qwen3", {"layer_types": ["full_attention"] * 2}, ModelCorrupt, "lists 2 layers.*is 3"),
        ("qwen3", {"layer_types": ["mamba"] * 3}, ModelUnsupported, "mamba aren't computed"),
        ("qwen3", {"layer_types": ["sliding_attention"] * 3}, ModelCorrupt, "use_sliding_window"),
        ("mistral", {"sliding_window": 0}, ModelCorrupt, "sliding_window must be a positive whole"),
        ("llama", {"quantization_config": {"quant_method": "awq"}}, ModelUnsupported, "by awq"),
    ],
)
def test_refused_by_name(
    model_type: str, changes: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        read(model_type, **changes)


def test_both_ways_is_said_by_the_key_of_each_family() -> None:
    assert all(how.causal for how in read("qwen2").attentions)
    assert not any(how.causal for how in read("qwen2", is_causal=False).attentions)
    assert not any(how.causal for how in read("eurobert").attentions)
    both = read("gemma3_text", use_bidirectional_attention=True)
    assert not any(how.causal for how in both.attentions)
    named = read("llama", is_causal=False, architectures=["LlamaBidirectionalModel"])
    assert not any(how.causal for how in named.attentions)


def test_windows_of_each_spelling() -> None:
    assert windows(read("llama", sliding_window=9)) == [None] * 3
    assert windows(read("mistral", sliding_window=9)) == [8] * 3
    assert windows(read("mistral", sliding_window=None)) == [None] * 3
    assert windows(read("mistral")) == [4095] * 3
    assert windows(read("qwen2", sliding_window=9, max_window_layers=1)) == [None] * 3
    on = {"use_sliding_window": True, "sliding_window": 9}
    assert windows(read("qwen2", **on, max_window_layers=1)) == [None, 8, 8]
    assert windows(read("qwen2", **on, max_window_layers=0)) == [8, 8, 8]
    assert windows(read("qwen2", **on)) == [None] * 3
    assert windows(read("qwen2", **on, max_window_layers=1, is_causal=False)) == [None, 9, 9]
    gemma = read("gemma3_text", sliding_window=9, num_hidden_layers=7)
    assert windows(gemma) == [8, 8, 8, 8, 8, None, 8]
    assert windows(read("gemma3_text", sliding_window=9, sliding_window_pattern=2)) == [8, None, 8]
    both = {"use_bidirectional_attention": True, "sliding_window": 9}
    assert windows(read("gemma3_text", **both)) == [4, 4, 4]


def test_gemmas_older_spelling_of_its_two_bases() -> None:
    scaling = {"rope_type": "linear", "factor": 8.0}
    older = read(
        "gemma3_text",
        rope_theta=500.0,
        rope_local_base_freq=100.0,
        rope_scaling=scaling,
        sliding_window_pattern=2,
    )
    local, full, _ = (how.rotary for how in older.attentions)
    assert full == frequencies(
        {"rope_theta": 500.0, "rope_scaling": scaling}, width=8, where="here"
    )
    assert local == frequencies({"rope_theta": 100.0}, width=8, where="here")
    silent = read("gemma3_text", sliding_window_pattern=2)
    local, full, _ = (how.rotary for how in silent.attentions)
    assert full == frequencies({"rope_theta": 1e6}, width=8, where="here")
    assert local == frequencies({"rope_theta": 1e4}, width=8, where="here")


def test_what_a_missing_key_means() -> None:
    assert read("qwen3", head_dim=...).attentions[0].width == 128
    assert read("gemma3_text", head_dim=...).attentions[0].width == 256
    assert read("llama", head_dim=...).attentions[0].width == 6
    assert read("llama", num_key_value_heads=...).attentions[0].groups == 4
    assert read("gemma3_text").attentions[0].scale == pytest.approx(1 / 16)
    assert read("gemma", hidden_act="gelu").activation == "gelu_tanh"
    assert read("llama", hidden_act="gelu").activation == "gelu"


def test_embeddings_are_scaled_in_the_type_of_the_weights() -> None:
    wide = {"hidden_size": 768, "head_dim": 256}
    assert read("gemma3_text", **wide).embedding_scale == pytest.approx(27.712812, abs=1e-6)
    assert read("gemma3_text", **wide, dtype="bfloat16").embedding_scale == 27.75
    assert read("gemma3_text", **wide, torch_dtype="bfloat16").embedding_scale == 27.75
    assert read("gemma3_text", **wide, dtype="float16").embedding_scale == 27.71875
    assert read("llama", **wide, dtype="bfloat16").embedding_scale == 1.0


def test_the_shapes_are_all_there() -> None:
    shapes = read("qwen3", num_hidden_layers=2).shapes()
    assert len(shapes) == 2 + 2 * 11
    assert shapes["layers.1.self_attn.k_proj.weight"] == (16, 24)
    assert shapes["layers.1.self_attn.o_proj.weight"] == (24, 32)
    assert len(read("qwen2").shapes()) == 2 + 3 * 12
    assert len(read("gemma3_text").shapes()) == 2 + 3 * 13
    assert "layers.0.mlp.up_proj.bias" in read("llama", mlp_bias=True).shapes()
