"""The vocabulary computed at once by torch, on the tokens of one batch."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from likewise.engines.angles import distance_rows, distance_vectors, relative_bias, turns
from likewise.engines.torch_attention import Varlen, in_rectangles, sees, suits_varlen
from likewise.nets.ops import (
    Activation,
    Alibi,
    Attention,
    Disentangled,
    Ops,
    PoolingMode,
    Relative,
    Rotary,
)

if TYPE_CHECKING:
    from likewise.engines.torch_feed import Feed, Group
    from likewise.engines.torch_weights import DeviceWeights

# As in torch.nn.functional.normalize.
_SHORTEST = 1e-12
_FEW_TOKENS = 64
"""Up to which every expert computes every token: looking who is asked takes longer."""


class TorchOps(Ops[Any]):
    """Hidden states are [tokens, width] in the dtype of the engine, pooled rows in float32."""

    def __init__(
        self,
        weights: DeviceWeights,
        feed: Feed,
        numbers: torch.Tensor,
        *,
        dtype: torch.dtype,
        longest: int,
        varlen: Varlen | None = None,
        is_captured: bool = False,
    ) -> None:
        """Compute the batch in `feed`, whose numbers on the device are `numbers`.

        No text has more than `longest` tokens. While it `is_captured`, nothing may depend on
        numbers that only the device knows.
        """
        self._weights = weights
        self._feed = feed
        self._views = feed.views(numbers)
        self._dtype = dtype
        self._longest = longest
        self._varlen = varlen
        self._is_captured = is_captured
        self._made: dict[Hashable, Any] = {}
        self.used_rectangles = False

    def tokens(self) -> Any:
        """Token ids, int [tokens]."""
        return self._views["ids"]

    def types(self) -> Any:
        """Token types, int [tokens]."""
        return self._views["types"]

    def positions(self, *, start: int = 0, skip: int | None = None) -> Any:
        """Places in the text, int [tokens]."""
        places = self._views["positions"]
        if skip is not None:
            # As `PackedBatch.placed`, on the device: a recorded graph holds for other texts too.
            counts = (self._views["ids"] != skip).int()
            seen = counts.cumsum(0)
            first = torch.arange(len(places), device=places.device) - places
            before = (seen - counts).index_select(0, first)
            places = torch.where(counts.bool(), seen - before - 1, -1)
        return places + start if start else places

    def embedding(self, table: str, indices: Any) -> Any:
        """Rows of a weight."""
        return functional.embedding(indices, self._weights.get(table, self._dtype))

    def row(self, table: str, index: int) -> Any:
        """One row of a weight, [1, width]."""
        return self._weights.get(table, self._dtype)[index : index + 1]

    def add(self, left: Any, right: Any) -> Any:
        """Sum."""
        return left + right

    def multiply(self, left: Any, right: Any) -> Any:
        """Product of each with each."""
        return left * right

    def scale(self, x: Any, factor: float) -> Any:
        """Every number times `factor`."""
        return x * factor

    def split(self, x: Any, widths: Sequence[int]) -> list[Any]:
        """Columns cut into neighbours."""
        return list(x.split(list(widths), dim=1))

    def layer_norm(self, x: Any, name: str | None, *, epsilon: float) -> Any:
        """Normalised over the width, scaled and shifted; torch sums in float32."""
        weight = bias = None
        if name is not None:
            weight = self._weights.get(f"{name}.weight", x.dtype)
            if f"{name}.bias" in self._weights:
                bias = self._weights.get(f"{name}.bias", x.dtype)
        return functional.layer_norm(x, x.shape[-1:], weight, bias, epsilon)

    def rms_norm(self, x: Any, name: str, *, epsilon: float, offset: float = 0.0) -> Any:
        """Divided by the root mean square, scaled; torch sums in float32."""
        key = f"{name}.weight"
        if offset:
            weight = self._weights.made(
                (key, offset), lambda: self._weights.host(key) + np.float32(offset), x.dtype
            )
        else:
            weight = self._weights.get(key, x.dtype)
        return functional.rms_norm(x, x.shape[-1:], weight, epsilon)

    def linear(self, x: Any, names: Sequence[str]) -> Any:
        """Products with several layers side by side, as one product."""
        matrix = self._weights.joined([f"{name}.weight" for name in names], x.dtype)
        return functional.linear(x, matrix, self._weights.biases(names, x.dtype))

    def project(self, x: Any, table: str, rows: Sequence[int] | None = None) -> Any:
        """Products with rows of a weight."""
        if rows is None:
            return functional.linear(x, self._weights.get(table, x.dtype))
        chosen = tuple(rows)
        matrix = self._weights.made(
            (table, chosen), lambda: np.array(self._weights.host(table)[list(chosen)]), x.dtype
        )
        return functional.linear(x, matrix)

    def shift(self, x: Any, name: str) -> Any:
        """A weight added to every row."""
        return x + self._weights.get(name, x.dtype)

    def activate(self, x: Any, activation: Activation) -> Any:
        """The activation of each number."""
        return _ACTIVATIONS[activation](x)

    def log1p(self, x: Any) -> Any:
        """log(1 + number)."""
        return torch.log1p(x)

    def softmax(self, x: Any) -> Any:
        """Shares of exp in each row, float32."""
        return torch.softmax(x, dim=1, dtype=torch.float32)

    def attention(self, qkv: Any, how: Attention) -> Any:
        """Each text attends to itself."""
        heads, groups, width = how.heads, how.groups, how.width
        split = qkv.reshape(-1, heads + 2 * groups, width)
        if how.norm is not None or how.rotary is not None:
            split = self._prepared(split, how)
        if self._varlen is not None and suits_varlen(how) and not self._feed.is_expanded:
            query, key, value = split.split((heads, groups, groups), dim=1)
            cumulative = self._views["cumulative"]
            y = self._varlen(query, key, value, cumulative, self._feed.longest, how)
            return y.reshape(-1, heads * width)
        self.used_rectangles = True
        return in_rectangles(split, how, self._feed, self._views, lambda *of: self._mask(how, *of))

    def experts(
        self,
        x: Any,
        shares: Any,
        *,
        first: str,
        second: str,
        bias: str | None,
        chosen: int,
        activation: Activation,
    ) -> Any:
        """Each expert computes the tokens that chose it; for few tokens, all of them."""
        count = shares.shape[1]
        ups, downs = (self._weights.get(name, x.dtype).chunk(count) for name in (first, second))
        kept, picked = shares.topk(chosen, dim=1)
        kept = kept.to(x.dtype)
        total = torch.zeros_like(x)
        if self._is_captured or len(x) <= _FEW_TOKENS:
            every = torch.zeros(shares.shape, dtype=x.dtype, device=x.device)
            every.scatter_(1, picked, kept)
            for index, (up, down) in enumerate(zip(ups, downs, strict=True)):
                y = self.activate(functional.linear(x, up), activation) @ down
                total += y * every[:, index : index + 1]
        else:
            for index, (up, down) in enumerate(zip(ups, downs, strict=True)):
                rows, place = torch.where(picked == index)
                y = self.activate(functional.linear(x[rows], up), activation) @ down
                total.index_add_(0, rows, y * kept[rows, place, None])
        return total if bias is None else self.shift(total, bias)

    def pool(self, x: Any, mode: PoolingMode, *, skip_prompt: bool = False) -> Any:
        """One row for each text, float32."""
        views = self._views
        places, first, last = views["positions"], views["first"], views["last"]
        if mode == "lasttoken":
            return x.index_select(0, last).float()
        if mode == "cls":
            return x.index_select(0, views["begin"] if skip_prompt else first).float()
        is_pooled = self._pooled(skip_prompt)
        if mode == "max":
            # No rounding here, and a row may be as wide as a vocabulary: as narrow as it came.
            if is_pooled is not None:
                x = x.masked_fill(~is_pooled[:, None], torch.finfo(x.dtype).min)
            return self._by_text(x, "max").float()
        numbers = x.float()
        weights = (
            (places + 1).float() if mode == "weightedmean" else torch.ones_like(places).float()
        )
        if is_pooled is not None:
            weights = weights * is_pooled
        weights = weights[:, None]
        is_plain = mode != "weightedmean" and is_pooled is None
        total = self._by_text(numbers if is_plain else numbers * weights, "sum")
        if mode == "sum":
            return total
        count = self._by_text(weights, "sum").clamp(min=1e-9)
        return total / (count.sqrt() if mode == "mean_sqrt_len_tokens" else count)

    def concat(self, parts: Sequence[Any]) -> Any:
        """Rows side by side."""
        return torch.cat(list(parts), dim=1)

    def normalise(self, x: Any) -> Any:
        """Rows scaled to length 1, float32."""
        return functional.normalize(x.float(), dim=1, eps=_SHORTEST)

    def _once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What every layer shares is made when the first one asks."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def _pooled(self, skip_prompt: bool) -> torch.Tensor | None:
        """Which tokens count in their text's row, bool [tokens]; None for all."""
        views = self._views
        texts, places = views["texts"], views["positions"]
        counted: torch.Tensor | None = None
        if skip_prompt:
            counted = places >= views["prompts"].index_select(0, texts)
        if self._feed.is_expanded:
            seen = places < views["attended"].index_select(0, texts)
            counted = seen if counted is None else counted & seen
        return counted

    def _by_text(self, x: torch.Tensor, how: str) -> torch.Tensor:
        """Sum or maximum over the tokens of each text: the same on every run, unlike scatter's."""
        if x.device.type == "mps":
            return _scattered(x, self._views["texts"], self._feed.texts, how)
        ends = self._views["cumulative"][:-1]
        return torch.segment_reduce(x.contiguous(), how, offsets=ends, unsafe=True)

    def _prepared(self, split: torch.Tensor, how: Attention) -> torch.Tensor:
        """Queries and keys normalised and turned; values as they are."""
        heads, groups = how.heads, how.groups
        query_key, value = split.split((heads + groups, groups), dim=1)
        if how.norm is not None:
            norm = how.norm
            names = (norm.query, norm.key)
            parts = zip(names, query_key.split((heads, groups), dim=1), strict=True)
            query_key = torch.cat(
                [
                    self.rms_norm(x, name, epsilon=norm.epsilon, offset=norm.offset)
                    for name, x in parts
                ],
                dim=1,
            )
        if how.rotary is not None:
            query_key = self._turned(query_key, how.rotary, how.width)
        return torch.cat([query_key, value], dim=1)

    def _turned(self, x: torch.Tensor, rotary: Rotary, width: int) -> torch.Tensor:
        """`x` [tokens, heads, width] with its first numbers turned by their place, in float32."""
        cos, sin = self._once(("turns", rotary), lambda: self._turns(rotary))
        turning = 2 * len(rotary.frequencies)
        rest = x[..., turning:]
        turned = x[..., :turning]
        if rotary.interleaved:
            partner = torch.stack((-turned[..., 1::2], turned[..., 0::2]), dim=-1).flatten(-2)
        else:
            front, back = turned.chunk(2, dim=-1)
            partner = torch.cat((-back, front), dim=-1)
        y = (turned * cos + partner * sin).to(x.dtype)
        return y if turning == width else torch.cat((y, rest), dim=-1)

    def _turns(self, rotary: Rotary) -> tuple[torch.Tensor, torch.Tensor]:
        table = self._weights.made(
            ("turns", rotary, self._longest),
            lambda: np.concatenate(turns(rotary, self._longest), axis=1),
            torch.float32,
        )
        found = table.index_select(0, self._views["positions"])[:, None]
        cos, sin = found.chunk(2, dim=-1)
        return cos, sin

    def _mask(
        self, how: Attention, group: Group, queries: torch.Tensor, keys: torch.Tensor
    ) -> torch.Tensor | None:
        if isinstance(how.bias, Disentangled):
            met = self._met(how, how.bias, queries, keys)
            seen = self._mask(replace(how, bias=None), group, queries, keys)
            return met if seen is None else met.masked_fill(~seen, torch.finfo(met.dtype).min)
        key = ("mask", how.causal, how.window, how.bias, group)
        return self._once(key, lambda: self._made_mask(how, group))

    def _met(
        self, how: Attention, bias: Disentangled, queries: torch.Tensor, keys: torch.Tensor
    ) -> torch.Tensor:
        """What queries and keys make of their distances: [texts, heads, length, length]."""
        length, device = queries.shape[2], queries.device
        every = self._weights.once(
            ("rows", bias.span, bias.furthest, self._longest),
            lambda: torch.from_numpy(distance_rows(bias, self._longest)).to(device, torch.int64),
        )
        places = torch.arange(length, device=device)
        rows = every[places[None, :] - places[:, None] + self._longest - 1]
        total = torch.zeros((), dtype=queries.dtype, device=device)
        for x, layer in ((queries, bias.keys), (keys, bias.queries)):
            if layer is None:
                continue
            vectors = self._weights.made(
                ("distances", layer),
                partial(distance_vectors, bias, layer, how.heads, self._weights.host),
                x.dtype,
            )
            index = rows if x is queries else rows.T
            met = (x @ vectors.mT).gather(3, index.expand(*x.shape[:3], length))
            total = total + (met if x is queries else met.mT)
        return total * (how.scale or how.width**-0.5)

    def _made_mask(self, how: Attention, group: Group) -> torch.Tensor | None:
        lengths = self._views["lengths"][group.first_text : group.first_text + group.texts]
        seen = sees(how, group, lengths)
        if how.bias is None or isinstance(how.bias, Disentangled):
            return seen
        added = self._bias(how.bias, group.length).to(self._dtype)
        if seen is None:
            return added
        return added.masked_fill(~seen, torch.finfo(added.dtype).min)

    def _bias(self, bias: Alibi | Relative, length: int) -> torch.Tensor:
        """What is added to the scores, float32 [1, heads, length, length]."""
        device = self._weights.device
        places = torch.arange(length, device=device)
        after = places[None, :] - places[:, None]
        if isinstance(bias, Alibi):
            slopes = torch.tensor(bias.slopes, device=device).view(1, -1, 1, 1)
            return -slopes * after.abs()
        host = self._weights.host
        table = self._weights.made(
            ("relative", bias, self._longest),
            lambda: relative_bias(bias, host(bias.table), self._longest),
            torch.float32,
        )
        return table[:, after + self._longest - 1][None]


def _scattered(x: torch.Tensor, texts: torch.Tensor, count: int, how: str) -> torch.Tensor:
    """As `segment_reduce`, for devices that haven't got it."""
    index = texts.long()
    if how == "sum":
        return x.new_zeros((count, x.shape[1])).index_add_(0, index, x)
    lowest = x.new_full((count, x.shape[1]), torch.finfo(x.dtype).min)
    return lowest.scatter_reduce_(0, index[:, None].expand_as(x), x, "amax")


_ACTIVATIONS: dict[Activation, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "relu": functional.relu,
    "tanh": torch.tanh,
    "silu": functional.silu,
    "sigmoid": torch.sigmoid,
    "identity": lambda x: x,
    "elu": functional.elu,
    "hardsigmoid": functional.hardsigmoid,
    "hardswish": functional.hardswish,
    "hardtanh": functional.hardtanh,
    "leaky_relu": functional.leaky_relu,
    "log_sigmoid": functional.logsigmoid,
    "mish": functional.mish,
    "relu6": functional.relu6,
    "selu": functional.selu,
    "softplus": functional.softplus,
    "softsign": functional.softsign,
    "tanhshrink": functional.tanhshrink,
}
