"""Every operation of the vocabulary on every packed engine, against numpy in float64."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from likewise.engines.batch import PackedBatch
from likewise.models.weights import Weights, open_weights
from likewise.nets.ops import Alibi, Attention, HeadNorm, Relative, Rotary

LENGTHS = (1, 2, 3, 7, 20, 64, 33, 33, 4)
LONGEST = 1120
PICK = np.random.default_rng(0)


WEIGHTS: dict[str, Any] = {
    "table.weight": PICK.normal(size=(50, 24)),
    "norm.weight": PICK.normal(size=24),
    "norm.bias": PICK.normal(size=24),
    "bare.weight": PICK.normal(size=24),
    "first.weight": PICK.normal(size=(6, 24)),
    "first.bias": PICK.normal(size=6),
    "second.weight": PICK.normal(size=(4, 24)),
    "up": PICK.normal(size=(4 * 10, 24)),
    "down": PICK.normal(size=(4 * 10, 24)),
    "added": PICK.normal(size=24),
    "query.weight": PICK.normal(size=8),
    "key.weight": PICK.normal(size=8),
    "relative.weight": PICK.normal(size=(32, 6)),
}
WEIGHTS.update({name: value.astype(np.float32) for name, value in WEIGHTS.items()})

Build = Callable[[Any, Any], Any]
"""From the operations and hidden states [tokens, width] to what is tested."""


def by_openvino(weights: Weights, build: Build, batch: PackedBatch, states: Any) -> Any:
    """What OpenVINO computes in f32."""
    from likewise.engines.openvino_ops import OpenVinoOps
    from likewise.engines.quiet import opset, ov
    from likewise.engines.spread import feed, rounded_length

    ops = OpenVinoOps(weights, longest=rounded_length(LONGEST))
    entry = opset.parameter([-1, states.shape[1]], np.float32)
    made = build(ops, entry)
    graph = ov.Model([made], [entry, *ops.inputs.values()], "test")
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    request = ov.Core().compile_model(graph, "CPU", settings).create_infer_request()
    (ids,) = feed(batch, ["ids"])
    padded = np.zeros((len(ids), states.shape[1]), np.float32)
    padded[: batch.tokens] = states
    found = request.infer([padded, *feed(batch, ops.inputs)])[0]
    return np.array(found)


def by_torch(weights: Weights, build: Build, batch: PackedBatch, states: Any) -> Any:
    """What torch computes in f32 on the CPU."""
    import torch

    from likewise.engines.torch_feed import Feed
    from likewise.engines.torch_ops import TorchOps
    from likewise.engines.torch_weights import DeviceWeights

    feed = Feed.of(batch)
    held = DeviceWeights(weights, torch.device("cpu"))
    numbers = torch.from_numpy(feed.numbers)
    ops = TorchOps(held, feed, numbers, dtype=torch.float32, longest=LONGEST)
    with torch.inference_mode():
        return build(ops, torch.from_numpy(states)).numpy()


ENGINES = {"openvino": by_openvino, "torch": by_torch}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """`WEIGHTS`, read from a file as those of models are."""
    from safetensors.numpy import save_file

    folder = tmp_path_factory.mktemp("weights")
    save_file(WEIGHTS, folder / "model.safetensors")
    return open_weights(folder)


@pytest.fixture(params=["openvino", pytest.param("torch", marks=pytest.mark.torch)])
def run(request: pytest.FixtureRequest, weights: Weights) -> Any:
    """Compute something on an engine."""
    return functools.partial(ENGINES[request.param], weights)


def batch_of(**options: Any) -> PackedBatch:
    """Texts of `LENGTHS`."""
    pick = np.random.default_rng(1)
    return PackedBatch.of([pick.integers(0, 50, n).tolist() for n in LENGTHS], **options)


def states_of(width: int) -> Any:
    """Hidden states of these texts."""
    return np.random.default_rng(2).normal(size=(sum(LENGTHS), width)).astype(np.float32)


def close(ours: Any, theirs: Any, within: float = 2e-5) -> bool:
    """Whether the rows that count agree."""
    return bool(np.abs(np.asarray(ours)[: len(theirs)] - theirs).max() < within)


# --- attention -----------------------------------------------------------------------------------

HEADS, WIDTH = 6, 8
PLAIN = Attention(HEADS, WIDTH)
FREQUENCIES = (1.0, 0.3, 0.1, 0.01)
ROTARY = Rotary(FREQUENCIES)
NORM = HeadNorm("query", "key", 1e-6, 1.0)
ALIBI = Alibi((0.5, 0.25, 0.125, 1.0, 0.7, 0.01))
RELATIVE = Relative("relative.weight", 32, 40)
KINDS: Mapping[str, Attention] = {
    "plain": PLAIN,
    "odd width": Attention(3, 5),
    "scaled": replace(PLAIN, scale=0.2),
    "causal": replace(PLAIN, causal=True),
    "window": replace(PLAIN, window=3),
    "causal window": replace(PLAIN, causal=True, window=5),
    "shared keys": replace(PLAIN, kv_heads=2),
    "one key for all": replace(PLAIN, kv_heads=1, causal=True),
    "rotary": replace(PLAIN, rotary=ROTARY),
    "rotary, neighbours": replace(PLAIN, rotary=Rotary(FREQUENCIES, interleaved=True)),
    "rotary, part of the head": replace(PLAIN, rotary=Rotary(FREQUENCIES[:3], scale=1.2)),
    "rotary, part, neighbours": replace(PLAIN, rotary=Rotary(FREQUENCIES[:1], interleaved=True)),
    "alibi": replace(PLAIN, bias=ALIBI),
    "alibi, causal": replace(PLAIN, bias=ALIBI, causal=True),
    "relative": replace(PLAIN, bias=RELATIVE),
    "normed heads": replace(PLAIN, norm=NORM),
    "all at once": Attention(
        HEADS, WIDTH, kv_heads=3, scale=0.3, causal=True, window=9, rotary=ROTARY, norm=NORM
    ),
}


@pytest.mark.parametrize("how", KINDS.values(), ids=list(KINDS))
def test_attention(run: Any, how: Attention) -> None:
    qkv = states_of((how.heads + 2 * how.groups) * how.width)
    ours = run(lambda ops, x: ops.attention(x, how), batch_of(), qkv)
    assert close(ours, attention(qkv, how))


@pytest.mark.parametrize("name", ["plain", "rotary", "alibi"])
def test_tokens_that_nothing_looks_at(run: Any, name: str) -> None:
    attended = [max(1, length - 2) for length in LENGTHS]
    qkv = states_of(3 * HEADS * WIDTH)
    batch = batch_of(attended=attended)
    ours = run(lambda ops, x: ops.attention(x, KINDS[name]), batch, qkv)
    assert close(ours, attention(qkv, KINDS[name], attended))


@pytest.mark.torch
def test_tokens_that_nothing_looks_at_in_a_decoder(weights: Weights) -> None:
    # Refused when a model is loaded; the torch engine would get it right.
    qkv, attended = states_of(3 * HEADS * WIDTH), [1] * len(LENGTHS)
    how = KINDS["causal"]
    batch = batch_of(attended=attended)
    ours = by_torch(weights, lambda ops, x: ops.attention(x, how), batch, qkv)
    assert close(ours, attention(qkv, how, attended))


FAR = (300, 1, 129, 64, 257)
NEAR: Mapping[str, Attention] = {
    "window": replace(PLAIN, window=3),
    "as wide as a block": replace(PLAIN, window=64, rotary=ROTARY),
    "wider": replace(PLAIN, window=70, kv_heads=3),
    "as wide as a text": replace(PLAIN, window=299),
    "causal": replace(PLAIN, window=20, causal=True, rotary=ROTARY, norm=NORM),
    "causal, wide": replace(PLAIN, window=100, causal=True),
}


@pytest.mark.parametrize("expanded", [False, True])
@pytest.mark.parametrize("how", NEAR.values(), ids=list(NEAR))
def test_windows_in_long_texts(run: Any, how: Attention, expanded: bool) -> None:
    attended = [max(1, length - 3 * expanded) for length in FAR]
    batch = PackedBatch.of([[1] * n for n in FAR], attended=attended if expanded else None)
    width = (how.heads + 2 * how.groups) * how.width
    qkv = np.random.default_rng(2).normal(size=(sum(FAR), width)).astype(np.float32)
    ours = run(lambda ops, x: ops.attention(x, how), batch, qkv)
    assert close(ours, attention(qkv, how, attended, lengths=FAR))


@pytest.mark.parametrize("causal", [False, True])
def test_distances_in_long_texts(run: Any, causal: bool) -> None:
    lengths = (1100, 3, 260)
    how = Attention(2, 4, bias=Alibi((0.3, 0.01)), causal=causal)
    qkv = np.random.default_rng(2).normal(size=(sum(lengths), 24)).astype(np.float32)
    batch = PackedBatch.of([[1] * n for n in lengths])
    ours = run(lambda ops, x: ops.attention(x, how), batch, qkv)
    assert close(ours, attention(qkv, how, lengths, lengths=lengths))


def attention(qkv: Any, how: Attention, attended: Any = LENGTHS, *, lengths: Any = LENGTHS) -> Any:
    """Text by text, head by head, in float64."""
    texts = np.split(qkv.astype(np.float64), np.cumsum(lengths)[:-1])
    return np.concatenate([_text(one, how, n) for one, n in zip(texts, attended, strict=True)])


def _text(qkv: Any, how: Attention, attended: int) -> Any:
    heads, groups = how.heads, how.groups
    split = qkv.reshape(len(qkv), heads + 2 * groups, how.width).transpose(1, 0, 2)
    query, key, value = split[:heads], split[heads : heads + groups], split[heads + groups :]
    if how.norm is not None:
        query, key = (
            x
            / np.sqrt((x**2).mean(-1, keepdims=True) + how.norm.epsilon)
            * (WEIGHTS[f"{name}.weight"] + how.norm.offset)
            for x, name in ((query, how.norm.query), (key, how.norm.key))
        )
    if how.rotary is not None:
        query, key = _turned(query, how.rotary), _turned(key, how.rotary)
    after = np.arange(len(qkv))[None, :] - np.arange(len(qkv))[:, None]
    hidden = np.arange(len(qkv))[None, :] >= attended
    if how.causal:
        hidden = hidden | (after > 0)
    if how.window is not None:
        hidden = hidden | (abs(after) > how.window)
    rows = []
    for head in range(heads):
        shared = head // (heads // groups)
        scores = query[head] @ key[shared].T * (how.scale or 1 / math.sqrt(how.width))
        if isinstance(how.bias, Alibi):
            scores = scores - how.bias.slopes[head] * abs(after)
        elif how.bias is not None:
            buckets = [[_bucket(int(d), how.bias) for d in row] for row in after]
            scores = scores + WEIGHTS[how.bias.table][buckets, head]
        shares = np.exp(np.where(hidden, -np.inf, scores - scores.max()))
        rows.append(shares / shares.sum(1, keepdims=True) @ value[shared])
    return np.stack(rows, 1).reshape(len(qkv), heads * how.width)


def _turned(x: Any, rotary: Rotary) -> Any:
    """Each pair as a complex number times e^(i x angle)."""
    half = len(rotary.frequencies)
    even = slice(0, 2 * half, 2) if rotary.interleaved else slice(0, half)
    odd = slice(1, 2 * half, 2) if rotary.interleaved else slice(half, 2 * half)
    angles = np.arange(x.shape[1])[:, None] * np.array(rotary.frequencies)
    turned = (x[..., even] + 1j * x[..., odd]) * np.exp(1j * angles) * rotary.scale
    y = x.copy()
    y[..., even], y[..., odd] = turned.real, turned.imag
    return y


def _bucket(after: int, bias: Any) -> int:
    """The bucket of a key `after` places later, as T5 has it."""
    side = bias.buckets // 2
    exact, far = side // 2, abs(after)
    if far >= exact:
        steps = math.log(far / exact) / math.log(bias.furthest / exact) * (side - exact)
        far = min(exact + int(np.float32(steps)), side - 1)
    return far + (side if after > 0 else 0)


# --- pooling -------------------------------------------------------------------------------------

PROMPTS = [0, 1, 3, 2, 5, 0, 7, 33, 1]


def pooled(x: Any, mode: str, begin: int) -> Any:
    """One text's row; `begin` tokens are left out."""
    places = np.arange(1, len(x) + 1)[begin:, None]
    rest = x[begin:].astype(np.float64)
    if mode == "cls":
        return x[begin] if len(rest) else x[0]
    if mode == "lasttoken":
        return x[-1]
    if not len(rest):
        return np.zeros(x.shape[1]) if mode != "max" else None
    return {
        "max": lambda: rest.max(0),
        "sum": lambda: rest.sum(0),
        "mean": lambda: rest.mean(0),
        "mean_sqrt_len_tokens": lambda: rest.sum(0) / math.sqrt(len(rest)),
        "weightedmean": lambda: (rest * places).sum(0) / places.sum(),
    }[mode]()


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize(
    "mode", ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken", "sum"]
)
def test_pooling(run: Any, mode: Any, skip: bool) -> None:
    x = states_of(24)
    batch = batch_of(prompts=PROMPTS)
    ours = run(lambda ops, x: ops.pool(x, mode, skip_prompt=skip), batch, x)
    for row, one in enumerate(np.split(x, np.cumsum(LENGTHS)[:-1])):
        theirs = pooled(one, mode, PROMPTS[row] if skip else 0)
        assert theirs is None or np.abs(ours[row] - theirs).max() < 2e-5, row


