"""BERT and its next of kin: RoBERTa, XLM-RoBERTa, CamemBERT, ELECTRA."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from likewise.nets.config import activation, number, size
from likewise.nets.encoder import Encoder, head_width, refuse_decoders, refuse_other
from likewise.nets.ops import Attention


@dataclass(frozen=True, slots=True)
class Bert(Encoder):
    """A BERT (https://arxiv.org/abs/1810.04805)."""

    @classmethod
    def read(cls, config: Mapping[str, Any], *, where: str) -> Self:
        """The architecture that `config` describes.

        Raises:
            ModelUnsupported: it asks for a variant that isn't computed here.
            ModelCorrupt: a size is missing, isn't a positive number, or contradicts another.
        """
        return cls(**bert_sizes(config, where))


@dataclass(frozen=True, slots=True)
class Roberta(Encoder):
    """A RoBERTa (https://arxiv.org/abs/1907.11692): a BERT whose positions start further on."""

    prefixes: ClassVar[tuple[str, ...]] = ("", "roberta.", "model.", "0.auto_model.")

    @classmethod
    def read(cls, config: Mapping[str, Any], *, where: str) -> Self:
        """The architecture that `config` describes; errors as of `Bert`."""
        # The table's rows up to the padding token's number were never anyone's position.
        padding = config.get("pad_token_id")
        padding = 1 if padding is None else padding
        return cls(**bert_sizes(config, where), start=1 + padding, uncounted=padding)


@dataclass(frozen=True, slots=True)
class Electra(Encoder):
    """An ELECTRA (https://arxiv.org/abs/2003.10555): embeddings may be narrower than the rest."""

    prefixes: ClassVar[tuple[str, ...]] = ("", "electra.", "model.", "0.auto_model.")

    @classmethod
    def read(cls, config: Mapping[str, Any], *, where: str) -> Self:
        """The architecture that `config` describes; errors as of `Bert`."""
        sizes = bert_sizes(config, where)
        narrow = size(config, "embedding_size", where, default=128)
        return cls(**sizes, narrow=None if narrow == sizes["width"] else narrow)


def bert_sizes(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What `config` says in the words of BERT, as the fields of `Encoder`.

    Raises:
        ModelUnsupported: it asks for a variant that isn't computed here.
        ModelCorrupt: a size is missing, isn't a positive number, or contradicts another.
    """
    refuse_decoders(config, where)
    refuse_other(config, {"position_embedding_type": "absolute"}, where)
    width, heads = (size(config, key, where) for key in _WIDTH_AND_HEADS)
    return {
        "vocabulary": size(config, "vocab_size", where),
        "width": width,
        "layers": size(config, "num_hidden_layers", where),
        "inner": size(config, "intermediate_size", where),
        "attention": Attention(heads, head_width(width, heads, where, _WIDTH_AND_HEADS)),
        "activation": activation(config, "hidden_act", where, default="gelu"),
        "epsilon": number(config, "layer_norm_eps", where, default=1e-12),
        "positions": size(config, "max_position_embeddings", where),
        "types": size(config, "type_vocab_size", where, default=2),
    }


_WIDTH_AND_HEADS = ("hidden_size", "num_attention_heads")
