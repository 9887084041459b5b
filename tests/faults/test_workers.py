"""Several workers on one binding, poison among the rows, an engine that breaks."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from likewise.base.errors import EngineError, LeaseLost, Overloaded, SpaceMismatch
from likewise.base.space import Space
from likewise.binding import reconcile
from likewise.binding.reconcile import verify
from likewise.binding.status import status
from likewise.binding.worker import Options, Worker
from tests.binding_kit import DOCS, App, Barrier, Bound, Fake, assert_right, bars, running, spawn
from tests.faults.programs import WORKER
from tests.support import LIMIT, wait_until


@pytest.fixture
def bound(tmp_path: Path) -> Iterator[Bound]:
    app = App(tmp_path / "app.db", "wal", DOCS)
    made = Bound(app)
    made.drain()
    yield made
    made.close()
    app.close()


def fill(bound: Bound, count: int, text: str = "t") -> None:
    bound.app("BEGIN")
    for i in range(1, count + 1):
        bound.app("INSERT INTO docs VALUES (?, ?, ?, ?)", [i, i, f"{text}{i}", "b"])
    bound.app("COMMIT")


def test_the_second_worker_waits_for_the_first(bound: Bound) -> None:
    fill(bound, 3)
    barrier = Barrier()
    first, second = bound.another(Fake(barrier)), bound.another()
    with ThreadPoolExecutor(1) as pool:
        step = pool.submit(first.step)
        assert barrier.entered.wait(LIMIT)
        assert second.step() == 0
        assert status(bound.source, bound.table).state == "working"
        barrier.go.set()
        assert step.result(LIMIT) == 3
    first.step()
    assert_right(bound)
    fill_more = bound.app("UPDATE docs SET title = 'u'")
    assert fill_more == []
    assert second.step() == 3
    assert_right(bound)


def test_a_lease_that_ran_out_while_its_holder_lives(bound: Bound) -> None:
    """The first worker is slow, the second takes over; what the first had made isn't published."""
    fill(bound, 3)
    barrier = Barrier()
    first = bound.another(Fake(barrier), lease_seconds=1000.0)
    second = bound.another()
    with ThreadPoolExecutor(1) as pool:
        step = pool.submit(first.step)
        assert barrier.entered.wait(LIMIT)
        bound.app("UPDATE likewise_binding SET lease_until = 0")
        second.drain()
        bound.app("UPDATE docs SET title = 'newest'")
        second.drain()
        barrier.go.set()
        with pytest.raises(LeaseLost):
            step.result(LIMIT)
    assert_right(bound)
    bound.app("UPDATE docs SET title = 'and on'")
    wait_until(lambda: first.step() == 0, what="the first to lead again")
    assert_right(bound)


def test_a_killed_holder_is_followed_at_once(bound: Bound) -> None:
    fill(bound, 3)
    path = bound.app.path
    bound.close()
    bound.app.close()
    killed = spawn(WORKER, path=path, drain=True, kill_at="planned", lease=100000)
    killed.communicate(timeout=LIMIT)
    assert killed.returncode == -signal.SIGKILL
    last = spawn(WORKER, path=path, drain=True)
    _, errors = last.communicate(timeout=LIMIT)
    assert last.returncode == 0, errors


def test_one_bad_row_among_a_thousand(bound: Bound) -> None:
    fill(bound, 1000)
    bound.app("UPDATE docs SET title = 'poison' WHERE id = 700")
    bound.drain()
    assert_right(bound)
    (parked,) = bound.table.parked()
    assert parked.key == (700,)
    assert parked.error == "invalid_input: the model can't read poison"
    now = status(bound.source, bound.table)
    assert (now.rows, now.current, now.pending, now.parked) == (1000, 999, 0, 1)
    audit = verify(bound.source, bound.table)
    assert (audit.current, audit.parked, audit.repaired) == (999, 1, 0)
    bound.app("UPDATE docs SET title = 'cured' WHERE id = 700")
    bound.drain()
    assert bound.table.parked() == []
    assert_right(bound)


@pytest.mark.parametrize("word", ["crash", "infinite"])
def test_a_row_that_makes_the_engine_fail(bound: Bound, word: str) -> None:
    fill(bound, 20)
    bound.app("UPDATE docs SET title = ? WHERE id IN (3, 4)", [word])
    bound.drain()
    assert {each.key for each in bound.table.parked()} == {(3,), (4,)}
    assert_right(bound)


