"""Decoders told apart: what each `model_type` fixes, and how its config.json says the rest."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from likewise.base.errors import ModelCorrupt, ModelUnsupported
from likewise.nets.config import number, size
from likewise.nets.ops import Attention
from likewise.nets.rope import frequencies

Kind = Literal["full_attention", "sliding_attention"]
_FULL: Kind = "full_attention"
_SLIDING: Kind = "sliding_attention"
_WINDOW = 4096
"""The window where config.json doesn't say: the same in all of transformers' classes."""
_FROM_LAYER = 28
_PATTERN = 6


def _all_full(config: Mapping[str, Any], layers: int, where: str) -> tuple[Kind, ...]:
    return (_FULL,) * layers


def _all_sliding(config: Mapping[str, Any], layers: int, where: str) -> tuple[Kind, ...]:
    return (_FULL if config.get("sliding_window", _WINDOW) is None else _SLIDING,) * layers


def _last_sliding(config: Mapping[str, Any], layers: int, where: str) -> tuple[Kind, ...]:
    full = layers
    if config.get("use_sliding_window") and config.get("sliding_window", _WINDOW) is not None:
        key = "max_window_layers"
        full = size(config, key, where, default=_FROM_LAYER) if config.get(key) != 0 else 0
    return tuple(_FULL if index < full else _SLIDING for index in range(layers))


def _most_sliding(config: Mapping[str, Any], layers: int, where: str) -> tuple[Kind, ...]:
    every = size(config, "sliding_window_pattern", where, default=_PATTERN)
    return tuple(_SLIDING if (index + 1) % every else _FULL for index in range(layers))


@dataclass(frozen=True, slots=True)
class Family:
    """What the models of one `model_type` share: facts of its class in transformers."""

    kinds: Callable[[Mapping[str, Any], int, str], tuple[Kind, ...]] = _all_full
    """The kind of each layer where config.json doesn't list them as `layer_types`."""
    listed: bool = False
    """Whether it may list them."""
    bidirectional: tuple[str, bool] | None = ("is_causal", False)
    """The key, and its value, by which all tokens see one another; None: they always do."""
    halved: bool = False
    """A bidirectional window is written as the sum of both its sides."""
    switch: str | None = None
    """The key that must be set before any window counts."""
    biased: Mapping[str, str | None] = field(default_factory=dict)
    """Layers with a bias, and the key that turns it on; None: always."""
    head: int | None = None
    """Numbers of a head where config.json doesn't say; None: width / heads."""
    heads_normed: bool = False
    scaled_by: str | None = None
    """Scores are divided by the root of this number, not by that of a head's width."""
    thetas: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    """For each kind of layer the older key of its rotary base, and the base when there is none."""
    activation: tuple[str, str] = ("hidden_act", "silu")
    """The key, and what it means when it is missing."""
    legacy_gelu: bool = False
    """`gelu` was written where the tanh approximation was meant."""
    epsilon: float = 1e-6
    embedding_scaled: bool = False
    """Embeddings are multiplied by the root of the width."""
    offset: float = 0.0
    """Added to the weights of all norms."""
    normed_after: bool = False
    """What attention and the inner layers give is normed before it is added."""


_PROJECTIONS = ("q_proj", "k_proj", "v_proj")
_ATTENTION_BIAS = dict.fromkeys((*_PROJECTIONS, "o_proj"), "attention_bias")
_LLAMA_BIAS = _ATTENTION_BIAS | dict.fromkeys(("gate_proj", "up_proj", "down_proj"), "mlp_bias")
_GEMMA = Family(
    biased=_ATTENTION_BIAS,
    head=256,
    activation=("hidden_act", "gelu_pytorch_tanh"),
    legacy_gelu=True,
    embedding_scaled=True,
    offset=1.0,
)

FAMILIES: Mapping[str, Family] = {
    "llama": Family(biased=_LLAMA_BIAS),
    "eurobert": Family(biased=_LLAMA_BIAS, bidirectional=None, epsilon=1e-5),
    "mistral": Family(kinds=_all_sliding),
    "qwen2": Family(
        kinds=_last_sliding,
        listed=True,
        switch="use_sliding_window",
        biased=dict.fromkeys(_PROJECTIONS),
    ),
    "qwen3": Family(
        kinds=_last_sliding,
        listed=True,
        switch="use_sliding_window",
        biased=_ATTENTION_BIAS,
        head=128,
        heads_normed=True,
    ),
    "gemma": _GEMMA,
    "gemma3_text": replace(
        _GEMMA,
        kinds=_most_sliding,
        listed=True,
        bidirectional=("use_bidirectional_attention", True),
        halved=True,
        heads_normed=True,
        scaled_by="query_pre_attn_scalar",
        thetas={_FULL: ("rope_theta", 1e6), _SLIDING: ("rope_local_base_freq", 1e4)},
        activation=("hidden_activation", "gelu_pytorch_tanh"),
        legacy_gelu=False,
        normed_after=True,
    ),
}


def attentions(config: Mapping[str, Any], family: Family, where: str) -> tuple[Attention, ...]:
    """How each layer attends, but for the names of its weights.

    Raises:
        ModelUnsupported: there is a kind of layer that isn't computed here.
        ModelCorrupt: a size is missing, isn't a positive number, or contradicts another.
    """
    heads = size(config, "num_attention_heads", where)
    groups = size(config, "num_key_value_heads", where, default=heads)
    if heads % groups:
        raise ModelCorrupt(
            f"{where}: num_attention_heads {heads} isn't a multiple of num_key_value_heads {groups}"
        )
    plain = Attention(heads, _head(config, family, heads, where), groups)
    if family.scaled_by is not None:
        plain = replace(plain, scale=number(config, family.scaled_by, where, default=256) ** -0.5)
    plain = replace(plain, causal=not _bidirectional(config, family))
    turning = _with_thetas(config, family)
    kinds = _kinds(config, family, where)
    made: dict[Kind, Attention] = {}
    for kind in set(kinds):
        window = _window(config, family, where) if kind == _SLIDING else None
        turn = frequencies(turning, width=plain.width, where=where, kind=kind)
        made[kind] = replace(plain, window=window, rotary=turn)
    return tuple(made[kind] for kind in kinds)


