"""Canonical text, templates and chunks: properties that hold for every text."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from likewise.base.errors import SettingsError
from likewise.text.canon import canonical, fingerprint
from likewise.text.chunk import chunk_tokens
from likewise.text.template import Template

ANY_TEXT = st.text(st.characters(codec=None))


@given(ANY_TEXT)
def test_canonical_is_stable_and_encodable(text: str) -> None:
    once = canonical(text)
    assert canonical(once) == once
    assert len(fingerprint(once)) == 32
    assert "\r" not in once


def test_canonical_examples() -> None:
    assert canonical("  a\r\nb\rc \n") == "a\nb\nc"
    assert canonical("x\ud800y") == "x\ufffdy"
    assert canonical("e\u0301") == "e\u0301"


def test_template() -> None:
    template = Template("{title}: {{x}} {body}{title}")
    assert template.columns == ("title", "body")
    assert template.render({"title": 1, "body": None}) == "1: {x} 1"
    assert Template("{b}").render({"b": b"h\xffi"}) == "h\ufffdi"
    assert Template("{first name}").columns == ("first name",)


@pytest.mark.parametrize("pattern", ["", "no column", "{", "{}", "{a!r}", "{a:>3}", "{a}}"])
def test_wrong_templates_are_refused(pattern: str) -> None:
    with pytest.raises(SettingsError):
        Template(pattern)


def test_the_overlap_begins_with_a_sentence() -> None:
    text = "aa bb. cc. dd ee ff gg"
    first, second = chunk_tokens(text, spans(text), size=6, overlap=3)
    assert text[first.start : first.end] == "aa bb. cc."
    assert text[second.start : second.end] == "cc. dd ee ff gg"


def test_no_passage_lies_within_the_one_before() -> None:
    text = "a. b c d"
    chunks = chunk_tokens(text, spans(text), size=3, overlap=1)
    assert [text[c.start : c.end] for c in chunks] == ["a.", "b c d"]
    text = "a b. c d e f g"
    chunks = chunk_tokens(text, spans(text), size=4, overlap=2)
    assert [text[c.start : c.end] for c in chunks] == ["a b.", "c d e f", "e f g"]


def spans(text: str) -> np.ndarray:
    found = [m.span() for m in re.finditer(r"\w+|[^\w\s]", text)]
    return np.array(found, dtype=np.int64).reshape(-1, 2)


@settings(max_examples=1000)
@given(
    st.text(alphabet="ab. \n!,", max_size=400),
    st.integers(1, 30),
    st.integers(0, 15),
    st.lists(st.integers(0, 400), max_size=9),
)
def test_chunks_cover_every_token_within_the_size(
    text: str, size: int, overlap: int, held: list[int]
) -> None:
    overlap = min(overlap, size // 2)
    tokens = spans(text)
    chunks = chunk_tokens(text, tokens, size=size, overlap=overlap, held=held)
    assert [c.ordinal for c in chunks] == list(range(len(chunks)))
    covered: set[int] = set()
    for chunk in chunks:
        inside = [
            i for i, (a, b) in enumerate(tokens.tolist()) if a >= chunk.start and b <= chunk.end
        ]
        assert 1 <= len(inside) <= size
        assert len(covered.intersection(inside)) <= overlap
        covered.update(inside)
    assert covered == set(range(len(tokens)))
    assert [c.end for c in chunks] == sorted({c.end for c in chunks})


def test_chunks_end_at_paragraphs_then_sentences() -> None:
    text = "one two three four. five six\n\nseven eight nine ten"
    first, second = chunk_tokens(text, spans(text), size=9, overlap=0)
    assert text[first.start : first.end] == "one two three four. five six"
    assert text[second.start : second.end] == "seven eight nine ten"
    text = "one two three. four five six"
    first, _ = chunk_tokens(text, spans(text), size=5, overlap=0)
    assert text[first.start : first.end] == "one two three."


def test_overlap_repeats_tokens() -> None:
    text = "a b c d e f g h"
    chunks = chunk_tokens(text, spans(text), size=4, overlap=2)
    assert [text[c.start : c.end] for c in chunks] == ["a b c d", "c d e f", "e f g h"]


def held_at(text: str, *, size: int, overlap: int) -> list[str]:
    """The passages of `text` where its bars are ends of before an edit."""
    parts = text.split("|")
    plain, ends = "".join(parts), [len("".join(parts[: n + 1])) for n in range(len(parts) - 1)]
    chunks = chunk_tokens(plain, spans(plain), size=size, overlap=overlap, held=ends)
    return [plain[c.start : c.end] for c in chunks]


def test_passages_end_where_they_ended_before() -> None:
    assert held_at("a b| c d e| f g h i", size=4, overlap=0) == ["a b", "c d e", "f g h i"]
    assert held_at("a b c| d", size=4, overlap=0) == ["a b c", "d"]


def test_a_passage_that_became_too_long_is_halved() -> None:
    """Rather than cut into a full one and a single word."""
    text = "a b c d e f g h i| j k l"
    assert held_at(text, size=8, overlap=0) == ["a b c d e", "f g h i", "j k l"]


def test_a_passage_that_became_too_long_repeats_less() -> None:
    text = "a b c d| e f g h i j k| l m"
    assert held_at(text, size=8, overlap=4) == ["a b c d", "d e f g h i j k", "h i j k l m"]


def test_empty_text_and_wrong_sizes() -> None:
    assert chunk_tokens("", spans(""), size=4, overlap=1) == ()
    for size, overlap in [(0, 0), (4, 3), (4, -1)]:
        with pytest.raises(SettingsError):
            chunk_tokens("a", spans("a"), size=size, overlap=overlap)