def test_parked_rows_tried_again(bound: Bound) -> None:
    fill(bound, 2, text="poison")
    bound.drain()
    assert len(bound.table.parked()) == 2

    class Cured(Fake):
        def embed(self, texts: Sequence[str], **options: object):
            return super().embed([text.replace("poison", "p") for text in texts])

    assert bound.table.retry_parked() == 2
    worker = bound.worker(Cured())
    worker.drain()
    assert bound.table.parked() == []


def test_an_engine_that_is_broken_parks_nothing(bound: Bound) -> None:
    fill(bound, 5)
    broken = True

    def fail(texts: Sequence[str]) -> None:
        if broken:
            raise EngineError("no engine")

    worker = bound.worker(Fake(fail))
    with pytest.raises(EngineError):
        worker.step()
    assert bound.table.parked() == []
    assert len(bound.log()) == 5
    broken = False
    worker.drain()
    assert_right(bound)


def test_a_passing_failure_is_tried_again(bound: Bound) -> None:
    fill(bound, 5)
    failures = [Overloaded("busy"), Overloaded("busy"), RuntimeError("a bug")]

    def fail(texts: Sequence[str]) -> None:
        if failures:
            raise failures.pop(0)

    worker = bound.worker(Fake(fail), first_delay=0.001)
    with running(worker):
        wait_until(lambda: bound.log() == [], what="the log to be empty")
        wait_until(lambda: worker.error is None, what="the error to be withdrawn")
    assert failures == []
    assert_right(bound)
    assert status(bound.source, bound.table).state == "idle"


def test_a_row_whose_text_did_not_change_costs_no_embedding(bound: Bound) -> None:
    fill(bound, 10)
    bound.drain()
    bound.embedder.texts.clear()
    bound.app("UPDATE docs SET title = title || ' ', body = 'c'")
    bound.app("UPDATE docs SET title = rtrim(title), body = 'b'")
    bound.app("UPDATE docs SET slug = 'x' || slug")
    bound.drain()
    assert bound.embedder.texts == []
    assert_right(bound)


def test_a_model_of_another_space_is_refused(bound: Bound) -> None:
    class Other(Fake):
        space = Space("other", "11", "mean", 8, False)

    with pytest.raises(SpaceMismatch, match="weights"):
        bound.worker(Other())


def test_a_long_text_is_published_whole(bound: Bound) -> None:
    bound.app("INSERT INTO docs VALUES (1, 1, ?, 'b')", ["|".join(map(str, range(2000)))])
    worker = bound.worker(batch_chunks=64)
    worker.drain()
    assert_right(bound)
    assert bound.table.counts().chunks == 2001


def test_an_application_that_never_rests_does_not_keep_a_table_from_being_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It writes before each claim, so that a claim always finds something."""
    monkeypatch.setattr(reconcile, "PAGE", 10)
    with closing(App(tmp_path / "app.db", "wal", DOCS)) as app:
        app(
            "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 60)"
            " INSERT INTO docs SELECT i, i, 't', 'b' FROM n"
        )
        with closing(Bound(app)) as bound:

            def at(step: str) -> None:
                if step == "attached":
                    app("UPDATE docs SET body = body || 'x' WHERE id = 1")
                if step == "planned":
                    app("UPDATE docs SET body = body || 'x' WHERE id = 2")

            options = Options(batch_rows=10, most_rows=10, reconcile_seconds=None)
            worker = Worker(bound.source, bound.table, Fake(), bars, options=options, at=at)
            for _ in range(40):
                worker.step()
            # The two that changed under the model each time may have to wait.
            assert bound.table.fingerprints().keys() >= {(i,) for i in range(3, 61)}
            worker.close()


def test_an_idle_worker_wakes_for_another_program(bound: Bound) -> None:
    worker = bound.worker(idle_seconds=1000.0)
    with running(worker):
        for turn in range(3):
            bound.app("INSERT OR REPLACE INTO docs VALUES (1, 1, ?, 'b')", [f"turn {turn}"])
            wait_until(lambda: bound.log() == [], what="the log to be empty")
            assert_right(bound)
