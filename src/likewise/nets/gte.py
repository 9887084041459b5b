"""GTE: a BERT with a gated inner layer, whose queries and keys turn with their place (RoPE)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from likewise.nets.bert import bert_sizes
from likewise.nets.encoder import Encoder, Names, refuse_other
from likewise.nets.rope import frequencies

ROTARY_NAMES = Names(
    layer="layers",
    queries=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    out="self_attn.o_proj",
    attended="post_attention_layernorm",
    up=("mlp.up_proj", "mlp.gate_proj"),
    gate=1,
    down="mlp.down_proj",
    widened="post_mlp_layernorm",
)
"""What transformers calls the weights of GTE and of NomicBERT; see `nets.spellings`."""

# The rotary base of transformers' class; the code that comes with models has another.
_THETAS = {"gte": 160_000.0, "new": 10_000.0}
_PLAIN = {"layer_norm_type": "layer_norm", "logn_attention_scale": False}


@dataclass(frozen=True, slots=True)
class Gte(Encoder):
    """A GTE (https://arxiv.org/abs/2407.19669): `new` to the code it came with, later `gte`."""

    prefixes: ClassVar[tuple[str, ...]] = ("", "new.", "gte.", "model.", "0.auto_model.")
    names: ClassVar[Names] = ROTARY_NAMES

    @classmethod
    def read(cls, config: Mapping[str, Any], *, where: str) -> Self:
        """The architecture that `config` describes.

        Raises:
            ModelUnsupported: it asks for a variant that isn't computed here.
            ModelCorrupt: a size is missing, isn't a positive number, or contradicts another.
        """
        refuse_other(config, _PLAIN | {"position_embedding_type": "rope"}, where)
        types = config.get("type_vocab_size", 1)
        inside = {"position_embedding_type": None, "type_vocab_size": types or None}
        sizes = bert_sizes({**config, **inside}, where)
        sizes |= {"positions": 0} | ({} if types else {"types": 0})
        attention = sizes.pop("attention")
        turning = frequencies(
            config,
            width=attention.width,
            where=where,
            theta=_THETAS.get(str(config.get("model_type"))),
        )
        return cls(
            **sizes, attention=replace(attention, rotary=turning), unbiased=frozenset(("up",))
        )
