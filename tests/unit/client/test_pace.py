"""Limits a minute, pauses and back-off, with a clock that only waiting moves."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from likewise.client.pace import (
    BURST_S,
    FIRST_DELAY_S,
    LONGEST_DELAY_S,
    LONGEST_PAUSE_S,
    Bucket,
    Pace,
    backoff_s,
    retry_after_s,
)
from tests.remote_kit import Time

if TYPE_CHECKING:
    from likewise.base.types import Lane

CHANCE = st.floats(0, 1, exclude_max=True)


@given(st.integers(1, 10_000), CHANCE)
def test_back_off_doubles_to_a_limit_and_half_of_it_is_chance(failures: int, drawn: float) -> None:
    top = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(failures - 1, 20))
    delay = backoff_s(failures, lambda: drawn)
    assert top / 2 <= delay <= top
    assert backoff_s(failures + 1, lambda: drawn) >= delay


@given(
    per_minute=st.integers(1, 100_000),
    calls=st.lists(st.tuples(st.floats(0, 30), st.integers(1, 500)), min_size=1, max_size=40),
)
def test_no_more_is_used_than_burst_and_time_allow(
    per_minute: int, calls: list[tuple[float, int]]
) -> None:
    time = Time()
    pace = Pace(time, tpm=per_minute)
    burst = max(1.0, per_minute / 60 * BURST_S)
    total = 0
    for pause, amount in calls:
        time.now += pause
        turn(pace, time, amount)
        # What is more than a burst goes alone when that is full, and is owed afterwards.
        owed = max(0.0, amount - burst)
        total += amount
        assert total - owed <= burst + time.now * per_minute / 60 + 1e-3


def turn(pace: Pace, time: Time, tokens: int) -> None:
    """Wait as bulk does."""
    while (wait := pace.take(tokens, "bulk")) is not None:
        time.wait(wait.seconds)


@given(st.integers(1, 1000), st.integers(1, 100))
def test_nobody_waits_longer_than_needed(per_minute: int, amount: int) -> None:
    time = Time()
    bucket = Bucket(per_minute, time)
    burst = max(1.0, per_minute / 60 * BURST_S)
    assert bucket.lacking_s(amount) == 0
    bucket.take(amount)
    wait = bucket.lacking_s(amount)
    level = burst - amount
    missing = (min(amount, burst) - level) * 60 / per_minute
    assert wait == pytest.approx(missing if missing > 1e-3 else 0, abs=1e-2)
    time.now += wait
    assert bucket.lacking_s(amount) == 0


def seconds(pace: Pace, tokens: int, lane: Lane) -> float:
    wait = pace.take(tokens, lane)
    return 0 if wait is None else wait.seconds


def test_a_query_goes_before_and_bulk_bears_it() -> None:
    time = Time()
    pace = Pace(time, rpm=60)
    for _ in range(6):
        assert seconds(pace, 1, "bulk") == 0
    for _ in range(3):
        assert seconds(pace, 1, "bulk") == pytest.approx(1), "who waits takes nothing"
    assert seconds(pace, 1, "interactive") == 0
    assert seconds(pace, 1, "bulk") == pytest.approx(2)
    for _ in range(5):
        assert seconds(pace, 1, "interactive") == 0
    assert seconds(pace, 1, "interactive") == pytest.approx(1), "not without end"


def test_requests_and_tokens_both_count() -> None:
    time = Time()
    pace = Pace(time, rpm=600, tpm=600)
    assert seconds(pace, 60, "bulk") == 0
    assert seconds(pace, 10, "bulk") == pytest.approx(1)
    time.now += 60
    assert [seconds(pace, 0, "bulk") for _ in range(60)] == [0] * 60
    assert seconds(pace, 0, "bulk") == pytest.approx(0.1)
    assert seconds(Pace(time), 10**9, "bulk") == 0


def test_the_longest_pause_counts() -> None:
    time = Time()
    pace = Pace(time)
    assert pace.take(1, "interactive") is None
    pace.pause(5, "five")
    pace.pause(2, "two")
    assert pace.take(1, "interactive") == (5, "five")
    time.now = 4
    assert pace.take(1, "bulk") == (1, "five")
    time.now = 5
    assert pace.take(1, "bulk") is None


NOW = datetime(2026, 11, 26, 12, 0, 0, tzinfo=UTC)
SPENT = {"x-ratelimit-remaining-requests": "0"}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "99999999"}, LONGEST_PAUSE_S),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "٣"}, None),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "1"}, 1),
        ({"retry-after": format_datetime(NOW.replace(second=40), usegmt=True)}, 40),
        ({"retry-after": format_datetime(NOW.replace(hour=11), usegmt=True)}, 0),
        ({**SPENT, "x-ratelimit-reset-requests": "6m0s"}, 360),
        ({**SPENT, "x-ratelimit-reset-requests": "20ms"}, 0.02),
        ({**SPENT, "x-ratelimit-reset-requests": "1m and a bit"}, None),
        ({"x-ratelimit-remaining-tokens": "9", "x-ratelimit-reset-tokens": "1s"}, None),
        (
            {
                **SPENT,
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-remaining-tokens": "0",
                "x-ratelimit-reset-tokens": "1h2m3.5s",
            },
            3600,
        ),
    ],
)
def test_what_endpoints_say_of_when(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers, NOW.timestamp()) == (
        None if seconds is None else pytest.approx(seconds)
    )


def header(draw: Callable[[], st.SearchStrategy[str]] = st.text) -> st.SearchStrategy[str]:
    dates = st.datetimes().map(lambda at: format_datetime(at.replace(tzinfo=UTC), usegmt=True))
    return draw() | dates | st.floats().map(str) | st.integers().map(str)


@given(
    st.dictionaries(
        st.sampled_from(["retry-after", "retry-after-ms", "x-ratelimit-reset-tokens"]), header()
    ),
    st.floats(0, 1e10),
)
def test_nonsense_is_no_pause(headers: dict[str, str], now: float) -> None:
    found = retry_after_s({"x-ratelimit-remaining-tokens": "0", **headers}, now)
    assert found is None or 0 <= found <= LONGEST_PAUSE_S
