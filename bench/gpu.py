"""P11: how fast is the torch engine on one GPU, against sentence-transformers and the GPU's limit?

    python bench/gpu.py [--rounds 7] [--texts 4096] [--full 512] [--smoke]

Needs numpy, torch, transformers, tokenizers, safetensors and sentence-transformers, and this
repository; no model is downloaded: it has bge-large's shape (24 layers of 1,024, 16 heads, inner
4,096) and random weights, as speed doesn't depend on them. Texts of mixed length (log-normal, mean
about 48 tokens) and texts of 512 tokens, tokenising included, everything in bf16. Before anything
is timed, the vectors are checked against float32 and against sentence-transformers. In each round
every side embeds the same texts, one right after the other; sentence-transformers runs in the batch
size that suits it best. The limit is the fastest of the GPU's dense bf16 matrix products, measured
in the same round. `--smoke` runs all of it in small on the CPU, and keeps no row. Ratios come last.
"""

from __future__ import annotations

import argparse
import functools
import gc
import importlib.util
import json
import queue
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _report import write

if importlib.util.find_spec("likewise") is None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from likewise.engines.batch import PackedBatch
from likewise.engines.torch_packed import TorchPackedEngine
from likewise.models.card import read_card
from likewise.models.tokenize import Tokenizer
from likewise.runtime.pack import plan

Embed = Callable[[list[str]], Any]

SPEED_TARGET, ROOFLINE_TARGET = 2.0, 0.5
LEAST_COSINE, EXACT_DISTANCE = 0.999, 1e-4
MEDIAN_TOKENS, SIGMA = 36.0, 0.75
WINDOW_TEXTS = 2048
BATCH_SIZES = (32, 128, 512)
LATENCY_TOKENS, LATENCY_RUNS = 16, 50


@dataclass(frozen=True)
class Shape:
    """A model's sizes, and those of the matrix products that give the limit."""

    layers: int
    width: int
    heads: int
    inner: int
    words: int
    longest: int
    products: tuple[tuple[int, int, int], ...]

    def flop(self, lengths: Sequence[int]) -> float:
        """Floating-point operations for texts of these lengths: products and attention."""
        token = 2 * self.layers * (4 * self.width**2 + 2 * self.width * self.inner)
        squares = sum(length * length for length in lengths)
        return float(token * sum(lengths) + 4 * self.layers * self.width * squares)


LARGE = Shape(24, 1024, 16, 4096, 30522, 512, ((8192, 8192, 8192), (16384, 1024, 4096)))
TINY = Shape(2, 32, 4, 64, 200, 64, ((256, 256, 256),))


class Ours:
    """The engine with its tokenizer; texts of a window are tokenised while others are computed."""

    def __init__(self, folder: Path, device: str, **options: Any) -> None:
        card = read_card(folder)
        self.tokenizer = Tokenizer(card)
        self.engine = TorchPackedEngine(card, device=device, **options)
        self._free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(self.engine.streams):
            self._free.put(self.engine.stream())
        self._pool = ThreadPoolExecutor(self.engine.streams)
        self.width = card.dimensions

    def embed(self, texts: list[str]) -> Any:
        """Vectors of `texts`, in order."""
        found = np.empty((len(texts), self.width), np.float32)
        waiting = []
        for start in range(0, len(texts), WINDOW_TEXTS):
            encoded = self.tokenizer.encode(texts[start : start + WINDOW_TEXTS])
            waiting += self._submit([one.ids for one in encoded], start, found)
        for one in waiting:
            one.result()
        return found

    def compute(self, ids: list[Any]) -> Any:
        """Vectors of texts that are tokens already."""
        found = np.empty((len(ids), self.width), np.float32)
        for one in self._submit(ids, 0, found):
            one.result()
        return found

    def one(self, text: str) -> Any:
        """The vector of `text`, computed in the caller's own thread."""
        forward = self._free.get()
        try:
            return forward(PackedBatch.of([self.tokenizer.encode([text])[0].ids]))["vectors"]
        finally:
            self._free.put(forward)

    def close(self) -> None:
        """Give the device's memory back."""
        self._pool.shutdown()
        self.engine.close()

    def _submit(self, ids: list[Any], start: int, found: Any) -> list[Any]:
        lengths = [len(one) for one in ids]
        budget = self.engine.budget_tokens
        batches = plan(lengths, budget=budget, window=WINDOW_TEXTS)
        return [self._pool.submit(self._one, ids, rows, start, found) for rows in batches]

    def _one(self, ids: list[Any], rows: list[int], start: int, found: Any) -> None:
        forward = self._free.get()
        try:
            vectors = forward(PackedBatch.of([ids[row] for row in rows]))["vectors"]
        finally:
            self._free.put(forward)
        found[[start + row for row in rows]] = vectors


