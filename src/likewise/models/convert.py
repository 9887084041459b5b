"""Weights that torch pickled, written as safetensors, without running what a pickle may ask for.

A file of `torch.save` (since torch 1.6) is a zip archive: `data.pkl` describes the tensors, and
`data/0`, `data/1`, ... hold their numbers. The description is read by an unpickler that knows the
few names a table of tensors needs; anything else ends it.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import re
import tempfile
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np

from likewise.base.errors import ModelCorrupt, ModelNotFound, ModelUnsupported
from likewise.models.parts import read_json

_PICKLE = re.compile(r"(?:pytorch_|(adapter_))(model(?:-\d+-of-\d+)?)\.bin|(\w+_linear)\.pt")
_INDEX = "pytorch_model.bin.index.json"
# Storage classes of torch: their name in safetensors, and numpy's for the same bytes.
_STORAGES: Mapping[str, tuple[str, str]] = {
    "DoubleStorage": ("F64", "<f8"),
    "FloatStorage": ("F32", "<f4"),
    "HalfStorage": ("F16", "<f2"),
    "BFloat16Storage": ("BF16", "<u2"),
    "LongStorage": ("I64", "<i8"),
    "IntStorage": ("I32", "<i4"),
    "ShortStorage": ("I16", "<i2"),
    "CharStorage": ("I8", "|i1"),
    "ByteStorage": ("U8", "|u1"),
    "BoolStorage": ("BOOL", "|b1"),
}


@dataclass(frozen=True, slots=True)
class _Storage:
    """Numbers in the archive."""

    key: str
    kind: str
    count: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A view of a storage, counted in numbers."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes it takes when it lies by itself."""
        return math.prod(self.shape) * np.dtype(_STORAGES[self.storage.kind][1]).itemsize


def convert(folder: Path) -> list[Path]:
    """Write the pickled weights of `folder` and of its modules as safetensors beside them.

    Files that have been written before are left alone. Returns those that were written.

    Raises:
        ModelNotFound: there is nothing to convert.
        ModelUnsupported: a pickle asks for more than tensors, or is of before torch 1.6.
        ModelCorrupt: one is damaged.
        OSError: the folder can't be written.
    """
    places = [folder, *sorted(path for path in folder.glob("*") if path.is_dir())]
    found = [(path, _target(path)) for place in places for path in sorted(place.glob("*"))]
    pickles = [(path, target) for path, target in found if target is not None]
    if not pickles:
        raise ModelNotFound(f"{folder} has no pytorch_model.bin: there is nothing to convert")
    written = []
    for path, target in pickles:
        if not target.is_file():
            _convert_file(path, target)
            written.append(target)
    index = folder / _INDEX
    target = folder / "model.safetensors.index.json"
    if index.is_file() and not target.is_file():
        places_of = read_json(index).get("weight_map", {})
        named = {name: _target(folder / str(file)) for name, file in places_of.items()}
        value = {"metadata": {}, "weight_map": {n: p.name for n, p in named.items() if p}}
        _write(target, [json.dumps(value).encode()])
        written.append(target)
    return written


def _target(path: Path) -> Path | None:
    """Where the pickle `path` goes; None if it isn't one of a model's."""
    named = _PICKLE.fullmatch(path.name)
    if named is None or not path.is_file():
        return None
    return path.with_name((named[3] or (named[1] or "") + named[2]) + ".safetensors")


