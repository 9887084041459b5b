"""How fast are encoders of every size, at every length, in each profile, against other libraries?

    python bench/encoders.py [--sizes small,base,large] [--lengths 16,64,256,512] [--rounds 3]
                             [--profiles exact,fast,small] [--skip SIDE]

BERT-shaped models with random weights (speed doesn't depend on them), texts of exactly so many
tokens, tokenising included. In each round every side embeds the same texts, one right after the
other. For each cell: how many times faster than each other side, and which share of the machine's
limit ours reaches: its matrix products in the model's own shapes, in float32 for `exact` and else,
where the CPU has it, in bf16, measured right before and after. Other sides run in float32, but for
sentence-transformers' OpenVINO as it comes, which takes bf16 where there is some: there it has a
second side that was told float32. The row keeps every figure.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _report import write
from engine import default_folder, is_installed, seconds, sentence_transformers, start
from roofline import Peak

Embed = Callable[[list[str]], Any]
ROOFLINE_TARGET, FROM_LENGTH = 0.6, 64
VOCABULARY, POSITIONS = 30522, 512
PEAK_ROWS = (512, 2048)
DEFAULT_PROFILES = ("exact", "fast", "small")


@dataclass(frozen=True)
class Size:
    """A model's shape, and how many tokens one measurement takes."""

    layers: int
    width: int
    heads: int
    tokens: int
    peak_layers: int
    """Layers of products by which the machine's limit is measured: half a second of them."""

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Inputs and outputs of a layer's products."""
        inner = 4 * self.width
        return ((self.width, self.width),) * 4 + ((self.width, inner), (inner, self.width))

    def flop(self, length: int, texts: int) -> float:
        """Floating-point operations: products of every token, and attention."""
        products = 2 * sum(i * o for i, o in self.shapes) * length
        return float(self.layers * texts * (products + 4 * self.width * length * length))


SIZES = {
    "small": Size(6, 384, 12, 16384, 12),
    "base": Size(12, 768, 12, 4096, 3),
    "large": Size(24, 1024, 16, 2048, 2),
}


