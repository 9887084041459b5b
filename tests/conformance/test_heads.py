"""Heads on every packed engine: scores, sparse weights and a vector a token, against their makers.

sentence-transformers' CrossEncoder, SparseEncoder and MultiVectorEncoder read the same folders;
where a kind isn't theirs, a plain loop is the oracle.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likewise.base.errors import InputError, InputTooLong, ModelUnsupported
from likewise.engines.names import PACKED
from likewise.nets.names import NETS
from likewise.runtime.service import Service, load
from tests.conformance.head_folders import (
    LONGEST,
    write_modules,
    write_tokenizer,
    write_transformer,
    words,
)
from tests.conformance.tiny import write_bert, write_json

pytestmark = pytest.mark.torch

Open = Callable[..., Service]

QUERIES = words(1, 3, 5, 2, 30, 8, 4, seed=1)
DOCUMENTS = words(2, 9, 1, 40, 60, 3, 17, seed=2)
PAIRS = list(zip(QUERIES, DOCUMENTS, strict=True))


@pytest.fixture(params=PACKED)
def opened(request: pytest.FixtureRequest) -> Iterator[Open]:
    """Loads folders with one of the engines; closes what it loaded."""
    made: list[Service] = []

    def open_folder(folder: Path, **options: Any) -> Service:
        how = {"precision": "exact", "threads": 1, "engine": request.param} | options
        made.append(load(folder, **how))
        return made[-1]

    yield open_folder
    for service in made:
        service.close()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Their warnings are theirs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def cross_encoder(folder: Path, **options: Any) -> Any:
    """sentence-transformers' reading of `folder`."""
    from sentence_transformers import CrossEncoder

    with quiet():
        return CrossEncoder(str(folder), device="cpu", local_files_only=True, **options)


CLASSIFIERS: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {"max_position_embeddings": 80},
    "xlm-roberta": {"max_position_embeddings": 80},
    "camembert": {"max_position_embeddings": 80},
    "distilbert": {"dim": 32, "n_heads": 4, "n_layers": 2, "hidden_dim": 40},
    "electra": {"embedding_size": 16},
    "mpnet": {"max_position_embeddings": 80},
    "modernbert": {"classifier_pooling": "mean", "local_attention": 8},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "qwen3": {"num_key_value_heads": 2, "head_dim": 8},
    "llama": {"num_key_value_heads": 2},
}
HERE = [kind for kind in CLASSIFIERS if kind in NETS]


@pytest.mark.parametrize("labels", [1, 3])
@pytest.mark.parametrize("kind", HERE)
def test_scores_are_those_of_a_cross_encoder(
    opened: Open, tmp_path: Path, kind: str, labels: int
) -> None:
    write_transformer(
        tmp_path, kind, "SequenceClassification", num_labels=labels, **CLASSIFIERS[kind]
    )
    typed = ["token_type_ids"] if kind in ("bert", "electra") else []
    write_tokenizer(tmp_path, model_input_names=["input_ids", "attention_mask", *typed])
    theirs = cross_encoder(tmp_path).predict(PAIRS).reshape(len(PAIRS), labels)
    service = opened(tmp_path)
    found = service.submit_pairs(PAIRS).result()
    assert found.scores.shape == (len(PAIRS), labels) and found.scores.dtype == np.float32
    assert np.abs(found.scores - theirs).max() < 2e-4
    assert np.ptp(theirs, axis=0).min() > 0.02, "the oracle must tell pairs apart"
    alone = [service.submit_pairs([pair]).result().scores[0] for pair in PAIRS]
    assert np.abs(np.stack(alone) - found.scores).max() < 1e-5
    assert found.truncated == (4,) and max(found.tokens) == LONGEST
