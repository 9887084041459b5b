"""Estimated tokens: where they lie, what they cost, and that real ones are hardly ever more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from likewise.base.chunking import parse_chunking
from likewise.text.split import splitter
from likewise.text.words import MOST_OVER, estimated_spans, estimated_tokens

PROSE = {
    "German": "Die Donaudampfschiffe werden jährlich überprüft, sämtliche Vorkehrungen auch. ",
    "Polish": "Szybki brązowy lis przeskakuje nad leniwym psem, a badacze patrzą. ",
    "Finnish": "Nopea ruskea kettu hyppää laiskan koiran yli, ja tutkijat katsovat. ",
    "Russian": "Быстрая коричневая лиса перепрыгивает через ленивую собаку. ",
    "Greek": "Η γρήγορη καφετιά αλεπού πηδάει πάνω από το τεμπέλικο σκυλί. ",
    "Arabic": "الثعلب البني السريع يقفز فوق الكلب الكسول بينما يدرس الباحثون. ",
    "Chinese": "敏捷的棕色狐狸跳过懒狗,研究人员仔细研究系统的性能。",
    "Korean": "빠른 갈색 여우가 게으른 개를 뛰어넘고 연구자들은 조사한다. ",
    "digests": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 ",
    "tables": "7919.31 15838.62 2024-11-26;3,14;-0.5e-3\n",
}


@given(st.text())
@example("\u3000a\u2003b\u2028")  # spaces among the signs and the kana
def test_all_that_can_be_seen_is_covered_in_order(text: str) -> None:
    (spans,) = estimated_spans([text])
    assert spans.dtype == np.int64 and spans.shape == (estimated_tokens(text), 2)
    assert (spans[:, 0] < spans[:, 1]).all()
    assert (np.diff(spans, axis=0) >= 0).all()
    covered = {at for start, end in spans for at in range(start, end)}
    assert covered == {at for at, letter in enumerate(text) if not letter.isspace()}


@given(st.text(), st.text())
def test_a_text_costs_what_its_parts_do(one: str, other: str) -> None:
    assert estimated_tokens(f"{one} {other}") == estimated_tokens(one) + estimated_tokens(other)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        (" \n\t", 0),
        ("the", 1),
        ("then", 2),
        ("2024", 2),
        ("don't", 3),
        ("naïve", 3),
        ("лиса", 4),
        ("カナ", 2),
        ("漢字", 4),
        ("한글", 4),
        ("ไทย", 6),
        ("→", 2),
        ("😀", 3),
    ],
)
def test_prices(text: str, tokens: int) -> None:
    assert estimated_tokens(text) == tokens


@given(st.text(st.sampled_from("ab 漢字.\n😀é1"), max_size=400), st.integers(1, 40))
def test_passages_are_of_the_size_that_is_asked_for(text: str, size: int) -> None:
    cut = splitter(f"tokens:{size}/0", estimated_spans, room=size, model="m")
    (passages,) = cut([text])
    assert parse_chunking(cut.name).size == size
    spans = estimated_spans([text])[0]
    for each in passages:
        within = (spans[:, 0] >= each.start) & (spans[:, 1] <= each.end)
        # A character of several tokens isn't cut into: it may be in two passages.
        assert within.sum() <= size + 4


@pytest.mark.model
def test_a_real_tokenizer_makes_hardly_more(model_folder: Path, repo: Path) -> None:
    from tokenizers import Tokenizer

    real = Tokenizer.from_file(str(model_folder / "tokenizer.json"))
    real.no_truncation()
    texts = {path.name: path.read_text(encoding="utf-8") for path in (repo / "docs").glob("*.md")}
    texts |= {name: words * 20 for name, words in PROSE.items()}
    for name, text in texts.items():
        (passages,) = splitter("tokens:128/0", estimated_spans, room=128, model="m")([text])
        for each in passages:
            passage = text[each.start : each.end]
            found = len(real.encode(passage, add_special_tokens=False).ids)
            assert found <= MOST_OVER * 128, (name, passage)
