"""Folders whose model is a table, a vector for each token: model2vec's and StaticEmbedding's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from likewise.base.errors import ModelCorrupt, ModelUnsupported
from likewise.models.parts import Normalise, Pooling, Step, read_json, read_list
from likewise.models.weights import open_weights

STATIC = "static"
"""What a card of such a model has as its architecture."""
NO_LIMIT = 1_000_000
"""Tokens read of a text where the model reads all of it."""
NOTHING = -1
"""The id that stands for a text without tokens; its vector is zeros."""

Style = Literal["model2vec", "sentence-transformers"]
_TABLES: Mapping[str, Style] = {
    "embeddings": "model2vec",
    "embedding.weight": "sentence-transformers",
}
_PACKAGE = "sentence_transformers."
_MODULE = "StaticEmbedding"
_MODEL2VEC_LONGEST = 512


@dataclass(frozen=True, slots=True)
class StaticParts:
    """What a card is made of."""

    table: Path
    """The folder with the table and the tokenizer."""
    config: Mapping[str, Any]
    """What decides the vectors: `style`, `tensor`, `max_length` (None: all), and `ids` it knows."""
    steps: tuple[Step, ...]
    dimensions: int
    max_tokens: int
    notes: tuple[str, ...] = ()


def read_static(folder: Path) -> StaticParts | None:
    """The parts of the static model in `folder`; None if it is a model of another kind.

    The table's name tells whose rules hold: `embeddings` is model2vec's, `embedding.weight` that of
    sentence-transformers. They differ in what they do about unknown tokens and long texts.

    Raises:
        ModelUnsupported: something follows the table that isn't computed here.
        ModelCorrupt: a file is damaged, or two contradict each other.
    """
    modules = read_list(folder / "modules.json")
    config = read_json(folder / "config.json", missing={})
    notes: tuple[str, ...] = ()
    if modules:
        if _kind(modules[0]) != _MODULE:
            return None
        where = folder / _path(modules[0], folder)
    elif config.get("model_type") == "model2vec":
        where = folder
    elif config.get("model_type") is None and _has_table(folder):
        # What model2vec itself writes: it tells its folders by their files, not by a model_type.
        where = folder
        notes = ("config.json has no model_type; the table of embeddings is model2vec's",)
    else:
        return None
    weights = open_weights(where)
    tensor = next((name for name in _TABLES if name in weights), None)
    shape = weights.shape(tensor) if tensor is not None else None
    if tensor is None or shape is None or len(shape) != 2:
        raise ModelCorrupt(f"{where} has no table of token vectors ({' or '.join(_TABLES)})")
    style = _TABLES[tensor]
    is_normalised = _follows(folder, modules)
    longest = _tokenizer_limit(where)
    if style == "model2vec":
        is_normalised = _normalised(folder, config, modules, is_normalised)
        longest = config.get("max_length", _MODEL2VEC_LONGEST)
    if longest is not None and (not isinstance(longest, int) or longest < 1):
        raise ModelCorrupt(f"{folder}: max_length must be a positive whole number, not {longest!r}")
    steps: tuple[Step, ...] = (Pooling(("mean",)), *((Normalise(),) if is_normalised else ()))
    mapping = weights.shape("mapping") if style == "model2vec" else None
    facts = {
        "model_type": STATIC,
        "style": style,
        "tensor": tensor,
        "max_length": longest,
        "ids": (mapping or shape)[0],
    }
    return StaticParts(where, facts, steps, shape[1], longest or NO_LIMIT, notes)


def _has_table(folder: Path) -> bool:
    """Whether the files are model2vec's: a table `embeddings` and a tokenizer."""
    if not (folder / "model.safetensors").is_file() or not (folder / "tokenizer.json").is_file():
        return False
    shape = open_weights(folder).shape("embeddings")
    return shape is not None and len(shape) == 2


def _kind(module: Mapping[str, Any]) -> str:
    kind = str(module.get("type", ""))
    # A class of that name from elsewhere may compute something else.
    return kind.rpartition(".")[2] if kind.startswith(_PACKAGE) else kind


def _path(module: Mapping[str, Any], folder: Path) -> str:
    path = module.get("path", "")
    if not isinstance(path, str) or Path(path).is_absolute() or ".." in Path(path).parts:
        raise ModelCorrupt(f"{folder / 'modules.json'}: module path {path!r} leads out of it")
    return path


def _follows(folder: Path, modules: list[dict[str, Any]]) -> bool:
    """Whether vectors are normalised: nothing else may follow a table."""
    kinds = [_kind(module) for module in modules[1:]]
    if kinds not in ([], ["Normalize"]):
        raise ModelUnsupported(
            f"{folder / 'modules.json'}: {' -> '.join(kinds)} after {_MODULE} isn't computed here; "
            "only Normalize is"
        )
    return bool(kinds)


def _normalised(
    folder: Path, config: Mapping[str, Any], modules: list[dict[str, Any]], follows: bool
) -> bool:
    written = bool(config.get("normalize", False))
    if modules and written != follows:
        raise ModelCorrupt(
            f"{folder}: config.json says normalize {written}, modules.json "
            f"{'has' if follows else 'has no'} Normalize; make them agree"
        )
    return written


def _tokenizer_limit(where: Path) -> Any:
    """sentence-transformers lets the tokenizer cut as its own file says."""
    cutting = read_json(where / "tokenizer.json").get("truncation")
    return cutting.get("max_length") if isinstance(cutting, dict) else None
