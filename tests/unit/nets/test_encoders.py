"""Configurations of encoders: what is read, and what is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from likewise.base.errors import ModelCorrupt, ModelUnsupported
from likewise.base.names import resolve
from likewise.nets.jina import slopes
from likewise.nets.names import NETS
from likewise.nets.spellings import respelled
from tests.conformance.tiny import SMALL

DISTIL = {"vocab_size": 64, "dim": 32, "n_heads": 4, "n_layers": 2, "hidden_dim": 48}
NOMIC = {
    "vocab_size": 61,
    "n_embd": 32,
    "n_head": 4,
    "n_layer": 4,
    "n_inner": 48,
    "rotary_emb_fraction": 1.0,
    "activation_function": "swiglu",
}
EXPERTS = {"moe_every_n_layers": 2, "num_experts": 8, "moe_top_k": 2}
CONFIGS: dict[str, dict[str, Any]] = {
    "distilbert": {**DISTIL, "max_position_embeddings": 64},
    "jina_bert": {**SMALL, "position_embedding_type": "alibi", "feed_forward_type": "geglu"},
    "new": {**SMALL, "position_embedding_type": "rope"},
    "nomic_bert": NOMIC,
}

REFUSED: list[tuple[str, dict[str, Any], type[Exception], str]] = [
    ("roberta", {"is_decoder": True}, ModelUnsupported, "is_decoder"),
    ("roberta", {"hidden_act": "mish"}, ModelUnsupported, "hidden_act 'mish'"),
    ("xlm-roberta", {"position_embedding_type": "relative_key"}, ModelUnsupported, "relative_key"),
    ("camembert", {"num_attention_heads": 5}, ModelCorrupt, "32 isn't a multiple of num_att.* 5"),
    ("electra", {"embedding_size": 0}, ModelCorrupt, "embedding_size"),
    ("electra", {"add_cross_attention": True}, ModelUnsupported, "add_cross_attention"),
    ("distilbert", {"n_heads": 5}, ModelCorrupt, "dim 32 isn't a multiple of n_heads 5"),
    ("distilbert", {"activation": "mish"}, ModelUnsupported, "activation 'mish'"),
    ("mpnet", {"relative_attention_num_buckets": 16}, ModelCorrupt, "is 16; an MPNet has 32"),
    ("jina_bert", {"feed_forward_type": "original"}, ModelUnsupported, "'original'.*geglu, reglu"),
    ("jina_bert", {"position_embedding_type": "absolute"}, ModelUnsupported, "only 'alibi' is"),
    ("jina_bert_normed", {"is_decoder": True}, ModelUnsupported, "is_decoder"),
    ("new", {"position_embedding_type": "absolute"}, ModelUnsupported, "only 'rope' is"),
    ("new", {"layer_norm_type": "rms_norm"}, ModelUnsupported, "layer_norm_type 'rms_norm'"),
    ("new", {"logn_attention_scale": True}, ModelUnsupported, "logn_attention_scale True"),
    ("new", {"rope_scaling": {"type": "su", "factor": 2.0}}, ModelUnsupported, "rope_type 'su'"),
    (
        "new",
        {"rope_scaling": {"type": "ntk", "factor": 2.0, "mixed_b": 0.6}},
        ModelUnsupported,
        "mixed_b",
    ),
    ("gte", {"hidden_act": "mish"}, ModelUnsupported, "hidden_act 'mish'"),
    ("nomic_bert", {"prenorm": True}, ModelUnsupported, "prenorm True.*only False is"),
    ("nomic_bert", {"causal": True}, ModelUnsupported, "causal True"),
    ("nomic_bert", {"activation_function": "gelu_new"}, ModelUnsupported, "'gelu_new'.*swiglu"),
    ("nomic_bert", {"rotary_emb_fraction": 0.0}, ModelUnsupported, "rotary_emb_fraction"),
    ("nomic_bert", {"rotary_scaling_factor": 2}, ModelUnsupported, "rotary_scaling_factor 2"),
    ("nomic_bert", {**EXPERTS, "moe_top_k": 9}, ModelCorrupt, "9 is more than num_experts 8"),
    (
        "nomic_bert",
        {**EXPERTS, "moe_normalize_expert_weights": True},
        ModelUnsupported,
        "moe_normalize_expert_weights True",
    ),
    ("modernbert", {"layer_types": ["full_attention"]}, ModelCorrupt, "lists 1 layers.*is 2"),
    (
        "modernbert",
        {"layer_types": ["full_attention", "chunked_attention"]},
        ModelUnsupported,
        "chunked_attention.*known: full_attention",
    ),
    ("modernbert", {"hidden_activation": "mish"}, ModelUnsupported, "'mish'"),
    ("modernbert", {"local_attention": 0}, ModelCorrupt, "local_attention"),
    ("modernbert", {"rope_scaling": {"rope_type": "su"}}, ModelUnsupported, "rope_type 'su'"),
]


def read(kind: str, **changes: Any) -> Any:
    """The architecture `kind` of a small configuration with `changes`."""
    config = {**CONFIGS.get(kind.removesuffix("_normed"), SMALL), "model_type": kind, **changes}
    return resolve(kind, NETS, what="architecture").read(config, where="here")


@pytest.mark.parametrize(("kind", "changes", "error", "says"), REFUSED)
def test_refused_by_name(
    kind: str, changes: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=f"here: .*{says}"):
        read(kind, **changes)


def test_positions_start_after_the_padding() -> None:
    assert read("roberta", pad_token_id=5).start == 6
    assert read("xlm-roberta").start == 2
    assert read("mpnet", pad_token_id=5).start == 2
    assert read("bert", pad_token_id=5).start == 0


def test_layers_see_all_or_half_the_window_on_each_side() -> None:
    net = read("modernbert", num_hidden_layers=5, local_attention=128)
    assert [how.window for how in net.attentions] == [None, 64, 64, None, 64]
    every = read("modernbert", num_hidden_layers=3, global_attn_every_n_layers=1)
    assert [how.window for how in every.attentions] == [None] * 3


def test_a_missing_local_base_is_the_global_one() -> None:
    thetas = {"global_rope_theta": 500.0, "local_rope_theta": None}
    full, near = read("modernbert", **thetas).attentions
    assert full.rotary == near.rotary
    full, near = read("modernbert", global_rope_theta=500.0).attentions
    assert full.rotary != near.rotary


def test_every_second_layer_has_experts() -> None:
    shapes = read("nomic_bert", **EXPERTS).shapes()
    with_experts = sorted(
        name.split(".")[1] for name in shapes if name.endswith("router.layer.weight")
    )
    assert with_experts == ["1", "3"]
    assert shapes["layers.1.mlp.experts.mlp.w1"] == (8 * 48, 32)
    assert "layers.1.mlp.up_proj.weight" not in shapes and "layers.0.mlp.up_proj.weight" in shapes


def test_vocabularies_are_filled_up() -> None:
    shapes = read("nomic_bert", pad_vocab_size_multiple=64).shapes()
    assert shapes["embeddings.word_embeddings.weight"] == (64, 32)


def test_slopes_of_alibi() -> None:
    assert slopes(8) == tuple(2.0**-power for power in range(1, 9))
    # As the paper's authors list them.
    assert slopes(12)[8:] == pytest.approx([2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5])
    assert slopes(1) == (2.0**-8,)


@pytest.mark.parametrize(
    ("kind", "theirs", "ours"),
    [
        ("new", "encoder.layer.3.attn_ln.bias", ["layers.3.post_attention_layernorm.bias"]),
        (
            "gte",
            "encoder.layer.0.mlp.up_gate_proj.weight",
            ["layers.0.mlp.up_proj.weight", "layers.0.mlp.gate_proj.weight"],
        ),
        ("gte", "layers.0.self_attn.q_proj.bias", ["layers.0.self_attn.q_proj.bias"]),
        ("nomic_bert", "emb_ln.weight", ["embeddings.LayerNorm.weight"]),
        ("nomic_bert", "encoder.layers.11.norm2.bias", ["layers.11.post_mlp_layernorm.bias"]),
        ("nomic_bert", "encoder.layers.1.mlp.fc1.bias", ["layers.1.mlp.fc1.bias"]),
        ("bert", "encoder.layer.0.attn_ln.bias", ["encoder.layer.0.attn_ln.bias"]),
        (
            "jina_bert",
            "encoder.layer.0.mlp.gated_layers.weight",
            ["encoder.layer.0.mlp.gate.weight", "encoder.layer.0.mlp.up.weight"],
        ),
    ],
)
def test_names_in_other_spellings(kind: str, theirs: str, ours: list[str]) -> None:
    assert list(respelled(kind, theirs)) == ours
