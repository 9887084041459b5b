"""P7: a table of token vectors through Likewise against model2vec on the same model and texts.

    python bench/static.py [--texts 2000] [--rounds 9]

What is compared: texts in, vectors out, tokenising included; the whole service (lanes, packing,
worker) against `StaticModel.encode`. The model has random vectors, 256 numbers each, for the
vocabulary of all-MiniLM-L6-v2. Each round has texts that neither side has seen, and which side goes
first alternates. `engine` is ours without the service. Target: >= 1.5 x model2vec.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _report
import _texts
import numpy as np
import tokenizers
from model2vec import StaticModel

from likewise.cli.resolve import place
from likewise.engines.batch import PackedBatch
from likewise.engines.static import StaticEngine
from likewise.models.card import read_card
from likewise.models.locate import DEFAULT_MODEL, locate
from likewise.models.static_tokens import tokenizer_for
from likewise.runtime.service import load

WIDTH, TARGET, SLICE = 256, 1.5, 256


def main() -> None:
    asked = arguments()
    with tempfile.TemporaryDirectory() as folder:
        model2vec = write(Path(folder))
        service = load(Path(folder))
        sides: dict[str, Callable[[list[str]], Any]] = {
            "likewise": service.embed,
            "model2vec": model2vec.encode,
            "engine": engine(Path(folder)),
        }
        taken = compare(sides, asked.texts, asked.rounds)
        service.close()
    rates = {side: asked.texts / statistics.median(times) for side, times in taken.items()}
    ratios = [b / a for a, b in zip(taken["likewise"], taken["model2vec"], strict=True)]
    for side, rate in rates.items():
        print(f"{side:>10}: {rate:10,.0f} texts/s")
    ratio = statistics.median(ratios)
    spread = f"rounds {min(ratios):.2f} to {max(ratios):.2f}"
    print(f"{ratio:.2f} x model2vec ({spread}); at least {TARGET}")
    row = {"texts": asked.texts, "texts_per_second": rates, "ratio": ratio, "ratios": ratios}
    print(_report.write("static", row))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=9)
    return parser.parse_args()


def write(folder: Path) -> StaticModel:
    """The model, in `folder`."""
    real = locate(DEFAULT_MODEL, cache=place().cache).folder
    inner = tokenizers.Tokenizer.from_file(str(real / "tokenizer.json"))
    inner.no_padding()
    inner.no_truncation()
    pick = np.random.default_rng(0)
    table = pick.normal(size=(inner.get_vocab_size(), WIDTH)).astype(np.float32)
    made = StaticModel(table, inner, normalize=True)
    made.save_pretrained(folder)
    return made


def engine(folder: Path) -> Callable[[list[str]], Any]:
    """Tokenizer and engine without the service."""
    card = read_card(folder)
    tokenizer, forward = tokenizer_for(card), StaticEngine(card).stream()

    def embed(texts: list[str]) -> Any:
        done = []
        for start in range(0, len(texts), SLICE):
            encoded = tokenizer.encode(texts[start : start + SLICE])
            done.append(forward(PackedBatch.of([one.ids for one in encoded]))["vectors"])
        return np.concatenate(done)

    return embed


def compare(
    sides: dict[str, Callable[[list[str]], Any]], count: int, rounds: int
) -> dict[str, list[float]]:
    """Seconds for each side, round by round, after one that isn't counted."""
    taken: dict[str, list[float]] = {side: [] for side in sides}
    for turn in range(rounds + 1):
        texts, origin = _texts.mixed(count, seed=100 + turn)
        found = {}
        order = list(sides) if turn % 2 else list(reversed(sides))
        for side in order:
            started = time.perf_counter()
            found[side] = sides[side](texts)
            seconds = time.perf_counter() - started
            if turn:
                taken[side].append(seconds)
        for side in ("likewise", "engine"):
            assert np.abs(found[side] - found["model2vec"]).max() < 1e-5, "other vectors"
        if not turn:
            print(f"{count} texts a round: {origin}")
    return taken


if __name__ == "__main__":
    main()
