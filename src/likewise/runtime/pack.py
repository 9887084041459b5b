"""Which texts go into the next batch: pure arithmetic over their lengths."""

from __future__ import annotations

from collections.abc import Sequence

SPREAD = 2
"""Attention's scores grow with the square of the longest: unbounded, they took 200 MB."""

SMALLEST_SHARE = 128
"""Tokens below which splitting work over streams costs more than it gains."""


def order(lengths: Sequence[int]) -> list[int]:
    """Positions from the longest text to the shortest; equal ones keep their order.

    Neighbours of like length need the least padding where texts lie side by side, in attention.
    """
    return sorted(range(len(lengths)), key=lambda index: -lengths[index])


def fitting(lengths: Sequence[int], budget: int, least_fill: float = 0.0) -> int:
    """How many of `lengths`, from the longest on, make the next batch of at most `budget` tokens.

    At least one, so that a text longer than the budget is a batch by itself; 0 if there is none.
    Few short texts go with a long one: where attention lays texts side by side, as many rows as
    texts and as wide as the longest, the rectangle stays within `SPREAD` times the budget, and
    beyond `SMALLEST_SHARE` tokens its share of `least_fill` holds tokens.
    """
    return _fitting(lengths, lengths[0] if lengths else 0, budget, least_fill)


def short(lengths: Sequence[int], budget: int, least_fill: float = 0.0) -> int:
    """How many of `lengths`, from the shortest on, make a batch of at most `budget` tokens.

    `lengths` go from the longest to the shortest, so that these are its last ones; otherwise as
    `fitting`.
    """
    return _fitting(tuple(reversed(lengths)), None, budget, least_fill)


def _fitting(lengths: Sequence[int], longest: int | None, budget: int, least_fill: float) -> int:
    """How many of the first of `lengths` fit; without a `longest`, each is longer than the last."""
    total = 0
    for count, length in enumerate(lengths):
        total += length
        slots = (count + 1) * (longest or length)
        is_sparse = total > SMALLEST_SHARE and total < least_fill * slots
        if total > budget or slots > SPREAD * budget or is_sparse:
            return max(count, 1)
    return len(lengths)


def share(waiting_tokens: int, streams: int) -> int:
    """Tokens for one of `streams` when only `waiting_tokens` are left, so that all end together."""
    return max(SMALLEST_SHARE, -(-waiting_tokens // streams))


def plan(lengths: Sequence[int], *, budget: int, window: int) -> list[list[int]]:
    """All batches for texts that come in this order, sorting within each `window` of them."""
    batches = []
    for start in range(0, len(lengths), window):
        staged = [start + index for index in order(lengths[start : start + window])]
        while staged:
            count = fitting([lengths[index] for index in staged], budget)
            batches.append(staged[:count])
            staged = staged[count:]
    return batches
