"""Token ids as the model was trained on; cuts are counted, and bad input is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from likewise.base.errors import InputError, ModelCorrupt, ModelNotFound
from likewise.models.card import read_card
from likewise.models.tokenize import Tokenizer
from tests.conformance.tiny import SMALL, write_bert, write_json


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    """Whole words; w0 is 4, [CLS] 2, [SEP] 3; reads 64 tokens."""
    return Tokenizer(read_card(write_bert(tmp_path / "model")))


@pytest.fixture(scope="module")
def real(model_folder: Path) -> Tokenizer:
    """The default model's."""
    return Tokenizer(read_card(model_folder))


def test_the_files_own_cutting_and_padding_are_off(tokenizer: Tokenizer) -> None:
    one, short = tokenizer.encode(["w0 w1 w2 w3 w4", "w0"])
    assert one.ids.tolist() == [2, 4, 5, 6, 7, 8, 3] and not one.truncated
    assert short.ids.tolist() == [2, 4, 3]


def test_an_empty_text_is_its_special_tokens(tokenizer: Tokenizer) -> None:
    assert [one.ids.tolist() for one in tokenizer.encode(["", "  \n "])] == [[2, 3], [2, 3]]


def test_a_long_text_is_cut_and_counted(tokenizer: Tokenizer) -> None:
    exact, long = tokenizer.encode(["w0 " * 62, "w0 " * 63])
    assert len(exact.ids) == exact.total == 64 and not exact.truncated
    assert len(long.ids) == 64 and long.total == 65 and long.truncated
    assert long.ids[-1] == 3


def test_a_prompt_goes_before(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode(["w1"], prompt="w0 ")[0].ids.tolist() == [2, 4, 5, 3]
    assert tokenizer.encode_ids([[5]], prompt="w0 ")[0].ids.tolist() == [2, 4, 5, 3]
    assert tokenizer.overhead("w0 ") == 3


def test_token_ids(tokenizer: Tokenizer) -> None:
    encoded = tokenizer.encode_ids([[4, 5], [2, 4, 5, 3], []])
    assert [one.ids.tolist() for one in encoded] == [[2, 4, 5, 3], [2, 4, 5, 3], [2, 3]]
    assert tokenizer.encode_ids([[4] * 100])[0].truncated


def test_texts_and_token_ids_in_one_request(tokenizer: Tokenizer) -> None:
    mixed: list[Any] = ["w1 w2", [5, 6], "w3"]
    encoded = tokenizer.encode_inputs(mixed, prompt="w0 ")
    alone = [tokenizer.encode_inputs([one], prompt="w0 ")[0] for one in mixed]
    assert [one.ids.tolist() for one in encoded] == [one.ids.tolist() for one in alone]
    assert encoded[0].ids.tolist() == encoded[1].ids.tolist() == [2, 4, 5, 6, 3]


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ([[4], [64]], "input 11 holds token id 64; this model's are 0 to 63"),
        ([[-1]], "token id -1"),
        ([[True]], "isn't a token id"),
        ([[1.5]], "isn't a token id"),
        (["ok", 3], "input 11 isn't a text or a list of token ids"),
        (["ok", "a\ud800"], "input 11 isn't valid Unicode.*character 1"),
        ([None], "input 10 isn't a text or a list of token ids"),
        ([[4], "a\ud800"], "input 11 isn't valid Unicode"),
        (["ok", [64]], "input 11 holds token id 64"),
    ],
)
def test_bad_inputs_are_named(tokenizer: Tokenizer, inputs: list[str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        tokenizer.encode_inputs(inputs, first=10)


def test_tokens_that_the_model_has_no_vectors_for(tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "model")
    write_json(folder / "config.json", {**SMALL, "vocab_size": 40})
    short = Tokenizer(read_card(folder))
    assert short.encode(["w35"])[0].ids.tolist() == [2, 39, 3]
    with pytest.raises(InputError, match="input 1 has the token 'w36', for which this model has"):
        short.encode(["w1", "w36"])


def test_texts_without_tokens_are_named(tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "model")
    inner = json.loads((folder / "tokenizer.json").read_text())
    write_json(folder / "tokenizer.json", {**inner, "post_processor": None})
    with pytest.raises(InputError, match="input 6 is empty: this model's tokenizer gives it no"):
        Tokenizer(read_card(folder)).encode(["w1", " "], first=5)


def test_the_tokens_of_a_prompt_are_counted(tmp_path: Path, tokenizer: Tokenizer) -> None:
    assert [one.prompt for one in tokenizer.encode(["w1", ""], prompt="w2 w3 ")] == [3, 3]
    assert tokenizer.encode(["w1"])[0].prompt == 0
    assert tokenizer.encode_ids([[5], [2, 5, 3]], prompt="w2 w3 ")[0].prompt == 3
    assert tokenizer.encode_ids([[2, 5, 3]], prompt="w2 w3 ")[0].prompt == 0
    assert tokenizer.encode(["w1"], prompt="w2 " * 100)[0].prompt == 63


def test_the_front_is_cut_where_the_folder_says_so(tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "model")
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 5})
    write_json(folder / "tokenizer_config.json", {"truncation_side": "left"})
    (one,) = Tokenizer(read_card(folder)).encode(["w0 w1 w2 w3 w4"])
    assert one.ids.tolist() == [2, 6, 7, 8, 3] and one.total == 7


def test_lower_case_when_asked(tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "model")
    assert Tokenizer(read_card(folder)).encode(["W0"])[0].ids.tolist() == [2, 1, 3]
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 64, "do_lower_case": True})
    assert Tokenizer(read_card(folder)).encode(["W0"])[0].ids.tolist() == [2, 4, 3]


def test_files_that_are_not_there_or_damaged(tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "model")
    (folder / "tokenizer.json").write_text('{"version": "1.0"')
    with pytest.raises(ModelCorrupt, match="(isn.t a tokenizer|be read as JSON)"):
        Tokenizer(read_card(folder))
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelNotFound, match=r"no tokenizer\.json"):
        Tokenizer(read_card(folder))
    write_bert(folder)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 2})
    with pytest.raises(ModelCorrupt, match="leaves no room"):
        Tokenizer(read_card(folder))


@pytest.mark.model
def test_spans_are_characters_of_the_text_as_given(real: Tokenizer) -> None:
    text = "  Héllo 🙂 wörld 水 "
    (spans,) = real.spans([text])
    assert [text[start:end] for start, end in spans.tolist()] == ["Héllo", "🙂", "wörld", "水"]
    assert real.spans([""])[0].shape == (0, 2)
    assert len(real.spans(["word " * 1000])[0]) == 1000


@pytest.mark.model
@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"])), max_size=5))
def test_any_text_can_be_encoded(real: Tokenizer, texts: list[str]) -> None:
    encoded = real.encode(texts)
    assert len(encoded) == len(texts)
    for text, one, spans in zip(texts, encoded, real.spans(texts), strict=True):
        assert 2 <= len(one.ids) <= 256 and (one.ids[0], one.ids[-1]) == (101, 102)
        assert one.truncated == (one.total > 256)
        assert all(0 <= start <= end <= len(text) for start, end in spans.tolist())
