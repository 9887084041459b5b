"""Pickled weights become safetensors with the same numbers, and nothing in a pickle is run."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likewise.base.errors import ModelCorrupt, ModelNotFound, ModelUnsupported
from likewise.models.convert import convert
from likewise.models.weights import open_weights
from tests.conformance.tiny import write_bert


@pytest.mark.torch
def test_what_torch_saved_comes_out_the_same(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    tensors = {
        "plain": base.clone(),
        "turned": base.T,
        "part": base[1:3, 2:5],
        "half": base.half(),
        "bf16": base.bfloat16(),
        "double": base.double(),
        "whole": torch.arange(5),
        "small": torch.arange(5, dtype=torch.int8),
        "flags": torch.tensor([True, False]),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    tensors["tied"] = tensors["plain"]
    torch.save(OrderedDict(tensors), tmp_path / "pytorch_model.bin")
    assert convert(tmp_path) == [tmp_path / "model.safetensors"]
    found = load_file(tmp_path / "model.safetensors")
    assert set(found) == set(tensors)
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor.data), name


@pytest.mark.torch
def test_a_whole_model_with_its_modules(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    folder = write_bert(tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(torch.nn.Linear(3, 2).state_dict(), _made(folder / "2_Dense/pytorch_model.bin"))
    names = sorted(tensors)
    files = [f"pytorch_model-{n:05}-of-00002.bin" for n in (1, 2)]
    for file, some in zip(files, (names[:20], names[20:]), strict=True):
        torch.save({name: tensors[name] for name in some}, folder / file)
    places = dict.fromkeys(names[:20], files[0]) | dict.fromkeys(names[20:], files[1])
    index = folder / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    with pytest.raises(ModelUnsupported, match=r"index\.json, a pickle.*models convert"):
        open_weights(folder)
    assert len(convert(folder)) == 4
    found = open_weights(folder)
    assert all(np.array_equal(found[name], tensors[name].numpy()) for name in names)
    assert open_weights(folder / "2_Dense").shape("weight") == (2, 3)
    assert convert(folder) == [], "what is written already is left alone"


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def archive(path: Path, description: bytes, numbers: bytes = b"\0" * 24) -> Path:
    """A file as torch writes it, with this description."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", description)
        file.writestr("archive/data/0", numbers)
    return path


class Asks:
    """Pickles as a call of anything."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> Any:
        return self.call, self.arguments


def test_nothing_that_a_pickle_names_is_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    for call in (Asks(Path.touch, mark), Asks(eval, f"open({str(mark)!r}, 'w')")):
        archive(tmp_path / "pytorch_model.bin", pickle.dumps({"a": call}))
        with pytest.raises(ModelUnsupported, match=r"asks for (pathlib|builtins)\..*isn't read"):
            convert(tmp_path)
    assert not mark.exists() and not (tmp_path / "model.safetensors").exists()


def description(shape: tuple[int, ...], strides: tuple[int, ...], *, count: int = 6) -> bytes:
    """The pickle of one tensor "a", written as torch writes it."""

    def ints(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(b"K" + bytes([value]) for value in values) + b"t"

    return (
        b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n("
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK"
        + bytes([count])
        + b"tQK\x00"
        + ints(shape)
        + ints(strides)
        + b"\x89}tRs."
    )


def test_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    archive(path, description((2, 3), (3, 1)))
    convert(tmp_path)
    assert open_weights(tmp_path)["a"].shape == (2, 3)
    (tmp_path / "model.safetensors").unlink()
    for spoilt, says in (
        (description((2, 4), (4, 1)), "larger than its storage"),
        (description((2, 3), (3, 1))[:-30], "can't be read"),
        (b"", "can't be read"),
    ):
        archive(path, spoilt)
        with pytest.raises(ModelCorrupt, match=says):
            convert(tmp_path)
    archive(path, description((2, 3), (3, 1)), b"\0" * 20)
    with pytest.raises(ModelCorrupt, match="20 bytes, not 6 times 4"):
        convert(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["pytorch_model.bin"]


def test_other_files(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="nothing to convert"):
        convert(tmp_path)
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ModelUnsupported, match="isn't an archive of torch"):
        convert(tmp_path)
    archive(path, pickle.dumps({"state": {"a": 1}}))
    with pytest.raises(ModelUnsupported, match="more than a table of tensors"):
        convert(tmp_path)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from likewise.cli import main

    archive(tmp_path / "pytorch_model.bin", description((2, 3), (3, 1)))
    assert main.run(["models", "convert", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "model.safetensors")
    assert main.run(["models", "convert", str(tmp_path)]) == 0
    assert "already" in capsys.readouterr().err