def theirs(folder: Path, device: str, *, dtype: torch.dtype, attention: str) -> Any:
    """A SentenceTransformer."""
    from sentence_transformers import SentenceTransformer

    options = {"dtype": dtype, "attn_implementation": attention}
    return SentenceTransformer(
        str(folder), device=device, model_kwargs=options, local_files_only=True
    )


def best_batch_size(model: Any, texts: list[str]) -> tuple[int, Embed]:
    """The batch size that `model` is fastest with, and its `encode` in that size."""
    encode = functools.partial(model.encode, show_progress_bar=False)
    sides = {size: functools.partial(encode, batch_size=size) for size in BATCH_SIZES}
    encode(texts[:64], batch_size=BATCH_SIZES[0])
    size = min(sides, key=lambda size: seconds(sides[size], texts))
    return size, sides[size]


def write_model(folder: Path, shape: Shape) -> Path:
    """A folder as sentence-transformers writes it: a BERT of `shape`, mean pooling, unit length."""
    from tokenizers import Tokenizer as Inner
    from tokenizers import models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=shape.words,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.inner,
        max_position_embeddings=shape.longest,
        # Larger than usual: vectors of random networks else hardly differ.
        initializer_range=0.05,
    )
    torch.manual_seed(0)
    BertModel(config, add_pooling_layer=False).to(torch.bfloat16).save_pretrained(folder)
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    words = {word: index for index, word in enumerate(special)}
    words |= {f"w{index}": index for index in range(len(special), shape.words)}
    inner = Inner(models.WordLevel(words, "[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    inner.save(str(folder / "tokenizer.json"))
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token"), special, strict=True))
    kinds = ("Transformer", "Pooling", "Normalize")
    files = {
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": shape.longest,
            **names,
        },
        "sentence_bert_config.json": {"max_seq_length": shape.longest, "do_lower_case": False},
        "1_Pooling/config.json": {
            "word_embedding_dimension": shape.width,
            "pooling_mode_mean_tokens": True,
        },
        "modules.json": [
            {
                "idx": index,
                "name": str(index),
                "path": f"{index}_{kind}" if index else "",
                "type": f"sentence_transformers.models.{kind}",
            }
            for index, kind in enumerate(kinds)
        ],
    }
    for name, value in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(value), encoding="utf-8")
    return folder


def mixed_lengths(count: int, shape: Shape, pick: random.Random) -> list[int]:
    """Tokens of each text, log-normal, special ones included."""
    drawn = (pick.lognormvariate(float(np.log(MEDIAN_TOKENS)), SIGMA) for _ in range(count))
    return [min(shape.longest, max(3, round(one))) for one in drawn]


def texts_of(lengths: Sequence[int], shape: Shape, pick: random.Random) -> list[str]:
    """Texts of so many tokens each: two are special, each word is one."""
    return [
        " ".join(f"w{pick.randrange(4, shape.words)}" for _ in range(length - 2))
        for length in lengths
    ]


def seconds(side: Callable[[Any], Any], given: Any) -> float:
    """How long `side` takes for `given`, its results on the host."""
    started = time.perf_counter()
    side(given)
    return time.perf_counter() - started


def peak_rate(shape: Shape, device: str) -> float:
    """FLOP/s of the fastest of the dense bf16 products, now."""
    rates = []
    for rows, inputs, outputs in shape.products:
        left = torch.randn((rows, inputs), dtype=torch.bfloat16, device=device)
        right = torch.randn((outputs, inputs), dtype=torch.bfloat16, device=device)
        product = functools.partial(torch.nn.functional.linear, left, right)
        product()
        times = []
        for _ in range(5):
            synchronise(device)
            started = time.perf_counter()
            for _ in range(4):
                product()
            synchronise(device)
            times.append((time.perf_counter() - started) / 4)
        rates.append(2.0 * rows * inputs * outputs / min(times))
    return max(rates)


