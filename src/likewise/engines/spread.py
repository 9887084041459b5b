"""From packed to rectangular and back: the arrays by which attention finds a text's tokens."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from likewise.engines.batch import Ints, PackedBatch

    Floats = npt.NDArray[np.float32]

# (up to, step): an engine with dynamic shapes prepares itself anew for each size it meets, so sizes
# are rounded up to few. Steps stay small next to the size, as rounded-up tokens are computed too.
_TOKEN_STEPS = ((32, 4), (64, 8), (1024, 16), (1 << 31, 64))
_LENGTH_STEPS = ((32, 4), (64, 8), (256, 16), (1 << 31, 32))
_TEXT_STEPS = ((4, 1), (32, 4), (1 << 31, 8))
# Queries of one block where tokens see only what is near: few enough that little is looked at in
# vain, and enough that the keys beside them are worth fetching.
_LEAST_BLOCK, _LARGEST_BLOCK = 64, 512
# Places of a rectangle up to which its queries are taken all at once, and in one block otherwise.
_ALL_AT_ONCE, _AT_ONCE = 1024, 256
# Nobody is so far away; twice as much still fits into 32 bits.
_NOWHERE = 1 << 29


@dataclass(frozen=True, slots=True)
class Near:
    """What a graph asks for where tokens see only those at most `window` places away.

    In R rectangles of Q queries and K keys: `queries` [R, Q] and `keys` [R, K], the tokens;
    `starts` [R, Q] (or [R, 1], where every query sees every key) and `ends` [R, K], their places;
    `back` [T], each token's slot among the flattened queries.
    """

    window: int
    causal: bool
    """Whether tokens after it are hidden, too."""
    part: Literal["queries", "keys", "starts", "ends", "back"]


@dataclass(frozen=True, slots=True)
class Placed:
    """Places [T] by which tokens `skip` aren't counted (`PackedBatch.placed`)."""

    skip: int


Entry = str | Near | Placed
"""What a graph asks for: a field of `Spread` by name, what is near, or other places."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A batch with its sizes rounded up; T tokens, B texts, L tokens of the longest text."""

    ids: Ints
    """[T]; tokens past the batch's own are 0."""
    positions: Ints
    """[T]."""
    slots: Ints
    """[B, L]: the token in each slot of the rectangle; empty slots point at token 0."""
    back: Ints
    """[T]: each token's slot, in the flattened rectangle."""
    mask: Floats
    """[B, L]: 1 where a slot holds a token that others look at, else 0."""
    first: Ints
    """[B]: each text's first token."""
    last: Ints
    """[B]: each text's last token."""
    types: Ints
    """[T]: 1 in the second text of a pair."""
    places: Ints
    """[L]: 0, 1, 2, ..."""
    pooled: Floats
    """[B, L]: `mask` without the tokens of a prompt that pooling leaves out."""
    begin: Ints
    """[B]: each text's first token after its prompt; the first of all if nothing follows it."""

    @property
    def block_slots(self) -> Ints:
        """[N, B, Q]: `slots` in N blocks of Q places, one after the other; in one if they are few.

        What a graph wants that takes only some of its queries at a time.
        """
        texts, length = self.slots.shape
        blocks, size = _blocks(length)
        padded = np.zeros((texts, blocks * size), np.int32)
        padded[:, :length] = self.slots
        return np.ascontiguousarray(padded.reshape(texts, blocks, size).transpose(1, 0, 2))

    @property
    def block_places(self) -> Ints:
        """[N, Q]: the places of each block."""
        blocks, size = _blocks(len(self.places))
        return np.arange(blocks * size, dtype=np.int32).reshape(blocks, size)

    @property
    def block_back(self) -> Ints:
        """[T]: each token's slot, in the flattened `block_slots`."""
        texts, length = self.slots.shape
        size = np.int32(_blocks(length)[1])
        text, place = np.divmod(self.back, np.int32(length))
        block, inside = np.divmod(place, size)
        return np.asarray((block * np.int32(texts) + text) * size + inside, np.int32)

    @classmethod
    def of(cls, batch: PackedBatch) -> Spread:
        """The rectangle of `batch`."""
        tokens = rounded(batch.tokens, _TOKEN_STEPS)
        length = rounded(batch.max_length, _LENGTH_STEPS)
        texts = rounded(batch.texts, _TEXT_STEPS)
        counts = np.diff(batch.cumulative)
        text_of = np.repeat(np.arange(batch.texts, dtype=np.int32), counts)
        slot = text_of * np.int32(length) + batch.positions
        slots = np.zeros(texts * length, np.int32)
        slots[slot] = np.arange(batch.tokens, dtype=np.int32)
        mask = np.zeros(texts * length, np.float32)
        mask[slot] = 1
        places = np.arange(length, dtype=np.int32)
        rectangle = mask.reshape(texts, length)
        if batch.attended is not None:
            rectangle *= places[None] < _padded(batch.attended, texts)[:, None]
        types = np.zeros(0, np.int32) if batch.types is None else batch.types
        return cls(
            ids=_padded(batch.ids, tokens),
            positions=_padded(batch.positions, tokens),
            slots=slots.reshape(texts, length),
            back=_padded(slot, tokens),
            mask=rectangle,
            first=_padded(batch.cumulative[:-1], texts),
            last=_padded(batch.cumulative[1:] - 1, texts),
            types=_padded(types, tokens),
            places=places,
            pooled=_without_prompts(rectangle, batch, places),
            begin=_padded(_beginnings(batch, counts), texts),
        )


