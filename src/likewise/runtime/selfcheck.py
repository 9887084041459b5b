"""At load: does lower precision still give the vectors of full precision? If not, full it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from likewise.engines.batch import PackedBatch

if TYPE_CHECKING:
    from likewise.engines.batch import Forward
    from likewise.models.tokenize import Tokenizer

THRESHOLD = 0.9995
"""Least cosine to full precision; below it, ranks of near neighbours begin to change."""

PROBES = (
    "",
    "weather",
    "How do I reset my password?",
    "The quick brown fox jumps over the lazy dog.",
    "Der Zug nach München fährt heute später ab.",
    "人工智能正在改变世界。",
    "def add(a: int, b: int) -> int: return a + b",
    "🙂🙂 thank you so much!!! 🎉",
    "1,234.56 + 7.89 = 1242.45 (approximately) on 2024-02-29",
    "A long passage about the history of libraries, catalogues and the people who kept them. " * 8,
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How near the probes came."""

    worst_cosine: float

    @property
    def is_good(self) -> bool:
        """Whether the precision may be used."""
        return self.worst_cosine >= THRESHOLD


def compare(tokenizer: Tokenizer, forward: Forward, reference: Forward) -> Verdict:
    """The worst cosine between the two over the probe texts; NaN counts as -1."""
    batch = PackedBatch.of([one.ids for one in tokenizer.encode(PROBES)])
    ours, theirs = (f(batch)["vectors"].astype(np.float64) for f in (forward, reference))
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    cosines = (ours * theirs).sum(axis=1) / np.maximum(lengths, 1e-12)
    return Verdict(float(np.nan_to_num(cosines, nan=-1.0).min()))
