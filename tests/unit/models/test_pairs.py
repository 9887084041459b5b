"""Pairs are cut as the tokenizers library cuts them: the longer text gives way first."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from tokenizers import Tokenizer as Library
from tokenizers import models, pre_tokenizers, processors

from likewise.models.card import read_card
from likewise.models.heads import Scores
from likewise.models.pairs import PairTokenizer
from likewise.models.tokenize import Tokenizer
from tests.conformance.tiny import WORDS, write_cross_encoder, write_json

ENDS = (("[SEP]", 3), ("[CLS]", 2))
POST = {
    "bert": processors.BertProcessing(*ENDS),
    "roberta": processors.RobertaProcessing(*ENDS),
    "template": processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    ),
    "bytes": processors.ByteLevel(),
}


def library(post: str) -> Library:
    """A tokenizer of whole words."""
    inner = Library(models.WordLevel({word: at for at, word in enumerate(WORDS)}, "[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = POST[post]
    return inner


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("post", list(POST))
def test_pairs_of_every_length_are_cut_as_by_the_library(
    tmp_path: Path, post: str, side: str
) -> None:
    folder = write_cross_encoder(tmp_path)
    library(post).save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "truncation_side": side,
        "model_input_names": ["input_ids", "token_type_ids"],
    }
    for limit in (8, 9, 13):
        write_json(folder / "tokenizer_config.json", {**settings, "model_max_length": limit})
        card = read_card(folder)
        (head,) = card.heads
        assert isinstance(head, Scores) and card.max_tokens == limit
        ours, theirs = PairTokenizer(card, head, Tokenizer(card)), library(post)
        theirs.enable_truncation(limit, strategy="longest_first", direction=side)
        pairs = [
            (" ".join(WORDS[4 : 4 + first]), " ".join(WORDS[24 : 24 + second]))
            for first, second in itertools.product(range(14), range(14))
        ]
        for found, pair in zip(ours.encode(pairs), pairs, strict=True):
            expected = theirs.encode(*pair)
            assert found.ids.tolist() == expected.ids, (limit, pair)
            assert found.types is not None and found.types.tolist() == expected.type_ids
            whole = len(library(post).encode(*pair).ids)
            assert found.total == whole and found.truncated == (whole > limit)