def feed(batch: PackedBatch, entries: Iterable[Entry]) -> list[Any]:
    """The arrays that a graph asks for, in its order."""
    spread = Spread.of(batch)
    near: dict[tuple[int, bool], dict[str, Ints]] = {}
    arrays = []
    for entry in entries:
        if isinstance(entry, str):
            arrays.append(getattr(spread, entry))
            continue
        if isinstance(entry, Placed):
            arrays.append(_padded(batch.placed(entry.skip), len(spread.positions)))
            continue
        key = (entry.window, entry.causal)
        if key not in near:
            near[key] = _near(batch, spread, *key)
        arrays.append(near[key][entry.part])
    return arrays


def _near(batch: PackedBatch, spread: Spread, window: int, causal: bool) -> dict[str, Ints]:
    """The parts of `Near`: texts cut into blocks, or left whole where that would save nothing."""
    block = min(max(window, _LEAST_BLOCK), _LARGEST_BLOCK)
    length = len(spread.places)
    after = 0 if causal else window
    if length <= block + window + after:
        return _whole(spread, window, causal)
    counts = np.diff(batch.cumulative)
    seen = counts if batch.attended is None else batch.attended
    blocks = -(-counts // block)
    rows = rounded(int(blocks.sum()), _TEXT_STEPS)
    first_block = np.zeros(len(blocks), np.int32)
    np.cumsum(blocks[:-1], out=first_block[1:])
    text = np.repeat(np.arange(len(blocks), dtype=np.int32), blocks)
    start = (np.arange(len(text), dtype=np.int32) - first_block[text])[:, None] * np.int32(block)
    first = batch.cumulative[:-1][text][:, None]
    starts = start + np.arange(block, dtype=np.int32)
    ends = start + np.arange(-window, block + after, dtype=np.int32)
    is_there = (ends >= 0) & (ends < seen[text][:, None])
    text_of = np.repeat(np.arange(len(blocks), dtype=np.int32), counts)
    return {
        "queries": _rows(
            np.where(starts < counts[text][:, None], first + starts, np.int32(0)), rows, 0
        ),
        "keys": _rows(np.where(is_there, first + ends, np.int32(0)), rows, 0),
        "starts": _rows(starts.astype(np.int32), rows, 0),
        "ends": _rows(np.where(is_there, ends, np.int32(_NOWHERE)), rows, _NOWHERE),
        "back": _padded(
            first_block[text_of] * np.int32(block) + batch.positions, len(spread.positions)
        ),
    }


def _blocks(length: int) -> tuple[int, int]:
    """Into how many blocks `length` places are cut, and how many each has."""
    size = length if length <= _ALL_AT_ONCE else _AT_ONCE
    return -(-length // size), size


def _whole(spread: Spread, window: int, causal: bool) -> dict[str, Ints]:
    """Each text's tokens look at all of it, as far as they see."""
    length = len(spread.places)
    is_there = spread.mask > 0
    if length <= window + 1 and not causal:
        starts = np.zeros((len(is_there), 1), np.int32)
        ends = np.where(is_there, np.int32(0), np.int32(_NOWHERE))
    else:
        starts = np.broadcast_to(spread.places, is_there.shape)
        ends = np.where(is_there, spread.places, np.int32(_NOWHERE))
    return {
        "queries": spread.slots,
        "keys": spread.slots,
        "starts": np.ascontiguousarray(starts),
        "ends": ends,
        "back": spread.back,
    }


def rounded(size: int, steps: tuple[tuple[int, int], ...]) -> int:
    """`size` rounded up to a multiple of the step for sizes like it."""
    step = next(step for limit, step in steps if size <= limit)
    return -(-size // step) * step


def token_sizes(longest: int) -> tuple[int, ...]:
    """The rounded lengths of single texts up to `longest` tokens, shortest first."""
    return tuple(sorted({rounded(size, _TOKEN_STEPS) for size in range(1, longest + 1)}))


def rounded_length(length: int) -> int:
    """The length of the rectangle that holds texts of up to `length` tokens."""
    return rounded(length, _LENGTH_STEPS)


def _without_prompts(mask: Floats, batch: PackedBatch, places: Ints) -> Floats:
    if batch.prompts is None or not batch.prompts.any():
        return mask
    begins = _padded(batch.prompts, len(mask))
    return np.where(places[None] < begins[:, None], np.float32(0), mask)


def _beginnings(batch: PackedBatch, counts: Ints) -> Ints:
    first = batch.cumulative[:-1]
    if batch.prompts is None:
        return first
    return np.where(batch.prompts < counts, first + batch.prompts, first)


def _rows(values: Ints, count: int, fill: int) -> Ints:
    """`values` with as many rows as asked, the further ones full of `fill`."""
    padded = np.full((count, values.shape[1]), fill, np.int32)
    padded[: len(values)] = values
    return padded


def _padded(values: Ints, size: int) -> Ints:
    padded = np.zeros(size, np.int32)
    padded[: len(values)] = values
    return padded
