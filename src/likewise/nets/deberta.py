"""DeBERTa v2 and v3: a BERT whose scores also let content meet distance, and distance content."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from likewise.base.errors import ModelUnsupported
from likewise.nets.bert import bert_sizes
from likewise.nets.config import size
from likewise.nets.encoder import Encoder, Names
from likewise.nets.ops import Disentangled, Ops, Tensor

_TABLE = "encoder.rel_embeddings.weight"
_NORM = "encoder.LayerNorm"
_EPSILON = 1e-7
_KINDS = ("c2p", "p2c")


@dataclass(frozen=True, slots=True)
class Deberta(Encoder):
    """A DeBERTa v2 or v3 (https://arxiv.org/abs/2006.03654, https://arxiv.org/abs/2111.09543)."""

    prefixes: ClassVar[tuple[str, ...]] = ("", "deberta.", "model.", "0.auto_model.")
    names: ClassVar[Names] = Names(
        queries=(
            "attention.self.query_proj",
            "attention.self.key_proj",
            "attention.self.value_proj",
        )
    )

    @classmethod
    def read(cls, config: Mapping[str, Any], *, where: str) -> Self:
        """The architecture that `config` describes.

        Raises:
            ModelUnsupported: it asks for a variant that isn't computed here.
            ModelCorrupt: a size is missing, isn't a positive number, or contradicts another.
        """
        _refuse_variants(config, where)
        types = config.get("type_vocab_size") or 0
        sizes = bert_sizes({**config, "type_vocab_size": types or 1}, where) | {"types": types}
        if not config.get("position_biased_input", True):
            sizes["positions"] = 0
        if config.get("layer_norm_eps") is None:
            sizes["epsilon"] = _EPSILON
        bias = _bias(config, sizes["epsilon"], where)
        attention = sizes.pop("attention")
        met = 0 if bias is None else (bias.keys is not None) + (bias.queries is not None)
        scale = float((attention.width * (1 + met)) ** -0.5)
        return cls(**sizes, attention=replace(attention, bias=bias, scale=scale))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every weight that `forward` reads, and its shape."""
        shapes, width, bias = Encoder.shapes(self), self.width, self.attention.bias
        if not isinstance(bias, Disentangled):
            return shapes
        shapes[_TABLE] = (2 * bias.span, width)
        if bias.norm is not None:
            shapes |= {f"{bias.norm}.weight": (width,), f"{bias.norm}.bias": (width,)}
        for index in range(self.layers):
            for layer in filter(None, (bias.keys, bias.queries)):
                name = self._name(index, layer)
                shapes |= {f"{name}.weight": (width, width), f"{name}.bias": (width,)}
        return shapes

    def _attended(self, ops: Ops[Tensor], x: Tensor, index: int) -> Tensor:
        bias = self.attention.bias
        if not isinstance(bias, Disentangled):
            return Encoder._attended(self, ops, x, index)
        keys, queries = (
            None if layer is None else self._name(index, layer)
            for layer in (bias.keys, bias.queries)
        )
        own = replace(self.attention, bias=replace(bias, keys=keys, queries=queries))
        return Encoder._attended(replace(self, attention=own), ops, x, index)


def _bias(config: Mapping[str, Any], epsilon: float, where: str) -> Disentangled | None:
    kinds = _kinds(config)
    if not config.get("relative_attention") or not kinds:
        return None
    longest = int(config.get("max_relative_positions") or -1)
    if longest < 1:
        longest = size(config, "max_position_embeddings", where)
    buckets = int(config.get("position_buckets") or -1)
    keys, queries = ("key_proj", "query_proj")
    if not config.get("share_att_key", False):
        keys, queries = (f"pos_{keys}", f"pos_{queries}")
    normed = "layer_norm" in str(config.get("norm_rel_ebd", "none")).lower().split("|")
    return Disentangled(
        _TABLE,
        _NORM if normed else None,
        epsilon,
        f"attention.self.{keys}" if "c2p" in kinds else None,
        f"attention.self.{queries}" if "p2c" in kinds else None,
        span=buckets if buckets > 0 else longest,
        furthest=longest if buckets > 0 else None,
    )


def _kinds(config: Mapping[str, Any]) -> tuple[str, ...]:
    written = config.get("pos_att_type") or ()
    if isinstance(written, str):
        written = written.lower().split("|")
    return tuple(str(kind).strip() for kind in written)


def _refuse_variants(config: Mapping[str, Any], where: str) -> None:
    if int(config.get("conv_kernel_size") or 0) > 0:
        raise ModelUnsupported(
            f"{where}: conv_kernel_size {config['conv_kernel_size']}: the convolution after the "
            "first layer isn't computed here"
        )
    unknown = sorted(set(_kinds(config)) - set(_KINDS))
    if unknown:
        raise ModelUnsupported(
            f"{where}: pos_att_type {', '.join(unknown)} isn't computed here; known: "
            f"{', '.join(_KINDS)}"
        )
    if _kinds(config) and not config.get("relative_attention"):
        raise ModelUnsupported(
            f"{where}: pos_att_type is set, relative_attention isn't; that isn't computed here"
        )
    width = config.get("hidden_size")
    if config.get("embedding_size") not in (None, width):
        raise ModelUnsupported(
            f"{where}: embedding_size {config['embedding_size']} other than hidden_size {width} "
            "isn't computed here"
        )
    if config.get("attention_head_size") is not None:
        raise ModelUnsupported(f"{where}: attention_head_size isn't computed here")
