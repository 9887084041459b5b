"""Encoders that norm after adding, written once: BERT and those that differ from it by facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from likewise.base.errors import ModelCorrupt, ModelUnsupported
from likewise.nets.ops import Activation, Attention, Ops, Tensor

Part = Literal["queries", "out", "up", "down"]


@dataclass(frozen=True, slots=True)
class Names:
    """What a family calls its weights; those of a layer come after `layer` and its number."""

    layer: str = "encoder.layer"
    queries: tuple[str, str, str] = (
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
    )
    out: str = "attention.output.dense"
    attended: str = "attention.output.LayerNorm"
    """The norm after attention."""
    up: tuple[str, ...] = ("intermediate.dense",)
    """The inner layer; or two, of which one is activated and then multiplies the other."""
    gate: int = 0
    """Which of two that is."""
    down: str = "output.dense"
    widened: str = "output.LayerNorm"
    """The norm after the inner layer."""
    normed_queries: tuple[str, str] | None = None
    """Norms of queries and of keys, over all heads."""
    added_again: str | None = None
    """A second norm after attention, of its output and what went in once more."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """Every second layer or so has experts, of which each token asks a few."""

    every: int
    experts: int
    chosen: int

    def has(self, layer: int) -> bool:
        """Whether that layer has experts: the second of each `every`."""
        return layer % self.every == 1


@dataclass(frozen=True, slots=True)
class Encoder:
    """An encoder's sizes and choices; `read` of a family makes it from config.json."""

    prefixes: ClassVar[tuple[str, ...]] = ("", "bert.", "model.", "0.auto_model.")
    probe: ClassVar[str] = "embeddings.word_embeddings.weight"
    names: ClassVar[Names] = Names()

    vocabulary: int
    width: int
    layers: int
    inner: int
    attention: Attention
    activation: Activation
    epsilon: float
    positions: int = 0
    """Rows of the table of positions; 0: there is none."""
    start: int = 0
    """The row of a text's first token."""
    uncounted: int | None = None
    """The token, that for padding, which has the row before `start` wherever it stands."""
    types: int = 0
    """Rows of the table of token types; 0: there is none."""
    narrow: int | None = None
    """The width of the embeddings, if it is another: they are projected to `width`."""
    unbiased: frozenset[Part] = frozenset()
    """Layers without a bias."""
    mixture: Mixture | None = None

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every weight that `forward` reads, and its shape."""
        embedded = self.narrow or self.width
        shapes: dict[str, tuple[int, ...]] = {self.probe: (self.vocabulary, embedded)}
        if self.positions:
            shapes[_POSITIONS] = (self.positions, embedded)
        if self.types:
            shapes[_TYPES] = (self.types, embedded)
        shapes |= _norm(_EMBEDDED, embedded)
        if self.narrow is not None:
            shapes |= _linear(_PROJECTED, self.width, embedded)
        for index in range(self.layers):
            shapes |= self._layer_shapes(index)
        return shapes

    def forward(self, ops: Ops[Tensor], *, pairs: bool = False) -> Tensor:
        """The last hidden state of every token, [tokens, width]."""
        x = ops.embedding(self.probe, ops.tokens())
        if self.types:
            pairs = pairs and self.types > 1
            x = ops.add(x, ops.embedding(_TYPES, ops.types()) if pairs else ops.row(_TYPES, 0))
        if self.positions:
            places = ops.positions(start=self.start, skip=self.uncounted)
            x = ops.add(x, ops.embedding(_POSITIONS, places))
        x = ops.layer_norm(x, _EMBEDDED, epsilon=self.epsilon)
        if self.narrow is not None:
            x = ops.linear(x, [_PROJECTED])
        for index in range(self.layers):
            x = self._attended(ops, x, index)
            y = (
                self._asked(ops, x, index)
                if self._has_experts(index)
                else self._wide(ops, x, index)
            )
            x = ops.layer_norm(
                ops.add(y, x), self._name(index, self.names.widened), epsilon=self.epsilon
            )
        return x

    def _attended(self, ops: Ops[Tensor], x: Tensor, index: int) -> Tensor:
        names = self.names
        qkv = ops.linear(x, [self._name(index, part) for part in names.queries])
        if names.normed_queries is not None:
            query, key, value = ops.split(qkv, [self.width] * 3)
            query, key = (
                ops.layer_norm(part, self._name(index, name), epsilon=self.epsilon)
                for part, name in zip((query, key), names.normed_queries, strict=True)
            )
            qkv = ops.concat([query, key, value])
        y = ops.attention(qkv, self.attention)
        y = ops.linear(y, [self._name(index, names.out)])
        y = ops.layer_norm(ops.add(y, x), self._name(index, names.attended), epsilon=self.epsilon)
        if names.added_again is None:
            return y
        return ops.layer_norm(
            ops.add(x, y), self._name(index, names.added_again), epsilon=self.epsilon
        )

    def _wide(self, ops: Ops[Tensor], x: Tensor, index: int) -> Tensor:
        y = ops.linear(x, [self._name(index, part) for part in self.names.up])
        if len(self.names.up) == 1:
            y = ops.activate(y, self.activation)
        else:
            parts = ops.split(y, [self.inner, self.inner])
            gate, up = parts[self.names.gate], parts[1 - self.names.gate]
            y = ops.multiply(ops.activate(gate, self.activation), up)
        return ops.linear(y, [self._name(index, self.names.down)])

    def _asked(self, ops: Ops[Tensor], x: Tensor, index: int) -> Tensor:
        assert self.mixture is not None
        first, second, bias, router = (self._name(index, part) for part in _EXPERTS)
        return ops.experts(
            x,
            ops.softmax(ops.linear(x, [router])),
            first=first,
            second=second,
            bias=bias,
            chosen=self.mixture.chosen,
            activation=self.activation,
        )

    def _layer_shapes(self, index: int) -> dict[str, tuple[int, ...]]:
        names, width, inner = self.names, self.width, self.inner
        heads = self.attention.heads * self.attention.width
        rows: list[tuple[Part, str, int, int]] = [
            *(("queries", name, heads, width) for name in names.queries),
            ("out", names.out, width, heads),
        ]
        if not self._has_experts(index):
            rows += [("up", name, inner, width) for name in names.up]
            rows += [("down", names.down, width, inner)]
        shapes: dict[str, tuple[int, ...]] = {}
        for part, name, outputs, inputs in rows:
            has_bias = part not in self.unbiased
            shapes |= _linear(self._name(index, name), outputs, inputs, has_bias=has_bias)
        norms = [*(names.normed_queries or ()), names.attended, names.added_again, names.widened]
        for norm in norms:
            shapes |= {} if norm is None else _norm(self._name(index, norm), width)
        if self.mixture is not None and self._has_experts(index):
            first, second, bias, router = (self._name(index, part) for part in _EXPERTS)
            stacked = (self.mixture.experts * inner, width)
            shapes |= {first: stacked, second: stacked, bias: (width,)}
            shapes[f"{router}.weight"] = (self.mixture.experts, width)
        return shapes

    def _has_experts(self, index: int) -> bool:
        return self.mixture is not None and self.mixture.has(index)

    def _name(self, index: int, part: str) -> str:
        return f"{self.names.layer}.{index}.{part}"


_POSITIONS = "embeddings.position_embeddings.weight"
_TYPES = "embeddings.token_type_embeddings.weight"
_EMBEDDED = "embeddings.LayerNorm"
_PROJECTED = "embeddings_project"
_EXPERTS = ("mlp.experts.mlp.w1", "mlp.experts.mlp.w2", "mlp.experts.bias", "mlp.router.layer")


def refuse_decoders(config: Mapping[str, Any], where: str) -> None:
    """Raise ModelUnsupported if `config` has its tokens look only back, or at another text."""
    for key in ("is_decoder", "add_cross_attention"):
        if config.get(key):
            raise ModelUnsupported(f"{where}: {key} is set; only encoders are computed here")


def refuse_other(config: Mapping[str, Any], known: Mapping[str, Any], where: str) -> None:
    """Raise ModelUnsupported where a key of `known` has another value; missing and null pass."""
    for key, value in known.items():
        if config.get(key) is not None and config[key] != value:
            raise ModelUnsupported(
                f"{where}: {key} {config[key]!r} isn't computed here; only {value!r} is"
            )


def head_width(width: int, heads: int, where: str, keys: tuple[str, str]) -> int:
    """Numbers of one of `heads` that share `width`; `keys` are what config.json calls these two.

    Raises:
        ModelCorrupt: they can't share it evenly.
    """
    if width % heads:
        raise ModelCorrupt(f"{where}: {keys[0]} {width} isn't a multiple of {keys[1]} {heads}")
    return width // heads


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _linear(
    name: str, outputs: int, inputs: int, *, has_bias: bool = True
) -> dict[str, tuple[int, ...]]:
    weight: dict[str, tuple[int, ...]] = {f"{name}.weight": (outputs, inputs)}
    return weight | {f"{name}.bias": (outputs,)} if has_bias else weight
