"""Passages that stay under one heading: Markdown, reStructuredText, numbered headings."""

from __future__ import annotations

import re
from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING

from likewise.text.passages import Tokens, cut, passages, require_sizes
from likewise.text.sentences import sentence_ends, sentence_rounds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    import numpy.typing as npt

    from likewise.base.types import Chunk

_ATX = re.compile(r"#{1,6}(?:[ \t]|\Z)")
_FENCE = re.compile(r"\s*(`{3,}|~{3,})")
_LINE = re.compile(r"([=\-~^\"'`#*+:.<>_])\1{2,}[ \t]*\Z")
_NOT_A_TITLE = re.compile(r"\s|[-*+>|][ \t|]|\Z")
_NUMBERED = re.compile(r"\d{1,3}(?:\.\d{1,3})+\.?[ \t]+[^\W\d_].{0,78}(?<![.!?:;,])\Z")


def chunk_headings(
    text: str, spans: npt.NDArray[np.int64], *, size: int, overlap: int, held: Sequence[int] = ()
) -> tuple[Chunk, ...]:
    """Passages of `text` of at most `size` tokens, none of which reaches over a heading.

    `spans` is int [n, 2]: the half-open character range of each token, in order. A passage begins
    at each heading of any level; headings with nothing between them begin one together. What
    stands under a heading is cut as `chunk_sentences` does where it is too long; no overlap reaches
    over a heading. All tokens but white space are covered; a text without tokens has no passage.
    Passages end after the characters `held` too.

    Raises:
        SettingsError: `size` isn't positive, or `overlap` isn't between 0 and half of it.
    """
    require_sizes(size, overlap)
    tokens = Tokens(text, spans)
    if not tokens.count:
        return ()
    titles = list(headings(text))
    starts = [start for start, _ in titles]

    def in_title(at: int) -> bool:
        near = bisect_right(starts, at) - 1
        return near >= 0 and starts[near] < at <= titles[near][1]

    # A heading stays with what follows it, whatever full stops are in it.
    found = {at: rank for at, rank in sentence_ends(text).items() if not in_title(at)}
    fixed = [tokens.at(start) for start in starts]
    ends = cut(tokens, sentence_rounds(tokens, found), size=size, fixed=fixed, held=held)
    return passages(tokens, ends, tokens.listed(found), size=size, overlap=overlap, fixed=fixed)


def headings(text: str) -> Iterator[tuple[int, int]]:
    """The characters of each heading of `text`, up to what stands under it.

    Headings with only white space between them are one.
    """
    lines = text.split("\n")
    starts = [0, *accumulate(len(line) + 1 for line in lines)]
    begun: int | None = None
    for first, last in _heading_lines(lines):
        body = last
        while body < len(lines) and not lines[body].strip():
            body += 1
        if begun is None:
            begun = first
        if not _is_heading_at(lines, body):
            yield starts[begun], min(starts[body], len(text))
            begun = None
    if begun is not None:
        yield starts[begun], len(text)


def _heading_lines(lines: Sequence[str]) -> Iterator[tuple[int, int]]:
    """First line and the line after the last of each heading."""
    at, fence = _after_front_matter(lines), ""
    while at < len(lines):
        opens = _FENCE.match(lines[at])
        height = 0
        if fence:
            if opens and opens[1].startswith(fence) and not lines[at].strip(" \t`~"):
                fence = ""
        elif height := _height(lines, at):
            yield at, at + height
        elif opens:
            fence = opens[1]
        at += height or 1


def _is_heading_at(lines: Sequence[str], at: int) -> bool:
    """Whether a heading begins at line `at`, which follows a heading and so is in no fence."""
    return at < len(lines) and _height(lines, at) > 0


def _height(lines: Sequence[str], at: int) -> int:
    """How many lines the heading at line `at` has; 0 where there is none."""
    line = lines[at]
    if _ATX.match(line):
        return 1
    below, second = (lines[n] if n < len(lines) else "" for n in (at + 1, at + 2))
    over, under = _LINE.match(line), _LINE.match(below)
    if over:
        framed = over[1] not in "`~" and line.rstrip() == second.rstrip()
        return 3 if framed and below.strip() and not under else 0
    if at and lines[at - 1].strip() and not _LINE.match(lines[at - 1]):
        return 0  # within a paragraph
    if under and not _NOT_A_TITLE.match(line) and not _FENCE.match(line):
        # Markdown knows only these two, but takes any length of them.
        wide = len(below.rstrip()) >= len(line.rstrip())
        return 2 if under[1] in "=-" or wide else 0
    return 1 if not below.strip() and _NUMBERED.match(line) else 0


def _after_front_matter(lines: Sequence[str]) -> int:
    """The line after the settings between `---` that a file may begin with."""
    if lines[0].rstrip() != "---":
        return 0
    for at, line in enumerate(lines[1:], 1):
        if line.rstrip() in ("---", "..."):
            return at + 1
    return 0
