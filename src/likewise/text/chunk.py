"""Cutting a text into passages of at most so many tokens, at natural ends where there are any."""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import TYPE_CHECKING

from likewise.base.types import Chunk
from likewise.text.passages import require_sizes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

# From the most to the least welcome place to cut; a cut falls right after the match.
_ENDS = (
    re.compile(r"\n\s*\n"),
    re.compile(r"[.!?…。！？][\"')\]”’]*\s+|[。！？]|\n"),
)


def chunk_tokens(
    text: str, spans: npt.NDArray[np.int64], *, size: int, overlap: int, held: Sequence[int] = ()
) -> tuple[Chunk, ...]:
    """Passages of `text` of at most `size` tokens, which begin up to `overlap` tokens early.

    `spans` is int [n, 2]: the half-open character range of each token, in order. A passage ends
    after a paragraph, else after a sentence or line, else after a token, looking no further back
    than half its size; the overlap begins where a sentence or line does, if one does in it. All
    tokens are covered; a text without tokens has no passage. Passages end after the characters
    `held` too; an overlap is shorter where the passage would be too long for that.

    Raises:
        SettingsError: `size` isn't positive, or `overlap` isn't between 0 and half of it.
    """
    require_sizes(size, overlap)
    count = len(spans)
    # The tokens before which a passage ends in any case.
    stops = sorted({count, *spans[:, 1].searchsorted(list(held), side="right").tolist()} - {0})
    chunks: list[Chunk] = []
    first = last = 0
    while first < count:
        # Past the passage before, or the overlap alone could make one that says nothing new.
        stop = stops[bisect_right(stops, last)]
        least, limit = max(first + (size + 1) // 2, last + 1), first + size
        if len(stops) > 1 and stop - first < 2 * size - overlap:
            # Two passages of about one length, instead of a full one and a few words.
            limit = min(limit, first + (stop - first + overlap) // 2 + size // 8)
        last = stop if first + size >= stop else _cut(text, spans, least, limit)
        start, end = int(spans[first, 0]), int(spans[last - 1, 1])
        chunks.append(Chunk(len(chunks), start, max(end, start)))
        if last == count:
            break
        earliest = max(last - overlap, first + 1)
        if len(stops) > 1 and (late := stops[bisect_right(stops, last)] - size) <= last:
            earliest = max(earliest, late)
        first = _begin(text, spans, earliest, last)
    return tuple(chunks)


def _begin(text: str, spans: npt.NDArray[np.int64], earliest: int, latest: int) -> int:
    """Index of a passage's first token: from `earliest` to `latest`."""
    low, high = int(spans[earliest - 1, 0]), int(spans[latest, 0])
    starts = [m.end() for pattern in _ENDS for m in pattern.finditer(text, low, high)]
    if not starts:
        return earliest
    at = int(spans[:, 0].searchsorted(min(starts), side="left"))
    return min(max(at, earliest), latest)


def _cut(text: str, spans: npt.NDArray[np.int64], least: int, limit: int) -> int:
    """Index after the passage's last token: from `least` to `limit`."""
    low, high = int(spans[least - 1, 0]), int(spans[limit, 0])
    for pattern in _ENDS:
        best = None
        for match in pattern.finditer(text, low, high):
            best = match.end()
        if best is not None:
            # The last token that ends by then; searchsorted needs ends in order, which they are.
            cut = int(spans[:, 1].searchsorted(best, side="right"))
            if least <= cut <= limit:
                return cut
    return limit
