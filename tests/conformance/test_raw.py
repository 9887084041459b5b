"""Vectors before they are scaled to length 1, on every engine.

The oracle is sentence-transformers with the same folder, the last Normalize taken out of it.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likewise.engines.batch import Output, PackedBatch
from likewise.engines.names import PACKED
from likewise.runtime.cache import MemoryCache
from likewise.runtime.service import Service, load
from tests.conformance.folders import TEXTS, theirs, write_folder
from tests.conformance.test_engines import texts
from tests.conformance.test_modules import dense, layer_norm
from tests.conformance.test_onnx_file import only_onnx
from tests.conformance.test_static import save_static_embedding
from tests.conformance.test_torch_any import write_foreign
from tests.conformance.tiny import write_bert, write_json

pytestmark = pytest.mark.torch

READ = [text for text in TEXTS if text]
RAW: frozenset[Output] = frozenset(("raw",))


def without_the_last(folder: Path) -> Path:
    """A copy of `folder` without the Normalize modules at its end."""
    copy = folder.with_name(f"{folder.name}-raw")
    shutil.copytree(folder, copy)
    modules = json.loads((copy / "modules.json").read_text())
    while modules[-1]["type"].endswith("Normalize"):
        modules.pop()
    write_json(copy / "modules.json", modules)
    return copy


def lengths(rows: Any) -> Any:
    """How long each row is."""
    return np.linalg.norm(np.asarray(rows, np.float64), axis=-1)


def opened(folder: Path, **options: Any) -> Service:
    """The model, in float32."""
    return load(folder, precision="exact", threads=1, **options)


CHAINS: dict[str, list[Any]] = {
    "pooling": ["Pooling", "Normalize"],
    "dense": ["Pooling", dense(32, 20), "Normalize"],
    "normalised in between": ["Pooling", "Normalize", dense(32, 32), layer_norm(32), "Normalize"],
    "normalised twice": ["Pooling", dense(32, 20, "Identity"), "Normalize", "Normalize"],
}


@pytest.mark.parametrize("chain", CHAINS.values(), ids=list(CHAINS))
@pytest.mark.parametrize("engine", PACKED)
def test_what_stands_before_the_last_normalize(
    tmp_path: Path, engine: str, chain: list[Any]
) -> None:
    folder = write_folder(tmp_path / "model", chain)
    expected = theirs(without_the_last(folder), READ)
    service = opened(folder, engine=engine)
    try:
        raw = service.submit(READ, raw=True).result(60).vectors
        own = service.submit(READ).result(60).vectors
        assert raw.dtype == np.float32 and np.abs(lengths(expected) - 1).min() > 1e-3
        assert np.abs(raw - expected).max() < 1e-4 * max(1, np.abs(expected).max())
        assert np.abs(own - raw / lengths(raw)[:, None]).max() < 1e-6
    finally:
        service.close()


@pytest.mark.parametrize("engine", [*PACKED, "static"])
def test_of_a_folder_that_cuts_its_vectors_afterwards(tmp_path: Path, engine: str) -> None:
    if engine == "static":
        folder = tmp_path / "model"
        save_static_embedding(folder, normalise=True)
    else:
        folder = write_folder(tmp_path / "model", CHAINS["dense"])
    path = folder / "config_sentence_transformers.json"
    written = json.loads(path.read_text()) if path.is_file() else {}
    write_json(path, {**written, "truncate_dim": 5})
    expected = theirs(without_the_last(folder), READ)
    service = opened(folder, engine=engine)
    try:
        raw = service.submit(READ, raw=True).result(60).vectors
        assert raw.shape == expected.shape == (len(READ), 5)
        assert np.abs(raw - expected).max() < 1e-4 * max(1, np.abs(expected).max())
        assert np.abs(service.embed(READ) - theirs(folder, READ)).max() < 1e-4
    finally:
        service.close()


def test_an_engine_gives_them_only_when_asked(make: Any, tmp_path: Path) -> None:
    forward = make(write_bert(tmp_path / "model")).stream()
    plain = forward(PackedBatch.of(texts()))
    both = forward(PackedBatch.of(texts(), wants=RAW | {"vectors"}))
    assert plain.keys() == {"vectors"} and both.keys() == {"vectors", "raw"}
    assert np.abs(plain["vectors"] - both["vectors"]).max() < 1e-6
    assert np.abs(forward(PackedBatch.of(texts(), wants=RAW))["raw"] - both["raw"]).max() < 1e-6


def test_a_model_that_does_not_normalise_gives_its_own(tmp_path: Path) -> None:
    service = opened(write_folder(tmp_path / "model", ["Pooling", "Normalize", dense(32, 20)]))
    try:
        raw = service.submit(READ, raw=True).result(60).vectors
        assert np.array_equal(raw, service.submit(READ).result(60).vectors)
        assert np.abs(lengths(raw) - 1).min() > 1e-3
    finally:
        service.close()


@pytest.mark.parametrize("kind", ["static", "onnx_file", "torch_any"])
def test_the_other_engines_too(tmp_path: Path, kind: str) -> None:
    if kind == "static":
        folder = tmp_path / "model"
        save_static_embedding(folder, normalise=True)
        expected = theirs(without_the_last(folder), READ)
    elif kind == "onnx_file":
        expected = theirs(without_the_last(write_folder(tmp_path / "own", CHAINS["pooling"])), READ)
        folder, _ = only_onnx(write_bert(tmp_path / "graph"))
    else:
        folder = write_foreign(tmp_path / "model", "albert")
        path = folder / "modules.json"
        modules = json.loads(path.read_text())
        if not modules[-1]["type"].endswith("Normalize"):
            end = {**modules[-1], "idx": len(modules), "name": "end", "path": "9_Normalize"}
            end["type"] = "sentence_transformers.models.Normalize"
            write_json(path, [*modules, end])
        expected = theirs(without_the_last(folder), READ)
    service = opened(folder)
    try:
        assert service.info()["engine"] == kind
        raw = service.submit(READ, raw=True).result(60).vectors
        assert np.abs(raw - expected).max() < 1e-4 * max(1, np.abs(expected).max())
    finally:
        service.close()


def test_kept_and_shared_vectors_are_never_taken_for_them(tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "model", matryoshka_dimensions=[8])
    service = opened(folder, kept=MemoryCache(1 << 20))
    try:
        first = service.submit(READ, raw=True).result(60).vectors
        kept = service.submit(READ).result(60).vectors
        together = [service.submit(READ * 40, raw=raw) for raw in (False, True) * 4]
        for at, done in enumerate(together):
            expected = first if at % 2 else kept
            got = done.result(60).vectors.reshape(40, *expected.shape)
            assert np.abs(got - expected).max() < 1e-5
        assert np.abs(lengths(kept) - 1).max() < 1e-6 and np.abs(lengths(first) - 1).min() > 1e-3
    finally:
        service.close()


def test_cut_to_fewer_dimensions_they_are_only_cut(tmp_path: Path) -> None:
    service = opened(write_bert(tmp_path / "model", matryoshka_dimensions=[8]))
    try:
        whole = service.embed(READ, raw=True)
        cut = service.embed(READ, raw=True, dimensions=8)
        assert np.abs(cut - whole[:, :8]).max() < 1e-6
        scaled = service.embed(READ, dimensions=8)
        assert np.abs(scaled - cut / lengths(cut)[:, None]).max() < 1e-6
    finally:
        service.close()


def test_chunks_that_are_read_together(tmp_path: Path) -> None:
    service = opened(write_bert(tmp_path / "model"))
    try:
        raw = service.submit_late(["w1 w2", "w3"], raw=True).result(60).vectors
        own = service.submit_late(["w1 w2", "w3"]).result(60).vectors
        assert np.abs(lengths(raw) - 1).min() > 1e-3
        assert np.abs(own - raw / lengths(raw)[:, None]).max() < 1e-6
    finally:
        service.close()
