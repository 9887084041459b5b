"""Names of weights in files made by other code than transformers, turned into those it uses."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Spelling:
    """How a family's files may call what its class calls otherwise."""

    renamed: Mapping[str, str] = field(default_factory=dict)
    """Beginnings or middles of names, up to and from a dot, and what stands there instead."""
    cut: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Layers that are several in one, their rows one above the other, and what those are called."""


_QUERIES = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
_GTE = Spelling(
    renamed={
        "encoder.layer": "layers",
        "attention.q_proj": "self_attn.q_proj",
        "attention.k_proj": "self_attn.k_proj",
        "attention.v_proj": "self_attn.v_proj",
        "attention.o_proj": "self_attn.o_proj",
        "attn_ln": "post_attention_layernorm",
        "mlp_ln": "post_mlp_layernorm",
    },
    cut={"attention.qkv_proj": _QUERIES, "mlp.up_gate_proj": ("mlp.up_proj", "mlp.gate_proj")},
)

SPELLINGS: Mapping[str, Spelling] = {
    "gte": _GTE,
    "new": _GTE,
    "nomic_bert": Spelling(
        renamed={
            "encoder.layers": "layers",
            "emb_ln": "embeddings.LayerNorm",
            "attn.out_proj": "self_attn.o_proj",
            "norm1": "post_attention_layernorm",
            "norm2": "post_mlp_layernorm",
            "mlp.fc11": "mlp.up_proj",
            "mlp.fc12": "mlp.gate_proj",
            "mlp.fc2": "mlp.down_proj",
        },
        cut={"attn.Wqkv": _QUERIES},
    ),
    "jina_bert": Spelling(cut={"mlp.gated_layers": ("mlp.gate", "mlp.up")}),
    "jina_bert_normed": Spelling(cut={"mlp.up_gated_layer": ("mlp.up", "mlp.gate")}),
}
"""By architecture."""


def respelled(architecture: str, name: str) -> tuple[str, ...]:
    """What our class calls the parts of the tensor `name`: mostly one, and mostly the same."""
    spelling = SPELLINGS.get(architecture)
    if spelling is None:
        return (name,)
    for theirs, ours in spelling.renamed.items():
        name = _replaced(name, theirs, ours)
    for theirs, several in spelling.cut.items():
        if _replaced(name, theirs, "") != name:
            return tuple(_replaced(name, theirs, each) for each in several)
    return (name,)


def _replaced(name: str, theirs: str, ours: str) -> str:
    return re.sub(rf"(^|\.){re.escape(theirs)}\.", rf"\g<1>{ours}.", name)
