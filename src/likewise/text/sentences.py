"""Passages of whole sentences, whose ends stay where they are when the text elsewhere is edited."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from likewise.text.passages import EVEN_THE_SHORTEST, Round, Tokens, cut, passages, require_sizes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from likewise.base.types import Chunk

PARAGRAPH, SENTENCE = 0, 1
"""How welcome an end is there."""

_BLANK = re.compile(r"\n[^\S\n]*\n\s*")
_ITEM = re.compile(r"\n(?=[^\S\n]*(?:[-*+•‣▪◦–|][^\S\n]|\(?(?:\d{1,3}|[A-Za-z])[.)][^\S\n]))")
_CLOSERS = "\"'”’»›)]}」』）】*_"
_MARKS = ".!?…‽؟۔।॥։።"
_SPACE = re.compile(rf"(?<=[{re.escape(_MARKS + _CLOSERS)}])\s+")
# These need no space after them.
_WIDE = re.compile(r"[。！？｡]+[”’」』）】\"]{0,4}\s*")
_WORD = re.compile(r"[^\W_]+(?:\.[^\W_]+)*\Z")
_BROKEN = re.compile(r"\n|[,;:—–]\s+|[、，；：]")
_LOOK_BACK = 32
"""Characters before an end that are looked at; an abbreviation is shorter."""

_NEVER = frozenset(
    "mr mrs ms mx dr prof st mt rev hon gov sen rep gen col lt sgt capt cpt maj adm messrs mme "
    "mlle e.g i.e eg ie cf viz vs v approx ca resp esp incl z.b d.h u.a bzw vgl bspw".split()
)
"""Words whose full stop ends no sentence."""
_BEFORE_NUMBERS = frozenset(
    "no nos nr p pp fig figs vol vols ch chap sec art eq eqs tab ver jan feb mar apr jun jul aug "
    "sep sept oct nov dec".split()
)
"""Words whose full stop ends no sentence where a number follows."""


def chunk_sentences(
    text: str, spans: npt.NDArray[np.int64], *, size: int, overlap: int, held: Sequence[int] = ()
) -> tuple[Chunk, ...]:
    """Passages of whole sentences of `text`, of at most `size` tokens.

    `spans` is int [n, 2]: the half-open character range of each token, in order. A passage ends
    after a paragraph, else after a sentence or an item of a list. A sentence of more than `size`
    tokens is cut after a line or a comma, else after a word. A passage repeats as many whole
    sentences of the one before as `overlap` tokens hold and `size` leaves room for. All tokens
    but white space are covered; a text without tokens has no passage. Passages end after the
    characters `held` too.

    Raises:
        SettingsError: `size` isn't positive, or `overlap` isn't between 0 and half of it.
    """
    require_sizes(size, overlap)
    tokens = Tokens(text, spans)
    if not tokens.count:
        return ()
    found = sentence_ends(text)
    ends = cut(tokens, sentence_rounds(tokens, found), size=size, held=held)
    return passages(tokens, ends, tokens.listed(found), size=size, overlap=overlap)


def sentence_rounds(tokens: Tokens, found: Mapping[int, int]) -> tuple[Round, ...]:
    """The rounds that cut after sentences, at `found`, and within one that is too long."""
    parts = {m.end(): int(m[0] != "\n") for m in _BROKEN.finditer(tokens.text)}
    return (
        Round(tokens.listed(found), (2, 4, 8, EVEN_THE_SHORTEST)),
        Round(tokens.listed(parts), (2, 4)),
    )


def sentence_ends(text: str) -> dict[int, int]:
    """Where the sentences and paragraphs of `text` end: the character after to how welcome."""
    found = {m.end(): SENTENCE for m in _WIDE.finditer(text)}
    for gap in _SPACE.finditer(text):
        if _is_end(text, gap.start(), gap.end()):
            found[gap.end()] = SENTENCE
    found.update({m.end(): SENTENCE for m in _ITEM.finditer(text)})
    found.update({m.end(): PARAGRAPH for m in _BLANK.finditer(text)})
    return found


def _is_end(text: str, end: int, after: int) -> bool:
    """Whether a sentence ends at `end`, where the next word begins at `after`."""
    before = text[max(end - _LOOK_BACK, 0) : end]
    bare = before.rstrip(_CLOSERS)
    following = text[after : after + 1]
    if not bare or bare[-1] not in _MARKS:
        return False
    if following.islower() and (len(bare) < len(before) or bare[-1] == "…" or bare[-2:] == ".."):
        return False  # "Why?" he asked; well... perhaps
    if bare[-1] != ".":
        return True
    return not _is_abbreviation(bare[:-1], following)


def _is_abbreviation(before: str, following: str) -> bool:
    """Whether the full stop after `before` belongs to its last word."""
    found = _WORD.search(before)
    if found is None:
        return False
    word = found[0]
    lower = word.lower()
    if lower in _NEVER or (lower in _BEFORE_NUMBERS and following[:1].isdigit()):
        return True
    if len(word) == 1 and word.isalpha():
        return True  # an initial, or the letter of an item
    if "." in word and word.replace(".", "").isalpha():
        return following.islower() or following.isdigit()  # U.S. law, 5 p.m. today
    # 1. Item: the number of an item stands where a sentence begins.
    if not word.isdigit() or len(word) > 3:
        return False
    line = before[: found.start()].rstrip(" \t")
    if not line or line[-1] == "\n":
        return True
    return line[-1] in _MARKS and not _is_abbreviation(line[:-1], word)
