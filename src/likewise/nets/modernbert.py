"""ModernBERT: norms before adding, rotary, most layers see only what is near."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from likewise.base.errors import ModelCorrupt, ModelUnsupported
from likewise.nets.config import activation, number, size
from likewise.nets.encoder import head_width
from likewise.nets.ops import Activation, Attention, Ops, Tensor
from likewise.nets.rope import frequencies

_FULL, _SLIDING = "full_attention", "sliding_attention"
# For each kind of layer: the older key of its rotary base, and the base when there is none.
_THETAS = {_FULL: ("global_rope_theta", 160_000.0), _SLIDING: ("local_rope_theta", 10_000.0)}


@dataclass(frozen=True, slots=True)
class ModernBert:
    """A ModernBERT (https://arxiv.org/abs/2412.13663)."""

    prefixes: ClassVar[tuple[str, ...]] = ("", "model.", "0.auto_model.")
    probe: ClassVar[str] = "embeddings.tok_embeddings.weight"

    vocabulary: int
    width: int
    inner: int
    attentions: tuple[Attention, ...]
    """One for each layer."""
    activation: Activation
    epsilon: float
    biased: frozenset[str]
    """Which of `attn`, `mlp` and `norm` have a bias."""

    @classmethod
    def read(cls, config: Mapping[str, Any], *, where: str) -> Self:
        """The architecture that `config` describes.

        Raises:
            ModelUnsupported: it asks for a variant that isn't computed here.
            ModelCorrupt: a size is missing, isn't a positive number, or contradicts another.
        """
        keys = {"attention_bias": "attn", "mlp_bias": "mlp", "norm_bias": "norm"}
        return cls(
            vocabulary=size(config, "vocab_size", where),
            width=size(config, "hidden_size", where),
            inner=size(config, "intermediate_size", where),
            attentions=_attentions(config, where),
            activation=activation(config, "hidden_activation", where, default="gelu"),
            epsilon=number(config, "norm_eps", where, default=1e-5),
            biased=frozenset(part for key, part in keys.items() if config.get(key)),
        )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every weight that `forward` reads, and its shape."""
        width, inner = self.width, self.inner
        shapes: dict[str, tuple[int, ...]] = {self.probe: (self.vocabulary, width)}
        norms = ["embeddings.norm", "final_norm"]
        for index in range(len(self.attentions)):
            layer = f"layers.{index}"
            norms += [f"{layer}.mlp_norm", *([f"{layer}.attn_norm"] if index else [])]
            for part, name, rows, columns in (
                ("attn", "Wqkv", 3 * width, width),
                ("attn", "Wo", width, width),
                ("mlp", "Wi", 2 * inner, width),
                ("mlp", "Wo", width, inner),
            ):
                shapes[f"{layer}.{part}.{name}.weight"] = (rows, columns)
                if part in self.biased:
                    shapes[f"{layer}.{part}.{name}.bias"] = (rows,)
        for norm in norms:
            shapes[f"{norm}.weight"] = (width,)
            if "norm" in self.biased:
                shapes[f"{norm}.bias"] = (width,)
        return shapes

    def forward(self, ops: Ops[Tensor], *, pairs: bool = False) -> Tensor:
        """The last hidden state of every token, [tokens, width]; types aren't read."""
        x = ops.embedding(self.probe, ops.tokens())
        x = ops.layer_norm(x, "embeddings.norm", epsilon=self.epsilon)
        for index, how in enumerate(self.attentions):
            layer = f"layers.{index}"
            # The embeddings are normed already.
            y = self._normed(ops, x, f"{layer}.attn_norm") if index else x
            y = ops.attention(ops.linear(y, [f"{layer}.attn.Wqkv"]), how)
            x = ops.add(x, ops.linear(y, [f"{layer}.attn.Wo"]))
            y = ops.linear(self._normed(ops, x, f"{layer}.mlp_norm"), [f"{layer}.mlp.Wi"])
            gate, up = ops.split(y, [self.inner, self.inner])
            y = ops.multiply(ops.activate(gate, self.activation), up)
            x = ops.add(x, ops.linear(y, [f"{layer}.mlp.Wo"]))
        return self._normed(ops, x, "final_norm")

    def _normed(self, ops: Ops[Tensor], x: Tensor, name: str) -> Tensor:
        return ops.layer_norm(x, name, epsilon=self.epsilon)


def _attentions(config: Mapping[str, Any], where: str) -> tuple[Attention, ...]:
    keys = ("hidden_size", "num_attention_heads")
    wide, heads = (size(config, key, where) for key in keys)
    width = head_width(wide, heads, where, keys)
    window = size(config, "local_attention", where, default=128) // 2
    made = {}
    for kind, (key, base) in _THETAS.items():
        theta = config.get(key, base)
        if theta is None and kind == _SLIDING:
            theta = config.get(_THETAS[_FULL][0])
        turning = frequencies(config, width=width, where=where, kind=kind, theta=theta)
        seen = window if kind == _SLIDING else None
        made[kind] = Attention(heads, width, window=seen, rotary=turning)
    return tuple(made[kind] for kind in _kinds(config, where))


def _kinds(config: Mapping[str, Any], where: str) -> tuple[str, ...]:
    layers = size(config, "num_hidden_layers", where)
    listed = config.get("layer_types")
    if not listed:
        every = size(config, "global_attn_every_n_layers", where, default=3)
        return tuple(_SLIDING if index % every else _FULL for index in range(layers))
    if len(listed) != layers:
        raise ModelCorrupt(
            f"{where}: layer_types lists {len(listed)} layers, num_hidden_layers is {layers}"
        )
    unknown = sorted(set(listed) - _THETAS.keys())
    if unknown:
        raise ModelUnsupported(
            f"{where}: layer_types {', '.join(map(str, unknown))} aren't computed here; known: "
            f"{', '.join(_THETAS)}"
        )
    return tuple(listed)
