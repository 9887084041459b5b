"""Model folders for comparing with sentence-transformers: the same files, read by both."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from likewise.base.names import resolve
from likewise.engines.batch import PackedBatch
from likewise.engines.names import ENGINES
from likewise.models.card import read_card
from likewise.models.tokenize import Tokenizer
from tests.conformance.tiny import write_bert, write_json

OLD = "sentence_transformers.models"
NEW = {
    "Transformer": "sentence_transformers.base.modules.transformer.Transformer",
    "Pooling": "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    "Dense": "sentence_transformers.base.modules.dense.Dense",
    "LayerNorm": "sentence_transformers.sentence_transformer.modules.layer_norm.LayerNorm",
    "Dropout": "sentence_transformers.sentence_transformer.modules.dropout.Dropout",
    "Normalize": "sentence_transformers.base.modules.normalize.Normalize",
}
TEXTS = [
    "w1",
    "",
    "w2 w3 w4 w5 w6 w7 w8",
    "w9 w10 unknown w11",
    " ".join(f"w{n % 60}" for n in range(40)),
    "w3 w2 w1",
]


def write_folder(folder: Path, modules: Sequence[Any] = ("Pooling",), **changes: Any) -> Path:
    """A tiny BERT followed by `modules`: a kind, or (kind, config, weights)."""
    write_bert(folder, **changes)
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "cls_token": "[CLS]",
            "sep_token": "[SEP]",
            "pad_token": "[PAD]",
            "unk_token": "[UNK]",
            "model_max_length": 64,
        },
    )
    write_modules(folder, modules)
    return folder


def write_modules(folder: Path, modules: Sequence[Any], *, old: bool = False) -> None:
    """modules.json and the files of each module; class paths of up to 5.3 if `old`."""
    from safetensors.numpy import save_file

    listed: list[Any] = ["Transformer", *modules]
    entries = []
    for index, each in enumerate(listed):
        kind, config, weights = (each, None, None) if isinstance(each, str) else each
        path = f"{index}_{kind}" if index else ""
        spelled = f"{OLD}.{kind}" if old else NEW[kind]
        entries.append({"idx": index, "name": str(index), "path": path, "type": spelled})
        if kind == "Pooling" and config is None:
            config = {"embedding_dimension": 32, "pooling_mode": "mean"}
        if config is not None:
            write_json(folder / path / "config.json", config)
        if weights is not None:
            save_file(weights, folder / path / "model.safetensors")
    write_json(folder / "modules.json", entries)


def ours(
    folder: Path, texts: Sequence[str], *, engine: str = "openvino", prompt: str = ""
) -> np.ndarray:
    """What an engine gives for `texts` after `prompt`, float32 [texts, dimensions]."""
    card = read_card(folder)
    encoded = Tokenizer(card).encode(texts, prompt=prompt)
    made = resolve(engine, ENGINES, what="engine")(card, precision="f32", threads=1)
    with contextlib.closing(made):
        batch = PackedBatch.of([one.ids for one in encoded], prompts=[o.prompt for o in encoded])
        return np.array(made.stream()(batch)["vectors"])


def theirs(folder: Path, texts: Sequence[str], **options: Any) -> np.ndarray:
    """What sentence-transformers gives for `texts`, float32 [texts, dimensions]."""
    from sentence_transformers import SentenceTransformer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
        return np.asarray(model.encode(list(texts), show_progress_bar=False, **options))


def worst(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest cosine distance of a row; rows of zeros must be so on both sides."""
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    assert a.shape == b.shape
    lengths = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    assert np.array_equal(lengths[0] == 0, lengths[1] == 0)
    some = lengths[0] > 0
    cosines = (a * b).sum(1)[some] / lengths[0][some] / lengths[1][some]
    return float((1 - cosines).max(initial=0))
