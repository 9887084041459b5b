"""Vectors that are kept, by what the model read: what was computed once is answered at once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from likewise.base.types import Vectors

_BESIDE = 256
"""Bytes that Python takes for an entry, its key and its object beside the numbers (measured: 173,
and up to 250 when the table has just grown)."""


class Size(NamedTuple):
    """How much is kept."""

    vectors: int
    bytes: int
    """What the limit of the cache counts."""


class VectorCache(Protocol):
    """Keeps vectors under keys of 32 bytes. Safe to use from several threads."""

    @property
    def kind(self) -> str:
        """What it is, for the metrics: `memory` or `file`."""
        ...

    def find(self, keys: Sequence[bytes]) -> Mapping[bytes, Vectors]:
        """Those of `keys` that are kept, each with its vector, float32 [dimensions].

        It never fails: a cache that can't be read knows nothing, and says so in the log.
        """
        ...

    def keep(self, key: bytes, row: Vectors) -> None:
        """Remember a vector, soon; called by engine threads, so that it must return at once."""
        ...

    def size(self) -> Size:
        """How much is kept; nothing where that can't be read."""
        ...

    def close(self) -> None:
        """Write what is still to be written, and let go."""
        ...


class MemoryCache:
    """In this process's memory; what was used least recently makes room."""

    kind = "memory"

    def __init__(self, max_bytes: int) -> None:
        """Hold at most `max_bytes`: of vectors, their keys, and what Python takes for each."""
        self._most = max_bytes
        self._lock = threading.Lock()
        # Bytes and not arrays: nobody who was handed one can change it.
        self._rows: OrderedDict[bytes, bytes] = OrderedDict()
        self._bytes = 0

    @staticmethod
    def cost(row: Vectors) -> int:
        """Bytes that `row` counts."""
        return row.nbytes + _BESIDE

    def find(self, keys: Sequence[bytes]) -> Mapping[bytes, Vectors]:
        """Those of `keys` that are kept; from now on they are the last that were used."""
        found: dict[bytes, Vectors] = {}
        with self._lock:
            for key in keys:
                held = self._rows.get(key)
                if held is not None:
                    self._rows.move_to_end(key)
                    found[key] = np.frombuffer(held, np.float32)
        return found

    def keep(self, key: bytes, row: Vectors) -> None:
        """Remember a vector; one that is larger than the whole cache isn't."""
        cost, held = self.cost(row), np.asarray(row, np.float32).tobytes()
        if cost > self._most:
            return
        with self._lock:
            self._drop(self._rows.pop(key, None))
            self._rows[key] = held
            self._bytes += cost
            while self._bytes > self._most:
                self._drop(self._rows.popitem(last=False)[1])

    def size(self) -> Size:
        """How much is kept."""
        with self._lock:
            return Size(len(self._rows), self._bytes)

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            self._rows.clear()
            self._bytes = 0

    def _drop(self, held: bytes | None) -> None:
        if held is not None:
            self._bytes -= len(held) + _BESIDE
