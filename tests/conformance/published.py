"""Encoders that come with code of their own, straight from formulas: a text, a head at a time.

What `jinaai/jina-bert-implementation`, `jinaai/jina-bert-v2-qk-post-norm`,
`nomic-ai/nomic-bert-2048` and `Alibaba-NLP/new-impl` compute, in float64, with the weights named as
in their files.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "relu": functional.relu,
    "silu": functional.silu,
    "geglu": functional.gelu,
    "reglu": functional.relu,
    "swiglu": functional.silu,
    "glu": torch.sigmoid,
}
Bias = Callable[[int, int, int], float]
"""What is added to a score: by head, query and key."""


class Published:
    """A network that makes its weights, random by their names, when they are first asked for."""

    def __init__(self, config: dict[str, Any]) -> None:
        """A network of `config`, in its own words."""
        self.config = config
        self.weights: dict[str, Tensor] = {}

    def __call__(self, ids: list[int], types: list[int] | None = None) -> Any:
        """Hidden states of one text, float64 [tokens, width]."""
        compute = {
            "jina_bert": self.jina,
            "jina_bert_normed": self.jina_normed,
            "nomic_bert": self.nomic,
            "new": self.new,
        }[self.config["kind"]]
        return compute(ids, types or [0] * len(ids)).numpy()

    def take(self, name: str, *shape: int) -> Tensor:
        """The weight of that name, float64."""
        if name not in self.weights:
            pick = torch.Generator().manual_seed(zlib.crc32(name.encode()))
            one = "norm" in name.lower() or "_ln" in name
            values = torch.randn(shape, generator=pick) * 0.3
            self.weights[name] = values + (1.0 if one and name.endswith("weight") else 0.0)
        assert self.weights[name].shape == shape, name
        return self.weights[name].double()

    def norm(self, x: Tensor, name: str, epsilon: float) -> Tensor:
        """Less the mean, by the deviation, scaled, shifted."""
        width = x.shape[-1]
        x = x - x.mean(-1, keepdim=True)
        x = x / torch.sqrt((x**2).mean(-1, keepdim=True) + epsilon)
        return x * self.take(f"{name}.weight", width) + self.take(f"{name}.bias", width)

    def line(self, x: Tensor, name: str, out: int, *, bias: bool = True) -> Tensor:
        """A linear layer."""
        y = x @ self.take(f"{name}.weight", out, x.shape[-1]).T
        return y + self.take(f"{name}.bias", out) if bias else y

    def start(self, ids: list[int], types: list[int], count: int, width: int) -> Tensor:
        """Word embeddings and, if there are types, theirs."""
        rows = self.config["vocab_size"]
        x = self.take("embeddings.word_embeddings.weight", rows, width)[ids]
        if count:
            x = x + self.take("embeddings.token_type_embeddings.weight", count, width)[types]
        return x

    def jina(self, ids: list[int], types: list[int]) -> Tensor:
        """JinaBERT v2: the first half of the gated layers is activated."""
        c, epsilon = self.config, self.config["layer_norm_eps"]
        width, inner = c["hidden_size"], c["intermediate_size"]
        x = self.norm(self.start(ids, types, 2, width), "embeddings.LayerNorm", epsilon)
        for index in range(c["num_hidden_layers"]):
            layer = f"encoder.layer.{index}"
            x = self.jina_attention(x, layer, normed=False)
            both = self.line(x, f"{layer}.mlp.gated_layers", 2 * inner, bias=False)
            y = ACTIVATIONS[c["feed_forward_type"]](both[:, :inner]) * both[:, inner:]
            y = self.line(y, f"{layer}.mlp.wo", width)
            x = self.norm(y + x, f"{layer}.mlp.layernorm", epsilon)
        return x

    def jina_normed(self, ids: list[int], types: list[int]) -> Tensor:
        """That with normed queries and keys: here the second half is activated."""
        c, epsilon = self.config, self.config["layer_norm_eps"]
        width, inner = c["hidden_size"], c["intermediate_size"]
        x = self.norm(self.start(ids, types, 2, width), "embeddings.LayerNorm", epsilon)
        for index in range(c["num_hidden_layers"]):
            layer = f"encoder.layer.{index}"
            y = self.jina_attention(x, layer, normed=True)
            x = self.norm(x + y, f"{layer}.layer_norm_1", epsilon)
            both = self.line(x, f"{layer}.mlp.up_gated_layer", 2 * inner, bias=False)
            y = both[:, :inner] * ACTIVATIONS[c["feed_forward_type"]](both[:, inner:])
            y = self.line(y, f"{layer}.mlp.down_layer", width)
            x = self.norm(x + y, f"{layer}.layer_norm_2", epsilon)
        return x

    def jina_attention(self, x: Tensor, layer: str, *, normed: bool) -> Tensor:
        """Attention of both, with its norm."""
        width, heads = self.config["hidden_size"], self.config["num_attention_heads"]
        queries, keys, values = (
            self.line(x, f"{layer}.attention.self.{part}", width)
            for part in ("query", "key", "value")
        )
        if normed:
            epsilon = self.config["layer_norm_eps"]
            queries = self.norm(queries, f"{layer}.attention.self.layer_norm_q", epsilon)
            keys = self.norm(keys, f"{layer}.attention.self.layer_norm_k", epsilon)
        steep = slopes(heads)
        y = attend(
            queries, keys, values, heads, lambda head, query, key: -steep[head] * abs(query - key)
        )
        y = self.line(y, f"{layer}.attention.output.dense", width)
        name = f"{layer}.attention.output.LayerNorm"
        return self.norm(y + x, name, self.config["layer_norm_eps"])

    def new(self, ids: list[int], types: list[int]) -> Tensor:
        """GTE: rotary, perhaps NTK-scaled; the second half of `up_gate_proj` is activated."""
        c, epsilon = self.config, self.config["layer_norm_eps"]
        width, inner, heads = c["hidden_size"], c["intermediate_size"], c["num_attention_heads"]
        x = self.start(ids, types, c["type_vocab_size"], width)
        x = self.norm(x, "embeddings.LayerNorm", epsilon)
        scaling = c["rope_scaling"]
        factor = scaling["factor"] if scaling else 1.0
        half = width // heads // 2
        speeds = [
            (c["rope_theta"] * factor) ** (-pair / half) / factor ** (1 / half)
            for pair in range(half)
        ]
        for index in range(c["num_hidden_layers"]):
            layer = f"encoder.layer.{index}"
            if c["pack_qkv"]:
                parts = self.line(x, f"{layer}.attention.qkv_proj", 3 * width).split(width, 1)
            else:
                names = [f"{layer}.attention.{part}_proj" for part in "qkv"]
                parts = tuple(self.line(x, name, width) for name in names)
            turned = [rotate(part, heads, speeds, interleaved=False) for part in parts[:2]]
            y = attend(turned[0], turned[1], parts[2], heads)
            y = self.line(y, f"{layer}.attention.o_proj", width)
            x = self.norm(x + y, f"{layer}.attn_ln", epsilon)
            up, gate = self.line(x, f"{layer}.mlp.up_gate_proj", 2 * inner, bias=False).chunk(2, 1)
            y = self.line(ACTIVATIONS[c["hidden_act"]](gate) * up, f"{layer}.mlp.down_proj", width)
            x = self.norm(x + y, f"{layer}.mlp_ln", epsilon)
        return x

    def nomic(self, ids: list[int], types: list[int]) -> Tensor:
        """NomicBERT: part of a head may turn; the inner layer is gated, plain, or has experts."""
        c, epsilon = self.config, self.config["layer_norm_epsilon"]
        width, heads = c["n_embd"], c["n_head"]
        x = self.norm(self.start(ids, types, c["type_vocab_size"], width), "emb_ln", epsilon)
        turning = int(width // heads * c["rotary_emb_fraction"])
        speeds = [c["rotary_emb_base"] ** (-2 * n / turning) for n in range(turning // 2)]
        for index in range(c["n_layer"]):
            layer = f"encoder.layers.{index}"
            bias = c["qkv_proj_bias"]
            parts = self.line(x, f"{layer}.attn.Wqkv", 3 * width, bias=bias).split(width, 1)
            apart = c["rotary_emb_interleaved"]
            turned = [rotate(part, heads, speeds, interleaved=apart) for part in parts[:2]]
            y = attend(turned[0], turned[1], parts[2], heads)
            y = self.line(y, f"{layer}.attn.out_proj", width, bias=bias)
            x = self.norm(x + y, f"{layer}.norm1", epsilon)
            every = c.get("moe_every_n_layers", 0)
            has_experts = every > 0 and index % every == 1
            y = self.experts(x, f"{layer}.mlp") if has_experts else self.inner(x, f"{layer}.mlp")
            x = self.norm(x + y, f"{layer}.norm2", epsilon)
        return x

    def inner(self, x: Tensor, name: str) -> Tensor:
        """NomicBERT's inner layer."""
        c = self.config
        wide, first, second = c["n_inner"], c["mlp_fc1_bias"], c["mlp_fc2_bias"]
        act = ACTIVATIONS[c["activation_function"]]
        if c["activation_function"].endswith("glu"):
            gate = self.line(x, f"{name}.fc12", wide, bias=first)
            y = self.line(x, f"{name}.fc11", wide, bias=first) * act(gate)
        else:
            y = act(self.line(x, f"{name}.fc1", wide, bias=first))
        return self.line(y, f"{name}.fc2", c["n_embd"], bias=second)

    def experts(self, x: Tensor, name: str) -> Tensor:
        """NomicBERT's experts, token by token; their shares stay as they are."""
        c = self.config
        count, wide, width = c["num_experts"], c["n_inner"], c["n_embd"]
        shares = torch.softmax(self.line(x, f"{name}.router.layer", count, bias=False), dim=1)
        first = self.take(f"{name}.experts.mlp.w1", count * wide, width)
        second = self.take(f"{name}.experts.mlp.w2", count * wide, width)
        act = ACTIVATIONS[c["activation_function"]]
        rows = []
        for token, share in zip(x, shares, strict=True):
            total = self.take(f"{name}.experts.bias", width)
            for expert in share.argsort(descending=True)[: c["moe_top_k"]].tolist():
                rows_of = slice(expert * wide, (expert + 1) * wide)
                total = total + share[expert] * (act(first[rows_of] @ token) @ second[rows_of])
            rows.append(total)
        return torch.stack(rows)


