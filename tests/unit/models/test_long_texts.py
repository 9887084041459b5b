"""Long texts: what is read of a piece of them is exactly what the whole would give."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    processors,
    trainers,
)
from tokenizers import pre_tokenizers as pre

from likewise.base.errors import InputError
from likewise.base.types import CutSide
from likewise.models import long_texts, tokenize
from likewise.models.card import read_card
from likewise.models.cuts import Cuts, Piece
from likewise.models.heads import Scores
from likewise.models.long_texts import LongTexts
from likewise.models.pairs import PairTokenizer
from likewise.models.tokenize import Cut
from likewise.models.tokenize import Tokenizer as ModelTokenizer
from tests.conformance.tiny import write_cross_encoder, write_json

CORPUS = [
    "the cat sat on the mat, and the dogs' bones are 1,234.5 kg heavy; a/b+c=d",
    "Der Hund läuft über die Straße\nund 12 Katzen schauen zu",
    "быстрая лиса прыгает через собаку",
    "def spam(eggs=1, *args):\n    return eggs + 0x1F",
    "我们在北京的图书馆里读书，天气很好。",
    "it's we're I'LL don't  two  spaces   three",
] * 4
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def bert(*, lower: bool = True) -> Tokenizer:
    inner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer(lowercase=lower)
    inner.pre_tokenizer = pre.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    inner.train_from_iterator(
        CORPUS, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special)
    )
    inner.add_special_tokens([AddedToken("[MASK]", lstrip=True, special=True)])
    return inner


def byte_level(*, prefix: bool = False) -> Tokenizer:
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre.ByteLevel(add_prefix_space=prefix)
    inner.post_processor = processors.ByteLevel(trim_offsets=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=["<s>"], initial_alphabet=pre.ByteLevel.alphabet()
    )
    inner.train_from_iterator(CORPUS, trainer)
    inner.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    return inner


def by_pattern() -> Tokenizer:
    inner = byte_level()
    inner.normalizer = normalizers.NFC()
    inner.pre_tokenizer = pre.Sequence(
        [
            pre.Split(Regex(LLAMA_3), "isolated"),
            pre.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return inner


def unigram(scheme: str = "always") -> Tokenizer:
    inner = Tokenizer(models.Unigram())
    inner.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    inner.pre_tokenizer = pre.Metaspace(prepend_scheme=scheme)
    inner.train_from_iterator(
        CORPUS, trainers.UnigramTrainer(vocab_size=300, unk_token="<unk>", special_tokens=["<unk>"])
    )
    inner.add_tokens([AddedToken("zz", rstrip=True), AddedToken("<eot>", single_word=True)])
    return inner


def sentence_piece_bpe() -> Tokenizer:
    inner = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    inner.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    trained = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    trained.pre_tokenizer = pre.Metaspace()
    trained.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=400, special_tokens=["<unk>"])
    )
    inner.model = trained.model
    return inner


def words() -> Tokenizer:
    names = ["[UNK]", *"the cat sat on mat a b 我 们 , . ; 1 12".split()]
    inner = Tokenizer(models.WordLevel({name: at for at, name in enumerate(names)}, "[UNK]"))
    inner.pre_tokenizer = pre.Whitespace()
    return inner


MADE: dict[str, Callable[[], Tokenizer]] = {
    "bert": bert,
    "cased bert": functools.partial(bert, lower=False),
    "byte-level": byte_level,
    "byte-level, prefix": functools.partial(byte_level, prefix=True),
    "pattern": by_pattern,
    "unigram": unigram,
    "unigram, first": functools.partial(unigram, "first"),
    "sentencepiece bpe": sentence_piece_bpe,
    "words": words,
}


@functools.cache
def made(name: str) -> Tokenizer:
    return MADE[name]()


PARTS = st.sampled_from(
    [
        *"the cat sat on mat dogs' 1,234.5 a/b+c=d Straße 12 лиса 我们在北京 读".split(),
        *("spam(eggs=1,", "zz"),
        *("it's", "I'LL", "'s", "[MASK]", "<mask>", "<eot>", "<s>", "\u2581x", "\u0120y", "ｱﾞ"),
        *(
            "\n",
            "\n\n",
            "\r\n",
            "\t",
            "  ",
            "   ",
            " \n ",
            "\u00a0",
            "\u3000",
            "\u200b",
            "。",
            "，",
        ),
        *(
            "e\u0301",
            "\u0301",
            "\u0301" * 300,
            "ﬁ",
            "İ",
            "한국",
            "\u1112\u1161",
            "😀",
            "👩\u200d👧",
        ),
        *("x" * 300, "😀" * 300, "7" * 40, "!" * 40, "的" * 90, "a,b;c:d," * 9, "\x00", "\ufffd"),
    ]
)
TEXTS = st.builds(
    lambda parts, seps: "".join(part + seps[at % len(seps)] for at, part in enumerate(parts)),
    st.lists(PARTS, min_size=1, max_size=60),
    st.lists(st.sampled_from([" ", "", " ", "\n", " "]), min_size=1, max_size=7),
)


def whole(inner: Tokenizer, text: str) -> list[int]:
    return list(inner.encode(text, add_special_tokens=False).ids)


def made_small(patch: pytest.MonkeyPatch) -> None:
    """Pieces so small that short texts have many."""
    patch.setattr(long_texts, "_LEAST", 24)
    patch.setattr(long_texts, "_CHARACTERS", 1)
    patch.setattr(long_texts, "PIECE", 40)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    made_small(monkeypatch)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-encoder with BERT's tokenizer, special tokens around."""
    folder = write_cross_encoder(tmp_path_factory.mktemp("model") / "model")
    inner = bert()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    inner.save(str(folder / "tokenizer.json"))
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", config | {"vocab_size": inner.get_vocab_size()})
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer"})
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> ModelTokenizer:
    return ModelTokenizer(read_card(folder))