def synchronise(device: str) -> None:
    """Wait until the device has done what it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def check(folder: Path, device: str, ours: Ours, texts: list[str]) -> dict[str, float]:
    """How near bf16 comes to f32, and f32 to sentence-transformers in f32; too far ends it all."""
    exact = Ours(folder, device, precision="exact")
    with_f32 = exact.embed(texts)
    exact.close()
    model = theirs(folder, device, dtype=torch.float32, attention="sdpa")
    reference = np.asarray(model.encode(texts, show_progress_bar=False), np.float32)
    found = {
        "worst_cosine_bf16_to_f32": float((ours.embed(texts) * with_f32).sum(axis=1).min()),
        "worst_distance_f32": float((1 - (with_f32 * reference).sum(axis=1)).max()),
        "cosine_of_different_texts": float(with_f32[0] @ with_f32[1]),
    }
    print(f"checked: {found}")
    if found["worst_cosine_bf16_to_f32"] < LEAST_COSINE:
        raise SystemExit(f"bf16 is off: {found}")
    if found["worst_distance_f32"] > EXACT_DISTANCE:
        raise SystemExit(f"f32 is off: {found}")
    return found


def latency(folder: Path, device: str, text: str, model: Any, runs: int) -> dict[str, float]:
    """Median milliseconds for one short text, by side."""
    sides: dict[str, Callable[[], Any]] = {}
    made = []
    for name, graphs in (("likewise, graphs", True), ("likewise, no graphs", False)):
        ours = Ours(folder, device, precision="fast", graphs=graphs)
        made.append(ours)
        sides[name] = functools.partial(ours.one, text)
    sides["sentence-transformers"] = lambda: model.encode([text], show_progress_bar=False)
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(runs + 5):
        for name, side in sides.items():
            started = time.perf_counter()
            side()
            if turn >= 5:
                times[name].append(time.perf_counter() - started)
    for ours in made:
        ours.close()
    return {name: 1000 * statistics.median(values) for name, values in times.items()}


def measure(
    sides: dict[str, Embed], texts: list[str], rounds: int, limit: Callable[[], float]
) -> tuple[dict[str, list[float]], list[float]]:
    """Seconds of each side in each round, and the machine's limit in it."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    limits = []
    for _ in range(rounds):
        before = limit()
        for name, side in sides.items():
            times[name].append(seconds(side, texts))
        limits.append(max(before, limit()))
    return times, limits


def ratios_of(times: dict[str, list[float]]) -> dict[str, float]:
    """How many times faster ours is than each other side: medians over the rounds."""
    mine = times["likewise"]
    return {
        name: statistics.median(other / own for other, own in zip(values, mine, strict=True))
        for name, values in times.items()
        if not name.startswith("likewise")
    }


def one_set(
    name: str,
    lengths: list[int],
    shape: Shape,
    ours: Ours,
    models: dict[str, Any],
    rounds: int,
    device: str,
) -> dict[str, Any]:
    """Everything about one set of texts."""
    texts = texts_of(lengths, shape, random.Random(7))
    ids = [one.ids for one in ours.tokenizer.encode(texts)]
    assert [len(one) for one in ids] == lengths
    sides: dict[str, Any] = {"likewise": ours.embed, "likewise, tokens given": None}
    sides["likewise, tokens given"] = lambda _: ours.compute(ids)
    sizes = {}
    for kind, model in models.items():
        sizes[kind], sides[kind] = best_batch_size(model, texts)
    seconds(ours.embed, texts)
    times, limits = measure(sides, texts, rounds, functools.partial(peak_rate, shape, device))
    flop, tokens = shape.flop(lengths), sum(lengths)
    rooflines = {
        side: statistics.median(flop / one / rate for one, rate in zip(values, limits, strict=True))
        for side, values in times.items()
    }
    for side, values in times.items():
        rate = tokens / statistics.median(values)
        print(f"{name:8} {side:38} {rate:12,.0f} tokens/s  roofline {rooflines[side]:.2f}")
    return {
        "texts": len(texts),
        "mean_tokens": tokens / len(texts),
        "tokens_per_second": {k: tokens / statistics.median(v) for k, v in times.items()},
        "ratios": ratios_of(times),
        "rooflines": rooflines,
        "peak_tflops": statistics.median(limits) / 1e12,
        "batch_sizes": sizes,
    }


