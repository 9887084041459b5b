"""Waiting work is bounded, taken in the right order, and never lost."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from likewise.base.errors import DeadlineExceeded, EngineError, Overloaded
from likewise.base.types import Lane
from likewise.models.tokenize import Encoded
from likewise.runtime.lanes import IN_A_ROW, WINDOW_TEXTS, Lanes
from likewise.runtime.manner import Manner
from likewise.runtime.pace import Pace
from likewise.runtime.pending import Pending, Piece, Took, embedding
from tests.support import LIMIT, wait_until


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
    thread.join(LIMIT)
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
    putter.join(LIMIT)
    wait_until(lambda: failures)
    assert lanes.take(wait=True) is None and lanes.is_closed
    with pytest.raises(EngineError, match="closed"):
        future_of(waiting).result(0)


# --- turns, windows, deadlines -------------------------------------------------------------------


class Now:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        """Seconds."""
        return self.at


def roomy(now: Now, *, streams: int = 1, seconds_per_token: float | None = None) -> Lanes:
    """Lanes with room for everything, and a pace that is known, if it is given."""
    pace = Pace(now)
    if seconds_per_token is not None:
        pace.saw_batch(1000, 1000 * seconds_per_token)
    return Lanes(pace, capacity_tokens=1 << 20, streams=streams, clock=now)


def drain(lanes: Lanes) -> list[Piece]:
    """Everything that waits, in the order in which it is computed."""
    done: list[Piece] = []
    while (batch := lanes.take(wait=False)) is not None:
        done += batch.pieces
    return done


def test_a_small_request_beside_a_huge_one_is_done_within_the_next_window() -> None:
    lanes = roomy(Now())
    huge, small = pieces(*[20] * 20_000), pieces(*[3] * 10)
    lanes.put("bulk", huge, wait=False)
    assert lanes.take(wait=False) is not None, "the first window is being worked off"
    lanes.put("bulk", small, wait=False)
    done = drain(lanes)
    last = max(done.index(piece) for piece in small)
    assert last < 2 * WINDOW_TEXTS
    assert len(done) > 19_000


def test_many_requests_have_turns_of_few_texts() -> None:
    lanes = roomy(Now())
    requests = [pieces(*[10] * 1000) for _ in range(8)]
    for one in requests:
        lanes.put("bulk", one, wait=False)
    first = drain(lanes)[:WINDOW_TEXTS]
    owners = [piece.pending for piece in first]
    assert [owners.count(one[0].pending) for one in requests] == [WINDOW_TEXTS // 8] * 8


def test_a_window_is_bounded_by_its_tokens() -> None:
    lanes = roomy(Now())
    huge, small = pieces(*[4000] * 200), pieces(3)
    lanes.put("bulk", huge, wait=False)
    first = len(lengths(lanes))
    lanes.put("bulk", small, wait=False)
    done = drain(lanes)
    before = sum(len(piece.ids) for piece in done[: done.index(small[0])])
    # What is left of the first window, and the second up to the text that fills it.
    assert before <= 2 * (48 * Pace().largest + 4000)
    assert len(done) == 200 + 1 - first


def test_what_comes_in_several_puts_of_a_request_has_one_turn() -> None:
    lanes = roomy(Now())
    pending = embedding(3000, 4)
    encoded = [Encoded(np.ones(10, np.int32), 10)] * 1000
    for start in (0, 1000, 2000):
        lanes.put("bulk", pending.pieces(encoded, start), wait=False)
    other = pieces(*[10] * 1000)
    lanes.put("bulk", other, wait=False)
    owners = [piece.pending for piece in drain(lanes)[:WINDOW_TEXTS]]
    assert owners.count(pending) == owners.count(other[0].pending)


def test_a_deadline_that_cannot_be_kept_is_refused_at_once() -> None:
    now = Now()
    lanes = roomy(now, seconds_per_token=0.01)
    lanes.put("interactive", pieces(100), wait=False)
    lanes.put("bulk", pieces(300), wait=False)
    # 100 tokens are ahead of a query, 400 of bulk work; each token takes 10 ms.
    lanes.put("interactive", pieces(100), wait=False, deadline=now.at + 2.1)
    with pytest.raises(DeadlineExceeded, match=r"200 tokens wait.*3\.0 s, and 2\.9 s") as refused:
        lanes.put("interactive", pieces(100), wait=False, deadline=now.at + 2.9)
    assert refused.value.retry_after_s == pytest.approx(2.0)
    with pytest.raises(DeadlineExceeded, match="500 tokens wait"):
        lanes.put("bulk", pieces(100), wait=False, deadline=now.at + 5.9)
    lanes.put("bulk", pieces(100), wait=False, deadline=now.at + 6.1)
    with pytest.raises(DeadlineExceeded, match=r"0\.0 s are left"):
        lanes.put("interactive", pieces(1), wait=False, deadline=now.at - 1)
    assert lanes.waiting_tokens("interactive") == 200, "what was refused doesn't wait"


def test_streams_share_the_estimate_and_a_pace_that_is_not_known_refuses_nothing() -> None:
    now = Now()
    lanes = roomy(now, streams=4, seconds_per_token=0.01)
    lanes.put("bulk", pieces(400), wait=False, deadline=now.at + 1.1)
    with pytest.raises(DeadlineExceeded):
        lanes.put("bulk", pieces(400), wait=False, deadline=now.at + 1.9)
    roomy(now).put("bulk", pieces(10_000), wait=False, deadline=now.at + 0.001)


def test_what_expires_while_it_waits_is_dropped() -> None:
    now = Now()
    lanes = roomy(now)
    hasty: Pending[Any] = embedding(1, 4, manner=Manner(deadline=now.at + 1))
    lanes.put("bulk", hasty.pieces([Encoded(np.ones(9, np.int32), 9)], 0), wait=False)
    lanes.put("bulk", pieces(6), wait=False)
    now.at += 2
    assert lengths(lanes) == [6] and lanes.waiting_tokens("bulk") == 0
    with pytest.raises(DeadlineExceeded, match="ran out while it waited"):
        hasty.future.result(0)


def test_waiting_for_room_ends_with_the_deadline() -> None:
    now = Now()
    lanes = Lanes(Pace(now), capacity_tokens=100, clock=now)
    lanes.put("bulk", pieces(90), wait=False)
    with pytest.raises(DeadlineExceeded, match="bulk lane was full until the time"):
        lanes.put("bulk", pieces(20), wait=True, deadline=now.at + 0.01)
    assert lanes.waiting_tokens("bulk") == 90


def test_a_full_lane_says_when_to_come_again() -> None:
    now = Now()
    pace = Pace(now)
    pace.saw_batch(1000, 10)
    lanes = Lanes(pace, capacity_tokens=100, streams=2, clock=now)
    lanes.put("bulk", pieces(90), wait=False)
    with pytest.raises(Overloaded) as refused:
        lanes.put("bulk", pieces(50), wait=False)
    # 40 tokens too many, 10 ms each, two streams.
    assert refused.value.retry_after_s == pytest.approx(0.2)


def test_what_waits_is_counted_and_has_an_age() -> None:
    now = Now()
    lanes = roomy(now)
    assert (lanes.oldest_s("bulk"), lanes.waiting_texts("bulk")) == (0.0, 0)
    lanes.put("bulk", pieces(*[10] * 600), wait=False)
    now.at += 5
    lanes.put("bulk", pieces(500, 500), wait=False)
    assert (lanes.oldest_s("bulk"), lanes.waiting_texts("bulk")) == (5.0, 602)
    assert (lanes.oldest_s("interactive"), lanes.waiting_texts("interactive")) == (0.0, 0)
    now.at += 1
    taken = lanes.take(wait=False)
    assert taken is not None and set(taken.queued_at) <= {1000.0, 1005.0}
    assert lanes.waiting_texts("bulk") == 602 - len(taken.pieces)
    assert lanes.oldest_s("bulk") == 6.0
    while lanes.oldest_s("bulk") == 6.0:
        assert lanes.take(wait=False) is not None
    assert lanes.oldest_s("bulk") in (1.0, 0.0)
    drain(lanes)
    assert (lanes.oldest_s("bulk"), lanes.waiting_texts("bulk")) == (0.0, 0)


def test_a_request_whose_answer_cannot_be_made_fails_and_waits_no_more() -> None:
    def broken(vectors: Any) -> Any:
        raise ValueError("no")

    pending = embedding(1, 4, broken)
    pending.deliver(0, {"vectors": np.ones(4, np.float32)}, Took())
    with pytest.raises(ValueError, match="no"):
        pending.future.result(0)


def nimble_lengths(lanes: Lanes, *, is_nimble: bool) -> list[int]:
    """Token counts of the next batch of a stream."""
    batch = lanes.take(wait=False, is_nimble=is_nimble)
    return [] if batch is None else [len(piece.ids) for piece in batch.pieces]


def test_beside_queries_one_stream_takes_short_batches_and_the_other_long_ones() -> None:
    pace = Pace()
    pace.saw_batch(1000, 0.1)
    lanes = Lanes(pace, capacity_tokens=10_000, streams=2)
    lanes.put("bulk", pieces(*[200] * 4, *[50] * 8), wait=False)
    lanes.put("interactive", pieces(5), wait=False)
    assert nimble_lengths(lanes, is_nimble=True) == [5]
    assert nimble_lengths(lanes, is_nimble=True) == [50, 50], "13 ms are 130 tokens at that pace"
    assert nimble_lengths(lanes, is_nimble=False) == [200, 200]
    assert nimble_lengths(lanes, is_nimble=True) == [50, 50]


def test_without_queries_every_stream_takes_what_pays() -> None:
    pace = Pace()
    pace.saw_batch(1000, 0.1)
    lanes = Lanes(pace, capacity_tokens=10_000, streams=2)
    lanes.put("bulk", pieces(*[200] * 4, *[50] * 8), wait=False)
    assert nimble_lengths(lanes, is_nimble=True) == [200, 200]
    assert nimble_lengths(lanes, is_nimble=False) == [200, 200]


def test_queries_that_wait_go_together_and_leave_busy_streams_out() -> None:
    lanes = Lanes(Pace(), capacity_tokens=10_000, streams=2)
    lanes.put("interactive", pieces(*[100] * 4), wait=False)
    assert lengths(lanes) == [100] * 4, "no other stream waits for some of them"


def test_who_was_answered_together_is_waited_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("likewise.runtime.lanes.LINGER_SECONDS", 30.0)
    lanes = Lanes(Pace(), capacity_tokens=10_000)
    lanes.put("interactive", pieces(5), wait=False)
    taken: list[int] = []

    def take() -> None:
        batch = lanes.take(wait=True, after=4)
        taken.extend([] if batch is None else [len(piece.ids) for piece in batch.pieces])

    thread = threading.Thread(target=take)
    thread.start()
    assert lanes.waiting_texts("interactive") == 1 and not taken
    lanes.put("interactive", pieces(6), wait=False)
    thread.join(LIMIT)
    assert taken == [6, 5], "two of four are enough"
    lanes.put("bulk", pieces(7), wait=False)
    lanes.put("interactive", pieces(8), wait=False)
    batch = lanes.take(wait=True, after=4)
    assert batch is not None and batch.lane == "interactive", "bulk work waits for nobody"


def test_sparse_rectangles_are_two_batches() -> None:
    lanes = Lanes(Pace(), capacity_tokens=10_000, least_fill=0.75)
    lanes.put("interactive", pieces(200, 190, 20, 20, 20), wait=False)
    assert [lengths(lanes), lengths(lanes)] == [[200, 190], [20, 20, 20]]
