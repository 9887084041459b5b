"""int8 weights: how near they come, what stays float32, and where they lie."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from likewise.base.errors import EngineError
from likewise.engines import int8
from likewise.engines.batch import PackedBatch
from likewise.engines.int8 import GROUP, quantise
from likewise.engines.openvino import OpenVinoEngine, build
from likewise.engines.openvino_ops import OpenVinoOps
from likewise.engines.quiet import opset, ov
from likewise.engines.spill import Spill
from likewise.models.card import read_card
from likewise.models.weights import open_weights
from tests.conformance.tiny import write_bert

BIG: dict[str, Any] = {"hidden_size": 128, "intermediate_size": 192, "num_attention_heads": 4}


def test_values_come_within_half_a_scale() -> None:
    pick = np.random.default_rng(0)
    parts = [pick.normal(size=(rows, 3 * GROUP)).astype(np.float32) for rows in (5, 11)]
    values, scales = quantise(parts)
    assert values.shape == (16, 3, GROUP) and values.dtype == np.int8
    assert np.abs(values).max(axis=2).min() == 127
    given = np.concatenate(parts).reshape(values.shape)
    assert (np.abs(values * scales - given) <= scales * 0.5001).all()


def test_large_matrices_are_turned_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = np.random.default_rng(1).normal(size=(50, GROUP)).astype(np.float32)
    values, scales = quantise([matrix])
    monkeypatch.setattr(int8, "_BLOCK", 3 * GROUP)
    again = quantise([matrix])
    assert np.array_equal(values, again[0]) and np.array_equal(scales, again[1])


def test_odd_widths_are_one_group_and_zeros_stay_zeros() -> None:
    values, scales = quantise([np.zeros((3, GROUP + 2), np.float32)])
    assert values.shape == (3, 1, GROUP + 2)
    assert not values.any() and (scales == 1).all()


def test_what_is_spilt_comes_back_when_it_is_let_go() -> None:
    spill = Spill(4 * mmap.PAGESIZE)
    first, second = spill.empty((2, 5)), spill.empty((mmap.PAGESIZE + 1,))
    first[:], second[:] = 3, 4
    spill.release()
    assert (first == 3).all() and (second == 4).all()


def test_a_full_disk_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(EngineError, match="4 bytes more in .*: No space left on device"):
        Spill(mmap.PAGESIZE).empty((2, 2))


def test_large_weights_are_int8_in_the_graph_and_small_ones_are_not(tmp_path: Path) -> None:
    card = read_card(write_bert(tmp_path / "model", vocab_size=200, **BIG))
    graph, *_ = build(card, int8.Int8Ops)
    kinds = {"i8": 0, "f32": 0}
    for node in graph.get_ops():
        if node.get_type_name() == "Constant":
            kind = node.get_element_type().get_type_name()
            kinds[kind] = kinds.get(kind, 0) + int(np.prod(node.get_output_shape(0)))
    assert kinds["i8"] == 200 * 128 + 2 * (4 * 128 * 128 + 2 * 128 * 192)
    # Position and type tables are too small to gain; scales, biases and norms.
    assert kinds["f32"] < kinds["i8"] / 10


def test_experts_are_int8_as_well(tmp_path: Path) -> None:
    pick = np.random.default_rng(3)
    folder, shape = tmp_path, (3 * 256, 128)
    made = {name: pick.normal(0, 0.1, shape).astype(np.float32) for name in ("up", "down")}
    save_file(made, folder / "model.safetensors")
    x, chosen = (pick.normal(size=(9, width)).astype(np.float32) for width in (128, 3))
    found = []
    for kind in (OpenVinoOps, int8.Int8Ops):
        ops: Any = kind(open_weights(folder), longest=64)
        feed = [opset.parameter([-1, width], np.float32) for width in (128, 3)]
        y = ops.experts(*feed, first="up", second="down", bias=None, chosen=2, activation="relu")
        graph = ov.Model([y], feed)
        constants = [node for node in graph.get_ops() if node.get_type_name() == "Constant"]
        stored = sum(node.get_byte_size() for node in constants)
        found.append((stored, ov.Core().compile_model(graph, "CPU")([x, chosen])[0]))
    (whole, exact), (small, near) = found
    assert small < whole / 3
    cosines = (exact * near).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(near, axis=1)
    assert 0.999 < cosines.min() < 0.9999999


def test_small_comes_near_exact(tmp_path: Path) -> None:
    card = read_card(write_bert(tmp_path / "model", vocab_size=200, **BIG))
    pick = np.random.default_rng(2)
    batch = PackedBatch.of([pick.integers(4, 200, length).tolist() for length in (1, 3, 9, 40)])
    found = {}
    for precision in ("exact", "small"):
        engine = OpenVinoEngine(card, precision=precision, threads=1)
        found[precision] = engine.stream()(batch)["vectors"]
        engine.close()
    assert engine.precision == "int8" and "int8 weights" in engine.why
    cosines = (found["exact"] * found["small"]).sum(axis=1)
    assert 0.99 < cosines.min() < 0.999999