# --- the rest ------------------------------------------------------------------------------------


def rows_of(name: str) -> Any:
    """A weight in float64."""
    return WEIGHTS[name].astype(np.float64)


def layer_normed(x: Any) -> Any:
    return (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)


def rms_normed(x: Any) -> Any:
    return x / np.sqrt((x**2).mean(1, keepdims=True) + 1e-5)


def shares(x: Any) -> Any:
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def mixture(x: Any, count: int = 2) -> Any:
    """The `count` best of four experts for each token."""
    weight = shares(x[:, :4])
    ups, downs = np.split(rows_of("up"), 4), np.split(rows_of("down"), 4)
    total = np.zeros_like(x)
    for token, row in enumerate(weight):
        for expert in np.argsort(-row)[:count]:
            inner = np.maximum(ups[expert] @ x[token], 0)
            total[token] += row[expert] * (inner @ downs[expert])
    return total + rows_of("added")


def experts(ops: Any, x: Any) -> Any:
    """As `mixture`."""
    chosen = ops.softmax(ops.split(x, (4, 20))[0])
    return ops.experts(
        x, chosen, first="up", second="down", bias="added", chosen=2, activation="relu"
    )


OPERATIONS: Mapping[str, tuple[Build, Callable[[Any], Any]]] = {
    "embedding": (
        lambda ops, x: ops.add(ops.embedding("table.weight", ops.tokens()), ops.scale(x, 0.0)),
        lambda x: rows_of("table.weight")[batch_of().ids],
    ),
    "row": (
        lambda ops, x: ops.add(x, ops.row("table.weight", 3)),
        lambda x: x + rows_of("table.weight")[3],
    ),
    "layer norm": (
        lambda ops, x: ops.layer_norm(x, "norm", epsilon=1e-5),
        lambda x: layer_normed(x) * rows_of("norm.weight") + rows_of("norm.bias"),
    ),
    "layer norm without bias": (
        lambda ops, x: ops.layer_norm(x, "bare", epsilon=1e-5),
        lambda x: layer_normed(x) * rows_of("bare.weight"),
    ),
    "layer norm without weights": (
        lambda ops, x: ops.layer_norm(x, None, epsilon=1e-5),
        layer_normed,
    ),
    "rms norm": (
        lambda ops, x: ops.rms_norm(x, "norm", epsilon=1e-5),
        lambda x: rms_normed(x) * rows_of("norm.weight"),
    ),
    "rms norm with an offset": (
        lambda ops, x: ops.rms_norm(x, "norm", epsilon=1e-5, offset=1.0),
        lambda x: rms_normed(x) * (rows_of("norm.weight") + 1),
    ),
    "linear, some with bias": (
        lambda ops, x: ops.linear(x, ["second", "first", "second"]),
        lambda x: np.concatenate(
            [
                x @ rows_of("second.weight").T,
                x @ rows_of("first.weight").T + rows_of("first.bias"),
                x @ rows_of("second.weight").T,
            ],
            axis=1,
        ),
    ),
    "project": (
        lambda ops, x: ops.project(x, "table.weight"),
        lambda x: x @ rows_of("table.weight").T,
    ),
    "project on some rows": (
        lambda ops, x: ops.project(x, "table.weight", (7, 3)),
        lambda x: x @ rows_of("table.weight")[[7, 3]].T,
    ),
    "shift": (lambda ops, x: ops.shift(x, "added"), lambda x: x + rows_of("added")),
    "multiply by a column": (
        lambda ops, x: ops.multiply(*ops.split(x, (1, 23))),
        lambda x: x[:, :1] * x[:, 1:],
    ),
    "concat and scale": (
        lambda ops, x: ops.concat([ops.scale(x, 3.0), x]),
        lambda x: np.concatenate([3 * x, x], axis=1),
    ),
    "log1p": (lambda ops, x: ops.log1p(ops.multiply(x, x)), lambda x: np.log1p(x * x)),
    "softmax": (lambda ops, x: ops.softmax(x), shares),
    "normalise": (
        lambda ops, x: ops.normalise(x),
        lambda x: x / np.linalg.norm(x, axis=1, keepdims=True),
    ),
    "experts": (experts, mixture),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations(run: Any, name: str) -> None:
    ours, theirs = OPERATIONS[name]
    x = states_of(24)
    assert close(run(ours, batch_of(), x), theirs(x.astype(np.float64)), 1e-4)


def test_positions_are_counted_in_each_text(run: Any) -> None:
    batch = PackedBatch.of([[0] * min(length, 40) for length in LENGTHS])
    x = np.zeros((batch.tokens, 24), np.float32)
    ours = run(
        lambda ops, x: ops.add(x, ops.embedding("table.weight", ops.positions(start=2))), batch, x
    )
    assert close(ours, rows_of("table.weight")[batch.positions + 2])


def test_types_tell_the_second_text(run: Any) -> None:
    types = [[0] * (length // 2) + [1] * (length - length // 2) for length in LENGTHS]
    batch = batch_of(types=types)
    x = states_of(24)
    ours = run(lambda ops, x: ops.add(x, ops.embedding("table.weight", ops.types())), batch, x)
    assert close(ours, x + rows_of("table.weight")[np.concatenate(types)])


def test_few_tokens_go_to_all_experts(run: Any) -> None:
    batch = PackedBatch.of([[1, 2, 3], [4]])
    x = states_of(24)[:4]
    assert close(run(experts, batch, x), mixture(x.astype(np.float64)), 1e-4)
