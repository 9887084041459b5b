"""Poison among rows, changes behind the capture's back, models that are down."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from likewise.base.errors import Overloaded
from likewise.binding.status import status
from tests.acceptance.rigs import Rig
from tests.binding_kit import Fake


def test_one_poisonous_row_among_a_thousand(rig: Rig) -> None:
    rig.app.write({number: f"text {number}" for number in range(1, 1001)})
    rig.app.write({500: "poison"})
    rig.drain()
    now = status(rig.source, rig.table)
    assert (now.rows, now.current, now.parked, now.pending) == (1000, 999, 1, 0)
    (parked,) = rig.table.parked()
    assert parked.key == rig.key_of(500)
    assert "the model can't read poison" in parked.error
    rig.assert_right()
    assert rig.table.retry_parked() == 1
    rig.drain()
    assert rig.table.parked()[0].attempts == 2
    rig.app.write({500: "bread"})
    rig.drain()
    assert rig.table.parked() == []
    rig.assert_right()


def test_changes_behind_the_back_are_noticed(rig: Rig) -> None:
    rig.app.write({number: f"text {number}" for number in range(1, 30)})
    rig.drain()
    rig.app.bypass({3: "three", 77: "new"}, removed=5)
    rig.drain()
    rig.assert_right()


def test_a_model_that_is_down_for_a_while(rig: Rig) -> None:
    """Nothing is parked, nothing is lost, the order stays."""
    failures = [Overloaded("busy"), Overloaded("busy")]

    def before(texts: Sequence[str]) -> None:
        if failures:
            raise failures.pop()

    rig.app.write({number: f"text {number}" for number in range(1, 20)})
    embedder = Fake(before)
    worker = rig.worker(embedder, first_delay=0.001)
    worker.drain()
    assert failures == []
    assert rig.table.parked() == []
    rig.assert_right()
    assert sorted(embedder.texts) == sorted(set(embedder.texts))


def test_a_paused_binding_stands_still_and_goes_on(rig: Rig) -> None:
    from likewise.server.databases import bindings_of

    rig.drain()
    with bindings_of(rig.spec.store_address) as bindings:
        bindings.pause("docs", True)
    rig.app.write({1: "one"})
    assert rig.drain().texts == []
    assert status(rig.source, rig.table).state == "paused"
    with bindings_of(rig.spec.store_address) as bindings:
        bindings.pause("docs", False)
    assert rig.drain().texts == ["one"]
    rig.assert_right()


def test_dropped_it_leaves_nothing(rig: Rig) -> None:
    from likewise.base.errors import BindingNotFound
    from likewise.server.databases import drop, record

    rig.app.write({1: "one"})
    rig.drain()
    drop(rig.spec.store_address, "docs")
    with pytest.raises(BindingNotFound):
        record(rig.spec.store_address, "docs")
    rig.app.write({2: "two"})  # no trigger writes to a log that is gone
    assert rig.app.rows() == {1: "one", 2: "two"}