def write_model(folder: Path, size: Size, like: Path) -> Path:
    """A model folder of that shape, with the tokenizer and the settings of `like`."""
    from safetensors.numpy import save_file

    from likewise.nets.bert import Bert

    folder.mkdir()
    for path in like.iterdir():
        if path.suffix in (".json", ".txt") and path.name not in ("config.json", "likewise.json"):
            shutil.copy(path, folder)
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": size.width, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    length = {"max_seq_length": POSITIONS, "do_lower_case": False}
    (folder / "sentence_bert_config.json").write_text(json.dumps(length))
    config = {
        "model_type": "bert", "architectures": ["BertModel"], "vocab_size": VOCABULARY,
        "hidden_size": size.width, "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads, "intermediate_size": 4 * size.width,
        "max_position_embeddings": POSITIONS, "type_vocab_size": 2, "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    pick = np.random.default_rng(0)
    weights = {}
    for name, shape in Bert.read(config, where="bench").shapes().items():
        values = pick.standard_normal(shape, np.float32) * np.float32(0.02)
        weights[name] = values + np.float32("LayerNorm.weight" in name)
    # transformers wants its pooler, which nobody computes.
    weights["pooler.dense.weight"] = np.zeros((size.width, size.width), np.float32)
    weights["pooler.dense.bias"] = np.zeros(size.width, np.float32)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def texts_of(length: int, count: int, vocabulary: Path) -> list[str]:
    """Texts of exactly `length` tokens, special ones included: words that are one token each."""
    lines = vocabulary.read_text(encoding="utf-8").split("\n")
    words = [word for word in lines if word.isascii() and word.isalpha() and len(word) > 2]
    pick = random.Random(length)
    return [" ".join(pick.choices(words, k=length - 2)) for _ in range(count)]


def sides_of(folder: Path, profiles: Sequence[str], skipped: Sequence[str]) -> dict[str, Embed]:
    """Ours in each profile, then the others that are installed and start."""
    from likewise.runtime.service import load

    def ours(profile: str) -> Callable[[], Embed]:
        return lambda: load(folder, precision=profile).embed  # type: ignore[arg-type]

    makes: dict[str, Callable[[], Embed]] = {f"likewise {p}": ours(p) for p in profiles}
    needs = {"torch f32": "torch", "OpenVINO": "optimum.intel", "ONNX": "optimum.onnxruntime"}
    if has_bf16():
        needs["OpenVINO f32"] = "optimum.intel"
    for kind, package in needs.items():
        if kind in skipped:
            continue
        if not is_installed(package):
            print(f"left out: sentence-transformers {kind} (not installed: {package})")
            continue
        makes[kind] = lambda kind=kind: sentence_transformers(folder, kind)  # type: ignore[misc]
    started: dict[str, Embed] = start(makes, ["warm", "these up, please"])
    return started


def has_bf16() -> bool:
    """Whether this CPU computes in bf16."""
    import openvino as ov

    capabilities: list[str] = ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return "BF16" in capabilities


def arithmetic(side: str) -> str:
    """What the machine's limit for one of ours is measured in."""
    return "f32" if side == "likewise exact" or not has_bf16() else "bf16"


def is_fair(mine: str, other: str) -> bool:
    """Whether `other` computes in float32 if `mine` does."""
    return not (mine == "likewise exact" and other == "OpenVINO" and has_bf16())


def measure(
    size: Size,
    length: int,
    sides: dict[str, Embed],
    peaks: dict[str, list[Peak]],
    rounds: int,
    vocabulary: Path,
) -> dict[str, Any]:
    """One cell: seconds of every side, ratios to ours, shares of the limit."""
    count = max(2, size.tokens // length)
    blocks = [texts_of(length, count, vocabulary) for _ in range(rounds)]
    for embed in sides.values():
        embed(blocks[0][: max(2, count // 4)])
    times: dict[str, list[float]] = {name: [] for name in sides}
    mine = [name for name in sides if name.startswith("likewise")]
    shares: dict[str, list[float]] = {name: [] for name in mine}
    for block in blocks:
        for name, embed in sides.items():
            limits = peaks[arithmetic(name)] if name in mine else []
            before = [peak.rate() for peak in limits]
            times[name].append(seconds(embed, block))
            if name in mine:
                after = [peak.rate() for peak in limits]
                rate = max(statistics.mean(both) for both in zip(before, after, strict=True))
                shares[name].append(size.flop(length, count) / rate / times[name][-1])
    middle = {name: statistics.median(values) for name, values in times.items()}
    return {
        "length": length,
        "texts": count,
        "seconds": middle,
        "roofline": {name: statistics.median(values) for name, values in shares.items()},
        "ratios": {
            name: {
                other: statistics.median(
                    b / a for a, b in zip(times[name], times[other], strict=True)
                )
                for other in sides
                if other not in mine
            }
            for name in mine
        },
    }


def show(name: str, cell: dict[str, Any]) -> None:
    """A line for each of our profiles."""
    for mine, ratios in cell["ratios"].items():
        against = ", ".join(f"{other} {ratio:.2f} x" for other, ratio in ratios.items())
        rate = cell["texts"] * cell["length"] / cell["seconds"][mine]
        print(
            f"{name:6} {cell['length']:4} tokens  {mine:15} {rate:8.0f} tokens/s  "
            f"roofline {cell['roofline'][mine]:.2f}  {against}",
            flush=True,
        )


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", default=",".join(SIZES))
    parser.add_argument("--lengths", default="16,64,256,512")
    parser.add_argument("--profiles", default=",".join(DEFAULT_PROFILES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--skip", action="append", default=[], help="a side to leave out")
    asked = parser.parse_args()
    like = default_folder()
    found: dict[str, list[Any]] = {}
    for name in asked.sizes.split(","):
        size = SIZES[name]
        with tempfile.TemporaryDirectory() as place:
            folder = write_model(Path(place) / "model", size, like)
            sides = sides_of(folder, asked.profiles.split(","), asked.skip)
            peaks = {
                kind: [Peak(rows, kind, size.shapes, size.peak_layers) for rows in PEAK_ROWS]
                for kind in (("f32", "bf16") if has_bf16() else ("f32",))
            }
            for length in (int(each) for each in asked.lengths.split(",")):
                cell = measure(size, length, sides, peaks, asked.rounds, like / "vocab.txt")
                found.setdefault(name, []).append(cell)
                show(name, cell)
            sides.clear()
    write("encoders", {"cells": found})
    conclude([cell for cells in found.values() for cell in cells])


def conclude(cells: list[dict[str, Any]]) -> None:
    """The worst of each profile, against what is asked."""
    for mine in cells[0]["ratios"]:
        ratios = [
            ratio
            for cell in cells
            for other, ratio in cell["ratios"][mine].items()
            if is_fair(mine, other)
        ]
        long = [cell["roofline"][mine] for cell in cells if cell["length"] >= FROM_LENGTH]
        print(
            f"{mine}: slowest cell {min(ratios, default=0):.2f} x (target > 1), lowest roofline "
            f"from {FROM_LENGTH} tokens {min(long, default=0):.2f} (>= {ROOFLINE_TARGET})"
        )


if __name__ == "__main__":
    main()
