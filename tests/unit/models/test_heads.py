"""What a folder gives beside vectors or instead is read from its files, and else refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from likewise.base.errors import ModelCorrupt, ModelUnsupported
from likewise.models.card import read_card
from likewise.models.heads import Scores, Sparse
from likewise.models.multivector import Expansion, MultiVector
from tests.conformance.tiny import SMALL, write_bert, write_json

BASE = "sentence_transformers.base.modules"
OLD = "sentence_transformers.models"
CLASSIFIER = {"architectures": ["BertForSequenceClassification"]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bare transformer, to be marked as one thing or another."""
    made = write_bert(tmp_path / "model")
    (made / "modules.json").unlink()
    return made


def modules(folder: Path, *kinds: str, **configs: Any) -> None:
    """modules.json of these class paths; `configs` by the short name of the class."""
    entries = []
    for index, kind in enumerate(kinds):
        name = kind.rpartition(".")[2]
        entries.append({"path": f"{index}_{name}" if index else "", "type": kind})
        if name in configs:
            write_json(folder / f"{index}_{name}" / "config.json", configs[name])
    write_json(folder / "modules.json", entries)


def config(folder: Path, **changes: Any) -> None:
    """config.json with `changes`."""
    write_json(folder / "config.json", {**SMALL, **changes})


def scores(folder: Path) -> Scores:
    """The one head of `folder`."""
    card = read_card(folder)
    (head,) = card.heads
    assert isinstance(head, Scores) and card.gives == ("scores",)
    assert card.steps == () and card.dimensions == 0 and not card.normalised
    return head


def test_a_classifier_without_modules_is_a_cross_encoder(folder: Path) -> None:
    config(folder, **CLASSIFIER)
    assert scores(folder).labels == ("LABEL_0", "LABEL_1"), "what transformers leaves out"
    config(folder, **CLASSIFIER, id2label={"1": "no", "0": "yes", "10": "or", "2": "maybe"})
    assert scores(folder).labels == ("yes", "no", "maybe", "or")
    modules(folder, f"{OLD}.Transformer")
    assert len(scores(folder).labels) == 4


def test_a_classifier_that_pools_gives_vectors(folder: Path) -> None:
    config(folder, **CLASSIFIER)
    modules(folder, f"{OLD}.Transformer", f"{OLD}.Pooling", Pooling={"pooling_mode": "mean"})
    assert read_card(folder).gives == ("vectors",)


@pytest.mark.parametrize(
    ("written", "settings", "activation"),
    [
        ({"id2label": {"0": "x"}}, {}, "sigmoid"),
        ({}, {}, "identity"),
        ({"sbert_ce_default_activation_function": "torch.nn.modules.activation.Tanh"}, {}, "tanh"),
        (
            {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}},
            {"activation_fn": "torch.nn.modules.activation.Sigmoid"},
            "sigmoid",
        ),
    ],
)
def test_the_activation_is_found_as_a_cross_encoder_finds_it(
    folder: Path, written: dict[str, Any], settings: dict[str, Any], activation: str
) -> None:
    config(folder, **CLASSIFIER, **written)
    modules(folder, f"{OLD}.Transformer")
    write_json(folder / "config_sentence_transformers.json", settings)
    assert scores(folder).activation == activation


def test_settings_beside_no_modules_are_not_read(folder: Path) -> None:
    config(folder, **CLASSIFIER, id2label={"0": "x"})
    identity = {"activation_fn": "torch.nn.modules.linear.Identity"}
    write_json(folder / "config_sentence_transformers.json", identity)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 9})
    assert scores(folder).activation == "sigmoid" and read_card(folder).max_tokens != 9
    modules(folder, f"{OLD}.Transformer")
    assert scores(folder).activation == "identity" and read_card(folder).max_tokens == 9


def test_a_chat_template_without_modules_is_refused(folder: Path) -> None:
    config(folder, **CLASSIFIER)
    write_json(folder / "tokenizer_config.json", {"chat_template": "{{ messages }}"})
    with pytest.raises(ModelUnsupported, match="has a chat template.*CrossEncoder"):
        read_card(folder)
    modules(folder, f"{OLD}.Transformer")
    assert read_card(folder).gives == ("scores",)


def test_an_unknown_activation_of_scores_is_refused(folder: Path) -> None:
    config(folder, **CLASSIFIER, sbert_ce_default_activation_function="my.code.Squash")
    with pytest.raises(ModelUnsupported, match=r"'my.code.Squash'.*known: identity, sigmoid"):
        read_card(folder)


def test_labels_that_are_not_numbered_are_damage(folder: Path) -> None:
    config(folder, **CLASSIFIER, id2label={"first": "x"})
    with pytest.raises(ModelCorrupt, match="id2label isn't numbered"):
        read_card(folder)


