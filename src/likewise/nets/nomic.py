"""NomicBERT: rotary, gated or with experts, read as its own code and as transformers write it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from likewise.base.errors import ModelCorrupt, ModelUnsupported
from likewise.nets.bert import bert_sizes
from likewise.nets.config import number, size
from likewise.nets.encoder import (
    Encoder,
    Mixture,
    Names,
    Part,
    head_width,
    refuse_other,
)
from likewise.nets.gte import ROTARY_NAMES
from likewise.nets.ops import Activation, Attention, Rotary
from likewise.nets.rope import frequencies

# (activation, whether the inner layer is gated)
_ACTIVATIONS: Mapping[str, tuple[Activation, bool]] = {
    "swiglu": ("silu", True),
    "geglu": ("gelu", True),
    "glu": ("sigmoid", True),
    "gelu": ("gelu", False),
}
_PLAIN: Mapping[str, Any] = {
    "prenorm": False,
    "parallel_block": False,
    "use_rms_norm": False,
    "causal": False,
    "rotary_head_dim": False,
    "moe_normalize_expert_weights": False,
    "expert_choice_router": False,
    "num_shared_experts": 0,
    "ffn_div": 1,
}
_THETA = 1000.0


_KEYS = ("n_embd", "n_head")


@dataclass(frozen=True, slots=True)
class NomicBert(Encoder):
    """A NomicBERT (https://arxiv.org/abs/2402.01613), or one with experts (arXiv 2502.07972)."""

    prefixes: ClassVar[tuple[str, ...]] = ("", "bert.", "nomic_bert.", "model.", "0.auto_model.")
    names: ClassVar[Names] = ROTARY_NAMES

    @classmethod
    def read(cls, config: Mapping[str, Any], *, where: str) -> Encoder:
        """The architecture that `config` describes.

        Raises:
            ModelUnsupported: it asks for a variant that isn't computed here.
            ModelCorrupt: a size is missing, isn't a positive number, or contradicts another.
        """
        if _KEYS[0] in config:
            return _read_own(config, where)
        sizes = bert_sizes(config, where) | {"positions": 0}
        heads = sizes["attention"].heads
        width = size(config, "head_dim", where, default=sizes["attention"].width)
        turning = frequencies(config, width=width, where=where, theta=_THETA)
        sizes["attention"] = Attention(heads, width, rotary=turning)
        return cls(**sizes, unbiased=frozenset(("queries", "out", "up", "down")))


@dataclass(frozen=True, slots=True)
class NomicBertPlain(NomicBert):
    """One whose inner layer isn't gated."""

    names: ClassVar[Names] = replace(ROTARY_NAMES, up=("mlp.fc1",), gate=0)


def _read_own(config: Mapping[str, Any], where: str) -> Encoder:
    """The architecture in the words of the code that comes with such models, which are GPT-2's."""
    refuse_other(config, _PLAIN, where)
    width, heads = (size(config, key, where) for key in _KEYS)
    name = config.get("activation_function", "gelu")
    if name not in _ACTIVATIONS:
        raise ModelUnsupported(
            f"{where}: activation_function {name!r} isn't computed here; known: "
            f"{', '.join(_ACTIVATIONS)}"
        )
    activation, is_gated = _ACTIVATIONS[name]
    every = size(config, "pad_vocab_size_multiple", where, default=1)
    kind = NomicBert if is_gated else NomicBertPlain
    return kind(
        vocabulary=-(-size(config, "vocab_size", where) // every) * every,
        width=width,
        layers=size(config, "n_layer", where),
        inner=size(config, "n_inner", where),
        attention=Attention(
            heads,
            head_width(width, heads, where, _KEYS),
            rotary=_turning(config, head_width(width, heads, where, _KEYS), where),
        ),
        activation=activation,
        epsilon=number(config, "layer_norm_epsilon", where, default=1e-5),
        types=int(config.get("type_vocab_size", 2)),
        unbiased=frozenset(part for part, key in _BIASES if config.get(key) is False),
        mixture=_mixture(config, where),
    )


def _turning(config: Mapping[str, Any], width: int, where: str) -> Rotary:
    for key in ("rotary_scaling_factor", "rotary_emb_scale_base"):
        if config.get(key):
            raise ModelUnsupported(
                f"{where}: {key} {config[key]!r} isn't computed here: a text's places would turn "
                "by the length of the texts beside it; remove it to read them unscaled"
            )
    part = config.get("rotary_emb_fraction", 0.0)
    if not part:
        raise ModelUnsupported(f"{where}: rotary_emb_fraction must be set: others aren't computed")
    return frequencies(
        {"partial_rotary_factor": part},
        width=width,
        where=where,
        theta=number(config, "rotary_emb_base", where, default=10_000.0),
        interleaved=bool(config.get("rotary_emb_interleaved")),
    )


def _mixture(config: Mapping[str, Any], where: str) -> Mixture | None:
    if not config.get("moe_every_n_layers") or not config.get("num_experts"):
        return None
    every, experts, chosen = (
        size(config, key, where) for key in ("moe_every_n_layers", "num_experts", "moe_top_k")
    )
    if chosen > experts:
        raise ModelCorrupt(f"{where}: moe_top_k {chosen} is more than num_experts {experts}")
    return Mixture(every, experts, chosen)


_BIASES: tuple[tuple[Part, str], ...] = (
    ("queries", "qkv_proj_bias"),
    ("out", "qkv_proj_bias"),
    ("up", "mlp_fc1_bias"),
    ("down", "mlp_fc2_bias"),
)
