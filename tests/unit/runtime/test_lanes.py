"""Waiting work is bounded, taken in the right order, and never lost."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from likewise.base.errors import EngineError, Overloaded
from likewise.base.types import Lane
from likewise.models.tokenize import Encoded
from likewise.runtime.lanes import IN_A_ROW, Lanes
from likewise.runtime.pace import Pace
from likewise.runtime.pending import Pending, Piece, embedding
from tests.support import wait_until


def pieces(*lengths: int) -> list[Piece]:
    """Pieces of one request, of these many tokens."""
    encoded = [Encoded(np.ones(length, np.int32), length) for length in lengths]
    return embedding(len(lengths), 4).pieces(encoded, 0)


def future_of(work: list[Piece]) -> Future[Any]:
    """What the request of these pieces will give."""
    pending = work[0].pending
    assert isinstance(pending, Pending)
    return pending.future


@pytest.fixture
def lanes() -> Lanes:
    """Lanes of 100 tokens each."""
    return Lanes(Pace(), capacity_tokens=100)


def lengths(lanes: Lanes) -> list[int]:
    """Token counts of the next batch."""
    batch = lanes.take(wait=False)
    return [] if batch is None else [len(piece.ids) for piece in batch.pieces]


def lane(lanes: Lanes) -> Lane | None:
    """The lane of the next batch."""
    batch = lanes.take(wait=False)
    return None if batch is None else batch.lane


def test_longest_first(lanes: Lanes) -> None:
    lanes.put("bulk", pieces(3, 9, 4), wait=False)
    assert lengths(lanes) == [9, 4, 3] and lengths(lanes) == []


def test_the_streams_share_the_last_of_the_work() -> None:
    lanes = Lanes(Pace(), capacity_tokens=10_000, streams=2)
    lanes.put("bulk", pieces(*[100] * 16), wait=False)
    taken = [len(lengths(lanes)) for _ in range(8)]
    assert taken == [5, 5, 3, 1, 1, 1, 0, 0]


def test_interactive_goes_first(lanes: Lanes) -> None:
    lanes.put("bulk", pieces(3), wait=False)
    lanes.put("interactive", pieces(5), wait=False)
    assert [lane(lanes), lane(lanes), lane(lanes)] == ["interactive", "bulk", None]


def test_bulk_never_starves(lanes: Lanes) -> None:
    lanes.put("bulk", pieces(3, 3), wait=False)
    taken = []
    for _ in range(2 * IN_A_ROW + 2):
        lanes.put("interactive", pieces(5), wait=False)
        taken.append(lane(lanes))
    assert taken.count("bulk") == 1, "both bulk texts fit one batch"
    assert taken.index("bulk") == IN_A_ROW


def test_a_full_lane_refuses_and_the_other_does_not(lanes: Lanes) -> None:
    lanes.put("bulk", pieces(60), wait=False)
    with pytest.raises(Overloaded, match="60 tokens wait in the bulk lane, which holds 100"):
        lanes.put("bulk", pieces(41), wait=False)
    lanes.put("bulk", pieces(40), wait=False)
    lanes.put("interactive", pieces(41), wait=False)
    assert lanes.waiting_tokens("bulk") == 100


def test_one_request_larger_than_the_lane_is_let_in(lanes: Lanes) -> None:
    lanes.put("bulk", pieces(60, 60), wait=False)
    assert lengths(lanes) == [60, 60] and lanes.waiting_tokens("bulk") == 0


def test_waiting_for_room(lanes: Lanes) -> None:
    lanes.put("bulk", pieces(90), wait=False)
    thread = threading.Thread(target=lanes.put, args=("bulk", pieces(20)), kwargs={"wait": True})
    thread.start()
    assert lengths(lanes) == [90]
    thread.join(10)
    assert lengths(lanes) == [20]


def test_cancelled_requests_are_dropped(lanes: Lanes) -> None:
    gone, live = pieces(5), pieces(6)
    lanes.put("bulk", gone, wait=False)
    lanes.put("bulk", live, wait=False)
    assert future_of(gone).cancel()
    assert lengths(lanes) == [6]
    assert lanes.waiting_tokens("bulk") == 0


def test_closing_fails_what_waits_and_lets_takers_and_putters_go(lanes: Lanes) -> None:
    waiting = pieces(90)
    lanes.put("bulk", waiting, wait=False)
    failures: list[Exception] = []

    def put() -> None:
        try:
            lanes.put("bulk", pieces(50), wait=True)
        except EngineError as closed:
            failures.append(closed)

    putter = threading.Thread(target=put)
    putter.start()
    lanes.close()
    putter.join(10)
    wait_until(lambda: failures)
    assert lanes.take(wait=True) is None and lanes.is_closed
    with pytest.raises(EngineError, match="closed"):
        future_of(waiting).result(0)
