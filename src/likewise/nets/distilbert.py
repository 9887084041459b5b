"""DistilBERT: a BERT without token types, with names and keys of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from likewise.nets.config import activation, size
from likewise.nets.encoder import Encoder, Names, head_width
from likewise.nets.ops import Attention


@dataclass(frozen=True, slots=True)
class DistilBert(Encoder):
    """A DistilBERT (https://arxiv.org/abs/1910.01108)."""

    prefixes: ClassVar[tuple[str, ...]] = ("", "distilbert.", "model.", "0.auto_model.")
    names: ClassVar[Names] = Names(
        layer="transformer.layer",
        queries=("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        out="attention.out_lin",
        attended="sa_layer_norm",
        up=("ffn.lin1",),
        down="ffn.lin2",
        widened="output_layer_norm",
    )

    @classmethod
    def read(cls, config: Mapping[str, Any], *, where: str) -> Self:
        """The architecture that `config` describes.

        Raises:
            ModelUnsupported: it asks for an activation that isn't computed here.
            ModelCorrupt: a size is missing, isn't a positive number, or contradicts another.
        """
        keys = ("dim", "n_heads")
        width, heads = (size(config, key, where) for key in keys)
        return cls(
            vocabulary=size(config, "vocab_size", where),
            width=width,
            layers=size(config, "n_layers", where),
            inner=size(config, "hidden_dim", where),
            attention=Attention(heads, head_width(width, heads, where, keys)),
            activation=activation(config, "activation", where, default="gelu"),
            epsilon=1e-12,
            # Sinusoidal positions, too, are in the file as a table.
            positions=size(config, "max_position_embeddings", where),
        )
