"""Which precision runs, and on how many threads."""

from __future__ import annotations

import pytest

from likewise.base.errors import ModelUnsupported
from likewise.engines.openvino import choose_precision
from likewise.engines.threads import available_threads

PLAIN, MODERN = ["FP32", "INT8"], ["FP32", "BF16", "INT8"]


def test_auto_takes_bf16_where_the_cpu_has_it() -> None:
    assert choose_precision("auto", MODERN) == ("bf16", "this CPU computes in bf16")
    assert choose_precision("auto", PLAIN) == ("f32", "this CPU doesn't compute in bf16")


def test_what_is_asked_for_is_what_runs_or_an_error() -> None:
    for exact in ("exact", "f32"):
        assert choose_precision(exact, MODERN)[0] == "f32"
    for fast in ("fast", "bf16"):
        assert choose_precision(fast, MODERN)[0] == "bf16"
    assert choose_precision("small", PLAIN)[0] == "int8"
    with pytest.raises(ModelUnsupported, match="bf16 isn't something this CPU computes in.*FP32"):
        choose_precision("fast", PLAIN)
    with pytest.raises(ModelUnsupported, match="'fats' isn't known.*did you mean 'fast'"):
        choose_precision("fats", PLAIN)  # type: ignore[arg-type]


def test_threads() -> None:
    assert available_threads() >= 1
