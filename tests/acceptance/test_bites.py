"""The acceptance tests can fail: with a safeguard taken out they do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from likewise.base.bound import BoundSource, BoundTable
from likewise.binding.reconcile import Finding
from likewise.stores.duckdb_lease import DuckdbLease
from likewise.stores.duckdb_publish import Publisher
from likewise.stores.sqlite import SqliteTable
from tests.acceptance import test_costs, test_meanwhile, test_trouble
from tests.acceptance.rigs import RIGS, SCANNED, Rig
from tests.binding_kit import unfence


def no_sweep(
    source: BoundSource, table: BoundTable, *, is_exact: bool = True
) -> Iterator[list[Finding]]:
    yield from ()


@pytest.mark.parametrize("name", [name for name in RIGS if name not in SCANNED])
def test_without_reconciling(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = RIGS[name](tmp_path, request.getfixturevalue)
    monkeypatch.setattr("likewise.binding.worker.sweep", no_sweep)
    try:
        with pytest.raises(AssertionError):
            test_trouble.test_changes_behind_the_back_are_noticed(rig)
    finally:
        rig.close()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Rig]:
    made = RIGS["sqlite"](tmp_path, lambda name: None)
    yield made
    made.close()


def test_without_the_fence(sqlite: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    unfence(monkeypatch.setattr)
    with pytest.raises(AssertionError):
        test_meanwhile.test_an_edit_meanwhile(sqlite, again=True)


def test_without_the_lease(sqlite: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fence is out too: each of them alone keeps a worker that stood still from publishing."""
    unfence(monkeypatch.setattr)
    monkeypatch.setattr(SqliteTable, "_require_mine", lambda self, db: None)
    with pytest.raises(AssertionError):
        test_meanwhile.test_a_worker_that_stands_still_while_another_goes_on(sqlite)


def test_with_the_lease_alone(sqlite: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    unfence(monkeypatch.setattr)
    test_meanwhile.test_a_worker_that_stands_still_while_another_goes_on(sqlite)


def test_without_reuse(sqlite: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SqliteTable, "known", lambda self, hashes: {})
    with pytest.raises(AssertionError):
        test_costs.test_one_word_in_a_long_document(sqlite)


@pytest.fixture
def duck(tmp_path: Path) -> Iterator[Rig]:
    made = RIGS["sqlite-duckdb"](tmp_path, lambda name: None)
    yield made
    made.close()


def unfence_duckdb(patch: pytest.MonkeyPatch) -> None:
    """Publish whatever comes, answer whatever waits."""
    answer = Publisher._answer
    patch.setattr(Publisher, "is_superseded", lambda self, action, known: False)
    patch.setattr(Publisher, "_answer", lambda self, seqs: answer(self, dict.fromkeys(seqs, 2**62)))


def test_duckdb_without_the_fence(duck: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The change has come from the outbox into the log when the old text is published."""
    unfence_duckdb(monkeypatch)
    test_meanwhile.begun(duck, again=True)

    def change() -> None:
        duck.app.write({1: "two"})
        duck.worker().intake.run()

    test_meanwhile.during(duck, change)
    duck.drain()
    with pytest.raises(AssertionError):
        duck.assert_right()


def test_duckdb_without_the_lease(duck: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    unfence_duckdb(monkeypatch)
    monkeypatch.setattr(DuckdbLease, "_require_mine", lambda self, db: None)
    with pytest.raises(AssertionError):
        test_meanwhile.test_a_worker_that_stands_still_while_another_goes_on(duck)


def test_duckdb_with_the_lease_alone(duck: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    unfence_duckdb(monkeypatch)
    test_meanwhile.test_a_worker_that_stands_still_while_another_goes_on(duck)