def embedding_scale(config: Mapping[str, Any], width: int) -> float:
    """The root of `width`, rounded to the numbers that the weights were made in.

    transformers and the training code multiply by it in that type: 27.75 for a bf16 model of
    width 768, whose root is 27.71.
    """
    root = np.float32(np.sqrt(width))
    made_in = str(config.get("dtype") or config.get("torch_dtype")).removeprefix("torch.")
    if made_in == "float16":
        return float(np.float16(root))
    if made_in == "bfloat16":
        bits = int(root.view(np.uint32))
        bits = (bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000
        return float(np.uint32(bits).view(np.float32))
    return float(root)


def refuse_variants(config: Mapping[str, Any], family: Family, where: str) -> None:
    """Raise ModelUnsupported, naming it, for what isn't computed here."""
    if config.get("quantization_config"):
        method = config["quantization_config"].get("quant_method", "an unnamed method")
        raise ModelUnsupported(
            f"{where}: the weights are quantised by {method}, which isn't read here; use the "
            "model they were made from"
        )
    if config.get("attn_logit_softcapping"):
        raise ModelUnsupported(f"{where}: attn_logit_softcapping isn't computed here")
    if config.get("partial_rotary_factor") not in (None, 1):
        raise ModelUnsupported(f"{where}: partial_rotary_factor isn't computed here for decoders")
    if config.get("layer_types") and not family.listed:
        raise ModelUnsupported(
            f"{where}: layer_types isn't something model_type {config['model_type']!r} has"
        )
    _refuse_unclear_sight(config, family, where)


# By what name, and which value of it, configurations say that later tokens are seen as well.
_SIGHT: Mapping[str, bool] = {
    "is_causal": False,
    "use_bidirectional_attention": True,
    "use_bidirectional": True,
    "bidirectional": True,
    "is_bidirectional": True,
}


def _refuse_unclear_sight(config: Mapping[str, Any], family: Family, where: str) -> None:
    if family.bidirectional is None:
        return
    known = family.bidirectional[0]
    for key, value in _SIGHT.items():
        if key != known and config.get(key) is value:
            raise ModelUnsupported(
                f"{where}: {key} is {value}, which model_type {config['model_type']!r} doesn't "
                f"have; if all tokens are to see one another, {known} says so"
            )
    for name in config.get("architectures") or ():
        if re.search("Bi(Model|For|[dD]ir)", name) and not _bidirectional(config, family):
            raise ModelUnsupported(
                f"{where}: the architecture {name} looks both ways, but {known} doesn't say so; "
                "it isn't computed here"
            )


def _bidirectional(config: Mapping[str, Any], family: Family) -> bool:
    if family.bidirectional is None:
        return True
    key, value = family.bidirectional
    return config.get(key) is value


def _head(config: Mapping[str, Any], family: Family, heads: int, where: str) -> int:
    width = size(config, "hidden_size", where)
    if config.get("head_dim") is None and family.head is None and width % heads:
        raise ModelCorrupt(
            f"{where}: hidden_size {width} isn't a multiple of num_attention_heads {heads}, and "
            "there is no head_dim"
        )
    return size(config, "head_dim", where, default=family.head or width // heads)


def _kinds(config: Mapping[str, Any], family: Family, where: str) -> tuple[Kind, ...]:
    layers = size(config, "num_hidden_layers", where)
    listed = config.get("layer_types")
    if not listed:
        return family.kinds(config, layers, where)
    if len(listed) != layers:
        raise ModelCorrupt(
            f"{where}: layer_types lists {len(listed)} layers, num_hidden_layers is {layers}"
        )
    unknown = sorted(set(listed) - {_FULL, _SLIDING})
    if unknown:
        raise ModelUnsupported(
            f"{where}: layer_types {', '.join(map(str, unknown))} aren't computed here; known: "
            f"{_FULL}, {_SLIDING}"
        )
    return tuple(listed)


def _window(config: Mapping[str, Any], family: Family, where: str) -> int:
    """How many places away a token of a sliding layer sees."""
    if family.switch is not None and not config.get(family.switch):
        raise ModelCorrupt(f"{where}: layer_types has {_SLIDING}, but {family.switch} isn't set")
    absent = None if "sliding_window" in config else _WINDOW
    written = size(config, "sliding_window", where, default=absent)
    if not _bidirectional(config, family):
        return written - 1
    # transformers counts a causal window with the token itself, and a bidirectional one without.
    return written // 2 if family.halved else written


def _with_thetas(config: Mapping[str, Any], family: Family) -> Mapping[str, Any]:
    """`config` with rotary parameters for each kind of layer, if the family has them."""
    if not family.thetas:
        return config
    parameters = dict(config.get("rope_parameters") or {})
    for kind, (key, base) in family.thetas.items():
        own = dict(parameters.get(kind) or {})
        if kind == _FULL:
            own |= config.get("rope_scaling") or {}
        own.setdefault("rope_theta", config.get(key) or base)
        parameters[kind] = own
    return {**config, "rope_scaling": None, "rope_parameters": parameters}
