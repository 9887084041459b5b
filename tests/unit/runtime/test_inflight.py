"""Equal texts in flight are computed once, and what befalls one request doesn't befall others."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import CancelledError, Future
from typing import Any

import numpy as np
import pytest

from likewise.base.errors import DeadlineExceeded, EngineError, NotFinite, Overloaded
from likewise.base.types import Lane
from likewise.models.tokenize import Encoded
from likewise.runtime import metrics
from likewise.runtime.cache import MemoryCache
from likewise.runtime.inflight import Inflight
from likewise.runtime.manner import Manner
from likewise.runtime.pending import Embedded, Pending, Piece, Took, embedding
from tests.support import LIMIT, wait_until
from tests.unit.runtime.test_service import folder, gated

__all__ = ["folder", "gated"]

WIDTH = 4


def encoded(*texts: int, prompt: int = 0) -> list[Encoded]:
    """Texts of three tokens; equal numbers are equal texts."""
    return [Encoded(np.array([2, one, 3], np.int32), 3, prompt) for one in texts]


class Table:
    """Requests that go through one table, with lanes that take everything unless told not to."""

    def __init__(self, **options: Any) -> None:
        self.inflight = Inflight("tiny", **options)
        self.queued: list[Piece] = []

    def ask(
        self,
        *texts: int,
        lane: Lane = "interactive",
        deadline: float | None = None,
        prompt: int = 0,
        refuse: bool = False,
    ) -> Future[Embedded]:
        """A request, queued or refused."""
        future, pieces = self.half(*texts, lane=lane, deadline=deadline, prompt=prompt)
        if refuse:
            self.inflight.withdraw(pieces)
        else:
            self.queue(pieces)
        return future

    def half(self, *texts: int, **how: Any) -> tuple[Future[Embedded], list[Piece]]:
        """A request whose work isn't in the lanes yet."""
        prompt, manner = how.pop("prompt", 0), Manner(**how)
        pending: Pending[Embedded] = embedding(len(texts), WIDTH, manner=manner)
        pieces = self.inflight.pieces(encoded(*texts, prompt=prompt), 0, pending, manner.lane)
        return pending.future, pieces

    def queue(self, pieces: Sequence[Piece]) -> None:
        """The lanes took them."""
        self.queued += pieces
        self.inflight.queued(pieces)

    def compute(self, *, now: float = 0.0) -> list[int]:
        """Do what waits, as lanes and worker do; the texts that were computed."""
        done = []
        work, self.queued = self.queued, []
        for piece in work:
            piece.pending.expire(now)
            if not piece.pending.is_over:
                done.append(int(piece.ids[1]))
                row = np.full(WIDTH, piece.ids[1], np.float32)
                piece.pending.deliver(piece.index, {"vectors": row}, Took())
        return done


def rows(future: Future[Embedded]) -> list[float]:
    """The first number of each vector, which says whose text it was."""
    return [float(row[0]) for row in future.result(0).vectors]


def test_equal_texts_of_one_request_are_computed_once() -> None:
    table = Table()
    shared = metrics.SHARED.labels("tiny")
    before = shared._value.get()
    future = table.ask(7, 8, 7, 7)
    assert table.compute() == [7, 8]
    assert rows(future) == [7, 8, 7, 7] and future.result(0).tokens == (3, 3, 3, 3)
    assert shared._value.get() == before + 2


def test_and_across_requests_and_lanes() -> None:
    table = Table()
    first, second = table.ask(7, 8), table.ask(8, 9)
    bulk = table.ask(9, 7, lane="bulk")
    assert table.compute() == [7, 8, 9]
    assert (rows(first), rows(second), rows(bulk)) == ([7, 8], [8, 9], [9, 7])


def test_an_interactive_request_never_waits_for_a_bulk_one() -> None:
    table = Table()
    bulk = table.ask(7, lane="bulk")
    query = table.ask(7)
    assert [piece.ids[1] for piece in table.queued] == [7, 7]
    table.queued.reverse()
    assert table.compute() == [7, 7]
    assert rows(query) == rows(bulk) == [7]


def test_a_later_bulk_request_joins_the_faster_of_two() -> None:
    table = Table()
    table.ask(7, lane="bulk")
    table.ask(7)
    later = table.ask(7, lane="bulk")
    table.queued = table.queued[1:]
    assert table.compute() == [7] and rows(later) == [7]


def test_what_is_done_is_not_joined() -> None:
    table = Table()
    table.ask(7)
    assert table.compute() == [7]
    table.ask(7)
    assert table.compute() == [7]


def test_the_same_tokens_after_another_prompt_are_another_text() -> None:
    table = Table()
    table.ask(7)
    table.ask(7, prompt=1)
    assert table.compute() == [7, 7]


def test_cancelling_one_of_two_leaves_the_other() -> None:
    for gone in (0, 1):
        table = Table()
        both = table.ask(7), table.ask(7)
        assert both[gone].cancel()
        assert table.compute() == [7]
        assert rows(both[1 - gone]) == [7]
        with pytest.raises(CancelledError):
            both[gone].result(0)


