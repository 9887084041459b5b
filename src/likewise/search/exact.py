"""Exact search: every vector is compared; the oracle for every other index."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from likewise.base.errors import DimensionsError
from likewise.base.types import Hit
from likewise.vectors.topk import top_k

if TYPE_CHECKING:
    from likewise.base.protocols import Filter
    from likewise.base.space import Space
    from likewise.base.types import Block, Chunk, Key, KeyPart, Vectors

_FIRST_CAPACITY = 1024
_TYPE_ORDER: dict[type, int] = {int: 0, float: 0, str: 1, bytes: 2}


def key_order(key: Key) -> tuple[tuple[int, KeyPart], ...]:
    """Sorts keys of mixed types as SQLite does: numbers, then text, then bytes."""
    return tuple((_TYPE_ORDER.get(type(part), 3), part) for part in key)


class ExactIndex:
    """All vectors of one space in one float32 matrix [slots, dimensions].

    Scores are inner products, which for normalised vectors is the cosine. Safe to use from several
    threads: a search sees each row wholly before or wholly after an update.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self._lock = threading.Lock()
        self._matrix: Vectors = np.empty((0, space.dimensions), dtype=np.float32)
        self._owner: list[tuple[Key, Chunk] | None] = []
        self._top = 0
        self._slots_of: dict[Key, list[int]] = {}
        self._free: list[int] = []

    def __len__(self) -> int:
        """Vectors held."""
        return len(self._slots_used())

    @property
    def rows(self) -> int:
        """Rows (keys) that have at least one vector."""
        return len(self._slots_of)

    def put(self, key: Key, chunks: Sequence[Chunk], vectors: Vectors) -> None:
        """Replace what is held for `key` by `vectors` (float32 [len(chunks), dimensions]).

        Raises:
            DimensionsError: another width, or not one vector a chunk.
        """
        self._check(vectors, len(chunks))
        with self._lock:
            self._drop(key)
            self._add(key, chunks, vectors)

    def remove(self, key: Key) -> None:
        """Forget `key`; nothing happens when it isn't held."""
        with self._lock:
            self._drop(key)

    def replace(self, blocks: Iterable[Block]) -> None:
        """Hold exactly what `blocks` hold; searches answer from the old content until then."""
        fresh = ExactIndex(self.space)
        for block in blocks:
            fresh.extend(block)
        with self._lock:
            self._matrix, self._owner, self._top = fresh._matrix, fresh._owner, fresh._top
            self._slots_of, self._free = fresh._slots_of, fresh._free

    def extend(self, block: Block) -> None:
        """Add the chunks of `block` beside those already held for their keys.

        Raises:
            DimensionsError: another width, or not one vector a chunk.
        """
        self._check(block.vectors, len(block.chunks))
        with self._lock:
            for key, chunk, vector in zip(block.keys, block.chunks, block.vectors, strict=True):
                self._add(key, (chunk,), vector[None])

    def search(self, vector: Vectors, *, k: int, filter: Filter | None = None) -> list[Hit]:
        """The `k` nearest rows, best chunk of each, best first; equal scores in key order.

        Raises:
            DimensionsError: `vector` isn't float32 [dimensions].
        """
        if vector.shape != (self.space.dimensions,):
            raise DimensionsError(
                f"this index holds vectors of {self.space.dimensions} dimensions; "
                f"the query's shape is {vector.shape}",
                param="vector",
            )
        with self._lock:
            used = self._slots_used()
            scores = (self._matrix[: self._top] @ vector)[used]
            return self._best(used, scores, k, filter)

    def _best(
        self, used: np.ndarray, scores: np.ndarray, k: int, filter: Filter | None
    ) -> list[Hit]:
        """Collapse chunks to rows, looking at more chunks until `k` rows are found."""
        wanted = 4 * k
        while True:
            found: dict[Key, Hit] = {}
            order = top_k(scores, wanted)
            for at in order:
                owner = self._owner[used[at]]
                if owner is None:
                    raise AssertionError("a used slot has no owner; this is a bug")
                key, chunk = owner
                hit = Hit(key, chunk, float(scores[at]))
                kept = found.get(key)
                if kept is not None:
                    if hit.score == kept.score and chunk.ordinal < kept.chunk.ordinal:
                        found[key] = hit
                elif filter is None or filter(key):
                    found[key] = hit
            # One row more than asked must be seen, or equal scores at the edge could be cut by
            # slot order instead of key order.
            if len(order) == len(scores) or _is_settled(found, k, float(scores[order[-1]])):
                ranked = sorted(found.values(), key=lambda hit: (-hit.score, key_order(hit.key)))
                return ranked[: max(k, 0)]
            wanted *= 4

    def _slots_used(self) -> np.ndarray:
        if not self._free:
            return np.arange(self._top)
        alive = np.ones(self._top, dtype=bool)
        alive[self._free] = False
        return np.flatnonzero(alive)

    def _check(self, vectors: Vectors, count: int) -> None:
        if vectors.shape != (count, self.space.dimensions):
            raise DimensionsError(
                f"{count} chunks of {self.space.dimensions} dimensions were expected, "
                f"not an array of shape {vectors.shape}"
            )

    def _drop(self, key: Key) -> None:
        for slot in self._slots_of.pop(key, ()):
            self._owner[slot] = None
            self._free.append(slot)

    def _add(self, key: Key, chunks: Sequence[Chunk], vectors: Vectors) -> None:
        for chunk, vector in zip(chunks, vectors, strict=True):
            slot = self._free.pop() if self._free else self._grow()
            self._matrix[slot] = vector
            self._owner[slot] = (key, chunk)
            self._slots_of.setdefault(key, []).append(slot)

    def _grow(self) -> int:
        if self._top == len(self._matrix):
            capacity = max(_FIRST_CAPACITY, self._top + self._top // 2)
            larger = np.zeros((capacity, self.space.dimensions), dtype=np.float32)
            larger[: self._top] = self._matrix[: self._top]
            self._matrix = larger
        self._owner.append(None)
        self._top += 1
        return self._top - 1


def _is_settled(found: dict[Key, Hit], k: int, seen_down_to: float) -> bool:
    """Whether no chunk that wasn't looked at can belong among the best `k` rows."""
    above = sum(hit.score > seen_down_to for hit in found.values())
    return above >= k
