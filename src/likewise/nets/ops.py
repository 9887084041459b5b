"""The vocabulary: operations in which architectures are written and that engines implement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, TypeVar

Activation = Literal["gelu", "gelu_tanh", "relu", "tanh", "silu", "sigmoid", "identity"]
PoolingMode = Literal["cls", "max", "mean", "lasttoken"]

Tensor = TypeVar("Tensor")
"""Whatever an engine calls a value in its graph; architectures only hand it on."""


class Ops(Protocol[Tensor]):
    """Packed arithmetic: a batch's tokens lie end to end, so hidden states are [tokens, width].

    Weights are named as in the model's files; the engine looks them up. No operation sees padding
    but the engine's own `attention` and `pool`, which hide it.
    """

    def tokens(self) -> Tensor:
        """Token ids, int [tokens]."""
        ...

    def positions(self) -> Tensor:
        """Each token's place in its text, counted from 0, int [tokens]."""
        ...

    def embedding(self, table: str, indices: Tensor) -> Tensor:
        """Rows of the weight `table` [rows, width] at `indices`: [tokens, width]."""
        ...

    def row(self, table: str, index: int) -> Tensor:
        """One row of the weight `table`, the same for every token: [1, width]."""
        ...

    def add(self, left: Tensor, right: Tensor) -> Tensor:
        """Sum; a [1, width] side counts for every token."""
        ...

    def layer_norm(self, x: Tensor, name: str, *, epsilon: float) -> Tensor:
        """Normalised over the width, scaled and shifted by `name`.weight and `name`.bias."""
        ...

    def linear(self, x: Tensor, names: Sequence[str]) -> Tensor:
        """Products with the layers `names` (each `.weight`, `.bias` if any), side by side."""
        ...

    def activate(self, x: Tensor, activation: Activation) -> Tensor:
        """The activation of each number; `gelu` is the exact one, with the error function."""
        ...

    def attention(self, qkv: Tensor, *, heads: int) -> Tensor:
        """Each text attends to itself, in both directions.

        `qkv` is [tokens, 3 x width]: queries, keys and values side by side; the result is
        [tokens, width]. Scores are scaled by the square root of the head's width.
        """
        ...

    def pool(self, x: Tensor, mode: PoolingMode) -> Tensor:
        """One row for each text: [texts, width]."""
        ...

    def concat(self, parts: Sequence[Tensor]) -> Tensor:
        """Rows side by side: [texts, sum of widths]."""
        ...

    def normalise(self, x: Tensor) -> Tensor:
        """Rows scaled to length 1; a row of zeros stays zeros."""
        ...
