"""The ends that an edited text may keep: those of passages that read as they did before.

Where a passage ends hangs on the text around it, so most edits move no end but those beside them.
When one moves more, the ends away from it are held where they are, and what lies between is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Span = tuple[int, int]
"""Characters from the first, and up to the second."""

_A_PASSAGE = 4
"""What has less than this part of the longest passage is too little for one of its own."""


def held_ends(
    text: str, stored: Sequence[Span], *, grown: int, is_same: Callable[[Span], bool]
) -> list[int]:
    """Characters of `text` after which a passage may go on to end.

    `stored` are the passages of the text before the edit, in order, which has `grown` by so many
    characters; `is_same` says whether characters of `text` read as a passage did before.
    """
    count = len(stored)
    ahead = 0
    while ahead < count and is_same(stored[ahead]):
        ahead += 1
    last = count
    while last > ahead and is_same(moved(stored[last - 1], grown)):
        last -= 1
    ends = [end for _, end in stored[:ahead]]
    reach = ends[-1] if ends else 0
    begins = [_begin(stored, at) + grown for at in range(last, count)]
    # Of a text that repeats itself a passage may be found on both sides.
    begins = [at for at in begins if at >= reach]
    if last - ahead == 2 and stored[ahead + 1][0] < stored[ahead][1]:
        # The edit is in what one passage repeats of the other.
        return sorted([*ends, stored[ahead][1] + grown, *begins])
    between = text[reach : begins[0] if begins else len(text)].strip()
    if between and len(between) * _A_PASSAGE < max(end - start for start, end in stored):
        ends, begins = ends[:-1], begins if ends else begins[1:]
    return [*ends, *begins]


def moved(span: Span, by: int) -> Span:
    """`span`, so many characters later."""
    return span[0] + by, span[1] + by


def _begin(stored: Sequence[Span], at: int) -> int:
    """Where passage `at` begins, without what it repeats of the one before."""
    return max(stored[at][0], stored[at - 1][1] if at else 0)
