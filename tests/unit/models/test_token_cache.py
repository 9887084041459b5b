"""What was read to be cut isn't read again to be embedded, and is the same as if it were."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from likewise.models import token_cache
from likewise.models.card import read_card
from likewise.models.token_cache import TokenCache
from likewise.models.tokenize import Cut, Tokenizer, _around

WORDS = ["A rocket flies to the moon.", "Boil the pasta, then salt it.", "née Müller 100 %"]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


def byte_level() -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    specials = ["<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=specials, show_progress=False
    )
    made.train_from_iterator(WORDS, trainer)
    made.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0))
    return made


def unigram() -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=60, special_tokens=["<unk>", "</s>"], unk_token="<unk>", show_progress=False
    )
    made.train_from_iterator(WORDS, trainer)
    made.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return made


KINDS: dict[str, Callable[[], tokenizers.Tokenizer]] = {
    "byte level": byte_level,
    "unigram": unigram,
}


@pytest.fixture(scope="module")
def real(model_folder: Path) -> Tokenizer:
    return Tokenizer(read_card(model_folder))


@pytest.mark.parametrize("kind", KINDS)
@given(texts=st.lists(TEXTS, max_size=4))
@example(texts=["", " ", "<s></s>", "</s> a"])
@settings(max_examples=100)
def test_texts_alone_are_what_they_are_between_special_tokens(kind: str, texts: list[str]) -> None:
    inner = _MADE.setdefault(kind, KINDS[kind]())
    head, tail = _around(inner)
    remembered = TokenCache(inner, head, tail, longest=1000)
    remembered.keep(texts, inner.encode_batch(texts, add_special_tokens=False))
    found = remembered.take(texts)
    assert found.keys() == set(texts)
    for text, ids in found.items():
        assert [*head, *ids, *tail] == inner.encode(text).ids


_MADE: dict[str, tokenizers.Tokenizer] = {}


@given(
    texts=st.lists(TEXTS | st.sampled_from(WORDS), min_size=1, max_size=5), special=st.booleans()
)
@example(texts=["[CLS] a [SEP]", "[MASK]", "a" * 300, "Ünïcödé\u0301 \u4f60\u597d"], special=True)
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_makes_no_difference(real: Tokenizer, texts: list[str], special: bool) -> None:
    texts = [f"{text} x" for text in texts]  # a text without tokens is refused in both cases
    cut = Cut(limit=20, special=special)
    fresh = real.encode(texts, cut=cut)
    real.spans(texts)
    again = real.encode(texts, cut=cut)
    for one, other in zip(fresh, again, strict=True):
        assert np.array_equal(one.ids, other.ids)
        assert (one.total, one.prompt) == (other.total, other.prompt)
        assert one.ids.dtype == other.ids.dtype == np.dtype(np.int32)


class Counting:
    """The library's tokenizer, and the texts it was given to read."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.read: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def encode(self, text: str, **options: Any) -> Any:
        self.read.append(text)
        return self._inner.encode(text, **options)

    def encode_batch_fast(self, texts: list[str], **options: Any) -> Any:
        self.read += texts
        return self._inner.encode_batch_fast(texts, **options)


def test_a_text_is_read_once_and_only_once_remembered(
    real: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = "word " * 400
    counting = Counting(real.inner)
    monkeypatch.setattr(real, "_inner", counting)
    real.spans([*WORDS, long])
    assert [each.total for each in real.encode([WORDS[0], "new", WORDS[1], WORDS[0]])]
    assert counting.read == ["new"]
    real.encode([*WORDS, long])
    assert counting.read == ["new", WORDS[0], WORDS[1], long], "a long one is cut, not embedded"
    counting.read.clear()
    real.spans(["a prompted text"])
    real.encode(["text"], prompt="a prompted ")
    assert "a prompted text" not in counting.read, "the whole is one text"


def test_not_too_many_are_remembered(real: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_cache, "_MOST", 10)
    for number in range(30):
        real.spans([f"text {number}"])
    assert len(vars(real._token_cache)["_kept"]) <= 10


def test_a_tokenizer_that_puts_something_else_around_a_text() -> None:
    inner = byte_level()
    _, tail = _around(inner)
    remembered = TokenCache(inner, np.array([7], np.int32), tail, longest=1000)
    remembered.keep(WORDS, inner.encode_batch(WORDS, add_special_tokens=False))
    assert remembered.take(WORDS) == {}
