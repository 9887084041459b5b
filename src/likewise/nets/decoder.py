"""Decoders as embedding models, written once: Llama, Mistral, Qwen2 and 3, Gemma, EuroBERT."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from likewise.nets.config import activation, number, size
from likewise.nets.families import FAMILIES, attentions, embedding_scale, refuse_variants
from likewise.nets.ops import Activation, Attention, HeadNorm, Ops, Tensor


@dataclass(frozen=True, slots=True)
class Decoder:
    """Such a model's sizes and choices; `read` makes it from config.json."""

    prefixes: ClassVar[tuple[str, ...]] = (
        "",
        "model.",
        "0.auto_model.",
        "language_model.",
        "language_model.model.",
        "model.language_model.",
    )
    probe: ClassVar[str] = "embed_tokens.weight"

    vocabulary: int
    width: int
    inner: int
    attentions: tuple[Attention, ...]
    """One for each layer."""
    activation: Activation
    epsilon: float
    biased: frozenset[str]
    """Layers with a bias."""
    heads_normed: bool
    embedding_scale: float
    offset: float
    """Added to the weights of all norms."""
    normed_after: bool
    """What attention and the inner layers give is normed before it is added."""

    @classmethod
    def read(cls, config: Mapping[str, Any], *, where: str) -> Decoder:
        """The architecture that `config` describes.

        Raises:
            ModelUnsupported: it asks for a variant that isn't computed here.
            ModelCorrupt: a size is missing, isn't a positive number, or contradicts another.
        """
        family = FAMILIES[config["model_type"]]
        refuse_variants(config, family, where)
        width = size(config, "hidden_size", where)
        key, default = family.activation
        chosen = activation(config, key, where, default=default)
        return cls(
            vocabulary=size(config, "vocab_size", where),
            width=width,
            inner=size(config, "intermediate_size", where),
            attentions=attentions(config, family, where),
            activation="gelu_tanh" if family.legacy_gelu and chosen == "gelu" else chosen,
            epsilon=number(config, "rms_norm_eps", where, default=family.epsilon),
            biased=frozenset(
                name for name, key in family.biased.items() if key is None or config.get(key)
            ),
            heads_normed=family.heads_normed,
            embedding_scale=embedding_scale(config, width) if family.embedding_scaled else 1.0,
            offset=family.offset,
            normed_after=family.normed_after,
        )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every weight that `forward` reads, and its shape."""
        width, inner = self.width, self.inner
        shapes: dict[str, tuple[int, ...]] = {
            self.probe: (self.vocabulary, width),
            "norm.weight": (width,),
        }
        for index, how in enumerate(self.attentions):
            layer, queries, keys = f"layers.{index}", how.heads * how.width, how.groups * how.width
            for part, name, rows, columns in (
                ("self_attn", "q_proj", queries, width),
                ("self_attn", "k_proj", keys, width),
                ("self_attn", "v_proj", keys, width),
                ("self_attn", "o_proj", width, queries),
                ("mlp", "gate_proj", inner, width),
                ("mlp", "up_proj", inner, width),
                ("mlp", "down_proj", width, inner),
            ):
                shapes[f"{layer}.{part}.{name}.weight"] = (rows, columns)
                if name in self.biased:
                    shapes[f"{layer}.{part}.{name}.bias"] = (rows,)
            for name in self._norms:
                shapes[f"{layer}.{name}.weight"] = (width,)
            if self.heads_normed:
                for name in ("q_norm", "k_norm"):
                    shapes[f"{layer}.self_attn.{name}.weight"] = (how.width,)
        return shapes

    def forward(self, ops: Ops[Tensor], *, pairs: bool = False) -> Tensor:
        """The last hidden state of every token, [tokens, width]; types aren't read."""
        x = ops.embedding(self.probe, ops.tokens())
        if self.embedding_scale != 1:
            x = ops.scale(x, self.embedding_scale)
        for index, how in enumerate(self.attentions):
            x = self._layer(ops, x, f"layers.{index}", how)
        return self._normed(ops, x, "norm")

    def _layer(self, ops: Ops[Tensor], x: Tensor, layer: str, how: Attention) -> Tensor:
        first, second, *more = (f"{layer}.{name}" for name in self._norms)
        y = self._attended(ops, self._normed(ops, x, first), f"{layer}.self_attn", how)
        if not more:
            x = ops.add(x, y)
            return ops.add(x, self._widened(ops, self._normed(ops, x, second), f"{layer}.mlp"))
        third, fourth = more
        x = ops.add(x, self._normed(ops, y, second))
        y = self._widened(ops, self._normed(ops, x, third), f"{layer}.mlp")
        return ops.add(x, self._normed(ops, y, fourth))

    def _attended(self, ops: Ops[Tensor], x: Tensor, part: str, how: Attention) -> Tensor:
        if self.heads_normed:
            norm = HeadNorm(f"{part}.q_norm", f"{part}.k_norm", self.epsilon, self.offset)
            how = replace(how, norm=norm)
        qkv = ops.linear(x, [f"{part}.{name}" for name in ("q_proj", "k_proj", "v_proj")])
        return ops.linear(ops.attention(qkv, how), [f"{part}.o_proj"])

    def _widened(self, ops: Ops[Tensor], x: Tensor, part: str) -> Tensor:
        both = ops.linear(x, [f"{part}.gate_proj", f"{part}.up_proj"])
        gate, up = ops.split(both, [self.inner, self.inner])
        y = ops.multiply(ops.activate(gate, self.activation), up)
        return ops.linear(y, [f"{part}.down_proj"])

    def _normed(self, ops: Ops[Tensor], x: Tensor, name: str) -> Tensor:
        return ops.rms_norm(x, name, epsilon=self.epsilon, offset=self.offset)

    @property
    def _norms(self) -> tuple[str, ...]:
        """The norms of a layer, in the order in which they come."""
        if not self.normed_after:
            return ("input_layernorm", "post_attention_layernorm")
        return (
            "input_layernorm",
            "post_attention_layernorm",
            "pre_feedforward_layernorm",
            "post_feedforward_layernorm",
        )
