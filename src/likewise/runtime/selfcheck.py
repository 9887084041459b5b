"""At load: does the chosen precision still give what float32 gives, on texts that are fixed?"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import likewise.engines
import likewise.nets
from likewise.base.errors import InputError
from likewise.base.machine import cpu_flags, cpu_name
from likewise.engines.batch import PackedBatch
from likewise.models.heads import Scores
from likewise.models.pairs import PairTokenizer
from likewise.version import __version__

if TYPE_CHECKING:
    import numpy.typing as npt

    from likewise.base.precision import Profile
    from likewise.base.types import Vectors
    from likewise.engines.batch import Engine, Forward, Output, Outputs
    from likewise.models.card import ModelCard
    from likewise.models.tokenize import Encoded, Tokenizer

    Doubles = npt.NDArray[np.float64]

THRESHOLDS: Mapping[Profile, float] = {"exact": 0.9999, "fast": 0.9995, "small": 0.99}
"""Least agreement with float32. Below 0.9995 ranks of near neighbours begin to change. `small`
gives up some of that for memory: all-MiniLM-L6-v2 comes to 0.997 and keeps its STS-B; below 0.99
something other than rounding is at work, such as activations with a few huge numbers."""

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
QUESTION = "How do I reset my password?"
_NOTHING = 1e-12


@dataclass(frozen=True, slots=True)
class Verdict:
    """How near the probes came."""

    worst_cosine: float
    """The least agreement of any probe in any output; -1 where NaN or Inf came out."""
    least: float
    """What is asked of this profile."""

    @property
    def is_good(self) -> bool:
        """Whether the precision may be used."""
        return self.worst_cosine >= self.least


@dataclass(frozen=True, slots=True)
class Probed:
    """What an engine gave for the probes."""

    batch: PackedBatch
    outputs: Outputs

    @property
    def is_finite(self) -> bool:
        """Whether every number is one."""
        return all(bool(np.isfinite(values).all()) for values in self.outputs.values())


def probe(card: ModelCard, tokenizer: Tokenizer, forward: Forward) -> Probed:
    """What `forward` gives for the probe texts, those of them that have tokens at all.

    A model that scores pairs reads each beside the same question.

    Raises:
        EngineError: the computation failed.
    """
    encoded: list[Encoded] = []
    scores = next((head for head in card.heads if isinstance(head, Scores)), None)
    if scores is not None:
        pairs = PairTokenizer(card, scores, tokenizer)
        encoded += pairs.encode([(QUESTION, text) for text in PROBES], prompt=scores.prompt)
    for text in () if scores is not None else PROBES:
        try:
            encoded += tokenizer.encode([text])
        except InputError:
            continue
    types = [one.types for one in encoded if one.types is not None]
    batch = PackedBatch.of([one.ids for one in encoded], types=types or None)
    return Probed(batch, forward(batch))


def compare(ours: Probed, theirs: Probed, profile: Profile) -> Verdict:
    """How near `ours`, computed in `profile`, comes to `theirs`, computed in float32."""
    assert ours.outputs.keys() == theirs.outputs.keys(), "other outputs in f32: this is a bug"
    if not ours.is_finite:
        return Verdict(-1.0, THRESHOLDS[profile])
    worst = min(
        float(agreement(name, values, theirs.outputs[name], ours.batch).min())
        for name, values in ours.outputs.items()
    )
    return Verdict(worst, THRESHOLDS[profile])


def agreement(name: Output, ours: Vectors, theirs: Vectors, batch: PackedBatch) -> Doubles:
    """How much two engines agree on output `name`, 1 at most: float64, one number or more.

    Cosines of rows; for a weight a token, cosines of each text's weights; for scores, of which a
    text may have but one, Lin's concordance over the texts (Biometrics 45, 1989, 255-268), which
    sees shifted scores as well as scattered ones.
    """
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    if name == "scores":
        return _concordance(a, b)
    if name == "weights":
        starts = batch.cumulative[:-1]
        return _cosines(*(np.add.reduceat(x, starts, axis=0)[:, 0] for x in (a * b, a * a, b * b)))
    return _cosines(*((x * y).sum(axis=1) for x, y in ((a, b), (a, a), (b, b))))


def _cosines(dots: Doubles, ours: Doubles, theirs: Doubles) -> Doubles:
    """From products and squared lengths; two rows of zeros agree."""
    lengths = np.sqrt(ours * theirs)
    both_zero = (ours < _NOTHING**2) & (theirs < _NOTHING**2)
    return np.where(both_zero, 1.0, dots / np.maximum(lengths, _NOTHING**2))


def _concordance(a: Doubles, b: Doubles) -> Doubles:
    apart = a.mean(axis=0) - b.mean(axis=0)
    shared = ((a - a.mean(axis=0)) * (b - b.mean(axis=0))).mean(axis=0)
    spread = a.var(axis=0) + b.var(axis=0) + apart**2
    return np.where(spread < _NOTHING, 1.0, 2 * shared / np.maximum(spread, _NOTHING))


def key(outputs: str, engine: Engine) -> str:
    """What a verdict holds for: what decides the outputs; engine, machine and this code."""
    facts = [outputs, engine.name, engine.version, engine.precision, _machine(), _code()]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


@functools.cache
def _machine() -> str:
    return " ".join([cpu_name(), *sorted(cpu_flags())])


@functools.cache
def _code() -> str:
    """A digest of what decides the numbers: a version to count up by hand would be forgotten."""
    digest = hashlib.sha256(__version__.encode())
    files = [Path(__file__)]
    for package in (likewise.engines, likewise.nets):
        for folder in package.__path__:
            files += sorted(Path(folder).glob("*.py"))
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()
