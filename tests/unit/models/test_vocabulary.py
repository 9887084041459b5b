"""Tokenizers built from vocabulary files give what those of transformers give on the same files."""

from __future__ import annotations

import itertools
import string
from pathlib import Path
from typing import Any

import pytest

from likewise.base.errors import ModelCorrupt, ModelNotFound, ModelUnsupported
from likewise.models.card import read_card
from likewise.models.digest import weights_digest
from likewise.models.tokenize import Tokenizer
from likewise.models.vocabulary import open_tokenizer
from tests.conformance.tiny import write_bert, write_json

LETTERS = string.ascii_letters + string.digits + ".,!?-'_<>[]|/\\éèüßøıİñ中文字水🙂"
MASK = {"content": "<mask>", "lstrip": True, "normalized": False, "__type": "AddedToken"}
NASTY = [
    "",
    "   ",
    "Hello world",
    " Hello  world ",
    "Äpfel über Straße, naïve café; İstanbul ısı",
    "e\u0301clair vs éclair",
    "中文字 mixed with水and more水水",
    "[CLS] not special? [SEP] [MASK]x[UNK]",
    "<s>inside</s> <mask> text<mask>",
    "tab\tnewline\nreturn\rnul\x00zero\u200bwidth\ufeffbom\u00a0nbsp",
    "🙂👩‍👩‍👧‍👦 family 🏳️‍🌈",
    "don't can't won't I'll we've",
    "1234567890 3.14159 1,000,000",
    "a" * 250,
    "ABCDEFG lower UPPER MiXeD",
    "\u1e9e\u0130\u03a3\u03c2 final sigma \u0391\u03a3",
    "x\ud7ffy\ue000z",
    "... --- ___ ''' \"quoted\"",
    "added_one and added two",
]


def word_piece(folder: Path, **settings: Any) -> Path:
    """vocab.txt of letters and some words, and nothing of tokenizer.json."""
    write_bert(folder, vocab_size=300)
    (folder / "tokenizer.json").unlink()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "hello", "world", "##lo", "##ing", "he"]
    pieces = [*dict.fromkeys(LETTERS), *(f"##{letter}" for letter in dict.fromkeys(LETTERS))]
    # No end of the last line, and a character that Python takes for an end of line inside one.
    vocabulary = [*words, *pieces, "a\u2028b"]
    (folder / "vocab.txt").write_text("\n".join(vocabulary), encoding="utf-8", newline="\n")
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", **settings})
    return folder


def byte_level(folder: Path, **settings: Any) -> Path:
    """vocab.json and merges.txt learned from the nasty texts."""
    from tokenizers import ByteLevelBPETokenizer

    write_bert(folder, model_type="roberta", vocab_size=420)
    (folder / "tokenizer.json").unlink()
    learned = ByteLevelBPETokenizer()
    texts = [text for text in NASTY if text.isprintable()]
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    learned.train_from_iterator(texts * 3, vocab_size=420, special_tokens=specials)
    learned.save_model(str(folder))
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "RobertaTokenizer"} | settings)
    return folder


def agree(folder: Path, architecture: str = "bert") -> None:
    """Both sides give the same ids for every nasty text and every pair of some."""
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(folder)
    ours = open_tokenizer(folder, architecture)
    for text in NASTY:
        assert ours.encode(text).ids == theirs(text)["input_ids"], text
    for one, other in itertools.pairwise(NASTY[2:8]):
        assert ours.encode(one, other).ids == theirs(one, other)["input_ids"]


@pytest.mark.torch
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"do_lower_case": False},
        {"do_lower_case": False, "strip_accents": True},
        {"do_lower_case": True, "strip_accents": False},
        {"tokenize_chinese_chars": False},
        {"additional_special_tokens": ["hello", "<q>"]},
        {"extra_special_tokens": {"image_token": "hello"}, "video_token": "world"},
        {"split_special_tokens": True},
        {"sep_token": "[CLS]", "mask_token": {"content": "[MASK]", "__type": "AddedToken"}},
    ],
    ids=str,
)
def test_word_piece(tmp_path: Path, settings: dict[str, Any]) -> None:
    agree(word_piece(tmp_path / "model", **settings))


@pytest.mark.torch
@pytest.mark.parametrize(
    "settings", [{}, {"add_prefix_space": True}, {"mask_token": MASK}], ids=str
)
def test_byte_level(tmp_path: Path, settings: dict[str, Any]) -> None:
    agree(byte_level(tmp_path / "model", **settings), "roberta")