def attend(
    query: Tensor, key: Tensor, value: Tensor, heads: int, bias: Bias | None = None
) -> Tensor:
    """Attention of one text, head by head: [tokens, width]."""
    count, width = query.shape[0], query.shape[1] // heads
    columns = []
    for head in range(heads):
        q, k, v = (x[:, head * width : (head + 1) * width] for x in (query, key, value))
        scores = q @ k.T / math.sqrt(width)
        if bias is not None:
            added = [[bias(head, i, j) for j in range(count)] for i in range(count)]
            scores = scores + torch.tensor(added, dtype=torch.float64)
        columns.append(torch.softmax(scores, dim=1) @ v)
    return torch.cat(columns, dim=1)


def rotate(x: Tensor, heads: int, speeds: list[float], *, interleaved: bool) -> Tensor:
    """Pairs of each head's numbers turned by place x speed, one pair after the other."""
    y, width, half = x.clone(), x.shape[1] // heads, len(speeds)
    places = torch.arange(len(x), dtype=torch.float64)
    for head in range(heads):
        for pair, speed in enumerate(speeds):
            a, b = (2 * pair, 2 * pair + 1) if interleaved else (pair, pair + half)
            a, b = a + head * width, b + head * width
            cos, sin = torch.cos(places * speed), torch.sin(places * speed)
            y[:, a] = x[:, a] * cos - x[:, b] * sin
            y[:, b] = x[:, b] * cos + x[:, a] * sin
    return y


def slopes(heads: int) -> list[float]:
    """ALiBi's, as its authors' code makes them."""
    power = 2 ** math.floor(math.log2(heads))
    start = 2 ** (-(2 ** -(math.log2(power) - 3)))
    first = [start * start**head for head in range(power)]
    if power == heads:
        return first
    return first + slopes(2 * power)[0::2][: heads - power]
