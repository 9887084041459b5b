"""Hidden states as an output, on every engine: transformers' `last_hidden_state` is the oracle."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likewise.base.errors import ModelUnsupported
from likewise.engines.batch import Output, PackedBatch
from likewise.engines.names import PACKED
from likewise.engines.static import StaticEngine
from likewise.models.card import read_card
from likewise.models.static_tokens import tokenizer_for
from likewise.runtime.service import Service, load
from tests.conformance.test_engines import hidden_states, texts
from tests.conformance.test_m3 import write_m3
from tests.conformance.test_onnx_file import export, only_onnx
from tests.conformance.test_static import OPTIONS, save_model2vec
from tests.conformance.test_torch_any import write_foreign
from tests.conformance.tiny import write_bert, write_cross_encoder
from tests.support import LIMIT

STATES: frozenset[Output] = frozenset(("states",))
VECTORS: frozenset[Output] = frozenset(("vectors",))
WORDS = ["w1", "w2 w3 w4", " ".join(f"w{n % 60}" for n in range(40)), "w5 w6"]


@contextlib.contextmanager
def opened(folder: Path, engine: str = "auto") -> Iterator[Service]:
    """The model in `folder`, loaded."""
    service = load(folder, engine=engine, precision="exact", threads=1)
    try:
        yield service
    finally:
        service.close()


def states(folder: Path, service: Service) -> tuple[list[Any], list[Any]]:
    """Ours of all texts at once, and those of transformers, text by text."""
    import torch
    from transformers import AutoModel

    net = AutoModel.from_pretrained(folder).eval()
    ours = service.submit_all(WORDS, gives=("states",)).result(LIMIT).states
    assert ours is not None
    theirs = []
    for text in WORDS:
        ids = [token.id for token in service.tokens(text)]
        with torch.no_grad():
            theirs.append(net(input_ids=torch.tensor([ids])).last_hidden_state[0].numpy())
    return list(ours), theirs


def assert_equal(ours: list[Any], theirs: list[Any]) -> None:
    """All of one shape, and near."""
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape and a.dtype == np.float32
        assert np.abs(a - b).max() < 1e-4


@pytest.mark.torch
def test_they_are_those_of_transformers_alone_and_in_a_batch(make: Any, tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "model")
    engine = make(folder)
    assert engine.gives_states
    forward, batch = engine.stream(), texts()
    together = forward(PackedBatch.of(batch, wants=STATES))
    assert together.keys() == {"states"}
    rows = np.split(together["states"], np.cumsum([len(ids) for ids in batch])[:-1])
    theirs = [hidden_states(folder, ids) for ids in batch]
    assert_equal(rows, theirs)
    alone = [forward(PackedBatch.of([ids], wants=STATES))["states"] for ids in batch]
    assert_equal(alone, theirs)


def test_they_come_only_when_asked_for(make: Any, tmp_path: Path) -> None:
    forward = make(write_bert(tmp_path / "model")).stream()
    plain = forward(PackedBatch.of(texts()))
    both = forward(PackedBatch.of(texts(), wants=VECTORS | STATES))
    one = forward(PackedBatch.of(texts(), wants=VECTORS))
    assert plain.keys() == one.keys() == {"vectors"}
    assert both.keys() == {"vectors", "states"}
    assert np.abs(plain["vectors"] - both["vectors"]).max() < 1e-6


@pytest.mark.torch
@pytest.mark.parametrize("engine", PACKED)
def test_with_everything_else_that_a_model_gives(tmp_path: Path, engine: str) -> None:
    folder = write_m3(tmp_path / "m3")
    with opened(folder, engine) as service:
        apart = service.submit_all(WORDS).result(LIMIT)
        gives = ("states", "tokens", "vectors", "sparse")
        found = service.submit_all(WORDS, gives=gives).result(LIMIT)
        assert apart.states is None
        assert found.states is not None and found.vectors is not None
        assert found.tokens is not None and apart.vectors is not None
        assert [len(one) for one in found.states] == list(found.token_counts)
        # Its vectors are the first token's states, of length 1.
        first = np.stack([one[0] / np.linalg.norm(one[0]) for one in found.states])
        assert np.abs(first - found.vectors).max() < 1e-5
        assert np.abs(apart.vectors - found.vectors).max() < 1e-6


@pytest.mark.torch
@pytest.mark.parametrize("engine", [*PACKED, "torch_any"])
def test_a_model_that_only_scores_pairs_has_them_too(tmp_path: Path, engine: str) -> None:
    if engine == "torch_any":
        folder = write_foreign(tmp_path / "model", "albert")
    else:
        folder = write_cross_encoder(tmp_path / "model")
    with opened(folder, engine) as service:
        assert_equal(*states(folder, service))


@pytest.mark.torch
def test_of_a_ready_made_graph(tmp_path: Path) -> None:
    whole = write_bert(tmp_path / "whole")
    graph, _ = only_onnx(write_bert(tmp_path / "graph"))
    with opened(graph) as service:
        assert service.info()["engine"] == "onnx_file"
        assert_equal(*states(whole, service))


@pytest.mark.torch
def test_a_graph_that_has_only_scores_says_so(tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    folder = write_cross_encoder(tmp_path / "model")
    net = AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="eager")
    with opened(export(net.eval(), folder, output="logits")) as service:
        why = "gives no states: the engine onnx_file has only scores of it"
        with pytest.raises(ModelUnsupported, match=why):
            service.submit_all(["w1"], gives=("states",))
        assert service.info()["gives"] == ["scores"]


@pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))
def test_of_a_table_they_are_its_rows(tmp_path: Path, options: dict[str, Any]) -> None:
    save_model2vec(tmp_path / "model", **options | {"normalize": False})
    card = read_card(tmp_path / "model")
    encoded = tokenizer_for(card).encode(["w1 w2 w3", "", "w4"])
    batch = [one.ids for one in encoded]
    found = StaticEngine(card).stream()(PackedBatch.of(batch, wants=VECTORS | STATES))
    rows = np.split(found["states"], np.cumsum([len(ids) for ids in batch])[:-1])
    assert not rows[1].any(), "a text without tokens has nothing"
    assert np.allclose([one.mean(axis=0) for one in rows], found["vectors"], atol=1e-5)
    alone = [StaticEngine(card).stream()(PackedBatch.of([[one]]))["vectors"][0] for one in batch[0]]
    assert np.allclose(rows[0], alone, atol=1e-6)
