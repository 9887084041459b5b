"""Kept vectors, end to end: what was computed once is answered, and never to another question."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likewise.engines.batch import PackedBatch
from likewise.models.card import read_card
from likewise.models.tokenize import Tokenizer
from likewise.runtime.cache import MemoryCache, VectorCache
from likewise.runtime.cache_file import SqliteCache
from likewise.runtime.service import Service, load
from tests.conformance.tiny import write_bert, write_json
from tests.support import LIMIT

TEXTS = ["w1 w2", "w3", "w4 w5 w6"]


class Counting:
    """The engine of a service, with the tokens of every batch written down."""

    gives_states, warm_lengths = True, ()
    least_fill = 0.0

    def __init__(self, engine: Any, *, precision: str = "f32") -> None:
        self.engine, self.precision = engine, precision
        self.batches: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def stream(self) -> Any:
        """The engine's own, counted."""
        forward = self.engine.stream()

        def counted(batch: PackedBatch) -> Any:
            self.batches.append(batch.tokens)
            return forward(batch)

        return counted


class Opened:
    """Services over one model folder and one cache, each with an engine that counts."""

    def __init__(self, folder: Path, cache: VectorCache) -> None:
        self.folder, self.cache = folder, cache
        self.made: list[Service] = []

    def service(self, *, precision: str = "f32", kept: bool = True) -> tuple[Service, Counting]:
        """Another one."""
        plain = load(self.folder, precision="exact", threads=1)
        card = read_card(self.folder)
        counting: Any = Counting(plain._engine, precision=precision)
        space = plain.space
        service = Service(
            card, Tokenizer(card), counting, space, {}, kept=self.cache if kept else None
        )
        self.made += [service, plain]
        return service, counting


@pytest.fixture(params=["memory", "file"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    """Over a tiny model with prompts and a smaller width."""
    folder = write_bert(tmp_path / "model", matryoshka_dimensions=[16])
    prompts = {"query": "w20 ", "document": ""}
    write_json(folder / "config_sentence_transformers.json", {"prompts": prompts})
    cache: Any = (
        MemoryCache(1 << 20)
        if request.param == "memory"
        else SqliteCache(tmp_path / "kept.db", 1 << 20)
    )
    made = Opened(folder, cache)
    yield made
    for one in made.made:
        one.close()
    cache.close()


def vectors(service: Service, texts: list[str] = TEXTS, **how: Any) -> Any:
    """Vectors of a request."""
    return service.submit(texts, **how).result(LIMIT).vectors


def test_the_second_request_computes_nothing(opened: Opened) -> None:
    service, engine = opened.service()
    first = vectors(service)
    assert sum(engine.batches) == 4 + 3 + 5
    engine.batches.clear()
    done = service.submit(TEXTS[::-1]).result(LIMIT)
    assert engine.batches == []
    assert np.array_equal(done.vectors, first[::-1]) and done.tokens == (5, 3, 4)
    assert np.array_equal(service.embed(TEXTS), first), "in every lane"
    assert engine.batches == []


def test_nor_does_another_service_over_the_same_model(opened: Opened) -> None:
    first = vectors(opened.service()[0])
    other, engine = opened.service()
    assert np.array_equal(vectors(other), first) and engine.batches == []


def test_only_what_is_new_is_computed(opened: Opened) -> None:
    service, engine = opened.service()
    vectors(service)
    engine.batches.clear()
    vectors(service, ["w3", "w9 w9 w9 w9", "w1 w2"])
    assert engine.batches == [6]


def test_what_is_kept_is_whole_and_cut_afterwards(opened: Opened) -> None:
    plain = opened.service(kept=False)[0]
    service, engine = opened.service()
    small = vectors(service, dimensions=16)
    engine.batches.clear()
    whole = vectors(service)
    assert engine.batches == []
    assert np.allclose(whole, vectors(plain), atol=1e-6)
    assert np.allclose(small, vectors(plain, dimensions=16), atol=1e-6)
    assert np.allclose(vectors(service, dimensions=16), small, atol=1e-6)


def test_prompts_make_other_texts(opened: Opened) -> None:
    plain = opened.service(kept=False)[0]
    service, engine = opened.service()
    documents = vectors(service)
    engine.batches.clear()
    queries = vectors(service, kind="query")
    assert sum(engine.batches) == 5 + 4 + 6
    assert np.allclose(documents, vectors(plain), atol=1e-6)
    assert np.allclose(queries, vectors(plain, kind="query"), atol=1e-6)
    assert np.abs(documents - queries).max() > 1e-3


def test_texts_cut_to_the_same_tokens_are_one_and_both_are_reported(opened: Opened) -> None:
    service, engine = opened.service()
    long = ["w1 " * 70, "w1 " * 90]
    assert service.submit(long[:1]).result(LIMIT).truncated == (0,)
    engine.batches.clear()
    assert service.submit(long).result(LIMIT).truncated == (0, 1)
    assert engine.batches == []


def test_another_arithmetic_shares_nothing(opened: Opened) -> None:
    vectors(opened.service()[0])
    other, engine = opened.service(precision="bf16")
    vectors(other)
    assert sum(engine.batches) == 12


def test_another_model_shares_nothing(opened: Opened, tmp_path: Path) -> None:
    vectors(opened.service()[0])
    folder = write_bert(tmp_path / "other", hidden_act="relu")
    other, engine = Opened(folder, opened.cache).service()
    vectors(other)
    assert sum(engine.batches) == 12


def test_other_outputs_and_late_chunks_are_not_kept_vectors(opened: Opened) -> None:
    service, engine = opened.service()
    apart = vectors(service)
    engine.batches.clear()
    late = service.submit_late(TEXTS).result(LIMIT).vectors
    assert engine.batches == [8] and np.abs(late - apart).max() > 1e-3
    both = service.submit_all(TEXTS, gives=("vectors", "states")).result(LIMIT)
    assert len(engine.batches) > 1 and both.vectors is not None
    assert np.allclose(both.vectors, apart, atol=1e-6)
    assert np.array_equal(vectors(service), apart), "late vectors weren't kept as plain ones"
