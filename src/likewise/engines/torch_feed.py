"""A packed batch as torch takes it: one array of whole numbers, so that one copy brings it over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

    from likewise.engines.batch import Ints, PackedBatch


@dataclass(frozen=True, slots=True)
class Group:
    """Texts of like length, side by side in a rectangle where attention needs one."""

    texts: int
    length: int
    """Slots of each text."""
    first_slot: int
    first_text: int
    """Where they begin among all rectangles' slots and texts."""
    is_full: bool
    """Every slot holds a token that the others look at."""
    is_expanded: bool = False
    """Some tokens look at others but aren't looked at (`PackedBatch.attended`)."""


@dataclass(frozen=True, slots=True)
class Feed:
    """A batch; T tokens and B texts, which may be more than the batch has (see `of`)."""

    numbers: Ints
    """All arrays end to end."""
    parts: Mapping[str, tuple[int, int]]
    """Where each lies in `numbers`:

    ids, positions, types [T] as in the batch; texts [T], the text of each token; cumulative
    [B + 2], where each text begins, then the tokens that belong to none, then T; first, last,
    begin (the first after the prompt), prompts, attended [B]; slots, the token in each slot of
    the rectangles; back [T], each token's slot; lengths, of each rectangle's texts, without what
    isn't looked at.
    """
    groups: tuple[Group, ...]
    longest: int
    tokens: int
    texts: int
    is_expanded: bool

    @classmethod
    def of(
        cls,
        batch: PackedBatch,
        *,
        tokens: int = 0,
        texts: int = 0,
        rectangles: bool = True,
        is_equal: bool = False,
    ) -> Feed:
        """`batch`, filled up to `tokens` tokens and `texts` texts if it has fewer.

        Tokens beyond the batch's own look at one another only; their texts are empty. In
        `rectangles` lie texts of like length, or (`is_equal`) only those of the same.
        """
        # What is recorded for a size must hold for every batch filled up to it.
        longest = tokens or batch.max_length
        tokens, texts = max(tokens, batch.tokens), max(texts, batch.texts)
        bounds = np.full(texts + 2, batch.tokens, np.int32)
        bounds[: batch.texts + 1] = batch.cumulative
        bounds[-1] = tokens
        lengths = np.diff(batch.cumulative)
        attended = lengths if batch.attended is None else np.minimum(batch.attended, lengths)
        is_expanded = bool((attended < lengths).any())
        arrays = {
            "ids": _filled(batch.ids, tokens),
            "positions": _filled(batch.positions, tokens),
            "types": _filled(batch.types, tokens),
            "texts": _filled(np.repeat(np.arange(batch.texts, dtype=np.int32), lengths), tokens),
            "cumulative": bounds,
            "first": np.minimum(bounds[:texts], tokens - 1),
            "last": np.maximum(bounds[1 : texts + 1] - 1, 0),
            "begin": _filled(_beginnings(batch, lengths), texts),
            "prompts": _filled(batch.prompts, texts),
            "attended": _filled(attended, texts),
        }
        groups: tuple[Group, ...] = ()
        if rectangles or is_expanded:
            assert tokens == batch.tokens, "rectangles of tokens without a text: this is a bug"
            groups, spread = _rectangles(batch.cumulative[:-1], lengths, attended, is_equal)
            arrays |= spread
        parts, at = {}, 0
        for name, array in arrays.items():
            parts[name] = (at, at + len(array))
            at += len(array)
        numbers = np.concatenate([array.astype(np.int32, copy=False) for array in arrays.values()])
        return cls(numbers, parts, groups, longest, tokens, texts, is_expanded)

    def views(self, numbers: torch.Tensor) -> dict[str, torch.Tensor]:
        """The arrays by name, where `numbers` is their copy on a device."""
        return {name: numbers[start:stop] for name, (start, stop) in self.parts.items()}


def _beginnings(batch: PackedBatch, lengths: Ints) -> Ints:
    first = batch.cumulative[:-1]
    if batch.prompts is None:
        return first
    return np.where(batch.prompts < lengths, first + batch.prompts, first)


def _filled(values: Ints | None, size: int) -> Ints:
    filled = np.zeros(size, np.int32)
    if values is not None:
        filled[: len(values)] = values
    return filled


def _rectangles(
    starts: Ints, lengths: Ints, attended: Ints, is_equal: bool
) -> tuple[tuple[Group, ...], dict[str, Ints]]:
    order = np.argsort(-lengths, kind="stable")
    groups: list[Group] = []
    slots: list[Ints] = []
    back = np.zeros(int(lengths.sum()), np.int32)
    at = first = 0
    for stop in _ends(lengths[order], is_equal):
        chosen = order[first:stop]
        length = int(lengths[chosen[0]])
        places = np.arange(length, dtype=np.int32)
        # An empty slot repeats its text's last token: there is always one, and none looks at it.
        inside = np.minimum(places, lengths[chosen, None] - 1)
        grid = (starts[chosen, None] + inside).reshape(-1)
        holds = (places < lengths[chosen, None]).reshape(-1)
        back[grid[holds]] = at + np.flatnonzero(holds)
        is_expanded = bool((attended[chosen] < lengths[chosen]).any())
        is_full = bool(holds.all()) and not is_expanded
        groups.append(Group(len(chosen), length, at, first, is_full, is_expanded))
        slots.append(grid)
        at, first = at + len(grid), stop
    found = {"slots": np.concatenate(slots), "back": back, "lengths": attended[order]}
    return tuple(groups), found


def _ends(lengths: Ints, is_equal: bool) -> list[int]:
    """Where groups of like length end, in `lengths` from the longest to the shortest."""
    ends, longest = [], int(lengths[0])
    for index, length in enumerate(lengths.tolist()):
        if longest - length > (0 if is_equal else max(8, longest // 8)):
            ends.append(index)
            longest = length
    return [*ends, len(lengths)]