def _convert_file(path: Path, target: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            tensors, root = _described(archive, path)
            _write(target, _safetensors(archive, root, tensors, path))
    except zipfile.BadZipFile as broken:
        raise ModelUnsupported(
            f"{path} isn't an archive of torch 1.6 or newer ({broken}): it is damaged, or older. "
            f"If you trust who made it, load it with torch and save it again"
        ) from broken


def _described(archive: zipfile.ZipFile, path: Path) -> tuple[dict[str, _Tensor], str]:
    """The tensors that `data.pkl` describes, and the archive's own folder."""
    inside = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(inside) != 1:
        raise ModelCorrupt(f"{path} has no description of its tensors (data.pkl)")
    root = inside[0].removesuffix("data.pkl")
    order = f"{root}byteorder"
    if order in archive.namelist() and archive.read(order).strip() != b"little":
        raise ModelUnsupported(f"{path} was written by a machine of the other byte order")
    with archive.open(inside[0]) as file:
        try:
            value = _Tables(file, path).load()
        except (pickle.UnpicklingError, EOFError, ValueError, TypeError, IndexError) as broken:
            raise ModelCorrupt(f"{path}: its description can't be read: {broken}") from broken
        except (AttributeError, KeyError, ImportError, UnicodeDecodeError) as broken:
            raise ModelCorrupt(f"{path}: its description is damaged: {broken!r}") from broken
    named = isinstance(value, dict) and all(isinstance(name, str) for name in value)
    if not named or not all(isinstance(one, _Tensor) for one in value.values()):
        raise ModelUnsupported(f"{path} holds more than a table of tensors")
    return dict(value), root


class _Tables(pickle.Unpickler):
    """Reads tables of tensors; every other name is refused, and nothing that is named is run."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        super().__init__(file)
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        """What stands for `module.name`: one of the few below."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuilt
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _parameter
        if module == "torch" and name in _STORAGES:
            return name
        self._refuse(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        """The storage that `pid`, ("storage", class, key, device, count), names."""
        if not isinstance(pid, tuple) or len(pid) != 5 or pid[0] != "storage":
            self._refuse(repr(pid))
        if pid[1] not in _STORAGES or not str(pid[2]).isdecimal():
            self._refuse(repr(pid))
        return _Storage(str(pid[2]), str(pid[1]), int(pid[4]))

    def _refuse(self, what: str) -> NoReturn:
        raise ModelUnsupported(
            f"{self._path} asks for {what}, which a table of tensors doesn't need: it isn't read"
        )


def _rebuilt(
    storage: _Storage, offset: int, shape: Sequence[int], strides: Sequence[int], *_others: Any
) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise ValueError("a tensor without a storage")
    made = _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))
    pairs = list(zip(made.shape, made.strides, strict=True))
    last = made.offset + sum((size - 1) * stride for size, stride in pairs)
    if min(made.offset, *made.shape, *made.strides, 0) < 0:
        raise ValueError("a tensor with a negative size")
    if 0 not in made.shape and last >= storage.count:
        raise ValueError("a tensor larger than its storage")
    return made


def _parameter(tensor: _Tensor, *_others: Any) -> _Tensor:
    return tensor


def _safetensors(
    archive: zipfile.ZipFile, root: str, tensors: Mapping[str, _Tensor], path: Path
) -> Iterator[bytes]:
    """The parts of a safetensors file, in order; one storage is in memory at a time."""
    ordered = sorted(tensors.items(), key=lambda item: int(item[1].storage.key))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in ordered:
        start, end = end, end + tensor.size
        kind = _STORAGES[tensor.storage.kind][0]
        header[name] = {"dtype": kind, "shape": tensor.shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    held: tuple[str, bytes] = ("", b"")
    for _, tensor in ordered:
        storage = tensor.storage
        if held[0] != storage.key:
            try:
                held = (storage.key, archive.read(f"{root}data/{storage.key}"))
            except (KeyError, zipfile.BadZipFile, OSError) as broken:
                raise ModelCorrupt(f"{path}: numbers {storage.key} are damaged: {broken}") from (
                    broken
                )
        dtype = np.dtype(_STORAGES[storage.kind][1])
        if len(held[1]) != storage.count * dtype.itemsize:
            raise ModelCorrupt(
                f"{path}: numbers {storage.key} are {len(held[1])} bytes, not {storage.count} "
                f"times {dtype.itemsize}"
            )
        flat = np.frombuffer(held[1], dtype)[tensor.offset :]
        strides = [stride * dtype.itemsize for stride in tensor.strides]
        yield np.lib.stride_tricks.as_strided(flat, tensor.shape, strides).tobytes()


def _write(target: Path, parts: Iterator[bytes] | Sequence[bytes]) -> None:
    """`target` whole or not at all."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=target.name)
    try:
        with os.fdopen(handle, "wb") as file:
            for part in parts:
                file.write(part)
        Path(name).chmod(0o644)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
