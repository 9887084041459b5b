"""Heads on every packed engine: scores, sparse weights and a vector a token, against their makers.

sentence-transformers' CrossEncoder, SparseEncoder and MultiVectorEncoder read the same folders;
where a kind isn't theirs, a plain loop is the oracle.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likewise.base.errors import ModelCorrupt, ModelUnsupported
from likewise.engines.names import PACKED
from likewise.nets.names import NETS
from likewise.runtime.service import Service, load
from tests.conformance.head_folders import (
    LONGEST,
    words,
    write_modules,
    write_tokenizer,
    write_transformer,
)
from tests.conformance.tiny import write_json

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
    "gte": {"type_vocab_size": 2},
    "eurobert": {"num_key_value_heads": 2, "head_dim": 8},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "qwen3": {"num_key_value_heads": 2, "head_dim": 8},
    "llama": {"num_key_value_heads": 2},
}
HERE = [kind for kind in CLASSIFIERS if kind in NETS]


@pytest.mark.parametrize(
    ("kind", "labels"), [*((kind, 1) for kind in HERE), ("bert", 3), ("roberta", 4), ("qwen3", 2)]
)
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
    assert np.ptp(theirs, axis=0).min() > 0.01, "the oracle must tell pairs apart"
    alone = [service.submit_pairs([pair]).result().scores[0] for pair in PAIRS]
    assert np.abs(np.stack(alone) - found.scores).max() < 1e-5
    assert found.truncated == (4,) and max(found.tokens) == LONGEST


def test_raw_scores_and_activations_that_the_folder_names(opened: Open, tmp_path: Path) -> None:
    import torch

    for name, key in (("identity", "sbert"), ("sigmoid", "own"), ("tanh", "own")):
        folder = tmp_path / name
        write_transformer(folder, "bert", "SequenceClassification", num_labels=1)
        write_tokenizer(folder)
        path = {
            "identity": "torch.nn.modules.linear.Identity",
            "sigmoid": "torch.nn.modules.activation.Sigmoid",
            "tanh": "torch.nn.modules.activation.Tanh",
        }[name]
        changed = (
            {"sbert_ce_default_activation_function": path}
            if key == "sbert"
            else {"sentence_transformers": {"activation_fn": path, "version": "5.0.0"}}
        )
        change_json(folder / "config.json", changed)
        theirs = cross_encoder(folder)
        service = opened(folder)
        assert (
            np.abs(service.submit_pairs(PAIRS).result().scores[:, 0] - theirs.predict(PAIRS)).max()
            < 2e-4
        )
        raw = theirs.predict(PAIRS, activation_fn=torch.nn.Identity())
        assert (
            np.abs(service.submit_pairs(PAIRS, raw=True).result().scores[:, 0] - raw).max() < 1e-3
        )
        assert service.info()["activation"] == name and service.info()["gives"] == ["scores"]


def test_a_query_scores_texts_in_their_order(opened: Open, tmp_path: Path) -> None:
    write_transformer(tmp_path, "bert", "SequenceClassification", num_labels=1)
    write_tokenizer(tmp_path)
    service = opened(tmp_path)
    found = service.score(QUERIES[0], DOCUMENTS)
    theirs = cross_encoder(tmp_path).predict([(QUERIES[0], text) for text in DOCUMENTS])
    assert found.shape == (len(DOCUMENTS),) and found.dtype == np.float32
    assert np.abs(found - theirs).max() < 2e-4
    assert service.score(QUERIES[0], []).shape == (0,)
    many = [DOCUMENTS[index % 7] for index in range(600)]
    assert np.abs(service.score(QUERIES[0], many) - found[np.arange(600) % 7]).max() < 1e-5


def change_json(path: Path, changed: dict[str, Any]) -> None:
    """The JSON object in `path` with `changed` in it."""
    found = json.loads(path.read_text()) if path.is_file() else {}
    write_json(path, found | changed)


SPARSE: dict[str, dict[str, Any]] = {
    "bert": {},
    "distilbert": {"dim": 32, "n_heads": 4, "n_layers": 2, "hidden_dim": 40},
    "roberta": {"max_position_embeddings": 80},
    "xlm-roberta": {"max_position_embeddings": 80},
    "camembert": {"max_position_embeddings": 80},
    "mpnet": {"max_position_embeddings": 80},
    "modernbert": {"local_attention": 8},
    "gte": {},
}
SPARSE_HERE = [kind for kind in SPARSE if kind in NETS]
TEXTS = words(1, 4, 9, 2, 46, 70, 7, seed=3)


def write_splade(folder: Path, kind: str, *, old: bool = False, **pooling: Any) -> Path:
    """A tiny SPLADE model as sentence-transformers writes it, up to 5.3 if `old`."""
    write_transformer(folder, kind, "MaskedLM", **SPARSE[kind])
    write_tokenizer(folder)
    if old:
        package = "sentence_transformers.sparse_encoder.models"
        write_modules(
            folder,
            (f"{package}.MLMTransformer", "", None),
            (f"{package}.SpladePooling", "1_SpladePooling", pooling),
        )
        write_json(folder / "sentence_bert_config.json", {"max_seq_length": 40})
    else:
        write_modules(
            folder,
            ("sentence_transformers.base.modules.transformer.Transformer", "", None),
            (
                "sentence_transformers.sparse_encoder.modules.splade_pooling.SpladePooling",
                "1_SpladePooling",
                pooling,
            ),
        )
        logits = {"method": "forward", "method_output_name": "logits"}
        write_json(
            folder / "sentence_bert_config.json",
            {
                "transformer_task": "fill-mask",
                "modality_config": {"text": logits},
                "module_output_name": "token_embeddings",
            },
        )
    write_json(folder / "config_sentence_transformers.json", {"model_type": "SparseEncoder"})
    return folder


def dense_of(found: list[tuple[Any, Any]], width: int) -> Any:
    """Sparse vectors as rows."""
    rows = np.zeros((len(found), width), np.float32)
    for row, (ids, weights) in zip(rows, found, strict=True):
        assert ids.dtype == np.int32 and weights.dtype == np.float32
        assert (np.diff(ids) > 0).all() and (weights > 0).all()
        row[ids] = weights
    return rows


def assert_sparse_as_theirs(service: Service, folder: Path) -> None:
    from sentence_transformers import SparseEncoder

    with quiet():
        encoder = SparseEncoder(str(folder), device="cpu", local_files_only=True)
        theirs = encoder.encode(TEXTS, convert_to_sparse_tensor=False).numpy()
    found = service.embed_sparse(TEXTS)
    ours = dense_of(found, theirs.shape[1])
    assert np.abs(ours - theirs).max() < 1e-4 * max(1.0, float(theirs.max()))
    assert 0.05 < (theirs > 0).mean() < 0.99, "the oracle must have zeros and others"
    alone = dense_of([service.embed_sparse([text])[0] for text in TEXTS], theirs.shape[1])
    assert np.abs(alone - ours).max() < 1e-5 * max(1.0, float(theirs.max()))


@pytest.mark.parametrize("kind", SPARSE_HERE)
def test_sparse_weights_are_those_of_a_sparse_encoder(
    opened: Open, tmp_path: Path, kind: str
) -> None:
    folder = write_splade(tmp_path, kind, pooling_strategy="max", activation_function="relu")
    assert_sparse_as_theirs(opened(folder), folder)


@pytest.mark.parametrize("activation", ["relu", "log1p_relu"])
@pytest.mark.parametrize("strategy", ["max", "sum"])
def test_every_splade_pooling_in_the_old_format(
    opened: Open, tmp_path: Path, strategy: str, activation: str
) -> None:
    folder = write_splade(
        tmp_path,
        "bert",
        old=True,
        pooling_strategy=strategy,
        activation_function=activation,
        word_embedding_dimension=96,
    )
    service = opened(folder)
    assert_sparse_as_theirs(service, folder)
    assert service.info()["max_tokens"] == 40


def test_an_untied_decoder_is_the_files_own(opened: Open, tmp_path: Path) -> None:
    folder = tmp_path / "splade"
    write_splade(folder, "bert", pooling_strategy="max")
    write_transformer(folder, "bert", "MaskedLM", tie_word_embeddings=False)
    assert_sparse_as_theirs(opened(folder), folder)


def test_a_pair_that_ends_in_padding_is_refused(opened: Open, tmp_path: Path) -> None:
    """transformers scores decoders at the last token that isn't padding."""
    write_transformer(tmp_path, "llama", "SequenceClassification", num_labels=1, pad_token_id=3)
    write_tokenizer(tmp_path)
    with pytest.raises(ModelUnsupported, match="ends every pair with token 3"):
        opened(tmp_path)


def test_types_that_the_model_has_not_are_damage(opened: Open, tmp_path: Path) -> None:
    write_transformer(tmp_path, "bert", "SequenceClassification", num_labels=1, type_vocab_size=1)
    write_tokenizer(tmp_path, model_input_names=["input_ids", "token_type_ids"])
    with pytest.raises(ModelCorrupt, match="token type 1, and the model has only 1"):
        opened(tmp_path)
