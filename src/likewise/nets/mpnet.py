"""MPNet: a BERT without token types whose scores also get a learned number by distance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from likewise.base.errors import ModelCorrupt
from likewise.nets.bert import bert_sizes
from likewise.nets.config import size
from likewise.nets.encoder import Encoder, Names
from likewise.nets.ops import Relative

_TABLE = "encoder.relative_attention_bias.weight"
# Fixed in transformers' class, whatever config.json says of the table's size.
_BUCKETS, _FURTHEST = 32, 128
_PADDING = 1


@dataclass(frozen=True, slots=True)
class MpNet(Encoder):
    """An MPNet (https://arxiv.org/abs/2004.09297); all layers share the table of distances."""

    prefixes: ClassVar[tuple[str, ...]] = ("", "mpnet.", "model.", "0.auto_model.")
    names: ClassVar[Names] = Names(
        queries=("attention.attn.q", "attention.attn.k", "attention.attn.v"),
        out="attention.attn.o",
        attended="attention.LayerNorm",
    )

    @classmethod
    def read(cls, config: Mapping[str, Any], *, where: str) -> Self:
        """The architecture that `config` describes.

        Raises:
            ModelUnsupported: it asks for a variant that isn't computed here.
            ModelCorrupt: a size is missing, isn't a positive number, or contradicts another.
        """
        sizes = bert_sizes(config, where) | {"types": 0}
        rows = size(config, "relative_attention_num_buckets", where, default=_BUCKETS)
        if rows != _BUCKETS:
            raise ModelCorrupt(
                f"{where}: relative_attention_num_buckets is {rows}; an MPNet has {_BUCKETS}"
            )
        bias = Relative(_TABLE, _BUCKETS, _FURTHEST)
        attention = replace(sizes.pop("attention"), bias=bias)
        return cls(**sizes, attention=attention, start=_PADDING + 1, uncounted=_PADDING)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every weight that `forward` reads, and its shape."""
        return Encoder.shapes(self) | {_TABLE: (_BUCKETS, self.attention.heads)}
