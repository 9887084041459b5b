"""The vocabulary: operations in which architectures are written and that engines implement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, Self, TypeVar

Activation = Literal[
    "gelu",
    "gelu_tanh",
    "relu",
    "tanh",
    "silu",
    "sigmoid",
    "identity",
    "elu",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "log_sigmoid",
    "mish",
    "relu6",
    "selu",
    "softplus",
    "softsign",
    "tanhshrink",
]
"""As torch defines them, with the parameters torch gives them when it is told none."""
PoolingMode = Literal[
    "cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken", "sum"
]
"""`sum` is what sparse heads ask for; a model's Pooling module never does."""

Tensor = TypeVar("Tensor")
"""Whatever an engine calls a value in its graph; architectures only hand it on."""


@dataclass(frozen=True, slots=True)
class Rotary:
    """Rotary position embedding: pairs of a head's numbers turned by place x frequency."""

    frequencies: tuple[float, ...]
    """Angle per place of each pair, in radians; the first 2 x as many of a head's numbers turn."""
    scale: float = 1.0
    """What sine and cosine are multiplied by (`attention_factor` of YaRN)."""
    interleaved: bool = False
    """Pairs are neighbours (0, 1), (2, 3)...; else number i goes with i + half."""


@dataclass(frozen=True, slots=True)
class Alibi:
    """Scores fall with distance: `-slope x |i - j|` is added, a slope for each head."""

    slopes: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Relative:
    """Scores get a learned number by distance (T5, MPNet), from `table` [buckets, heads]."""

    table: str
    buckets: int
    furthest: int
    """Distances from here on share the last bucket of their side."""


@dataclass(frozen=True, slots=True)
class Disentangled:
    """Scores also get query x distance and distance x key, where a distance is a learned vector.

    DeBERTa (https://arxiv.org/abs/2006.03654), section 3.1. The vector of a distance is a row of
    `table`, normalised by `norm`, then taken through the layer `keys` for the queries to meet, and
    through `queries` for the keys. All scores are multiplied by the attention's scale.
    """

    table: str
    """[2 x span, width]: row span + d for a query d places after its key."""
    norm: str | None
    epsilon: float
    keys: str | None
    """None: queries don't meet distances."""
    queries: str | None
    span: int
    """Distances from here on share the last row of their side."""
    furthest: int | None
    """If given, distances beyond half the span share rows logarithmically up to this one."""


@dataclass(frozen=True, slots=True)
class HeadNorm:
    """Queries and keys are RMS-normalised head by head before they are turned."""

    query: str
    key: str
    epsilon: float
    offset: float = 0.0
    """Added to the weight (1 in Gemma)."""


@dataclass(frozen=True, slots=True)
class Attention:
    """How the tokens of a text look at one another."""

    heads: int
    """Heads of queries."""
    width: int
    """Numbers of one head."""
    kv_heads: int | None = None
    """Heads of keys and values, each shared by heads / kv_heads neighbours; None: as many."""
    scale: float | None = None
    """What scores are multiplied by; None: 1 / sqrt(width)."""
    causal: bool = False
    """A token sees only itself and those before it."""
    window: int | None = None
    """A token sees only those at most so many places away; None: however far."""
    rotary: Rotary | None = None
    bias: Alibi | Relative | Disentangled | None = None
    norm: HeadNorm | None = None

    @property
    def groups(self) -> int:
        """Heads of keys, and of values."""
        return self.kv_heads or self.heads


