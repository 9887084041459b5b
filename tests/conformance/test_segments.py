"""Segment ids of pairs: which texts of a pair have 1, by what a folder says; scores with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likewise.models.card import read_card
from likewise.models.heads import Scores
from likewise.models.pairs import PairTokenizer
from likewise.models.tokenize import Tokenizer
from likewise.runtime.service import load
from tests.conformance.head_folders import words, write_tokenizer, write_transformer
from tests.conformance.test_heads import CLASSIFIERS, change_json

pytestmark = pytest.mark.torch

SAID = ["input_ids", "attention_mask"]
PAIRS = list(zip(words(1, 3, 5, 30, seed=1), words(2, 9, 1, 40, seed=2), strict=True))


def folder_of(folder: Path, kind: str, settings: dict[str, Any], **changes: Any) -> Any:
    """A classifier of `kind` whose tokenizer_config.json says just `settings`; and its net."""
    sizes = CLASSIFIERS.get(kind, {}) | changes
    net = write_transformer(folder, kind, "SequenceClassification", num_labels=1, **sizes)
    write_tokenizer(folder)
    path = folder / "tokenizer_config.json"
    written = json.loads(path.read_text())
    for name in ("tokenizer_class", "backend", "model_input_names"):
        written.pop(name, None)
    path.write_text(json.dumps(written | settings))
    return net


def segments(folder: Path) -> list[int]:
    """The segments of a pair of two words and one."""
    card = read_card(folder)
    (head,) = card.heads
    assert isinstance(head, Scores)
    (found,) = PairTokenizer(card, head, Tokenizer(card)).encode([("w1 w2", "w3")])
    assert found.types is not None
    return [int(one) for one in found.types]


APART, ALIKE = [0, 0, 0, 0, 1, 1], [0] * 6


@pytest.mark.parametrize(
    ("settings", "types", "expected"),
    [
        ({"tokenizer_class": "PreTrainedTokenizerFast"}, 2, APART),
        ({"tokenizer_class": "BertTokenizer"}, 2, APART),
        ({"tokenizer_class": "ElectraTokenizerFast"}, 2, APART),
        ({"tokenizer_class": "SomebodysTokenizer"}, 2, APART),
        ({}, 2, APART),
        # A model of one segment has none to tell apart, whatever the tokenizer gives.
        ({"tokenizer_class": "PreTrainedTokenizerFast"}, 1, ALIKE),
        ({"tokenizer_class": "BertTokenizer"}, 1, ALIKE),
        # What the folder lists decides; as does what every version of transformers does.
        ({"tokenizer_class": "BertTokenizer", "model_input_names": SAID}, 2, ALIKE),
        ({"model_input_names": [*SAID, "token_type_ids"], "tokenizer_class": "X"}, 2, APART),
        ({"tokenizer_class": "TokenizersBackend"}, 2, ALIKE),
        ({"tokenizer_class": "DistilBertTokenizerFast"}, 2, ALIKE),
        (
            {"tokenizer_class": "TokenizersBackend", "model_input_names": ["token_type_ids"]},
            2,
            APART,
        ),
    ],
)
def test_the_post_processor_and_the_models_segments_decide(
    tmp_path: Path, settings: dict[str, Any], types: int, expected: list[int]
) -> None:
    folder_of(tmp_path, "bert", settings, type_vocab_size=types)
    assert segments(tmp_path) == expected


def as_trained(net: Any, folder: Path, *, typed: bool) -> Any:
    """Logits of `PAIRS` by transformers, segments handed on if `typed`, as version 4 does it."""
    import torch
    import transformers

    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), pad_token="[PAD]"
    )
    made = []
    for pair in PAIRS:
        given = tokenizer(
            *pair,
            return_token_type_ids=typed,
            truncation="longest_first",
            max_length=48,
            return_tensors="pt",
        )
        with torch.no_grad():
            made.append(net(**given).logits[0, 0].item())
    return np.array(made)


@pytest.mark.parametrize(
    ("kind", "changes", "is_typed"),
    [
        ("bert", {}, True),
        ("electra", {}, True),
        ("bert", {"type_vocab_size": 1}, False),
        ("roberta", {"type_vocab_size": 1}, False),
        ("xlm-roberta", {"type_vocab_size": 1}, False),
        ("roberta", {"type_vocab_size": 2}, True),
        ("deberta-v2", {}, False),
        ("deberta-v2", {"type_vocab_size": 2}, True),
        ("modernbert", {}, False),
        ("distilbert", {}, False),
        ("mpnet", {}, False),
    ],
)
def test_scores_are_those_that_a_generic_class_was_trained_with(
    tmp_path: Path, kind: str, changes: dict[str, Any], is_typed: bool
) -> None:
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"}
    net = folder_of(tmp_path, kind, settings, **changes)
    expected = as_trained(net, tmp_path, typed=is_typed)
    service = load(tmp_path, precision="exact", threads=1)
    try:
        found = service.submit_pairs(PAIRS, raw=True).result(60).scores[:, 0]
        assert np.abs(found - expected).max() < 1e-3
        if is_typed:
            other = as_trained(net, tmp_path, typed=False)
            assert np.abs(other - expected).max() > 0.05, "segments must show"
    finally:
        service.close()


def test_a_list_that_insists_on_segments_the_model_has_not_is_damage(tmp_path: Path) -> None:
    from likewise.base.errors import ModelCorrupt

    folder_of(tmp_path, "bert", {"model_input_names": ["token_type_ids"]}, type_vocab_size=1)
    with pytest.raises(ModelCorrupt, match="token type 1, and the model has only 1"):
        segments(tmp_path)
    change_json(tmp_path / "config.json", {"type_vocab_size": 2})
    assert segments(tmp_path) == APART
