"""How long a model stays loaded, as Ollama's clients write it: seconds, or a duration as Go has."""

from __future__ import annotations

import math
import re
from decimal import Decimal

from likewise.base.errors import InputError

_NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # the micro sign
    "μs": 1_000,  # the Greek letter
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_NUMBER = r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+"
_PART = re.compile(rf"({_NUMBER})(ns|us|µs|μs|ms|s|m|h)")
_WHOLE = re.compile(rf"[-+]?(?:0|(?:(?:{_NUMBER})(?:ns|us|µs|μs|ms|s|m|h))+)")
_UNITLESS = re.compile(rf"[-+]?(?:{_NUMBER})")
_MOST_NS = 2**63 - 1
_LONGEST_TEXT = 100


def seconds(written: float | str | None) -> float | None:
    """How many seconds `keep_alive` means: infinity for ever, 0 for not at all, None for as set.

    A number is seconds, a text a duration such as `10m` or `1h30m`; what is negative means for
    ever, and so does more than Go can count (292 years).

    Raises:
        InputError: the text isn't a duration.
    """
    if written is None:
        return None
    stays = duration(written) if isinstance(written, str) else float(written)
    return math.inf if stays < 0 or stays * 1e9 > _MOST_NS else stays


def duration(text: str) -> float:
    """The seconds that Go's `time.ParseDuration` reads in `text`.

    Raises:
        InputError: it reads none.
    """
    shown = text[:_LONGEST_TEXT]
    if _UNITLESS.fullmatch(shown) and shown.lstrip("+-") != "0":
        raise _wrong("missing unit in duration", shown)
    if len(text) > _LONGEST_TEXT or not _WHOLE.fullmatch(text):
        raise _wrong("invalid duration", shown)
    total = sum(Decimal(number) * _NANOSECONDS[unit] for number, unit in _PART.findall(text))
    if total > _MOST_NS:
        raise _wrong("invalid duration", shown)
    return float(-total if text.startswith("-") else total) / 1e9


def _wrong(what: str, text: str) -> InputError:
    return InputError(
        f'keep_alive: {what} "{text}"; give a number of seconds (negative: for ever), or a '
        'duration such as "10m", "1h30m" or "-1m"',
        param="keep_alive",
    )
