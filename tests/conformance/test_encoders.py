"""Encoders on every engine of `nets`: tiny random weights, against transformers in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likewise.engines.batch import PackedBatch
from tests.conformance.test_engines import worst_cosine_distance
from tests.conformance.tiny import WORDS, write_json, write_net, write_parts

pytestmark = pytest.mark.torch

LENGTHS = (1, 2, 7, 3, 19, 64, 5, 150, 33, 5)
ALONE_TOO = (0, 2, 7)
LONGEST = 256
SIZES: dict[str, Any] = {
    "vocab_size": len(WORDS),
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": LONGEST + 8,
    "pad_token_id": 0,
}
ODD = {"hidden_size": 30, "num_attention_heads": 3, "intermediate_size": 7, "num_hidden_layers": 2}
ALONE = {"num_attention_heads": 1, "num_hidden_layers": 1}
DISTIL: dict[str, Any] = {
    "dim": 24,
    "hidden_dim": 40,
    "n_layers": 3,
    "n_heads": 4,
}
LOCAL = {"local_attention": 24, "num_hidden_layers": 5}
LISTED = ["sliding_attention", "full_attention", "full_attention", "sliding_attention"]


def turning(kind: str, **more: float) -> dict[str, Any]:
    """Rotary parameters."""
    return {"rope_type": kind, "rope_theta": 700.0, **more}


CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "roberta": ("roberta", {"pad_token_id": 1, "type_vocab_size": 1}),
    "roberta, odd, padding 5": ("roberta", {**ODD, "pad_token_id": 5, "layer_norm_eps": 0.1}),
    "roberta, alone": ("roberta", {**ALONE, "hidden_act": "gelu_new"}),
    "xlm-roberta": ("xlm-roberta", {"pad_token_id": 1, "type_vocab_size": 1}),
    "xlm-roberta, odd": ("xlm-roberta", {**ODD, "pad_token_id": 1}),
    "xlm-roberta, relu": ("xlm-roberta", {"hidden_act": "relu", "layer_norm_eps": 1e-5}),
    "camembert": ("camembert", {"pad_token_id": 1, "type_vocab_size": 1}),
    "camembert, odd": ("camembert", {**ODD, "pad_token_id": 3}),
    "camembert, alone": ("camembert", {**ALONE, "pad_token_id": 1}),
    "distilbert": ("distilbert", DISTIL),
    "distilbert, odd": ("distilbert", {"dim": 30, "n_heads": 3, "hidden_dim": 7, "n_layers": 2}),
    "distilbert, sines, relu": (
        "distilbert",
        {**DISTIL, "sinusoidal_pos_embds": True, "activation": "relu"},
    ),
    "mpnet": ("mpnet", {"pad_token_id": 1}),
    "mpnet, odd": ("mpnet", {**ODD, "pad_token_id": 1, "layer_norm_eps": 1e-5}),
    "mpnet, alone": ("mpnet", {**ALONE, "hidden_act": "gelu_new"}),
    "electra, narrow": ("electra", {"embedding_size": 10}),
    "electra, as wide": ("electra", {"embedding_size": 24, "type_vocab_size": 1}),
    "electra, odd": ("electra", {**ODD, "embedding_size": 50, "hidden_act": "relu"}),
    "modernbert": ("modernbert", LOCAL),
    "modernbert, odd, biased": (
        "modernbert",
        {
            **ODD,
            **LOCAL,
            "attention_bias": True,
            "mlp_bias": True,
            "norm_bias": True,
            "local_attention": 7,
        },
    ),
    "modernbert, every second layer, wide windows": (
        "modernbert",
        {**LOCAL, "global_attn_every_n_layers": 2, "local_attention": 400},
    ),
    "modernbert, layers listed": (
        "modernbert",
        {
            "num_hidden_layers": 4,
            "layer_types": LISTED,
            "local_attention": 100,
            "hidden_activation": "silu",
            "rope_parameters": {
                "full_attention": turning("linear", factor=4.0),
                "sliding_attention": turning("default"),
            },
        },
    ),
    "gte": ("gte", {"type_vocab_size": 1}),
    "gte, odd, no types": ("gte", {**ODD, "type_vocab_size": 0, "hidden_act": "relu"}),
    "gte, linear rope": ("gte", {"rope_parameters": turning("linear", factor=3.0)}),
    "gte, yarn rope": (
        "gte",
        {
            "type_vocab_size": 2,
            "rope_parameters": turning(
                "yarn", factor=4.0, original_max_position_embeddings=LONGEST // 4
            ),
        },
    ),
    "nomic": ("nomic_bert", {}),
    "nomic, odd, another head": ("nomic_bert", {**ODD, "head_dim": 8, "layer_norm_eps": 1e-5}),
    "nomic, linear rope": (
        "nomic_bert",
        {"hidden_act": "gelu", "rope_parameters": turning("linear", factor=3.0)},
    ),
}


def build(model_type: str, changes: dict[str, Any], *, seed: int = 0) -> Any:
    """A network of transformers with weights that let every part of it count."""
    import torch
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(seed)
    sizes = {} if model_type == "distilbert" else {**SIZES}
    sizes = {**sizes, "vocab_size": len(WORDS), "max_position_embeddings": LONGEST + 8}
    config = AutoConfig.for_model(model_type, **{**sizes, **changes})
    net = AutoModel.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for name, weight in net.named_parameters():
            weight.normal_(0, 0.3)
            if "norm" in name.lower() and name.endswith("weight"):
                weight.add_(1)
    return net


def texts(lengths: tuple[int, ...] = LENGTHS, seed: int = 1) -> list[list[int]]:
    """Random token ids of these lengths; none is a padding token's."""
    pick = np.random.default_rng(seed)
    return [pick.integers(6, len(WORDS), length).tolist() for length in lengths]