class Ops(Protocol[Tensor]):
    """Packed arithmetic: a batch's tokens lie end to end, so hidden states are [tokens, width].

    Weights are named as in the model's files; the engine looks them up. No operation sees padding
    but the engine's own `attention` and `pool`, which hide it.
    """

    def tokens(self) -> Tensor:
        """Token ids, int [tokens]."""
        ...

    def types(self) -> Tensor:
        """Token types, int [tokens]: 1 in the second text of a pair, else 0."""
        ...

    def positions(self, *, start: int = 0, skip: int | None = None) -> Tensor:
        """Each token's place in its text, counted from `start`, int [tokens].

        Tokens whose id is `skip` aren't counted, and stand at `start` - 1.
        """
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

    def multiply(self, left: Tensor, right: Tensor) -> Tensor:
        """Product, number by number; a [1, width] or [tokens, 1] side counts for all."""
        ...

    def scale(self, x: Tensor, factor: float) -> Tensor:
        """Every number times `factor`."""
        ...

    def split(self, x: Tensor, widths: Sequence[int]) -> list[Tensor]:
        """Columns cut into neighbours of these widths."""
        ...

    def layer_norm(self, x: Tensor, name: str | None, *, epsilon: float) -> Tensor:
        """Normalised over the width, scaled by `name`.weight, shifted by `name`.bias if any.

        Without a name, only normalised.
        """
        ...

    def rms_norm(self, x: Tensor, name: str, *, epsilon: float, offset: float = 0.0) -> Tensor:
        """Divided by its root mean square over the width; times (`name`.weight + `offset`)."""
        ...

    def linear(self, x: Tensor, names: Sequence[str]) -> Tensor:
        """Products with the layers `names` (each `.weight`, `.bias` if any), side by side."""
        ...

    def project(self, x: Tensor, table: str, rows: Sequence[int] | None = None) -> Tensor:
        """Products with the rows of the weight `table` (all, or those in `rows`); no bias."""
        ...

    def shift(self, x: Tensor, name: str) -> Tensor:
        """The weight `name` [width] added to every row."""
        ...

    def activate(self, x: Tensor, activation: Activation) -> Tensor:
        """The activation of each number; `gelu` is the exact one, with the error function."""
        ...

    def log1p(self, x: Tensor) -> Tensor:
        """log(1 + number) of each number, none of which is negative."""
        ...

    def softmax(self, x: Tensor) -> Tensor:
        """Each row's shares of exp: they add up to 1."""
        ...

    def attention(self, qkv: Tensor, how: Attention) -> Tensor:
        """Each text attends to itself: [tokens, heads x width].

        `qkv` [tokens, (heads + 2 x groups) x width] has queries, keys and values side by side.
        """
        ...

    def experts(
        self,
        x: Tensor,
        shares: Tensor,
        *,
        first: str,
        second: str,
        bias: str | None,
        chosen: int,
        activation: Activation,
    ) -> Tensor:
        """A mixture: for each token the sum of its `chosen` largest shares x that expert's output.

        `shares` is [tokens, experts]. Expert e is `second_e^T(activation(first_e x))` with
        `first` and `second` [experts x inner, width] cut into as many blocks of rows as there are
        experts; `bias` [width] is added once at the end.
        """
        ...

    def pool(self, x: Tensor, mode: PoolingMode, *, skip_prompt: bool = False) -> Tensor:
        """One row for each text, [texts, width]; `skip_prompt` leaves out its prompt's tokens.

        Then `cls` is the first token after the prompt (the first of all when there is none), a
        token keeps the weight of its place in the whole text, and `lasttoken` is as ever.
        """
        ...

    def concat(self, parts: Sequence[Tensor]) -> Tensor:
        """Rows side by side: [rows, sum of widths]."""
        ...

    def normalise(self, x: Tensor) -> Tensor:
        """Rows scaled to length 1; a row of zeros stays zeros."""
        ...


class Net(Protocol):
    """An architecture: what a class in `nets/` has, so that any engine can run it."""

    prefixes: ClassVar[tuple[str, ...]]
    """What may stand before the names of its weights in a checkpoint; "" among them."""
    probe: ClassVar[str]
    """A weight that every checkpoint has, by which the prefix is found."""

    @classmethod
    def read(cls, config: Mapping[str, Any], *, where: str) -> Self:
        """The architecture that config.json describes.

        Raises:
            ModelUnsupported: it asks for a variant that isn't computed here.
            ModelCorrupt: a size is missing, isn't a positive number, or contradicts another.
        """
        ...

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every weight that `forward` reads, and its shape."""
        ...

    def forward(self, ops: Ops[Tensor], *, pairs: bool = False) -> Tensor:
        """The last hidden state of every token, [tokens, width]; `pairs` of texts have types."""
        ...
