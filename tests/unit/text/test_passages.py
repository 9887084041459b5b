"""What holds of every way to cut a text, whatever the text and its tokens are."""

import hashlib
import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from likewise.base.chunking import WAYS
from likewise.base.errors import SettingsError
from likewise.base.types import Chunk
from likewise.text.split import CUTTERS

REAL = """Dr. A. Smith asked: "Why?" Nobody, e.g. of the U.S., knew (yet).

- one item, which goes on
  in a second line
- another

def one(x):
    if x:
        return {1: 2}

    return [
        3,
    ]


# What follows is two.
@decorated
def two(): pass
"""
NEW = tuple(way for way in WAYS if way != "tokens")
PIECES = st.sampled_from(
    ["a", "Bc", "dd", "3.", "A.", "e.g.", "…", "?", "!", "。", ",", "(", ")", "{", "}", "#", "##"]
    + ["```", "===", "---", "*", "- ", "@x", "//", "def ", "end", " ", "  ", "\t", "\n", "\n\n"]
    + ["\u2028", "é", "水", "🙂", "\ud800", "\0", "x" * 30]
)
TEXTS = (
    st.lists(PIECES, max_size=120).map("".join)
    # Long ones too: what is drawn freely is mostly shorter than a passage.
    | st.lists(PIECES, min_size=60, max_size=120).map("".join)
    | st.text("aaabb   ,.", min_size=150, max_size=300)
    | st.text(st.characters(codec=None))
)


def words(text: str) -> np.ndarray:
    """Tokens as most tokenizers make them: words and marks, no white space."""
    found = [m.span() for m in re.finditer(r"\w+|[^\w\s]", text)]
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def spaced(text: str) -> np.ndarray:
    """Tokens that take the space before them, as those of byte-level models."""
    found = [m.span() for m in re.finditer(r" ?\w+| ?[^\w\s]+\n*|\s+", text)]
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def characters(text: str) -> np.ndarray:
    """A token a byte: several for one character."""
    found = [
        (at, at + 1) for at, each in enumerate(text) for _ in each.encode("utf-8", "surrogatepass")
    ]
    return np.array(found, dtype=np.int64).reshape(-1, 2)


