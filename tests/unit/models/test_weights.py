"""Weights come out as they were saved, and damage is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from likewise.base.errors import ModelCorrupt, ModelNotFound, ModelUnsupported
from likewise.models.weights import open_weights

A = np.arange(6, dtype=np.float32).reshape(2, 3)


def saved(folder: Path, **tensors: np.ndarray) -> Path:
    """The folder, with these tensors in model.safetensors."""
    save_file(tensors, folder / "model.safetensors")
    return folder


def test_tensors_are_views_of_the_file(tmp_path: Path) -> None:
    weights = open_weights(saved(tmp_path, a=A, b=A + 1))
    weights.require({"a": (2, 3), "b": (2, 3)})
    assert np.array_equal(weights["a"], A) and np.array_equal(weights["b"], A + 1)
    assert not weights["a"].flags.owndata
    assert "a" in weights and "c" not in weights


def test_half_precision_becomes_float32(tmp_path: Path) -> None:
    weights = open_weights(saved(tmp_path, a=A.astype(np.float16), b=A.astype(np.float64)))
    for name in "ab":
        assert weights[name].dtype == np.float32 and np.array_equal(weights[name], A)


def test_bf16_becomes_float32(tmp_path: Path) -> None:
    bits = (A.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    header = json.dumps({"a": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}}).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bits)
    assert np.array_equal(open_weights(tmp_path)["a"], A)


@pytest.mark.parametrize("numbers", [1, 7, 12, 1000])
def test_blocks_are_the_tensor_in_order(tmp_path: Path, numbers: int) -> None:
    values: dict[str, np.ndarray] = {
        "a": np.arange(30, dtype=np.float16).reshape(10, 3),
        "b": np.array([5, 6, 7], np.float32),
    }
    weights = open_weights(saved(tmp_path, **values))
    for name, value in values.items():
        parts = list(weights.blocks(name, numbers))
        assert all(part.dtype == np.float32 for part in parts)
        assert all(part.size <= max(numbers, 3) for part in parts)
        assert np.array_equal(np.concatenate(parts), value)


def test_prefixes_and_old_names(tmp_path: Path) -> None:
    weights = open_weights(saved(tmp_path, **{"bert.x": A, "bert.n.gamma": A, "other": A}))
    plain = weights.without_prefix("x", ("", "bert."))
    plain.require({"x": (2, 3), "n.weight": (2, 3)})
    assert "other" in plain and "bert.x" not in plain


def test_several_files(tmp_path: Path) -> None:
    save_file({"a": A}, tmp_path / "one.safetensors")
    save_file({"b": A}, tmp_path / "two.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}')
    open_weights(tmp_path).require({"a": (2, 3), "b": (2, 3)})
    (tmp_path / "two.safetensors").unlink()
    with pytest.raises(ModelCorrupt, match=r"two\.safetensors.*missing"):
        open_weights(tmp_path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite(tmp_path: Path, bad: float) -> None:
    spoilt = A.copy()
    spoilt[1, 1] = bad
    with pytest.raises(ModelCorrupt, match="'a' holds NaN or Inf"):
        open_weights(saved(tmp_path, a=spoilt)).require({"a": (2, 3)})


def test_missing_and_misshapen(tmp_path: Path) -> None:
    weights = open_weights(saved(tmp_path, a=A, i=np.arange(3)))
    with pytest.raises(ModelCorrupt, match="no tensor 'b'"):
        weights.require({"b": (1,)})
    with pytest.raises(ModelCorrupt, match=r"'a' is \[2, 3\].*asks for \[3, 2\]"):
        weights.require({"a": (3, 2)})
    with pytest.raises(ModelUnsupported, match="'i' holds I64"):
        weights.require({"i": (3,)})


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, a=A, b=A) / "model.safetensors"
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(ModelCorrupt):
            open_weights(tmp_path)


@pytest.mark.parametrize(
    "header",
    [
        b"not json",
        b"[]",
        b'{"a": 3}',
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0]}}',
    ],
)
def test_a_damaged_header(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(64))
    with pytest.raises(ModelCorrupt, match="header is damaged"):
        open_weights(tmp_path)


def test_pickles_are_never_read(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ModelUnsupported, match=r"pytorch_model\.bin, a pickle"):
        open_weights(tmp_path)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"no model\.safetensors"):
        open_weights(tmp_path)
