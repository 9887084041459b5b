"""BERT, written once: its configuration, the shapes of its weights, and its forward pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from likewise.base.errors import ModelCorrupt, ModelUnsupported
from likewise.nets.config import activation, number, size
from likewise.nets.ops import Activation, Attention, Ops, Tensor


@dataclass(frozen=True, slots=True)
class Bert:
    """A BERT's sizes and choices; `read` makes it from config.json."""

    prefixes: ClassVar[tuple[str, ...]] = ("", "bert.", "model.", "0.auto_model.")
    probe: ClassVar[str] = "embeddings.word_embeddings.weight"

    vocabulary: int
    width: int
    layers: int
    heads: int
    inner: int
    positions: int
    types: int
    activation: Activation
    epsilon: float

    @classmethod
    def read(cls, config: Mapping[str, Any], *, where: str) -> Bert:
        """The architecture that `config` describes.

        Raises:
            ModelUnsupported: it asks for a variant that isn't computed here.
            ModelCorrupt: a size is missing, isn't a positive number, or contradicts another.
        """
        _refuse_variants(config, where)
        net = cls(
            vocabulary=size(config, "vocab_size", where),
            width=size(config, "hidden_size", where),
            layers=size(config, "num_hidden_layers", where),
            heads=size(config, "num_attention_heads", where),
            inner=size(config, "intermediate_size", where),
            positions=size(config, "max_position_embeddings", where),
            types=int(config.get("type_vocab_size", 2)),
            activation=activation(config, "hidden_act", where, default="gelu"),
            epsilon=number(config, "layer_norm_eps", where, default=1e-12),
        )
        if net.width % net.heads:
            raise ModelCorrupt(
                f"{where}: hidden_size {net.width} isn't a multiple of "
                f"num_attention_heads {net.heads}"
            )
        return net

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every weight that `forward` reads, and its shape."""
        width, inner = self.width, self.inner
        shapes: dict[str, tuple[int, ...]] = {
            "embeddings.word_embeddings.weight": (self.vocabulary, width),
            "embeddings.position_embeddings.weight": (self.positions, width),
            "embeddings.token_type_embeddings.weight": (self.types, width),
        }
        norms, linears = ["embeddings.LayerNorm"], []
        for layer in (f"encoder.layer.{index}" for index in range(self.layers)):
            norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
            linears += [
                *((f"{layer}.attention.self.{part}", width, width) for part in _QKV),
                (f"{layer}.attention.output.dense", width, width),
                (f"{layer}.intermediate.dense", inner, width),
                (f"{layer}.output.dense", width, inner),
            ]
        for name in norms:
            shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
        for name, rows, columns in linears:
            shapes |= {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}
        return shapes

    def forward(self, ops: Ops[Tensor], *, pairs: bool = False) -> Tensor:
        """The last hidden state of every token, [tokens, width]."""
        x = ops.embedding("embeddings.word_embeddings.weight", ops.tokens())
        types = "embeddings.token_type_embeddings.weight"
        x = ops.add(x, ops.embedding(types, ops.types()) if pairs else ops.row(types, 0))
        x = ops.add(x, ops.embedding("embeddings.position_embeddings.weight", ops.positions()))
        x = ops.layer_norm(x, "embeddings.LayerNorm", epsilon=self.epsilon)
        for index in range(self.layers):
            x = self._layer(ops, x, f"encoder.layer.{index}")
        return x

    def _layer(self, ops: Ops[Tensor], x: Tensor, layer: str) -> Tensor:
        qkv = ops.linear(x, [f"{layer}.attention.self.{part}" for part in _QKV])
        y = ops.attention(qkv, Attention(self.heads, self.width // self.heads))
        y = ops.linear(y, [f"{layer}.attention.output.dense"])
        x = ops.layer_norm(
            ops.add(y, x), f"{layer}.attention.output.LayerNorm", epsilon=self.epsilon
        )
        y = ops.activate(ops.linear(x, [f"{layer}.intermediate.dense"]), self.activation)
        y = ops.linear(y, [f"{layer}.output.dense"])
        return ops.layer_norm(ops.add(y, x), f"{layer}.output.LayerNorm", epsilon=self.epsilon)


_QKV = ("query", "key", "value")


def _refuse_variants(config: Mapping[str, Any], where: str) -> None:
    position = config.get("position_embedding_type") or "absolute"
    if position != "absolute":
        raise ModelUnsupported(
            f"{where}: position_embedding_type {position!r} isn't computed here; only 'absolute' is"
        )
    for key in ("is_decoder", "add_cross_attention"):
        if config.get(key):
            raise ModelUnsupported(f"{where}: {key} is set; only encoders are computed here")
