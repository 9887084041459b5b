"""The chunks of one document as a model reads them together, each keeping its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from likewise.base.errors import InputError
from likewise.models.tokenize import Encoded

if TYPE_CHECKING:
    from likewise.models.tokenize import Cut, Ids, Tokenizer


@dataclass(frozen=True, slots=True)
class Window:
    """Chunks that are read in one pass."""

    first: int
    """Which chunk of the document comes first."""
    chunks: tuple[Encoded, ...]
    """What each adds to the window: the first also what stands before, the last what stands after.
    """
    spans: tuple[tuple[int, int], ...]
    """Where each chunk's own tokens lie in `ids`, half open."""

    @property
    def ids(self) -> Ids:
        """The tokens of the window, end to end."""
        return np.concatenate([one.ids for one in self.chunks])


def windows(
    tokenizer: Tokenizer, chunks: Sequence[Ids], prompt: str, cut: Cut | None = None
) -> list[Window]:
    """`chunks` end to end between the special tokens, after `prompt`, in one window or in few.

    A window has whole chunks only; one that is longer than a window is cut, and has its own.

    Raises:
        InputError: the prompt can't be read, or leaves no room for a chunk.
    """
    before, after = tokenizer.around(prompt)
    limit, side = tokenizer.limits(cut)
    room = limit - len(before) - len(after)
    if room < 1:
        raise InputError(
            f"special tokens and prompt take {len(before) + len(after)} tokens; at most {limit} "
            "are read, which leaves no room for a chunk",
            param="prompt",
        )
    made: list[Window] = []
    held: list[Encoded] = []
    taken = 0
    for index, ids in enumerate(chunks):
        kept = ids[-room:] if side == "left" else ids[:room]
        if held and taken + len(kept) > room:
            made.append(_window(index - len(held), held, before, after))
            held, taken = [], 0
        held.append(Encoded(kept, len(ids)))
        taken += len(kept)
    if held:
        made.append(_window(len(chunks) - len(held), held, before, after))
    return made


def _window(first: int, chunks: Sequence[Encoded], before: Ids, after: Ids) -> Window:
    spans, framed, at = [], [], len(before)
    for place, one in enumerate(chunks):
        spans.append((at, at + len(one.ids)))
        at += len(one.ids)
        parts = [one.ids]
        if place == 0:
            parts.insert(0, before)
        if place == len(chunks) - 1:
            parts.append(after)
        ids = np.concatenate(parts)
        framed.append(Encoded(ids, len(ids) + one.total - len(one.ids)))
    return Window(first, tuple(framed), tuple(spans))
