"""The digest that names a model: the same for the same numbers, wherever the folder came from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from likewise.base.log import fields, logger
from likewise.models.card import ModelCard
from likewise.models.graphs import graph_file, graph_files
from likewise.models.heads import Lexical
from likewise.models.multivector import MultiVector
from likewise.models.parts import Dense, LayerNorm, read_json
from likewise.models.static import STATIC
from likewise.models.tokenizer_files import assemble
from likewise.models.vocabulary import describe
from likewise.models.weights import has_weights, weight_files

_log = logger("models")
_BLOCK = 1 << 20
# Where files lie; what is in them is hashed.
_PLACES = ("folder", "base")
# Keys of config.json that change no vector: training, generation, and who wrote the file.
_IDLE = (
    "_name_or_path architectures transformers_version torch_dtype dtype use_cache "
    "classifier_dropout attention_probs_dropout_prob hidden_dropout_prob initializer_range "
    "gradient_checkpointing "
    "id2label label2id problem_type finetuning_task bos_token_id eos_token_id return_dict "
    "output_hidden_states output_attentions tie_word_embeddings max_length min_length"
).split()


def weights_digest(card: ModelCard, *, cache: Path | None = None) -> str:
    """sha256 (hex) over all that decides the model's vectors: weights, tokenizer, configuration.

    Hashing the weights is skipped when `cache` (a folder) remembers the file by path, size, time
    of change and inode.
    """
    remembered = _Remembered(cache / "digests.json" if cache is not None else None)
    graph = None if has_weights(card.base) else graph_file(card)
    files = [*(weight_files(card.base) if graph is None else graph_files(graph))]
    for step in card.steps:
        if isinstance(step, Dense | LayerNorm):
            files += weight_files(step.folder)
    deciding = {
        "weights": [remembered.sha256(path) for path in files],
        "tokenizer": _tokenizer(card),
        "config": {key: value for key, value in card.config.items() if key not in _IDLE},
        "steps": [_described(step) for step in card.steps],
        "lower_case": card.lower_case,
    }
    if card.adapter is not None:
        deciding["adapter"] = {
            **_described(card.adapter),
            "weights": remembered.sha256(card.adapter.file),
        }
    if not card.steps:
        # Beside vectors, heads change nothing of what is stored; alone, they are the model.
        deciding["heads"] = _described_heads(card, remembered)
    remembered.save()
    canonical = json.dumps(deciding, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()


def outputs_digest(card: ModelCard, weights: str, *, cache: Path | None = None) -> str:
    """sha256 (hex) over all that decides any of the model's outputs, given its `weights_digest`.

    Another than that where heads lie beside the vectors (BGE-M3's lexical weights).
    """
    if not card.steps or not card.heads:
        return weights
    remembered = _Remembered(cache / "digests.json" if cache is not None else None)
    heads = _described_heads(card, remembered)
    remembered.save()
    return hashlib.sha256(json.dumps([weights, heads], sort_keys=True).encode()).hexdigest()


def _described_heads(card: ModelCard, remembered: _Remembered) -> list[Any]:
    described: list[Any] = []
    for head in card.heads:
        facts = dataclasses.asdict(head)
        if facts.get("template"):
            del facts["template"]["where"]
        described.append(facts)
        if isinstance(head, MultiVector):
            for source in (one.source for one in head.projections if one.source is not None):
                files = (source,) if source.is_file() else weight_files(source)
                described += [remembered.sha256(path) for path in files]
        elif isinstance(head, Lexical):
            described.append(remembered.sha256(head.file))
    # Where a folder lies says nothing of what it holds.
    return [json.loads(json.dumps(one, default=lambda path: path.name)) for one in described]


def _tokenizer(card: ModelCard) -> dict[str, Any]:
    if not (card.tokenizer / "tokenizer.json").is_file():
        return describe(card.tokenizer, card.architecture)
    if card.architecture == STATIC:
        tokenizer = read_json(card.tokenizer / "tokenizer.json")
    else:
        tokenizer = assemble(card.tokenizer, card.architecture).facts(pairs=not card.steps)
    cutting = tokenizer.get("truncation")
    # These two say how a caller pads and cuts; Likewise does neither by them.
    for key in ("truncation", "padding"):
        tokenizer.pop(key, None)
    settings = read_json(card.tokenizer / "tokenizer_config.json", missing={})
    side = settings.get("truncation_side")
    if side is None and card.architecture != STATIC and isinstance(cutting, dict):
        side = cutting.get("direction")
    if str(side).lower() == "left":
        tokenizer["truncation_side"] = "left"
    return tokenizer


def _described(step: Any) -> dict[str, Any]:
    values = {name: getattr(step, name) for name in step.__slots__ if name not in _PLACES}
    # Digests of before there was such a thing stay what they were.
    if values.get("residual") is False:
        del values["residual"]
    return {"step": type(step).__name__, **values}


class _Remembered:
    """File digests kept in a JSON file; losing it costs only time."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: dict[str, Any] = {}
        self._changed = False
        if path is not None and path.is_file():
            try:
                known = json.loads(path.read_text(encoding="utf-8"))
                self._known = known if isinstance(known, dict) else {}
            except (OSError, ValueError) as broken:
                _log.info(fields("digest cache ignored", path=path, why=broken))

    def sha256(self, path: Path) -> str:
        """The digest of the file as it is now."""
        stat = path.stat()
        stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        entry = self._known.get(str(path.resolve()))
        if isinstance(entry, dict) and entry.get("stamp") == stamp and "sha256" in entry:
            return str(entry["sha256"])
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
        entry = {"stamp": stamp, "sha256": digest.hexdigest()}
        self._known[str(path.resolve())] = entry
        self._changed = True
        return str(entry["sha256"])

    def save(self) -> None:
        """Write what was learned; a cache that can't be written is only slower."""
        if self._path is None or not self._changed:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # Copies of folders that were loaded come and go.
            there = {path: entry for path, entry in self._known.items() if Path(path).exists()}
            replace_json(self._path, there)
        except OSError as broken:
            _log.info(fields("digest cache not written", path=self._path, why=broken))


def replace_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write `value` to `path` whole or not at all.

    Raises:
        OSError: it can't be written.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(value, file)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