def test_cancelling_all_drops_it_and_a_later_one_computes_anew() -> None:
    table = Table()
    both = table.ask(7), table.ask(7)
    assert both[0].cancel() and both[1].cancel()
    assert table.compute() == []
    later = table.ask(7)
    assert table.compute() == [7] and rows(later) == [7]


def test_one_that_comes_before_the_cancelled_one_is_dropped_still_gets_it() -> None:
    table = Table()
    assert table.ask(7).cancel()
    later = table.ask(7)
    assert table.compute() == [7] and rows(later) == [7]


def test_failure_reaches_all_and_a_later_one_tries_again() -> None:
    table = Table()
    both = table.ask(7, 8), table.ask(9, 7)
    (piece,) = [piece for piece in table.queued if piece.ids[1] == 7]
    piece.pending.fail_input(piece.index, NotFinite("NaN", param="input"))
    table.queued.remove(piece)
    later = table.ask(7)
    table.compute()
    for future, at in zip(both, (0, 1), strict=True):
        with pytest.raises(NotFinite) as failed:
            future.result(0)
        assert failed.value.inputs == (at,)
    assert rows(later) == [7]


def test_the_end_reaches_all() -> None:
    table = Table()
    both = table.ask(7), table.ask(7)
    for piece in table.queued:
        piece.pending.fail(EngineError("closed"))
    for future in both:
        with pytest.raises(EngineError, match="closed"):
            future.result(0)


def test_deadlines_expire_one_and_not_the_other() -> None:
    for first, second in ((5.0, None), (None, 5.0)):
        table = Table()
        both = table.ask(7, deadline=first), table.ask(7, deadline=second)
        assert table.compute(now=6.0) == [7]
        hasty, patient = both if first else both[::-1]
        assert rows(patient) == [7]
        with pytest.raises(DeadlineExceeded):
            hasty.result(0)


def test_nobody_waits_for_work_that_was_refused() -> None:
    table = Table()
    table.ask(7, 8, refuse=True)
    later = table.ask(8, 7)
    assert table.compute() == [8, 7] and rows(later) == [8, 7]


def test_nobody_joins_work_that_may_still_be_refused() -> None:
    table = Table()
    waiting, pieces = table.half(7, 7)
    assert len(pieces) == 1, "it may join itself"
    other = table.ask(7)
    table.inflight.withdraw(pieces)
    third = table.ask(7)
    assert table.compute() == [7], "the third joins the second"
    assert rows(other) == rows(third) == [7] and not waiting.done()


def test_what_is_kept_is_answered_before_anything_is_queued() -> None:
    table = Table(cache=MemoryCache(1 << 20), cache_key="space")
    hits, misses = (m.labels("tiny") for m in (metrics.CACHE_HITS, metrics.CACHE_MISSES))
    before = hits._value.get(), misses._value.get()
    table.ask(7, 8)
    assert table.compute() == [7, 8]
    again = table.ask(8, 7, 8)
    assert again.done() and rows(again) == [8, 7, 8] and table.compute() == []
    some = table.ask(9, 7)
    assert not some.done()
    assert table.compute() == [9] and rows(some) == [9, 7]
    assert (hits._value.get(), misses._value.get()) == (before[0] + 4, before[1] + 3)
    assert again.result(0).tokens == (3, 3, 3)


def test_kept_vectors_hold_for_one_space_and_arithmetic() -> None:
    cache = MemoryCache(1 << 20)
    first, other = (Table(cache=cache, cache_key=name) for name in ("f32", "bf16"))
    first.ask(7)
    first.compute()
    assert not other.ask(7).done()
    assert Table(cache=cache, cache_key="f32").ask(7).done()
    assert not first.ask(7, prompt=1).done()


# --- through a service ---------------------------------------------------------------------------


def test_a_refused_request_leaves_nothing_to_wait_for(gated: Any) -> None:
    gate, service = gated
    first = service.submit(["w0"])
    wait_until(lambda: gate.batches)
    long = [f"w{n % 50} " * 40 for n in range(40)]
    with pytest.raises(Overloaded):
        for start in range(0, 40, 2):
            service.submit(long[start : start + 2])
    left = service._desk._inflight._table.values()
    assert left and all(shared.is_queued for shared in left), "of what was refused nothing is left"
    refused = long[start : start + 2]
    gate.opened.set()
    first.result(LIMIT)
    assert service.submit(refused).result(LIMIT).vectors.shape == (2, 32)
    assert not service._desk._inflight._table


def test_equal_texts_of_several_requests_reach_the_engine_once(gated: Any) -> None:
    gate, service = gated
    first = service.submit(["w0"])
    wait_until(lambda: gate.batches)
    others = [service.submit(["w1 w2", f"w{n}"]) for n in range(10, 14)]
    others.append(service.submit(["w1 w2"], lane="bulk"))
    gate.opened.set()
    for future in (first, *others):
        assert future.result(LIMIT).vectors.shape[1] == 32
    lengths = [length for batch in gate.batches for length in batch]
    assert sorted(lengths) == [3, 3, 3, 3, 3, 4]
    assert not service._desk._inflight._table