@pytest.fixture(scope="module")
def pairs(folder: Path, tokenizer: ModelTokenizer) -> PairTokenizer:
    card = read_card(folder)
    (head,) = (one for one in card.heads if isinstance(one, Scores))
    return PairTokenizer(card, head, tokenizer)


@pytest.mark.parametrize("kind", MADE)
@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(text=TEXTS, count=st.integers(1, 40))
@pytest.mark.usefixtures("small")
def test_pieces_have_the_tokens_of_the_whole(kind: str, text: str, count: int) -> None:
    inner = made(kind)
    expected, read = whole(inner, text), LongTexts(inner)
    assert read.all(text).tolist() == expected
    first, is_all = read.first(text, count)
    assert first.tolist() == expected[: len(first)] and (len(first) >= count or is_all)
    assert not is_all or len(first) == len(expected)
    last, is_all = read.last(text, count)
    assert last.tolist() == expected[len(expected) - len(last) :]
    assert (len(last) >= count or is_all) and (not is_all or len(last) == len(expected))


NORMAL = st.lists(PARTS, max_size=40).map(" ".join)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    texts=st.lists(NORMAL, min_size=1, max_size=3),
    prompt=st.sampled_from(["", "w0 ", "query: "]),
    limit=st.integers(5, 40),
    side=st.sampled_from(["left", "right"]),
    special=st.booleans(),
)
def test_a_tokenizer_cuts_long_texts_as_it_cuts_short_ones(
    monkeypatch: pytest.MonkeyPatch,
    tokenizer: ModelTokenizer,
    texts: list[str],
    prompt: str,
    limit: int,
    side: CutSide,
    special: bool,
) -> None:
    how = Cut(limit, side, special)
    try:
        expected = tokenizer.encode(texts, prompt=prompt, cut=how)
    except InputError:
        return
    with monkeypatch.context() as patch:
        patch.setattr(LongTexts, "most", staticmethod(lambda limit: 30))
        made_small(patch)
        found = tokenizer.encode(texts, prompt=prompt, cut=how)
        for one, exact in zip(found, expected, strict=True):
            assert one.ids.tolist() == exact.ids.tolist() and one.prompt == exact.prompt
            assert one.truncated == exact.truncated
            assert one.total == exact.total or (one.at_least and one.total < exact.total)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    pair=st.tuples(NORMAL, NORMAL),
    limit=st.integers(7, 40),
    side=st.sampled_from(["left", "right"]),
)
def test_pairs_are_cut_as_short_ones_are(
    monkeypatch: pytest.MonkeyPatch,
    pairs: PairTokenizer,
    pair: tuple[str, str],
    limit: int,
    side: CutSide,
) -> None:
    (expected,) = pairs.encode([pair], cut=Cut(limit, side))
    with monkeypatch.context() as patch:
        patch.setattr(LongTexts, "most", staticmethod(lambda limit: 30))
        made_small(patch)
        (found,) = pairs.encode([pair], cut=Cut(limit, side))
    assert found.ids.tolist() == expected.ids.tolist()
    assert found.types is not None and expected.types is not None
    assert found.types.tolist() == expected.types.tolist()
    assert found.truncated == expected.truncated


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(text=NORMAL, special=st.booleans())
def test_all_tokens_of_a_long_text_have_their_places(
    monkeypatch: pytest.MonkeyPatch, tokenizer: ModelTokenizer, text: str, special: bool
) -> None:
    expected = tokenizer.tokens(text, special=special)
    (spans,) = tokenizer.spans([text])
    bare = tokenizer.bare([text]) if len(spans) else []
    with monkeypatch.context() as patch:
        patch.setattr(tokenize, "PIECE", 30)
        made_small(patch)
        patch.setattr(tokenize, "_AT_ONCE", 4)
        assert tokenizer.tokens(text, special=special) == expected
        parts = list(tokenizer.token_parts(text, special=special))
        assert all(0 < len(part) <= 4 for part in parts if not part[0].is_special)
        assert tokenizer.spans([text])[0].tolist() == spans.tolist()
        if bare:
            assert tokenizer.bare([text])[0].tolist() == bare[0].tolist()


