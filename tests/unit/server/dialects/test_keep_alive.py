"""How long a model stays: numbers, and every duration that Go reads and no other."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from likewise.base.errors import InputError
from likewise.server.dialects.keep_alive import duration, seconds

UNITS_NS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
PARTS = st.lists(
    st.tuples(st.integers(0, 10_000), st.sampled_from(sorted(UNITS_NS))), min_size=1, max_size=4
)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (None, None),
        (0, 0.0),
        (300, 300.0),
        (1.5, 1.5),
        (-1, math.inf),
        (-0.5, math.inf),
        (1e23, math.inf),
        ("0", 0.0),
        ("-0", 0.0),
        ("0s", 0.0),
        ("10m", 600.0),
        ("+10m", 600.0),
        ("1h30m", 5400.0),
        ("30m1h", 5400.0),
        ("1.5h", 5400.0),
        (".5s", 0.5),
        ("1.s", 1.0),
        ("100ms", 0.1),
        ("1m1ms", 60.001),
        ("-1m", math.inf),
        ("-1ns", math.inf),
    ],
)
def test_what_clients_write(written: float | str | None, meant: float | None) -> None:
    assert seconds(written) == meant


@pytest.mark.parametrize("text", ["-1", "1", "300", "1.5", ".5", "+3"])
def test_a_number_in_quotes_has_no_unit(text: str) -> None:
    with pytest.raises(InputError, match="missing unit in duration") as refused:
        seconds(text)
    assert refused.value.param == "keep_alive"


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "m", "10", "10 m", " 10m", "10m ", "10m\n", "--1m", "1d", "1M", "1m-1s", ".", ".s",
        "1..5s", "1.5.s", "1e3s", "inf", "nan", "forever", "١m", "9999999999h",
        "9223372036854775808ns", "1s" * 100, "1" * 5000,
    ],
)  # fmt: skip
def test_what_go_does_not_read(text: str) -> None:
    with pytest.raises(InputError, match="keep_alive: (invalid|missing unit in) duration"):
        seconds(text)


def test_the_longest_that_go_can_count() -> None:
    assert duration("9223372036854775807ns") == pytest.approx(2**63 / 1e9)


@given(PARTS, st.sampled_from(["", "+", "-"]))
def test_parts_add_up(parts: list[tuple[int, str]], sign: str) -> None:
    text = sign + "".join(f"{number}{unit}" for number, unit in parts)
    total = sum(number * UNITS_NS[unit] for number, unit in parts) / 1e9
    assert duration(text) == pytest.approx(-total if sign == "-" else total)


@given(st.integers(0, 10**6), st.integers(0, 999), st.sampled_from(["s", "m", "h"]))
def test_fractions(whole: int, thousandths: int, unit: str) -> None:
    meant = (whole + thousandths / 1000) * UNITS_NS[unit] / 1e9
    assert duration(f"{whole}.{thousandths:03}{unit}") == pytest.approx(meant)


@given(st.text() | st.text(alphabet="0123456789.+-hmsnuµ"))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        assert math.isfinite(duration(text))
    except InputError:
        assert not any(text == f"{number}{unit}" for number in range(10) for unit in UNITS_NS)
