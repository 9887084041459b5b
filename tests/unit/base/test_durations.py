"""Lengths of time as people, Go and Ollama's clients write them."""

import math

import pytest

from likewise.base.durations import seconds
from likewise.base.errors import SettingsError


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("5m", 300), ("1h30m", 5400), ("300ms", 0.3), ("1.5h", 5400), ("90", 90), ("0", 0),
        (0, 0), (2.5, 2.5), ("forever", math.inf), (-1, math.inf), ("-1", math.inf),
        ("-1m", math.inf), (" 10s ", 10), ("1us", 1e-6), (math.inf, math.inf),
    ],
)  # fmt: skip
def test_what_is_meant(written: str | float, found: float) -> None:
    assert seconds(written, what="keep_alive") == pytest.approx(found)


@pytest.mark.parametrize("written", ["", "soon", "5 m", "m", "5m!", "1d", "--1", math.nan])
def test_what_isnt_one(written: str | float) -> None:
    with pytest.raises(SettingsError, match="keep_alive is .* write a length of time"):
        seconds(written, what="keep_alive")
