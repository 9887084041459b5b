"""Weights mapped from safetensors files and checked, and the digest that names them."""

from __future__ import annotations

import json
import mmap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from likewise.base.errors import ModelCorrupt, ModelNotFound, ModelUnsupported
from likewise.models.parts import read_json

if TYPE_CHECKING:
    import numpy.typing as npt

    from likewise.base.types import Vectors

_DTYPES: Mapping[str, str] = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "F64": "<f8"}
_INTEGERS: Mapping[str, str] = {"I8": "<i1", "I16": "<i2", "I32": "<i4", "I64": "<i8"}
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json", "adapter_model.bin")
"""Files of weights that torch writes as pickles."""
# A header is some bytes a tensor; one this long is a damaged length.
_MAX_HEADER = 100_000_000
_BLOCK = 1 << 22
"""Numbers read at once where a whole tensor isn't needed: 16 MB of float32."""


Change = Callable[["Vectors"], "Vectors"]
"""What is made of a tensor when it is read; of the same shape."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """Where a tensor lies."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int


class Weights:
    """The tensors of one folder by name; the bytes stay in the file until they are read.

    Names come without the `bert.` (or other) prefix that some checkpoints put before them; see
    `without_prefix`.
    """

    def __init__(
        self,
        entries: Mapping[str, _Entry],
        maps: Mapping[Path, mmap.mmap],
        changes: Mapping[str, Change] | None = None,
    ) -> None:
        self._entries = dict(entries)
        self._maps = maps
        self._changes = dict(changes or {})

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that hold them."""
        return tuple(sorted(self._maps))

    @property
    def names(self) -> tuple[str, ...]:
        """What the tensors are called."""
        return tuple(self._entries)

    def without_prefix(self, probe: str, prefixes: tuple[str, ...]) -> Weights:
        """The same tensors, named without whichever of `prefixes` stands before `probe`.

        Those that haven't got it, as a head beside the network has not, keep their names.
        """
        for prefix in prefixes:
            if prefix + probe in self._entries:
                heads = {
                    _modern(name): entry
                    for name, entry in self._entries.items()
                    if not name.startswith(prefix)
                }
                named = {
                    _modern(name.removeprefix(prefix)): entry
                    for name, entry in self._entries.items()
                    if name.startswith(prefix)
                }
                return Weights(heads | named, self._maps)
        return self

    def with_part(self, name: str, part: Weights) -> Weights:
        """These and those of `part`, which are called `NAME/...` here."""
        theirs = {f"{name}/{key}": entry for key, entry in part._entries.items()}
        changes = {f"{name}/{key}": change for key, change in part._changes.items()}
        return Weights(
            self._entries | theirs, {**self._maps, **part._maps}, self._changes | changes
        )

    def with_changes(self, changes: Mapping[str, Change], source: Weights) -> Weights:
        """These, where each tensor in `changes` is what its function makes of it when read.

        The shapes stay. `source` is what the functions read.
        """
        return Weights(self._entries, {**self._maps, **source._maps}, self._changes | dict(changes))

    def with_names(self, names: Mapping[str, str]) -> Weights:
        """The same tensors, those in `names` under a second name: the new one to the one it has."""
        entries = {new: self._entries[old] for new, old in names.items()}
        changes = {new: self._changes[old] for new, old in names.items() if old in self._changes}
        return Weights(self._entries | entries, self._maps, self._changes | changes)

    def respelled(self, spell: Callable[[str], tuple[str, ...]]) -> Weights:
        """The same tensors under the names that `spell` gives for each of theirs.

        One with several names is cut into as many blocks of rows; where these can't be of one size
        it keeps its name.
        """
        entries: dict[str, _Entry] = {}
        for name, entry in self._entries.items():
            names = spell(name)
            rows, rest = divmod(entry.shape[0] if entry.shape else 1, len(names))
            if len(names) > 1 and (rest or entry.dtype not in _DTYPES):
                names, rows = (name,), 0
            shape = (rows, *entry.shape[1:]) if len(names) > 1 else entry.shape
            size = int(np.prod(shape, dtype=np.int64)) * _width(entry.dtype)
            for index, each in enumerate(names):
                entries[each] = replace(entry, shape=shape, start=entry.start + index * size)
        return Weights(entries, self._maps, self._changes)

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The shape of a tensor; None when there is none of that name."""
        entry = self._entries.get(name)
        return None if entry is None else entry.shape

    def dtype(self, name: str) -> str | None:
        """What its numbers are in the file, such as F32; None when there is none of that name."""
        entry = self._entries.get(name)
        return None if entry is None else entry.dtype

    def require(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Check that every tensor of `shapes` is there, in that shape, with finite numbers only.

        Raises:
            ModelCorrupt: one isn't; it is named, with both shapes.
        ModelUnsupported: its numbers are of a type not read here.
        """
        where = ", ".join(path.name for path in self.files)
        for name, shape in shapes.items():
            entry = self._entries.get(name)
            if entry is None:
                raise ModelCorrupt(f"{self.files[0].parent}: {where} has no tensor {name!r}")
            if entry.dtype not in _DTYPES:
                raise ModelUnsupported(
                    f"{entry.file}: tensor {name!r} holds {entry.dtype}, which isn't read here; "
                    f"known: {', '.join(_DTYPES)}"
                )
            if entry.shape != shape:
                raise ModelCorrupt(
                    f"{entry.file}: tensor {name!r} is {list(entry.shape)}, config.json asks for "
                    f"{list(shape)}"
                )
        for name in shapes:
            self._require_finite(name)
        self.release()

    def __getitem__(self, name: str) -> Vectors:
        """float32 of the tensor; a view of the file where that holds float32 already."""
        plain = self._read(self._entries[name])
        change = self._changes.get(name)
        return plain if change is None else change(plain)

    def _read(self, entry: _Entry) -> Vectors:
        count = int(np.prod(entry.shape, dtype=np.int64))
        raw: npt.NDArray[Any] = np.frombuffer(
            self._maps[entry.file], _DTYPES[entry.dtype], count, entry.start
        )
        if entry.dtype == "BF16":
            raw = (raw.astype(np.uint32) << 16).view(np.float32)
        # Engines take aligned memory; the format aligns its data, but older files may not.
        usable = raw.dtype == np.float32 and raw.flags.aligned
        return np.asarray(raw if usable else raw.astype(np.float32)).reshape(entry.shape)

    def blocks(self, name: str, numbers: int = _BLOCK) -> Iterator[Vectors]:
        """float32 of a tensor, as many rows at a time as have about so many `numbers`.

        A table in half precision is never held whole in float32, which is twice its size.
        """
        entry = self._entries[name]
        if not entry.shape or name in self._changes:
            yield self[name]
            return
        width = int(np.prod(entry.shape[1:], dtype=np.int64))
        step = max(1, numbers // max(1, width))
        for start in range(0, entry.shape[0], step):
            count = min(step, entry.shape[0] - start)
            at = entry.start + start * width * _width(entry.dtype)
            yield self._read(replace(entry, shape=(count, *entry.shape[1:]), start=at))

    def halves(self, name: str) -> npt.NDArray[Any] | None:
        """A tensor in 16 bits as its file has it: float16, or the bits of bf16 as uint16.

        None if its numbers are of another kind, or if they are changed when read.
        """
        entry = self._entries[name]
        if entry.dtype not in ("F16", "BF16") or name in self._changes:
            return None
        count = int(np.prod(entry.shape, dtype=np.int64))
        raw: npt.NDArray[Any] = np.frombuffer(
            self._maps[entry.file], _DTYPES[entry.dtype], count, entry.start
        )
        return raw.reshape(entry.shape) if raw.flags.aligned else None

    def is_mapped(self, name: str) -> bool:
        """Whether reading a tensor gives a view of its file, not a copy in float32."""
        return self._entries[name].dtype == "F32" and name not in self._changes

    def size(self, name: str) -> int:
        """How many numbers a tensor has."""
        return int(np.prod(self._entries[name].shape, dtype=np.int64))

    def integers(self, name: str) -> npt.NDArray[Any] | None:
        """A tensor of whole numbers as it is stored; None when there is none of that name and kind.

        Raises:
            ModelCorrupt: the file ends before it does.
        """
        entry = self._entries.get(name)
        if entry is None or entry.dtype not in _INTEGERS:
            return None
        count = int(np.prod(entry.shape, dtype=np.int64))
        try:
            found = np.frombuffer(
                self._maps[entry.file], _INTEGERS[entry.dtype], count, entry.start
            )
        except ValueError as short:
            raise ModelCorrupt(
                f"{entry.file} is cut short: {name!r} {list(entry.shape)}: {short}"
            ) from short
        return found.reshape(entry.shape)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def release(self) -> None:
        """Let the pages read so far go from memory; they come back from the file when used."""
        for mapped in self._maps.values():
            if hasattr(mapped, "madvise") and hasattr(mmap, "MADV_DONTNEED"):
                mapped.madvise(mmap.MADV_DONTNEED)

    def _require_finite(self, name: str) -> None:
        for values in self.blocks(name):
            # min and max let NaN through and see infinities, without a temporary array.
            if not values.size or (np.isfinite(values.min()) and np.isfinite(values.max())):
                continue
            raise ModelCorrupt(
                f"{self._entries[name].file}: tensor {name!r} holds NaN or Inf; "
                "the file is damaged or the training diverged"
            )


def open_weights(folder: Path) -> Weights:
    """The weights in `folder`, from model.safetensors or from the files its index lists.

    Raises:
        ModelNotFound: there are none.
        ModelUnsupported: there are only pickled ones, or numbers of a type not read here.
        ModelCorrupt: a file is cut short or contradicts itself.
    """
    return _opened(weight_files(folder))


def open_file(path: Path) -> Weights:
    """The tensors in one safetensors file.

    Raises:
        ModelCorrupt: it is cut short or contradicts itself.
    """
    return _opened((path,))


def _opened(paths: Sequence[Path]) -> Weights:
    entries: dict[str, _Entry] = {}
    maps: dict[Path, mmap.mmap] = {}
    for path in paths:
        maps[path] = _map(path)
        entries |= _read_header(path, maps[path])
    return Weights(entries, maps)


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The safetensors files of `folder`, in order of name.

    Raises:
        ModelNotFound: there are none.
        ModelUnsupported: there are only pickled ones.
        ModelCorrupt: one that the index lists is missing.
    """
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return (single,)
    if index.is_file():
        listed = {str(file) for file in read_json(index).get("weight_map", {}).values()}
        paths = tuple(folder / file for file in sorted(listed))
        gone = [path.name for path in paths if not path.is_file()]
        if gone or not paths or any(path.parent != folder for path in paths):
            raise ModelCorrupt(f"{index} lists {', '.join(gone) or 'no file here'}: missing")
        return paths
    pickled = pickled_in(folder)
    if pickled is not None:
        raise pickled
    raise ModelNotFound(f"{folder} has no model.safetensors")


def has_weights(folder: Path) -> bool:
    """Whether `folder` has safetensors, whole or in pieces."""
    return any((folder / f"model.safetensors{end}").is_file() for end in ("", ".index.json"))


def pickled_in(folder: Path) -> ModelUnsupported | None:
    """What to raise when `folder` has weights only as pickles; None when it has no pickle."""
    pickled = [file for file in PICKLED if (folder / file).exists()]
    if not pickled:
        return None
    return ModelUnsupported(
        f"{folder} has its weights only in {pickled[0]}, a pickle, which can run code when read; "
        f"convert it, which runs none: likewise models convert {folder}"
    )


def _map(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as file:
            # Private and writable: OpenVINO shares only memory that it could write to.
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError) as broken:
        raise ModelCorrupt(f"{path} can't be mapped: {broken}") from broken


def _read_header(path: Path, mapped: mmap.mmap) -> dict[str, _Entry]:
    length = int.from_bytes(mapped[:8], "little")
    if len(mapped) < 8 or length > min(len(mapped) - 8, _MAX_HEADER):
        raise ModelCorrupt(
            f"{path} is cut short or isn't safetensors: {len(mapped)} bytes, "
            f"and its header alone should be {length}"
        )
    try:
        header: dict[str, Any] = json.loads(mapped[8 : 8 + length])
        return {
            name: _entry(path, name, value, 8 + length)
            for name, value in header.items()
            if name != "__metadata__"
        }
    except (ValueError, KeyError, TypeError, AttributeError) as broken:
        raise ModelCorrupt(f"{path}: the safetensors header is damaged: {broken!r}") from broken


def _entry(path: Path, name: str, value: Mapping[str, Any], base: int) -> _Entry:
    dtype, shape = str(value["dtype"]), tuple(int(n) for n in value["shape"])
    start, end = (int(n) for n in value["data_offsets"])
    if dtype not in _DTYPES:
        # Integer buffers such as position_ids are never asked for; `require` refuses if one is.
        return _Entry(path, dtype, shape, base + start)
    wanted = int(np.prod(shape, dtype=np.int64)) * np.dtype(_DTYPES[dtype]).itemsize
    size = path.stat().st_size
    if start < 0 or end - start != wanted or base + end > size:
        raise ModelCorrupt(
            f"{path} is cut short or damaged: tensor {name!r} {list(shape)} should be bytes "
            f"{base + start} to {base + start + wanted} of {size}"
        )
    return _Entry(path, dtype, shape, base + start)


def _width(dtype: str) -> int:
    """Bytes of a number; 0 of a type that isn't read."""
    return np.dtype(_DTYPES[dtype]).itemsize if dtype in _DTYPES else 0


def _modern(name: str) -> str:
    """LayerNorm's parameters were called gamma and beta in the first BERT checkpoints."""
    for old, new in ((".gamma", ".weight"), (".beta", ".bias")):
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name