@pytest.mark.torch
@pytest.mark.parametrize(
    "settings",
    [
        {"do_lower_case": False},
        {"strip_accents": False},
        {"tokenize_chinese_chars": False, "tokenizer_class": "BertTokenizerFast"},
        {},
        {"do_lower_case": False, "tokenizer_class": "PreTrainedTokenizerFast"},
    ],
    ids=str,
)
def test_tokenizer_json_beside_settings_that_say_otherwise(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    folder = word_piece(tmp_path / "model", do_lower_case=True)
    inner = open_tokenizer(folder, "bert")
    inner.save(str(folder / "tokenizer.json"))
    before = weights_digest(read_card(folder))
    tokens = {f"{name}_token": f"[{name.upper()}]" for name in ("cls", "sep", "pad", "unk", "mask")}
    write_json(
        folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer"} | tokens | settings
    )
    agree(folder)
    is_other = open_tokenizer(folder, "bert").encode("Äp").ids != inner.encode("Äp").ids
    assert not is_other or weights_digest(read_card(folder)) != before


@pytest.mark.torch
@pytest.mark.parametrize("template", ["$A </s>", "<s> $A", "<s> $A </s>", None])
@pytest.mark.parametrize(
    "adds", [{}, {"add_bos_token": True, "add_eos_token": True}, {"add_eos_token": False}]
)
def test_tokenizer_json_decides_on_special_tokens(
    tmp_path: Path, template: str | None, adds: dict[str, bool]
) -> None:
    from tokenizers import Tokenizer as Inner
    from tokenizers import processors

    folder = byte_level(
        tmp_path / "model", tokenizer_class="Qwen2Tokenizer", pad_token="<pad>", **adds
    )
    plain = byte_level(tmp_path / "plain")
    inner: Inner = open_tokenizer(plain, "roberta")
    ids = [(token, inner.token_to_id(token)) for token in ("<s>", "</s>")]
    if template is None:
        inner.post_processor = processors.ByteLevel()
    else:
        inner.post_processor = processors.TemplateProcessing(single=template, special_tokens=ids)
    inner.save(str(folder / "tokenizer.json"))
    from transformers import AutoTokenizer

    theirs, ours = AutoTokenizer.from_pretrained(folder), Tokenizer(read_card(folder))
    for text in ("hello", "Hello world " * 40, NASTY[7]):
        wanted = theirs(text, truncation=True, max_length=ours.max_tokens)["input_ids"]
        assert ours.encode([text])[0].ids.tolist() == wanted


@pytest.mark.torch
def test_added_tokens(tmp_path: Path) -> None:
    folder = word_piece(tmp_path / "model")
    size = open_tokenizer(folder, "bert").get_vocab_size()
    added = {"content": "added_one", "special": True, "normalized": False}
    write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "BertTokenizer", "added_tokens_decoder": {str(size): added}},
    )
    agree(folder)
    assert size in open_tokenizer(folder, "bert").encode("x added_one").ids


def test_the_class_may_be_missing_where_the_architecture_says_it(tmp_path: Path) -> None:
    folder = word_piece(tmp_path / "model")
    (folder / "tokenizer_config.json").unlink()
    assert open_tokenizer(folder, "bert").encode("hello").ids == [2, 5, 3]
    with pytest.raises(ModelUnsupported, match=r"vocab\.txt of a tokenizer that no file names"):
        open_tokenizer(folder, "new")


def test_a_model_without_tokenizer_json_is_whole(tmp_path: Path) -> None:
    folder = word_piece(tmp_path / "model")
    card = read_card(folder)
    assert Tokenizer(card).encode(["hello world"])[0].ids.tolist() == [2, 5, 6, 3]
    before = weights_digest(card)
    word_piece(folder, do_lower_case=False)
    assert weights_digest(read_card(folder)) != before


def test_what_is_not_certain_is_refused(tmp_path: Path) -> None:
    folder = word_piece(tmp_path / "model")
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "BertJapaneseTokenizer"})
    with pytest.raises(ModelUnsupported, match=r"vocab\.txt of a BertJapanese.*save_pretrained"):
        open_tokenizer(folder, "bert")
    (folder / "vocab.txt").rename(folder / "sentencepiece.bpe.model")
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "XLMRobertaTokenizer"})
    with pytest.raises(ModelUnsupported, match=r"sentencepiece\.bpe\.model of a XLMRoberta"):
        open_tokenizer(folder, "xlm-roberta")
    (folder / "sentencepiece.bpe.model").unlink()
    with pytest.raises(ModelNotFound, match=r"no tokenizer\.json, nor vocabulary files"):
        open_tokenizer(folder, "xlm-roberta")


def test_damaged_vocabularies(tmp_path: Path) -> None:
    folder = word_piece(tmp_path / "model")
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n")
    with pytest.raises(ModelCorrupt, match=r"vocab\.txt doesn't hold the sep_token '\[SEP\]'"):
        open_tokenizer(folder, "bert")
    (folder / "vocab.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ModelCorrupt, match=r"vocab\.txt isn't UTF-8"):
        open_tokenizer(folder, "bert")
    word_piece(folder)
    write_json(folder / "added_tokens.json", {"far": 9000})
    with pytest.raises(ModelUnsupported, match=r"added at \[9000\].*save_pretrained"):
        open_tokenizer(folder, "bert")
