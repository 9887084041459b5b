"""The vectors are those of sentence-transformers, in every precision."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as opset

from likewise.engines.batch import PackedBatch
from likewise.engines.int8 import GROUP, Int8Ops
from likewise.engines.openvino import build
from likewise.engines.openvino_ops import OpenVinoOps
from likewise.engines.spread import feed
from likewise.models.card import read_card
from likewise.models.tokenize import Tokenizer
from likewise.models.weights import Weights
from likewise.runtime import pack
from likewise.runtime.service import load

HERE = Path(__file__).parent
STSB = 0.8203
Embed = Callable[[list[str]], Any]


def has_bf16() -> bool:
    """Whether this CPU computes in bf16."""
    return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


needs_bf16 = pytest.mark.skipif(not has_bf16(), reason="this CPU doesn't compute in bf16")
pytestmark = pytest.mark.model


def to_bf16(values: Any) -> Any:
    """float32 numbers rounded to the nearest bf16, ties to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


class RoundedOps(OpenVinoOps):
    """The same graph with every weight and every operation's result rounded to bf16.

    This is what a CPU with bf16 does, or slightly worse: such a CPU fuses operations and keeps
    what lies between them in float32.
    """

    def __init__(self, weights: Weights, *, longest: int) -> None:
        super().__init__(weights, longest=longest)
        for name in ("embedding", "add", "layer_norm", "linear", "activate", "attention"):
            setattr(self, name, self._rounding(getattr(self, name)))

    def _constant(self, values: Any) -> Any:
        return ov.op.Constant(to_bf16(values))

    def _rounding(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        def rounded(*values: Any, **named: Any) -> Any:
            result = opset.convert(operation(*values, **named), "bf16")
            return opset.convert(result, "f32")

        return rounded


class Int8ActivationsOps(Int8Ops):
    """int8 weights, and activations as a CPU with VNNI takes them: a scale each `GROUP`."""

    def linear(self, x: Any, names: Any) -> Any:
        """Products of what is left of `x` in int8."""
        out = x.output(0) if hasattr(x, "output") else x
        width = out.get_partial_shape()[1].get_length()
        groups = opset.reshape(x, np.array([-1, width // GROUP, GROUP], np.int32), False)
        scale = opset.reduce_max(opset.abs(groups), np.array([2], np.int32), True)
        scale = opset.maximum(opset.divide(scale, np.float32(127)), np.float32(1e-12))
        groups = opset.multiply(opset.round(opset.divide(groups, scale), "half_to_even"), scale)
        flat = opset.reshape(groups, np.array([-1, width], np.int32), False)
        return super().linear(flat, names)


@pytest.fixture(scope="module")
def golden() -> tuple[list[str], Any]:
    """The texts and their vectors."""
    lines = (HERE / "golden.jsonl").read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines if line], np.load(HERE / "golden.npy")


@pytest.fixture(scope="module")
def f32(model_folder: Path) -> Iterator[Embed]:
    """The service in f32."""
    service = load(model_folder, precision="f32")
    yield service.embed
    service.close()


@pytest.fixture(scope="module")
def bf16(model_folder: Path) -> Iterator[Embed]:
    """The service in bf16, where the CPU has it."""
    service = load(model_folder, precision="bf16")
    assert service.info()["precision"] == "bf16"
    yield service.embed
    service.close()


@pytest.fixture(scope="module")
def small(model_folder: Path) -> Iterator[Embed]:
    """The service with int8 weights."""
    service = load(model_folder, precision="small")
    assert service.info()["precision"] == "int8"
    yield service.embed
    service.close()


@pytest.fixture(scope="module")
def small_activations(model_folder: Path) -> Embed:
    """int8 activations played in f32, where the CPU would use float32 ones."""
    return played(model_folder, Int8ActivationsOps)


@pytest.fixture(scope="module")
def rounded(model_folder: Path) -> Embed:
    """bf16 played in f32: every CPU can do it, slowly."""
    return played(model_folder, RoundedOps)


def played(model_folder: Path, ops: type[OpenVinoOps]) -> Embed:
    """The model written with `ops` and computed in f32."""
    card = read_card(model_folder)
    tokenizer = Tokenizer(card)
    graph, inputs, _, _ = build(card, ops)
    settings = {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
    request = ov.Core().compile_model(graph, "CPU", settings).create_infer_request()

    def embed(texts: list[str]) -> Any:
        encoded = [one.ids for one in tokenizer.encode(texts)]
        vectors = np.empty((len(texts), card.dimensions), np.float32)
        for chosen in pack.plan([len(ids) for ids in encoded], budget=512, window=512):
            batch = PackedBatch.of([encoded[index] for index in chosen])
            found = request.infer(feed(batch, inputs))[0]
            vectors[chosen] = found[: len(chosen)]
        return vectors

    return embed


def cosines(ours: Any, theirs: Any) -> Any:
    """Row by row, in float64."""
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def spearman(a: Any, b: Any) -> float:
    """Rank correlation; equal values share their mean rank."""

    def ranks(values: Any) -> Any:
        _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
        return (np.cumsum(counts) - (counts - 1) / 2)[inverse]

    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def stsb_spearman(folder: Path, embed: Embed) -> float:
    """Correlation between cosines and human scores on STS-B's test set."""
    with (folder / "stsb-test.csv").open(encoding="utf-8", newline="") as file:
        rows = [(first, second, float(score)) for first, second, score in csv.reader(file)]
    assert len(rows) == 1379
    sides = [embed([row[0] for row in rows]), embed([row[1] for row in rows])]
    return spearman(cosines(*sides), np.array([row[2] for row in rows]))


def test_the_golden_texts_are_as_varied_as_they_should_be(golden: tuple[list[str], Any]) -> None:
    texts, vectors = golden
    assert len(texts) == 200 and vectors.shape == (200, 384)
    assert "" in texts and any(len(text.split()) == 1000 for text in texts)
    assert any("🙂" in text for text in texts) and any("水" in text for text in texts)
    assert any("\x00" in text for text in texts)


def test_f32_gives_the_golden_vectors(golden: tuple[list[str], Any], f32: Embed) -> None:
    texts, vectors = golden
    ours = f32(texts)
    assert cosines(ours, vectors).min() >= 0.99999
    assert np.abs(np.linalg.norm(ours, axis=1) - 1).max() < 1e-5


@needs_bf16
def test_bf16_gives_the_golden_vectors(golden: tuple[list[str], Any], bf16: Embed) -> None:
    texts, vectors = golden
    ours = bf16(texts)
    assert cosines(ours, vectors).min() >= 0.9995
    assert np.abs(np.linalg.norm(ours, axis=1) - 1).max() < 1e-5


def test_bf16_rounding_keeps_the_golden_vectors(
    golden: tuple[list[str], Any], rounded: Embed
) -> None:
    texts, vectors = golden
    found = cosines(rounded(texts), vectors)
    assert found.min() >= 0.9995
    # If the rounding had been optimised away, this would be as near as f32 is.
    assert found.min() < 0.99999


def test_small_gives_the_golden_vectors(golden: tuple[list[str], Any], small: Embed) -> None:
    texts, vectors = golden
    found = cosines(small(texts), vectors)
    assert found.min() >= 0.996 and found.mean() >= 0.999
    assert found.min() < 0.99999


def test_small_with_int8_activations_keeps_the_golden_vectors(
    golden: tuple[list[str], Any], small_activations: Embed
) -> None:
    texts, vectors = golden
    found = cosines(small_activations(texts), vectors)
    assert found.min() >= 0.996 and found.mean() >= 0.999
    # With float32 activations it would be nearer.
    assert found.min() < 0.999


def test_stsb_in_f32(shared_data: Path, f32: Embed) -> None:
    assert stsb_spearman(shared_data, f32) == pytest.approx(STSB, abs=0.0005)


def test_stsb_in_small(shared_data: Path, small: Embed) -> None:
    assert stsb_spearman(shared_data, small) == pytest.approx(STSB, abs=0.001)


@needs_bf16
def test_stsb_in_bf16(shared_data: Path, bf16: Embed) -> None:
    assert stsb_spearman(shared_data, bf16) == pytest.approx(STSB, abs=0.0005)


def test_stsb_under_bf16_rounding(shared_data: Path, rounded: Embed) -> None:
    assert stsb_spearman(shared_data, rounded) == pytest.approx(STSB, abs=0.0005)


def test_a_text_alone_equals_the_text_in_a_batch(golden: tuple[list[str], Any], f32: Embed) -> None:
    texts = golden[0][::4]
    alone = np.concatenate([f32([text]) for text in texts])
    assert np.abs(alone - f32(texts)).max() < 1e-5
