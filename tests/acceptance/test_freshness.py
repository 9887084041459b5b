"""A search that waits finds what was written before it, whatever the source and the store."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from likewise.base.errors import NotYetSearchable
from likewise.server import databases
from likewise.server.bindings import LiveBinding
from tests.acceptance.rigs import Rig
from tests.binding_kit import SPACE, Barrier, bars, fake_vector
from tests.support import LIMIT

LONG_S = 60.0


class Model:
    """As a registry gives it out. Documents pass by `before`; a question never waits."""

    space = SPACE

    def __init__(self) -> None:
        self.before: Callable[[], None] = lambda: None

    def embed(self, texts: Sequence[str], *, lane: str = "bulk", **_: Any) -> np.ndarray:
        if lane == "bulk":
            self.before()
        return np.stack([fake_vector(text) for text in texts])

    def splitter(self, chunk: str = "") -> Any:
        return bars


@contextmanager
def serving(rig: Rig, model: Model) -> Iterator[LiveBinding]:
    made: Any = model
    live = LiveBinding(rig.record, lambda name: made)
    live.start()
    try:
        yield live
    finally:
        live.stop()


@pytest.fixture
def model() -> Model:
    return Model()


def found(live: LiveBinding, wait_s: float = LONG_S) -> dict[Any, tuple[str, bool]]:
    results = live.search("anything", 1000, freshness="wait", wait_s=wait_s)
    return {each.row.key: (each.row.text, each.fresh) for each in results}


def test_what_was_written_before_is_found(rig: Rig, model: Model) -> None:
    rig.app.write({number: f"first {number}" for number in range(1, 6)})
    with serving(rig, model) as live:
        assert len(found(live)) == 5
        for turn in range(4):
            rig.app.write({1: f"turn {turn}", 10 + turn: f"new in {turn}"})
            there = found(live)
            assert there[rig.key_of(1)] == (f"turn {turn}", True)
            assert there[rig.key_of(10 + turn)] == (f"new in {turn}", True)
        rig.app.remove(1)
        assert rig.key_of(1) not in found(live)


def test_it_says_so_when_it_takes_too_long(rig: Rig, model: Model) -> None:
    rig.app.write({1: "one"})
    with serving(rig, model) as live:
        found(live)
        barrier = Barrier()
        model.before = lambda: barrier([])
        rig.app.write({1: "changed", 2: "two"})
        assert barrier.entered.wait(LIMIT)
        with pytest.raises(NotYetSearchable, match="give it more, or ask with 'any'"):
            found(live, 0.0)
        (old,) = live.search("anything", 9)
        assert (old.row.text, old.fresh) == ("changed", False)
        assert live.search("anything", 9, freshness="fresh") == []
        barrier.go.set()
        assert set(found(live).values()) == {("changed", True), ("two", True)}
        databases.pause(rig.record, True)
        rig.app.write({3: "three"})
        with pytest.raises(NotYetSearchable, match="it is paused"):
            found(live, 0.0)
        databases.pause(rig.record, False)
        assert len(found(live)) == 3
