"""Equal texts are computed once: those in flight are joined, those in the cache answered."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from likewise.runtime import metrics
from likewise.runtime.pending import Piece, Took

if TYPE_CHECKING:
    from likewise.base.errors import LikewiseError
    from likewise.base.types import Lane, Vectors
    from likewise.engines.batch import Output
    from likewise.models.tokenize import Encoded
    from likewise.runtime.cache import VectorCache
    from likewise.runtime.pending import Pending

_AT_ONCE = Took()


class Inflight:
    """The texts of one model that are being computed, by what the model reads of them.

    Only plain vectors are shared. Safe to use from several threads.
    """

    def __init__(
        self, model: str, *, cache: VectorCache | None = None, cache_key: str = ""
    ) -> None:
        """`cache_key` says what a kept vector holds for: the space and the arithmetic."""
        self._model = model
        self._cache = cache
        self._salt = hashlib.sha256(cache_key.encode()).digest()
        self._lock = threading.Lock()
        self._table: dict[bytes, Shared] = {}

    def pieces(
        self, encoded: Sequence[Encoded], start: int, pending: Pending[Any], lane: Lane
    ) -> list[Piece]:
        """Inputs `start` and following of `pending` as work, without what needn't be computed.

        What the cache has is delivered before this returns. Who joined a text that waits in a
        slower lane would wait with it, so that one is queued again. Say what became of the work:
        `queued` or `withdraw`.
        """
        pending.note(encoded, start)
        keys = [self._key(one) for one in encoded]
        found = self._cached(keys)
        made, joined = [], 0
        with self._lock:
            for index, (key, one) in enumerate(zip(keys, encoded, strict=True), start):
                if key in found:
                    continue
                waiting = self._table.get(key)
                if waiting is not None and waiting.may_join(pending, lane):
                    waiting.join(pending, index)
                    joined += 1
                    continue
                waiting = self._table[key] = Shared(self, key, pending, index, lane)
                made.append(Piece(one.ids, waiting, 0, one.prompt))
        if joined:
            metrics.SHARED.labels(self._model).inc(joined)
        for index, key in enumerate(keys, start):
            if key in found:
                pending.deliver(index, {"vectors": found[key]}, _AT_ONCE)
        return made

    def queued(self, pieces: Sequence[Piece]) -> None:
        """`pieces` are in their lane: from now on other requests may join them."""
        with self._lock:
            for piece in pieces:
                if isinstance(piece.pending, Shared):
                    piece.pending.is_queued = True

    def withdraw(self, pieces: Sequence[Piece]) -> None:
        """`pieces` were refused, so that nobody will compute them: nobody may wait for them."""
        with self._lock:
            for piece in pieces:
                shared = piece.pending
                if isinstance(shared, Shared) and self._table.get(shared.key) is shared:
                    del self._table[shared.key]

    def retire(self, shared: Shared) -> list[tuple[Pending[Any], int]]:
        """Nobody joins `shared` from now on; who waits for it."""
        with self._lock:
            if self._table.get(shared.key) is shared:
                del self._table[shared.key]
            waiting, shared.waiting = shared.waiting, []
        return waiting

    def retire_if_over(self, shared: Shared) -> bool:
        """Whether nobody waits for `shared` any more; if so, nobody joins it from now on."""
        with self._lock:
            if any(not pending.is_over for pending, _ in shared.waiting):
                return False
            if self._table.get(shared.key) is shared:
                del self._table[shared.key]
        return True

    def keep(self, key: bytes, row: Vectors) -> None:
        """Remember a vector, where there is a cache."""
        if self._cache is not None:
            self._cache.keep(key, row)

    def _key(self, one: Encoded) -> bytes:
        read = one.prompt.to_bytes(4, "little") + one.ids.tobytes()
        return read if self._cache is None else hashlib.sha256(self._salt + read).digest()

    def _cached(self, keys: Sequence[bytes]) -> Mapping[bytes, Vectors]:
        if self._cache is None:
            return {}
        found = self._cache.find(keys)
        hits = sum(key in found for key in keys)
        metrics.CACHE_HITS.labels(self._model).inc(hits)
        metrics.CACHE_MISSES.labels(self._model).inc(len(keys) - hits)
        return found


class Shared:
    """One text that is being computed, for everybody who asked for it."""

    def __init__(
        self, table: Inflight, key: bytes, pending: Pending[Any], index: int, lane: Lane
    ) -> None:
        self.key = key
        self.lane = lane
        self.wants = pending.wants
        self.owner: object = pending
        self.dialect = pending.dialect
        self.waiting: list[tuple[Pending[Any], int]] = [(pending, index)]
        self.is_queued = False
        self._table = table

    def may_join(self, pending: Pending[Any], lane: Lane) -> bool:
        """Whether `pending` may wait for it too. Called under the table's lock.

        Until it is queued it may still be refused, which concerns nobody but who asked.
        """
        is_soon = self.lane in (lane, "interactive")
        return is_soon and (self.is_queued or self.owner is pending)

    def join(self, pending: Pending[Any], index: int) -> None:
        """Input `index` of `pending` is the same text. Called under the table's lock."""
        self.waiting.append((pending, index))

    @property
    def is_over(self) -> bool:
        """Whether nobody waits for it any more; then nobody will."""
        return self._table.retire_if_over(self)

    def expire(self, now: float) -> None:
        """Fail those requests that should have been answered before `now`."""
        for pending, _ in tuple(self.waiting):
            pending.expire(now)

    def deliver(self, index: int, found: Mapping[Output, Vectors], took: Took) -> None:
        """The text's vector is here."""
        del index
        self._table.keep(self.key, found["vectors"])
        for pending, at in self._table.retire(self):
            pending.deliver(at, found, took)

    def fail_input(self, index: int, error: LikewiseError) -> None:
        """It can't be computed."""
        del index
        for pending, at in self._table.retire(self):
            pending.fail_input(at, error)

    def fail(self, error: BaseException) -> None:
        """Every request that waits for it ends with `error`."""
        for pending, _ in self._table.retire(self):
            pending.fail(error)