SPLADE = "sentence_transformers.sparse_encoder.models"


def test_splade_in_both_formats(folder: Path) -> None:
    modules(folder, f"{SPLADE}.MLMTransformer", f"{SPLADE}.SpladePooling", SpladePooling={})
    assert read_card(folder).heads == (Sparse("max", "relu"),)
    written = {"pooling_strategy": "sum", "activation_function": "log1p_relu"}
    modules(
        folder, f"{BASE}.transformer.Transformer", f"{SPLADE}.SpladePooling", SpladePooling=written
    )
    with pytest.raises(ModelUnsupported, match="transformer_task is None; .*fill-mask"):
        read_card(folder)
    write_json(
        folder / "sentence_bert_config.json",
        {"transformer_task": "fill-mask", "max_seq_length": 64},
    )
    assert read_card(folder).heads == (Sparse("sum", "log1p_relu"),)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"pooling_strategy": "mean"}, "SpladePooling by 'mean'"),
        ({"activation_function": "gelu"}, "of 'gelu' isn't computed"),
    ],
)
def test_other_splade_poolings_are_refused(
    folder: Path, written: dict[str, Any], words: str
) -> None:
    modules(folder, f"{SPLADE}.MLMTransformer", f"{SPLADE}.SpladePooling", SpladePooling=written)
    with pytest.raises(ModelUnsupported, match=words):
        read_card(folder)


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        (("sentence_transformers.models.Router",), "Router"),
        ((f"{OLD}.Transformer", f"{OLD}.Pooling", f"{SPLADE}.SpladePooling"), "must follow"),
        ((f"{OLD}.Transformer", f"{SPLADE}.SparseAutoEncoder"), "SparseAutoEncoder"),
        ((f"{OLD}.Transformer", f"{OLD}.LogitScore", f"{OLD}.Dense"), "LogitScore must follow"),
        ((f"{OLD}.Transformer", "my.code.SpladePooling"), "my.code.SpladePooling"),
    ],
)
def test_other_orders_and_modules_are_refused_by_name(
    folder: Path, kinds: tuple[str, ...], words: str
) -> None:
    modules(folder, *kinds)
    with pytest.raises(ModelUnsupported, match=words):
        read_card(folder)


def test_answers_must_be_tokens(folder: Path) -> None:
    modules(folder, f"{OLD}.Transformer", f"{OLD}.LogitScore", LogitScore={"true_token_id": "yes"})
    with pytest.raises(ModelCorrupt, match="must be token ids"):
        read_card(folder)


def test_a_multi_vector_model_of_pylate(folder: Path) -> None:
    dense = {
        "in_features": 32,
        "out_features": 8,
        "bias": False,
        "activation_function": "torch.nn.modules.linear.Identity",
    }
    modules(folder, f"{OLD}.Transformer", "pylate.models.Dense.Dense", Dense=dense)
    settings = {"query_prefix": "[Q] ", "document_prefix": "[D] ", "skiplist_words": ["."]}
    write_json(folder / "config_sentence_transformers.json", settings)
    card = read_card(folder)
    (head,) = card.heads
    assert isinstance(head, MultiVector) and card.gives == ("tokens",)
    assert (head.marker("query"), head.marker("document")) == ("[Q] ", "[D] ")
    assert head.expansion == Expansion(32, True, False) and head.skiplist == (".",)
    assert head.normalise and head.projections[0].outputs == 8


@pytest.mark.parametrize(
    ("dense", "error", "words"),
    [
        ({"in_features": 32}, ModelCorrupt, "in_features and out_features"),
        (
            {"in_features": 32, "out_features": 8, "activation_function": "my.code.Act"},
            ModelUnsupported,
            "my.code.Act",
        ),
        (
            {"in_features": 32, "out_features": 8, "module_input_name": "sentence_embedding"},
            ModelUnsupported,
            "token_embeddings",
        ),
    ],
)
def test_projections_that_are_not_computed(
    folder: Path, dense: dict[str, Any], error: type[Exception], words: str
) -> None:
    modules(folder, f"{OLD}.Transformer", f"{OLD}.Dense", Dense=dense)
    write_json(folder / "config_sentence_transformers.json", {"model_type": "ColBERT"})
    with pytest.raises(error, match=words):
        read_card(folder)


def test_token_pooling_in_a_multi_vector_model_is_refused(folder: Path) -> None:
    kind = "sentence_transformers.multi_vector_encoder.modules.token_pooling.TokenPooling"
    modules(folder, f"{OLD}.Transformer", kind)
    write_json(folder / "config_sentence_transformers.json", {"model_type": "MultiVectorEncoder"})
    with pytest.raises(ModelUnsupported, match="TokenPooling"):
        read_card(folder)
