"""JinaBERT v2: a BERT with a gated inner layer, whose scores fall with distance (ALiBi)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from likewise.base.errors import ModelUnsupported
from likewise.nets.bert import bert_sizes
from likewise.nets.encoder import Encoder, Names, refuse_other
from likewise.nets.ops import Activation, Alibi

_ACTIVATIONS: Mapping[str, Activation] = {"geglu": "gelu", "reglu": "relu"}


@dataclass(frozen=True, slots=True)
class JinaBert(Encoder):
    """A JinaBERT v2 (https://arxiv.org/abs/2310.19923), as jinaai/jina-bert-implementation."""

    names: ClassVar[Names] = Names(
        up=("mlp.gate", "mlp.up"), down="mlp.wo", widened="mlp.layernorm"
    )

    @classmethod
    def read(cls, config: Mapping[str, Any], *, where: str) -> Self:
        """The architecture that `config` describes.

        Raises:
            ModelUnsupported: it asks for a variant that isn't computed here.
            ModelCorrupt: a size is missing, isn't a positive number, or contradicts another.
        """
        refuse_other(config, {"position_embedding_type": "alibi"}, where)
        gating = config.get("feed_forward_type", "original")
        if gating not in _ACTIVATIONS:
            raise ModelUnsupported(
                f"{where}: feed_forward_type {gating!r} isn't computed here; known: "
                f"{', '.join(_ACTIVATIONS)}"
            )
        sizes = bert_sizes({**config, "position_embedding_type": None}, where)
        sizes |= {"positions": 0, "activation": _ACTIVATIONS[gating]}
        attention = sizes.pop("attention")
        bias = Alibi(slopes(attention.heads))
        return cls(**sizes, attention=replace(attention, bias=bias), unbiased=frozenset(("up",)))


@dataclass(frozen=True, slots=True)
class JinaBertNormed(JinaBert):
    """One whose queries and keys are normed too, as jinaai/jina-bert-v2-qk-post-norm."""

    names: ClassVar[Names] = Names(
        normed_queries=("attention.self.layer_norm_q", "attention.self.layer_norm_k"),
        added_again="layer_norm_1",
        up=("mlp.up", "mlp.gate"),
        gate=1,
        down="mlp.down_layer",
        widened="layer_norm_2",
    )


def slopes(heads: int) -> tuple[float, ...]:
    """How fast scores fall in each head (https://arxiv.org/abs/2108.12409, section 3).

    Where `heads` isn't a power of two, the rest are every second one of twice as many.
    """
    whole = 1 << int(math.log2(heads))
    first = [2.0 ** (-8.0 * (head + 1) / whole) for head in range(whole)]
    rest = [2.0 ** (-4.0 * (head + 1) / whole) for head in range(0, 2 * whole, 2)]
    return tuple(first + rest[: heads - whole])
