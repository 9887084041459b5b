"""Vectors that are kept, by what the model read: what was computed once is answered at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from likewise.base.types import Vectors


class VectorCache(Protocol):
    """Keeps vectors under keys of 32 bytes. Safe to use from several threads."""

    def find(self, keys: Sequence[bytes]) -> Mapping[bytes, Vectors]:
        """Those of `keys` that are kept, each with its vector, float32 [dimensions].

        It never fails: a cache that can't be read knows nothing, and says so in the log.
        """
        ...

    def keep(self, key: bytes, row: Vectors) -> None:
        """Remember a vector, soon; called by engine threads, so that it must return at once."""
        ...

    def close(self) -> None:
        """Write what is still to be written, and let go."""
        ...