@pytest.mark.parametrize(
    "change",
    [
        lambda inner: setattr(inner, "pre_tokenizer", pre.UnicodeScripts()),
        lambda inner: setattr(inner, "pre_tokenizer", pre.Split(Regex(r"\d+"), "isolated")),
        lambda inner: setattr(inner, "pre_tokenizer", pre.Metaspace(split=False)),
        lambda inner: setattr(inner, "normalizer", normalizers.Replace(Regex("a b"), "c")),
        lambda inner: setattr(inner, "normalizer", normalizers.Replace(" ", "")),
        lambda inner: inner.add_tokens(["New York"]),
        lambda inner: setattr(inner, "model", models.BPE({"a": 0}, [], dropout=0.1)),
    ],
)
def test_no_cut_is_made_where_none_is_known_to_be_safe(change: Callable[[Any], None]) -> None:
    inner = unigram()
    assert Cuts(inner).pattern is not None
    change(inner)
    cuts = Cuts(inner)
    assert cuts.pattern is None
    assert list(cuts.pieces("the cat " * 100, 10)) == [Piece(0, 0, 800)]


def test_a_token_that_goes_across_a_space_forbids_cutting_there() -> None:
    inner = sentence_piece_bpe()
    plain = inner.get_vocab(with_added_tokens=False)
    for index in (len(plain), 9999):
        inner.model = models.BPE({**plain, "t\u2581": index}, [], unk_token="<unk>")
        assert Cuts(inner).pattern is None


HOSTILE = {
    "words": "the cat sat on the mat " * 130_000,
    "spaces": " " * 3_000_000,
    "one word": "a" * 3_000_000,
    "ideographs": "的" * 1_000_000,
    "emoji": "😀" * 750_000,
    "marks": "e" + "\u0301" * 1_500_000,
    "lines": "w1\n" * 1_000_000,
    "numbers": "1,22,333," * 330_000,
    "base64": "QUJD+REVG/" * 300_000,
}


class Counting:
    """A tokenizer that notes how many characters it is given."""

    def __init__(self, inner: Tokenizer) -> None:
        self._inner = inner
        self.characters = 0

    def encode_batch_fast(self, texts: list[str], **how: Any) -> list[tokenizers.Encoding]:
        self.characters += sum(map(len, texts))
        return self._inner.encode_batch_fast(texts, **how)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@pytest.mark.parametrize("side", ["first", "last"])
@pytest.mark.parametrize("hostile", HOSTILE)
def test_no_more_is_looked_at_than_the_model_reads(hostile: str, side: str) -> None:
    counting: Any = Counting(made("bert"))
    read = getattr(LongTexts(counting), side)
    read(HOSTILE[hostile], 512)
    assert counting.characters < 40_000


def test_pieces_of_megabytes_have_the_tokens_of_the_whole() -> None:
    text = HOSTILE["words"][:150_000]
    for kind in ("bert", "byte-level", "unigram", "sentencepiece bpe"):
        inner = made(kind)
        assert np.array_equal(LongTexts(inner).all(text), whole(inner, text))


def test_few_tokens_of_a_long_text_are_held_at_a_time(tmp_path: Path) -> None:
    folder = write_cross_encoder(tmp_path / "m")
    tokenizer = ModelTokenizer(read_card(folder))
    text = "w1 w2 w3 " * 30_000
    largest = count = 0
    for part in tokenizer.token_parts(text):
        largest, count = max(largest, len(part)), count + len(part)
    assert count == 90_002
    assert largest <= 1000
