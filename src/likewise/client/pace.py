"""How fast an endpoint is asked: limits a minute, pauses it asked for, back-off after failures."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from likewise.base.clock import Clock
    from likewise.base.types import Lane

FIRST_DELAY_S, LONGEST_DELAY_S = 0.5, 30.0
LONGEST_PAUSE_S = 3600.0
"""What an endpoint may ask for; one that says more has most likely its clock wrong."""
BURST_S = 6.0
"""How much of a minute's share may be used at once: a tenth."""
_ROUNDING, _SHORTEST_S = 1e-6, 0.001
"""So much less than is wanted is enough, and so long is waited at least: floats don't add up."""
_PART = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|h|m|s)", re.ASCII)
_PARTS = re.compile(rf"(?:{_PART.pattern}){{1,8}}", re.ASCII)
_LONGEST_HEADER = 64
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def backoff_s(failures: int, random: Callable[[], float]) -> float:
    """Seconds to wait after so many failures in a row, 1 or more; `random` gives [0, 1).

    They double, up to `LONGEST_DELAY_S`; half of it is by chance, so that callers who failed
    together don't come back together.
    """
    most = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(failures - 1, 30))
    return most * (1.0 + random()) / 2.0


def retry_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds for which an answer asks to be left alone; None when it doesn't say.

    `headers` have names in lower case; `now` is in seconds since 1970. Read are, in this order:
    `retry-after-ms`, `retry-after` (seconds, or a date), and of limits that are used up
    (`x-ratelimit-remaining-*` is 0) the longest `x-ratelimit-reset-*`, such as `6m0s`. At most
    `LONGEST_PAUSE_S`, at least 0.
    """
    said = _number(headers.get("retry-after-ms"))
    found = None if said is None else said / 1000.0
    if found is None:
        found = _number(headers.get("retry-after"))
    if found is None:
        found = _until(headers.get("retry-after"), now)
    if found is None:
        found = _reset(headers)
    return None if found is None else min(max(found, 0.0), LONGEST_PAUSE_S)


def _number(text: str | None) -> float | None:
    if text is None or not re.fullmatch(r"\s*\d{1,15}(\.\d{1,15})?\s*", text, re.ASCII):
        return None
    return float(text)


def _until(text: str | None, now: float) -> float | None:
    try:
        at = parsedate_to_datetime((text or "")[:_LONGEST_HEADER])
        # A date without a zone is UTC, as all dates in HTTP are.
        return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp() - now
    except (ValueError, TypeError, OverflowError):
        return None


def _reset(headers: Mapping[str, str]) -> float | None:
    longest = None
    for what in ("requests", "tokens"):
        if _number(headers.get(f"x-ratelimit-remaining-{what}")) != 0.0:
            continue
        text = headers.get(f"x-ratelimit-reset-{what}", "").strip()
        if len(text) > _LONGEST_HEADER or not _PARTS.fullmatch(text):
            continue
        seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
        longest = max(longest or 0.0, seconds)
    return longest


class Wait(NamedTuple):
    """Why a request can't go out yet."""

    seconds: float
    """After which it may be asked again whether it can."""
    why: str
    """What the endpoint said when it asked to be left alone; empty where it is a limit of ours."""


class Bucket:
    """A share that fills evenly, of which callers take. `Pace` lets one thread at it at a time."""

    def __init__(self, per_minute: float, clock: Clock) -> None:
        """Full at first: a burst of `BURST_S` seconds' worth, at least 1."""
        self._per_s = per_minute / 60.0
        self._most = max(1.0, self._per_s * BURST_S)
        self._level = self._most
        self._clock = clock
        self._at = clock()

    def lacking_s(self, amount: float, *, overdraw: bool = False) -> float:
        """Seconds until `amount` can be taken, if nobody takes any meanwhile; 0 when it can.

        It can when there is so much; more than a burst when that is full, and is owed then. With
        `overdraw` up to a burst more than there is can be taken at once: for a query that somebody
        waits for, whose cost those bear who come after it.
        """
        now = self._clock()
        self._level = min(self._most, self._level + (now - self._at) * self._per_s)
        self._at = now
        lacking = min(amount, self._most) - self._level - (self._most if overdraw else 0.0)
        return 0.0 if lacking <= _ROUNDING else max(_SHORTEST_S, lacking / self._per_s)

    def take(self, amount: float) -> None:
        """Take it, whether it is there or not."""
        self._level -= amount


class Pace:
    """When the next request to an endpoint may go out. Safe to use from several threads."""

    def __init__(self, clock: Clock, *, rpm: int | None = None, tpm: int | None = None) -> None:
        """At most `rpm` requests and `tpm` tokens a minute, where given."""
        self._clock = clock
        self._requests = None if rpm is None else Bucket(rpm, clock)
        self._tokens = None if tpm is None else Bucket(tpm, clock)
        self._paused_until = clock()
        self._paused_for = ""
        self._lock = threading.Lock()

    def take(self, tokens: int, lane: Lane) -> Wait | None:
        """Take the share of a request of so many tokens: None; or say how long it has to wait.

        Nothing is taken by who waits, so that a query passes bulk that is waiting.
        """
        overdraw = lane == "interactive"
        with self._lock:
            if (left := self._paused_until - self._clock()) > 0:
                return Wait(left, self._paused_for)
            shares = [
                (bucket, amount)
                for bucket, amount in ((self._requests, 1.0), (self._tokens, float(tokens)))
                if bucket is not None
            ]
            lacking = [each.lacking_s(amount, overdraw=overdraw) for each, amount in shares]
            if any(lacking):
                return Wait(max(lacking), "")
            for each, amount in shares:
                each.take(amount)
        return None

    def pause(self, seconds: float, why: str) -> None:
        """Let nobody ask for so many seconds; a longer pause that was asked for stays."""
        with self._lock:
            until = self._clock() + seconds
            if until > self._paused_until:
                self._paused_until, self._paused_for = until, why
