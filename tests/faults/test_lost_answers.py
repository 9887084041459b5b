"""A Postgres that goes away in the midst of something: what it was asked, nobody knows it did."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from likewise.base.errors import DatabaseLocked, DatabaseUnavailable
from tests.acceptance.rigs import RIGS, Rig
from tests.binding_kit import running
from tests.support import wait_until


@pytest.fixture
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    made = RIGS["postgres"](tmp_path, request.getfixturevalue)
    made.source.attach()
    yield made
    made.close()


def is_done(rig: Rig) -> bool:
    # In the order that changes go: else one could slip from the outbox into the log in between.
    return rig.source.waiting() == (0, None) and not rig.table.pending()


def test_claims_that_could_not_be_given_back(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others' locks are in the way. The worker lives on, prolongs its lease, and has let go."""
    rig.app.write({1: "one", 2: "two"})
    worker = rig.worker()
    unclaim = worker._table.unclaim

    def refuse() -> None:
        monkeypatch.setattr(worker._table, "unclaim", unclaim)
        raise DatabaseLocked("a lock wasn't to be had")

    def fail(*values: Any, **named: Any) -> None:
        monkeypatch.undo()
        monkeypatch.setattr(worker._table, "unclaim", refuse)
        raise DatabaseLocked("a lock wasn't to be had")

    monkeypatch.setattr(worker._table, "apply", fail)
    with running(worker):
        wait_until(lambda: is_done(rig), what="rest")
    rig.assert_right()


def test_a_claim_that_is_carried_out_after_all(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its COMMIT was under way when the connection broke, and comes after all was given back."""
    rig.app.write({1: "one", 2: "two"})
    worker = rig.worker()
    claim, unclaim = worker._table.claim, worker._table.unclaim

    def unanswered(after: int, *, limit: int) -> None:
        monkeypatch.setattr(worker._table, "claim", claim)
        raise DatabaseUnavailable("the connection was lost")

    def before_it_comes() -> None:
        unclaim()
        monkeypatch.setattr(worker._table, "unclaim", unclaim)
        claim(0, limit=10)

    monkeypatch.setattr(worker._table, "claim", unanswered)
    monkeypatch.setattr(worker._table, "unclaim", before_it_comes)
    with running(worker):
        wait_until(lambda: is_done(rig), what="rest")
    rig.assert_right()
