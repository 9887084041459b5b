"""GGUF files and Ollama's store, which aren't read here: recognised, and what to take instead."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from likewise.models.short_names import same_weights

MAGIC = b"GGUF"
_HEAD_BYTES = 64 * 1024
_LIBRARY = "registry.ollama.ai/library/"
_MOST_NAMES = 200
_MODEL_LAYER = "application/vnd.ollama.image.model"
# The value's type to its format, of those that stand before the tables of a file.
_SCALARS = {0: "B", 1: "b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "?", 10: "<Q", 11: "<q"}
_TEXT = 8


@dataclass(frozen=True, slots=True)
class Stored:
    """A model in Ollama's store."""

    name: str
    """As Ollama lists it."""
    blob: str | None
    """The file's name below `blobs/` that holds its weights; None where the manifest is damaged."""


def is_gguf(path: Path) -> bool:
    """Whether the file begins as GGUF files do, whatever it is called."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def gguf_files(folder: Path) -> list[Path]:
    """The GGUF files that lie in `folder` itself."""
    try:
        return [path for path in sorted(folder.iterdir()) if path.is_file() and is_gguf(path)]
    except OSError:
        return []


def store_at(path: Path) -> Path | None:
    """Ollama's store that `path` is, or is a part of; None if it is none."""
    for place in (path, path / "models", path.parent, path.parent.parent):
        if (place / "manifests").is_dir() and (place / "blobs").is_dir():
            return place
    return None


def stored(store: Path) -> list[Stored]:
    """The models of Ollama's store, by the names in its `manifests`."""
    root = store / "manifests"
    found = []
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        if len(parts) >= 3 and path.is_file() and not any(part.startswith(".") for part in parts):
            whole = f"{'/'.join(parts[:-1])}:{parts[-1]}"
            found.append(Stored(whole.removeprefix(_LIBRARY), _weights_blob(path)))
        if len(found) == _MOST_NAMES:
            break
    return found


def explained(path: Path) -> str | None:
    """What to do about `path` if it holds models in GGUF; None if it doesn't.

    Several lines: what it is, and for each model in it the command that fetches the same weights
    in a form that is read here.
    """
    try:
        if path.is_file():
            return _file_explained(path) if is_gguf(path) else None
        if not path.is_dir():
            return None
    except OSError:  # a name too long for a path, or a folder that isn't for us
        return None
    store = store_at(path) if path.name in ("manifests", "blobs") else _store_in(path)
    if store is not None:
        return _store_explained(store)
    files = gguf_files(path)
    if not files:
        return None
    lines = [line for file in files for line in _pull_lines([*_names_of(file), path.name])]
    names = ", ".join(file.name for file in files)
    return _said(f"{path} holds a model as GGUF ({names})", lines)


def _store_in(path: Path) -> Path | None:
    for place in (path, path / "models"):
        if (place / "manifests").is_dir() and (place / "blobs").is_dir():
            return place
    return None


def _file_explained(path: Path) -> str:
    names = _names_of(path)
    store = store_at(path) if path.name.startswith("sha256-") else None
    if store is not None:
        names = [one.name for one in stored(store) if one.blob == path.name] + names
    return _said(f"{path} is a GGUF file", _pull_lines(names))


def _store_explained(store: Path) -> str:
    models = stored(store)
    lines: list[str] = []
    for one in models:
        lines += _pull_lines([one.name]) or [f"# {one.name}: no counterpart is known here"]
    what = f"{store} is Ollama's store, whose weights are GGUF"
    return _said(what if models else f"{what}; its manifests name no model", lines)


def _said(what: str, lines: list[str]) -> str:
    lead = (
        f"{what}. GGUF isn't read here: it holds rounded weights, and not all that decides a "
        "model's vectors."
    )
    commands = [line for line in dict.fromkeys(lines)]
    if not any(line.startswith("likewise") for line in commands):
        tail = "Fetch the original from the Hugging Face hub: likewise models pull ORG/NAME"
        return "\n  ".join([f"{lead} {tail}", *commands])
    tail = "The same models with their full weights (vectors must be made anew):"
    return "\n  ".join([f"{lead} {tail}", *commands])


def _pull_lines(names: list[str]) -> list[str]:
    """One line for the first of `names` that the table knows; none where it knows none."""
    for name in names:
        full = same_weights(name) or _on_hub(name)
        if full is not None:
            return [f"likewise models pull {full}  # {name}"]
    return []


def _on_hub(name: str) -> str | None:
    """What `hf.co/ORG/NAME-GGUF:TAG` was made from, where it is said to be a copy in GGUF."""
    host, _, rest = name.partition("/")
    if host not in ("hf.co", "huggingface.co"):
        return None
    plain = rest.partition(":")[0]
    for ending in ("-GGUF", "-gguf", "_GGUF", ".gguf"):
        plain = plain.removesuffix(ending)
    return plain if plain.count("/") == 1 else None


def _weights_blob(manifest: Path) -> str | None:
    try:
        layers = json.loads(manifest.read_text(encoding="utf-8"))["layers"]
        digests = [one["digest"] for one in layers if one["mediaType"] == _MODEL_LAYER]
        return str(digests[0]).replace(":", "-")
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def _names_of(file: Path) -> list[str]:
    """What a GGUF file may be a form of, by its header and its name; the likeliest first."""
    found = dict(_header(file))
    header = [found.get(f"general.{key}", "") for key in ("basename", "name")]
    size = found.get("general.size_label", "")
    names = [f"{header[0]}-{size}" if header[0] and size else "", *header, file.stem]
    return [name.strip().replace(" ", "-") for name in names if name.strip()]


def _header(file: Path) -> Iterator[tuple[str, str]]:
    """Texts of the header, up to its first table or what can't be read."""
    with file.open("rb") as opened:
        head = opened.read(_HEAD_BYTES)
    try:
        version, _, count = struct.unpack_from("<IQQ", head, len(MAGIC))
        at = len(MAGIC) + 20
        for _ in range(min(count, 64) if version >= 2 else 0):
            key, at = _text(head, at)
            (kind,) = struct.unpack_from("<I", head, at)
            at += 4
            if kind == _TEXT:
                value, at = _text(head, at)
                yield key, value
            elif kind in _SCALARS:
                at += struct.calcsize(_SCALARS[kind])
            else:
                return
    except (struct.error, UnicodeDecodeError):
        return


def _text(head: bytes, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("<Q", head, at)
    end = at + 8 + length
    if end > len(head):
        raise struct.error("beyond what was read")
    return head[at + 8 : end].decode(), end
