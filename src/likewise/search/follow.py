"""Keeping an index in step with its store: reads what was published since, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from likewise.base.protocols import VectorTable
    from likewise.base.space import Space
    from likewise.base.types import Block, Chunk, Key, Vectors

_NOTHING_READ = -1


class FollowingIndex(Protocol):
    """An index that takes updates."""

    @property
    def space(self) -> Space:
        """The space of its vectors."""
        ...

    def put(self, key: Key, chunks: Sequence[Chunk], vectors: Vectors) -> None:
        """Replace what is held for `key`."""
        ...

    def remove(self, key: Key) -> None:
        """Forget `key`."""
        ...

    def replace(self, blocks: Iterable[Block]) -> None:
        """Hold exactly what `blocks` hold."""
        ...


class Follower:
    """Carries a store's published changes over to an index. One thread at a time may call it.

    Raises:
        SpaceMismatch: index and store hold different spaces.
    """

    def __init__(self, table: VectorTable, index: FollowingIndex) -> None:
        table.space.require(index.space, where="the store")
        self._table = table
        self._index = index
        self.version = _NOTHING_READ

    def catch_up(self) -> int:
        """Follow until nothing is left; gives how many keys or, on a full reading, chunks."""
        updated = 0
        while True:
            # The version is read before the rows: a change in between is read twice, never missed.
            feed = self._table.published(self.version)
            if feed.reset:
                updated += self._read_all()
            elif feed.keys:
                updated += self._read(feed.keys)
            elif feed.version == self.version:
                return updated
            self.version = feed.version

    def _read_all(self) -> int:
        count = 0

        def counted() -> Iterable[Block]:
            nonlocal count
            for block in self._table.scan():
                count += len(block.keys)
                yield block

        self._index.replace(counted())
        return count

    def _read(self, keys: Sequence[Key]) -> int:
        present: dict[Key, tuple[list[Chunk], list[Vectors]]] = {}
        for block in self._table.scan(keys=keys):
            for key, chunk, vector in zip(block.keys, block.chunks, block.vectors, strict=True):
                chunks, vectors = present.setdefault(key, ([], []))
                chunks.append(chunk)
                vectors.append(vector)
        for key in keys:
            if key in present:
                chunks, vectors = present[key]
                self._index.put(key, chunks, np.stack(vectors))
            else:
                self._index.remove(key)
        return len(keys)