def run(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All measurements, as a row."""
    shape, device = (TINY, "cpu") if asked.smoke else (LARGE, "cuda:0")
    write_model(folder, shape)
    pick = random.Random(1)
    mixed, full = mixed_lengths(asked.texts, shape, pick), [shape.longest] * asked.full
    ours = Ours(folder, device, precision="fast")
    print(f"{device_name(device)}; {ours.engine.version}; streams {ours.engine.streams}")
    row: dict[str, Any] = {
        "gpu": device_name(device),
        "precision": ours.engine.precision,
        "streams": ours.engine.streams,
        "budget_tokens": ours.engine.budget_tokens,
        "checked": check(folder, device, ours, texts_of(mixed[:64], shape, pick)),
        # Before the other side's models come to the same GPU.
        "memory_mib": memory(ours, full, shape, device),
    }
    attentions = ["sdpa"]
    if importlib.util.find_spec("flash_attn") is not None and not asked.smoke:
        attentions.append("flash_attention_2")
    models = {
        f"sentence-transformers, {kind}": theirs(
            folder, device, dtype=torch.bfloat16, attention=kind
        )
        for kind in attentions
    }
    row["mixed"] = one_set("mixed", mixed, shape, ours, models, asked.rounds, device)
    row["full"] = one_set("full", full, shape, ours, models, asked.rounds, device)
    ours.close()
    text = texts_of([LATENCY_TOKENS], shape, pick)[0]
    row["milliseconds_of_one_text"] = latency(
        folder, device, text, next(iter(models.values())), 3 if asked.smoke else LATENCY_RUNS
    )
    return row


def memory(ours: Ours, lengths: list[int], shape: Shape, device: str) -> dict[str, float]:
    """Peak MiB on the GPU that our side takes for texts of these lengths."""
    if not device.startswith("cuda"):
        return {}
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    ours.embed(texts_of(lengths, shape, random.Random(3)))
    return {
        "allocated": torch.cuda.max_memory_allocated() / 2**20,
        "reserved": torch.cuda.max_memory_reserved() / 2**20,
    }


def device_name(device: str) -> str:
    """The GPU, as its driver calls it."""
    return torch.cuda.get_device_name() if device.startswith("cuda") else "CPU"


def report(row: dict[str, Any]) -> None:
    """Print what counts, ratios last."""
    print(f"memory, MiB: {row['memory_mib']}")
    for side, value in row["milliseconds_of_one_text"].items():
        print(f"one text of {LATENCY_TOKENS} tokens, {side:24} {value:8.2f} ms")
    share = row["full"]["rooflines"]["likewise"]
    print(f"share of dense bf16, whole texts: {share:.2f} (target {ROOFLINE_TARGET:.2f})")
    for name in ("mixed", "full"):
        for side, ratio in row[name]["ratios"].items():
            print(f"{name}: likewise : {side} = {ratio:.2f} (target {SPEED_TARGET:.2f})")


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--texts", type=int, default=4096)
    parser.add_argument("--full", type=int, default=512, help="texts of the longest length")
    parser.add_argument("--smoke", action="store_true", help="small, on the CPU, no row kept")
    asked = parser.parse_args()
    if not asked.smoke and not torch.cuda.is_available():
        print("left out: there is no CUDA device here; --smoke runs in small on the CPU")
        return
    if asked.smoke:
        asked.rounds, asked.texts, asked.full = 1, 32, 4
    with tempfile.TemporaryDirectory() as folder:
        row = run(asked, Path(folder))
    if not asked.smoke:
        print(f"kept in {write('gpu', row)}")
    report(row)


if __name__ == "__main__":
    main()
