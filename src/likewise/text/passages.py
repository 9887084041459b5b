"""Choosing where passages end by what stands there, so that an edit moves only the ends beside it.

Every place where a passage may end has a rank of its own: how welcome it is, then a hash of the few
characters around it. The places are taken in that order, and one becomes an end if the passage it
falls into is too long and both halves keep a least length. So whether a place is an end depends on
the text near it, not on how far the text before happens to reach.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from likewise.base.errors import SettingsError
from likewise.base.types import Chunk

if TYPE_CHECKING:
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]

Places = Callable[[int, int], Iterable[tuple[int, int]]]
"""The places between two token indices, both left out: (index of the token after, how welcome)."""

NEAR, FAR = 5, 64
"""Characters on either side that order two places: few, so that few edits change them; the second
number where the first doesn't tell them apart."""

EVEN_THE_SHORTEST = 1_000_000
"""A share of the size that is no more than a token."""


@dataclass(frozen=True, slots=True)
class Round:
    """Places that are tried before those of the next round, while a passage is too long."""

    places: Places
    shares: tuple[int, ...]
    """The least length of both halves as a part of the size, tried in turn: 2 is half of it."""


class Tokens:
    """A text and the characters that its tokens stand for.

    Tokenizers give spans without a character, and several for one character. Those without one
    count, but say nothing about where they are.
    """

    def __init__(self, text: str, spans: Ints) -> None:
        filled = spans[:, 1] > spans[:, 0]
        self.text = text
        self.count = len(spans)
        starts = np.where(filled, spans[:, 0], len(text))
        self.begins: Ints = np.minimum.accumulate(starts[::-1])[::-1]
        """Where each token or a later one begins: never falls."""
        self.ends: Ints = np.maximum.accumulate(np.where(filled, spans[:, 1], 0))
        """Where each token or an earlier one ends: never falls."""

    def at(self, position: int) -> int:
        """Index of the first token that reaches beyond the character `position`."""
        return int(self.ends.searchsorted(position, side="right"))

    def is_clean(self, index: int) -> bool:
        """Whether no character belongs to tokens on both sides of the place before `index`."""
        return bool(self.ends[index - 1] <= self.begins[index])

    def is_between_words(self, index: int) -> bool:
        """Whether white space stands at the place before `index`."""
        at = int(self.begins[index])
        return self.is_clean(index) and any(map(str.isspace, self.text[max(at - 1, 0) : at + 1]))

    def key(self, index: int) -> tuple[bytes, bytes, int]:
        """What orders the place before `index` among places as welcome: what stands around it."""
        at = int(self.begins[index])
        before = self.text[max(at - FAR, 0) : at].rstrip()
        after = self.text[at : at + FAR].lstrip()
        return (_hash(before[-NEAR:], after[:NEAR]), _hash(before, after), index)

    def inside(self, wanted: Callable[[int], bool]) -> Places:
        """All places that are `wanted`, each as welcome as the others."""
        return lambda low, high: ((at, 0) for at in range(low + 1, high) if wanted(at))

    def listed(self, welcome: Mapping[int, int]) -> Places:
        """The places in `welcome`: the character after to how welcome, 0 the most."""
        best: dict[int, int] = {}
        positions = np.fromiter(welcome, np.int64, len(welcome))
        found = self.ends.searchsorted(positions, side="right").tolist()
        for at, rank in zip(found, welcome.values(), strict=True):
            best[at] = min(rank, best.get(at, rank))
        order = sorted(at for at in best if 0 < at < self.count)

        def between(low: int, high: int) -> Iterable[tuple[int, int]]:
            inside = order[bisect_right(order, low) : bisect_left(order, high)]
            return ((at, best[at]) for at in inside)

        return between


def _hash(before: str, after: str) -> bytes:
    # Lone surrogates are text here, though no model reads them.
    both = f"{before}\0{after}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(both, digest_size=8).digest()


def require_sizes(size: int, overlap: int) -> None:
    """Refuse sizes that no passages can have.

    Raises:
        SettingsError: `size` isn't positive, or `overlap` isn't between 0 and half of it.
    """
    if size < 1 or not 0 <= overlap <= size // 2:
        raise SettingsError(
            f"chunks of {size} tokens overlapping by {overlap}: "
            "the size must be positive and the overlap at most half of it",
            param="chunk",
        )


def cut(
    tokens: Tokens,
    rounds: Sequence[Round],
    *,
    size: int,
    fixed: Iterable[int] = (),
    held: Iterable[int] = (),
) -> list[int]:
    """Where passages begin and end: token indices from 0 to their count, each at most `size` apart.

    `fixed` are places that are ends in any case, and so is what follows the characters `held`. What
    no round can cut is cut between words, then between characters, then between any two tokens.
    """
    last = (
        Round(tokens.inside(tokens.is_between_words), (2, 4, EVEN_THE_SHORTEST)),
        Round(tokens.inside(tokens.is_clean), (2, EVEN_THE_SHORTEST)),
        Round(tokens.inside(lambda _: True), (2,)),
    )
    given = {*fixed, *(tokens.at(position) for position in held)}
    ends = sorted({0, tokens.count, *(at for at in given if 0 < at < tokens.count)})
    for each in (*rounds, *last):
        long = [(low, high) for low, high in pairwise(ends) if high - low > size]
        if not long:
            break
        found = [
            (welcome, *tokens.key(at))
            for low, high in long
            for at, welcome in each.places(low, high)
        ]
        found.sort()
        for share in each.shares:
            _take([at for *_, at in found], ends, size, -(-size // share))
    return ends


def _take(places: Sequence[int], ends: list[int], size: int, least: int) -> None:
    """Add to `ends` each of `places`, in their order, that cuts what is longer than `size`."""
    for place in places:
        at = bisect_left(ends, place)
        low, high = ends[at - 1], ends[at]
        if high - low > size and place - low >= least and high - place >= least:
            ends.insert(at, place)


def passages(
    tokens: Tokens,
    ends: Sequence[int],
    starts: Places,
    *,
    size: int,
    overlap: int,
    fixed: Iterable[int] = (),
) -> tuple[Chunk, ...]:
    """The passages between `ends`, each begun up to `overlap` tokens early, at one of `starts`.

    The overlap is what `size` leaves room for and doesn't reach over one of `fixed`. A passage that
    doesn't begin at one of `starts` may begin early between any two words. White space at both ends
    of a passage is left out, and so is a passage that adds no character to the one before.
    """
    closed = set(fixed)
    made: list[Chunk] = []
    before = reach = 0
    for low, high in pairwise(ends):
        first = low
        if low not in closed and low > 0:
            first = _begin(tokens, starts, max(low - overlap, high - size, before + 1), low)
        before = first
        start, end = _trimmed(tokens, first, high)
        if start < end and end > reach:
            made.append(Chunk(len(made), start, end))
            reach = end
    return tuple(made)


def _begin(tokens: Tokens, starts: Places, earliest: int, latest: int) -> int:
    """Index of a passage's first token: from `earliest` to `latest`."""
    if earliest >= latest:
        return latest
    whole = [at for at, _ in starts(earliest - 1, latest + 1)]
    if not whole:
        whole = [at for at in range(earliest, latest) if tokens.is_between_words(at)]
    return whole[0] if whole else latest


def _trimmed(tokens: Tokens, first: int, last: int) -> tuple[int, int]:
    """The characters of tokens `first` to `last`, without white space at both ends."""
    start, end = int(tokens.begins[first]), int(tokens.ends[last - 1])
    part = tokens.text[start:end]
    return start + len(part) - len(part.lstrip()), end - len(part) + len(part.rstrip())