@pytest.mark.parametrize("tokens", [words, spaced], ids=["words", "spaced"])
@pytest.mark.parametrize("way", NEW)
@settings(max_examples=200, deadline=None)
@given(TEXTS, st.integers(1, 30), st.integers(0, 15), st.lists(st.integers(0, 300), max_size=9))
def test_every_token_is_in_a_passage_of_the_size(
    way: str,
    tokens: Callable[[str], np.ndarray],
    text: str,
    size: int,
    overlap: int,
    held: list[int],
) -> None:
    overlap = min(overlap, size // 2)
    spans = tokens(text)
    chunks = CUTTERS[way](text, spans, size=size, overlap=overlap, held=held)
    assert_in_order(text, chunks)
    # White space at the ends of a passage is left out, also where it is part of a token.
    bare = [bounds(text, a, b) for a, b in spans.tolist() if text[a:b].strip()]
    covered: set[int] = set()
    reach = 0
    for chunk in chunks:
        inside = [i for i, (a, b) in enumerate(bare) if a >= chunk.start and b <= chunk.end]
        assert 1 <= len(inside) <= size
        # Of the tokens that the passages before have, at most `overlap`, and never all.
        assert sum(i < reach for i in inside) <= overlap
        reach = max(inside) + 1
        covered.update(inside)
    assert covered == set(range(len(bare)))
    assert chunks == CUTTERS[way](text, spans, size=size, overlap=overlap, held=held)


def bounds(text: str, start: int, end: int) -> tuple[int, int]:
    part = text[start:end]
    return start + len(part) - len(part.lstrip()), end - len(part) + len(part.rstrip())


def assert_in_order(text: str, chunks: tuple[Chunk, ...]) -> None:
    assert [chunk.ordinal for chunk in chunks] == list(range(len(chunks)))
    assert all(0 <= chunk.start < chunk.end <= len(text) for chunk in chunks)
    assert [chunk.end for chunk in chunks] == sorted({chunk.end for chunk in chunks})
    assert [chunk.start for chunk in chunks] == sorted(chunk.start for chunk in chunks)


@pytest.mark.parametrize("way", NEW)
@settings(max_examples=200, deadline=None)
@given(TEXTS, st.integers(1, 12), st.integers(0, 6))
def test_a_character_of_several_tokens(way: str, text: str, size: int, overlap: int) -> None:
    chunks = CUTTERS[way](text, characters(text), size=size, overlap=min(overlap, size // 2))
    assert_in_order(text, chunks)
    seen = {at for chunk in chunks for at in range(chunk.start, chunk.end)}
    assert all(at in seen or each.isspace() for at, each in enumerate(text))
    for chunk in chunks:
        length = len(text[chunk.start : chunk.end].encode("utf-8", "surrogatepass"))
        # One that doesn't fit isn't torn, so it may stand at both ends of a passage.
        assert length <= max(size, 4) + 3


@pytest.mark.parametrize("way", NEW)
@settings(max_examples=300, deadline=None)
@given(st.data(), st.text("ab. \n", max_size=40), st.integers(1, 9), st.integers(0, 4))
def test_spans_of_any_kind(way: str, data: Any, text: str, size: int, overlap: int) -> None:
    at = st.integers(0, len(text))
    found = data.draw(st.lists(st.tuples(at, at).map(sorted), max_size=60))
    spans = np.array(sorted(found), dtype=np.int64).reshape(-1, 2)
    chunks = CUTTERS[way](text, spans, size=size, overlap=min(overlap, size // 2))
    assert_in_order(text, chunks)
    seen = {at for chunk in chunks for at in range(chunk.start, chunk.end)}
    for start, end in found:
        assert all(at in seen or text[at].isspace() for at in range(start, end))


@pytest.mark.parametrize("way", WAYS)
def test_empty_text_and_wrong_sizes(way: str) -> None:
    assert CUTTERS[way]("", words(""), size=4, overlap=1) == ()
    assert CUTTERS[way](" \n ", words(" \n "), size=4, overlap=1) == ()
    for size, overlap in [(0, 0), (4, 3), (4, -1)]:
        with pytest.raises(SettingsError):
            CUTTERS[way]("a", words("a"), size=size, overlap=overlap)


@pytest.mark.parametrize("way", NEW)
def test_a_short_text_is_one_passage(way: str) -> None:
    text = "  one.\n\nTwo.\n"
    assert CUTTERS[way](text, words(text), size=6, overlap=2) == (Chunk(0, 2, 12),)


CUT_BEFORE = {
    "tokens": "de71cbe8516d1110",
    "sentences": "244b232dcf0bd6b8",
    "headings": "43f93fd28b2ce328",
    "code": "a4b71a8857f88c40",
}
"""What stored bindings were cut by: a change of it embeds every long text of everybody anew."""


@pytest.mark.parametrize("way", WAYS)
def test_the_cuts_are_those_of_before(way: str) -> None:
    text = f"# One\n\n{sentences(7, 120)}\n# Two\n\n{' '.join(some_words(8, 300))}\n\n{REAL}"
    cuts = CUTTERS[way](text, words(text), size=24, overlap=4)
    assert (
        hashlib.sha256(repr([(c.start, c.end) for c in cuts]).encode()).hexdigest()[:16]
        == CUT_BEFORE[way]
    )


def test_each_way_cuts_in_a_way_of_its_own() -> None:
    assert tuple(CUTTERS) == WAYS
    assert len(set(CUTTERS.values())) == len(WAYS)


def texts_of(way: str, text: str, size: int = 20, overlap: int = 0) -> list[str]:
    chunks = CUTTERS[way](text, words(text), size=size, overlap=overlap)
    return [text[chunk.start : chunk.end] for chunk in chunks]


def some_words(seed: int, count: int) -> list[str]:
    """Words that look random and are the same in every run."""
    return [
        hashlib.sha256(f"{seed}/{at}".encode()).hexdigest()[:5].translate(_LETTERS)
        for at in range(count)
    ]


_LETTERS = str.maketrans("0123456789", "ghijklmnop")


def sentences(seed: int, count: int) -> str:
    """Sentences of 3 to 12 words, some of which end a paragraph."""
    made = []
    for at in range(count):
        digest = hashlib.sha256(f"{seed} {at}".encode()).digest()
        line = " ".join(some_words(seed * 1000 + at, 3 + digest[0] % 10)).capitalize()
        made.append(line + (".\n\n" if digest[1] < 50 else ". "))
    return "".join(made)


@pytest.mark.parametrize("way", NEW)
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 50), st.floats(0, 1), st.sampled_from(["insert", "delete", "replace"]))
@example(seed=0, where=0.0, kind="insert")
@example(seed=0, where=1.0, kind="delete")
def test_an_edited_word_leaves_the_passages_away_from_it(
    way: str, seed: int, where: float, kind: str
) -> None:
    text = sentences(seed, 150)
    found = list(re.finditer(r"\w+", text))
    word = found[min(int(where * len(found)), len(found) - 1)]
    new = {"insert": f"new {word[0]}", "delete": "", "replace": "new"}[kind]
    edited = text[: word.start()] + new + text[word.end() :]
    before, after = texts_of(way, text, overlap=5), texts_of(way, edited, overlap=5)
    assert len(before) > 80
    same_head = next(n for n, (a, b) in enumerate(zip(before, after, strict=False)) if a != b)
    tail = zip(before[::-1], after[::-1], strict=False)
    same_tail = next(n for n, (a, b) in enumerate(tail) if a != b)
    # What changed is together, and no more than a few passages wide.
    assert len(after) - same_head - same_tail <= 8


@pytest.mark.parametrize("way", NEW)
def test_most_edits_change_one_passage(way: str) -> None:
    text = sentences(3, 150)
    if way == "code":
        text = text.replace(". ", ".\n")
    before = set(texts_of(way, text))
    found = list(re.finditer(r"\w+", text))
    changed = [
        len(set(texts_of(way, text[: word.start()] + "new" + text[word.end() :])) - before)
        for word in found[::8]
    ]
    assert len(changed) > 100
    assert sum(changed) <= 1.4 * len(changed)
    assert sum(count <= 2 for count in changed) >= 0.93 * len(changed)


@pytest.mark.parametrize("way", NEW)
def test_text_without_any_end_is_cut_by_what_stands_there(way: str) -> None:
    for text in (" ".join(some_words(1, 2000)), "".join(some_words(2, 400))):
        tokens = words if " " in text else characters
        edited = text[:400] + "zz" + text[400:]
        before, after = (
            {each[c.start : c.end] for c in CUTTERS[way](each, tokens(each), size=20, overlap=0)}
            for each in (text, edited)
        )
        assert len(before) > 99 and len(after - before) <= 4


REPEATED = [
    "# a\nbb.\n",
    "aa. ",
    "a b c\n",
    "a\n\n",
    "# a\n",
    "}\n",
    "x",
    ".",
    "\n",
    " ",
    "=\n",
    "```\n",
    "a, ",
]


@pytest.mark.parametrize("way", NEW)
@pytest.mark.parametrize("unit", [*REPEATED, "The end of it. "], ids=repr)
def test_ten_times_the_text_is_about_ten_times_the_work(way: str, unit: str) -> None:
    few, many = (calls(way, unit * (n // len(unit))) for n in (3_000, 30_000))
    assert many <= 13 * few + 1000


def calls(way: str, text: str) -> int:
    """How many calls of functions, built-in ones too, cutting `text` takes."""
    spans = words(text)
    count = 0

    def counted(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(counted)
    try:
        CUTTERS[way](text, spans, size=128, overlap=16)
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("way", NEW)
def test_a_long_text_of_one_kind_is_cut(way: str) -> None:
    """Patterns that begin anew at each character of a run wouldn't end within hours."""
    for unit in REPEATED:
        text = unit * (100_000 // len(unit))
        spans = np.array([[0, 1], [len(text) - 1, len(text)]], dtype=np.int64)
        chunks = CUTTERS[way](text, spans, size=1, overlap=0)
        assert len(chunks) <= 2