def means(net: Any, batch: list[list[int]]) -> Any:
    """What transformers computes for each text alone, its tokens' mean: float64."""
    import torch

    with torch.no_grad():
        rows = [net(input_ids=torch.tensor([ids])).last_hidden_state[0].mean(0) for ids in batch]
    return torch.stack(rows).double().numpy()


def require_equal(forward: Any, batch: list[list[int]], theirs: Any) -> None:
    """Packed together and alone, `forward` gives `theirs`."""
    ours = forward(PackedBatch.of(batch))["vectors"]
    assert worst_cosine_distance(ours, theirs) < 1e-6
    assert np.abs(ours - theirs).max() < 1e-4 * np.abs(theirs).max()
    for row in ALONE_TOO:
        alone = forward(PackedBatch.of([batch[row]]))["vectors"][0]
        assert np.abs(alone - ours[row]).max() < 2e-5 * np.abs(theirs).max()


@pytest.mark.parametrize(("model_type", "changes"), CONFIGS.values(), ids=list(CONFIGS))
def test_random_encoders_match_transformers(
    make: Any, tmp_path: Path, model_type: str, changes: dict[str, Any]
) -> None:
    net = build(model_type, changes)
    folder = write_net(tmp_path / "model", net, longest=LONGEST)
    require_equal(make(folder).stream(), texts(), means(net, texts()))


@pytest.mark.parametrize(
    ("model_type", "padding"),
    [("roberta", 1), ("roberta", 5), ("xlm-roberta", 1), ("camembert", 3), ("mpnet", 1)],
)
def test_a_padding_token_in_a_text_takes_no_position(
    make: Any, tmp_path: Path, model_type: str, padding: int
) -> None:
    """Whoever writes "<pad>" gets the vector that transformers gives, not one beside it."""
    net = build(model_type, {"pad_token_id": padding})
    folder = write_net(tmp_path / "model", net, longest=LONGEST)
    batch = texts()
    for ids, at in ((batch[2], 0), (batch[4], 7), (batch[4], 8), (batch[9], 4), (batch[0], 0)):
        ids[at] = padding
    require_equal(make(folder).stream(), batch, means(net, batch))


@pytest.mark.parametrize("model_type", ["gte", "nomic_bert"])
def test_weights_named_as_transformers_names_them(
    make: Any, tmp_path: Path, model_type: str
) -> None:
    net = build(model_type, {})
    folder = write_net(tmp_path / "model", net, longest=LONGEST)
    net.save_pretrained(folder, save_original_format=False)
    require_equal(make(folder).stream(), texts(), means(net, texts()))


def test_a_modernbert_in_the_older_words(make: Any, tmp_path: Path) -> None:
    net = build("modernbert", LOCAL)
    folder = write_net(tmp_path / "model", net, longest=LONGEST)
    old = {
        **SIZES,
        **LOCAL,
        "model_type": "modernbert",
        "global_attn_every_n_layers": 3,
        "global_rope_theta": 160000.0,
        "local_rope_theta": 10000.0,
        "position_embedding_type": "absolute",
        "layer_norm_eps": 0.5,
        "norm_eps": 1e-5,
    }
    write_json(folder / "config.json", old)
    require_equal(make(folder).stream(), texts(), means(net, texts()))


