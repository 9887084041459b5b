"""The Hugging Face cache on this disk, which other programs fill: read, and never written to.

Its layout: `models--ORG--NAME/` with `refs/BRANCH` (a file that holds a commit),
`snapshots/COMMIT/` (the files, as links) and `.no_exist/COMMIT/` (empty files for what was looked
for and isn't there).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from likewise.models.shelf import sha256_of

_COMMIT = re.compile(r"[0-9a-f]{6,64}")
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
_TOKENIZERS = (
    "tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model",
    "tokenizer.model",
)  # fmt: skip
_GRAPHS = ("onnx/model.onnx", "model.onnx", "openvino/openvino_model.xml", "openvino_model.xml")
# Modules that have a file of settings of their own, without which they mean something else.
_WITH_SETTINGS = ("Pooling", "Dense", "LayerNorm", "WordWeights", "Router", "SpladePooling", "CNN")
_ALONE = ("ForSequenceClassification",)
"""How the architectures end of models that need no modules.json."""
_DENSE = ("model.safetensors", "pytorch_model.bin")
_STATIC = ("model2vec", "static")
# Absent from many repositories; what they say changes vectors where they are there.
_OPTIONAL = ("config_sentence_transformers.json", "sentence_bert_config.json")
_WHOLE = ".gitattributes"
"""Every repository has it and no model needs it: who has it fetched everything."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the Hugging Face cache has of one commit of a repository."""

    folder: Path
    commit: str
    missing: tuple[str, ...]
    """What a model can't be read without, and isn't there or may not be; empty when it is whole."""
    doubtful: tuple[str, ...]
    """Files that aren't there and that the repository may have."""

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing, as far as that can be told."""
        return not self.missing and not self.doubtful

    def lacking(self) -> str:
        """What isn't there, and what to do about it."""
        if self.missing:
            return (
                f"{', '.join(self.missing)} isn't in it, without which the model can't be read as "
                "its authors mean it"
            )
        return (
            f"{' and '.join(self.doubtful)} isn't in it; if the repository has it, prompts or the "
            "longest text differ"
        )


def hub_cache() -> Path:
    """Where it is, as the hub's own client reads HF_HUB_CACHE, HF_HOME and XDG_CACHE_HOME."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def found(name: str, revision: str | None) -> Snapshot | None:
    """The snapshot of the repository `name` at a branch, tag or commit; None if there is none.

    None for `revision` means the branch `main`; or the only snapshot, where a commit was fetched.
    """
    folder = snapshot_in(hub_cache() / f"models--{name.replace('/', '--')}", revision)
    return None if folder is None else _looked_at(folder)


def newest_in(repository: Path) -> Snapshot | None:
    """The snapshot of `main` in a repository's folder of the cache; None where that is none."""
    folder = snapshot_in(repository, None)
    return None if folder is None else _looked_at(folder)


def has_digest(file: Path, sha256: str) -> bool:
    """Whether the content of a file in the cache has this digest; large ones are named by it."""
    return file.resolve().name == sha256 or (file.is_file() and sha256_of(file) == sha256)


def snapshot_in(repository: Path, revision: str | None) -> Path | None:
    """The folder of one snapshot in a repository's folder of the cache; None if there is none."""
    try:
        return _snapshot_in(repository, revision)
    except OSError:  # a name too long for a path, or a folder that isn't for us
        return None


def _snapshot_in(repository: Path, revision: str | None) -> Path | None:
    snapshots = repository / "snapshots"
    if not snapshots.is_dir():
        return None
    wanted = revision or "main"
    ref = repository / "refs" / wanted
    if _is_below(repository / "refs", wanted) and ref.is_file():
        commit = ref.read_text(encoding="utf-8", errors="replace").strip()
        folder = snapshots / commit
        return folder if commit and "/" not in commit and folder.is_dir() else None
    if revision is not None:
        is_one = _COMMIT.fullmatch(revision) is not None and (snapshots / revision).is_dir()
        return snapshots / revision if is_one else None
    every = [path for path in snapshots.iterdir() if path.is_dir()]
    return every[0] if len(every) == 1 else None


def repository_of(path: Path) -> str | None:
    """The repository that `path` is a snapshot of, by the names of the folders; None for others."""
    if path.parent.name == "snapshots":
        slug = path.parent.parent.name
    else:
        slug = path.name if (path / "snapshots").is_dir() else ""
    if not slug.startswith("models--"):
        return None
    return slug.removeprefix("models--").replace("--", "/", 1) or None


def _is_below(folder: Path, name: str) -> bool:
    parts = PurePosixPath(name).parts
    return bool(parts) and ".." not in parts and not PurePosixPath(name).is_absolute()


def _looked_at(folder: Path) -> Snapshot:
    """Whether the files are all there: other programs fetch only what they read themselves."""
    absent = folder.parent.parent / ".no_exist" / folder.name
    has_everything = (folder / _WHOLE).is_file()

    def may_exist(file: str) -> bool:
        return not has_everything and not (absent / file).is_file()

    modules = _modules(folder)
    base = _base(modules)
    config = _read(folder / base / "config.json") or _read(folder / "config.json")
    missing: list[str] = []
    if modules is None and may_exist("modules.json") and not _stands_alone(config):
        missing.append("modules.json")
    for module in modules or ():
        kind = str(module.get("type", "")).rpartition(".")[2]
        path = str(module.get("path", ""))
        if kind in _WITH_SETTINGS and not (folder / path / "config.json").is_file():
            missing.append(f"{path}/config.json")
        if kind == "Dense" and not _has_any(folder / path, _DENSE):
            missing.append(f"{path}/model.safetensors")
    if config is None and modules is None:
        missing.append("config.json")
    missing += _missing_weights(folder / base, folder)
    if not _has_any(folder / base, _TOKENIZERS) and not _has_any(folder, _TOKENIZERS):
        missing.append("tokenizer.json")
    doubtful = [
        file
        for file in _OPTIONAL
        if modules is not None and not (folder / file).is_file() and may_exist(file)
    ]
    return Snapshot(folder, folder.name, tuple(dict.fromkeys(missing)), tuple(doubtful))


def _modules(folder: Path) -> list[Mapping[str, Any]] | None:
    listed = _read(folder / "modules.json")
    return [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else None


def _base(modules: list[Mapping[str, Any]] | None) -> str:
    return str(modules[0].get("path", "")) if modules else ""


def _stands_alone(config: Any) -> bool:
    if not isinstance(config, dict):
        return False
    architectures = [str(one) for one in config.get("architectures") or ()]
    return str(config.get("model_type")) in _STATIC or any(
        one.endswith(_ALONE) for one in architectures
    )


def _missing_weights(base: Path, folder: Path) -> list[str]:
    index = _read(base / "model.safetensors.index.json")
    if isinstance(index, dict):
        files = {str(file) for file in dict(index.get("weight_map") or {}).values()}
        return sorted(file for file in files if not (base / file).is_file())
    if any(_SHARD.fullmatch(path.name) for path in base.glob("model-*.safetensors")):
        return ["model.safetensors.index.json"]
    weights = ("model.safetensors", "adapter_model.safetensors")
    if _has_any(base, weights) or _has_any(folder, (*weights, *_GRAPHS)):
        return []
    return ["model.safetensors"]


def _has_any(folder: Path, names: tuple[str, ...]) -> bool:
    # A link whose blob is gone or still being fetched leads nowhere, and is no file.
    return any((folder / name).is_file() for name in names)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