JINA = {
    **SIZES,
    "kind": "jina_bert",
    "model_type": "bert",
    "auto_map": {"AutoModel": "jinaai/jina-bert-implementation--modeling_bert.JinaBertModel"},
    "position_embedding_type": "alibi",
    "feed_forward_type": "geglu",
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
}
NORMED = {
    **JINA,
    "kind": "jina_bert_normed",
    "auto_map": {"AutoModel": "jinaai/jina-bert-v2-qk-post-norm--modeling_bert.JinaBertModel"},
}
NEW = {
    **SIZES,
    "kind": "new",
    "model_type": "new",
    "auto_map": {"AutoModel": "Alibaba-NLP/new-impl--modeling.NewModel"},
    "position_embedding_type": "rope",
    "rope_theta": 700.0,
    "rope_scaling": None,
    "type_vocab_size": 1,
    "pack_qkv": True,
    "layer_norm_eps": 1e-12,
    "layer_norm_type": "layer_norm",
    "hidden_act": "gelu",
    "logn_attention_scale": False,
    "unpad_inputs": True,
    "use_memory_efficient_attention": True,
}
NOMIC = {
    "kind": "nomic_bert",
    "model_type": "nomic_bert",
    "auto_map": {"AutoModel": "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel"},
    "vocab_size": len(WORDS),
    "n_embd": 24,
    "n_head": 4,
    "n_layer": 3,
    "n_inner": 40,
    "n_positions": LONGEST,
    "activation_function": "swiglu",
    "layer_norm_epsilon": 1e-12,
    "type_vocab_size": 2,
    "qkv_proj_bias": False,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "rotary_emb_base": 1000,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_scaling_factor": None,
    "prenorm": False,
    "causal": False,
}
EXPERTS = {
    "activation_function": "gelu",
    "qkv_proj_bias": True,
    "mlp_fc1_bias": True,
    "mlp_fc2_bias": True,
    "moe_every_n_layers": 2,
    "moe_top_k": 2,
    "num_experts": 8,
    "moe_normalize_expert_weights": False,
    "type_vocab_size": 1,
}
OWN_CODE: dict[str, dict[str, Any]] = {
    "jina": JINA,
    "jina, odd, reglu": {**JINA, **ODD, "feed_forward_type": "reglu"},
    "jina, twelve heads": {**JINA, "num_attention_heads": 12, "num_hidden_layers": 1},
    "jina, normed": NORMED,
    "jina, normed, odd": {**NORMED, **ODD, "layer_norm_eps": 0.1},
    "jina, normed, alone": {**NORMED, **ALONE},
    "new": NEW,
    "new, ntk": {**NEW, "rope_scaling": {"type": "ntk", "factor": 8.0}},
    "new, odd, unpacked, no types": {
        **NEW,
        **ODD,
        "pack_qkv": False,
        "type_vocab_size": 0,
        "hidden_act": "relu",
        "rope_scaling": {"type": "ntk", "factor": 2.0, "mixed_b": None},
    },
    "nomic, swiglu": NOMIC,
    "nomic, half the head, interleaved, biased": {
        **NOMIC,
        **EXPERTS,
        "n_embd": 36,
        "n_head": 3,
        "activation_function": "geglu",
        "rotary_emb_fraction": 0.5,
        "rotary_emb_interleaved": True,
        "moe_every_n_layers": 0,
    },
    "nomic, plain": {**NOMIC, "activation_function": "gelu"},
    "nomic, experts": {**NOMIC, **EXPERTS},
    "nomic, three of five experts": {
        **NOMIC,
        **EXPERTS,
        "n_layer": 5,
        "moe_every_n_layers": 3,
        "moe_top_k": 3,
        "num_experts": 5,
    },
    "nomic, one of two experts": {**NOMIC, **EXPERTS, "num_experts": 2, "moe_top_k": 1},
}


PREFIXED = {"jina, prefixed": (JINA, "bert."), "new, prefixed": (NEW, "new.")}
CASES = {name: (config, "") for name, config in OWN_CODE.items()} | PREFIXED


@pytest.mark.parametrize(("config", "prefix"), CASES.values(), ids=list(CASES))
def test_encoders_with_code_of_their_own(
    make: Any, tmp_path: Path, config: dict[str, Any], prefix: str
) -> None:
    from safetensors.torch import save_file

    from tests.conformance.published import Published

    net = Published(config)
    batch = texts((1, 2, 7, 3, 19, 40, 5, 96))
    theirs = np.stack([net(ids).mean(axis=0) for ids in batch])
    folder = tmp_path / "model"
    write_json(folder / "config.json", config)
    save_file(
        {prefix + name: weight.contiguous() for name, weight in net.weights.items()},
        folder / "model.safetensors",
    )
    width = theirs.shape[1]
    write_parts(folder, pooling="mean", normalise=False, width=width, longest=LONGEST)
    require_equal(make(folder).stream(), batch, theirs)
