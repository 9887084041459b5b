"""The row changes while the model is at it: a barrier in the embedder says exactly when."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apsw
import pytest

from tests.binding_kit import DOCS, JOURNALS, App, Barrier, Bound, Fake, assert_right, unfence
from tests.support import LIMIT, wait_until


@pytest.fixture(params=JOURNALS)
def bound(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bound]:
    app = App(tmp_path / "app.db", request.param, DOCS)
    made = Bound(app)
    made.source.attach()
    made.drain()
    yield made
    made.close()
    app.close()


def put(app: App, title: str, key: int = 1) -> None:
    app("INSERT OR REPLACE INTO docs VALUES (?, ?, ?, 'b')", [key, key, title])


def during(bound: Bound, change: Callable[[], object]) -> None:
    """Run one worker step; `change` happens while the embedder works."""
    barrier = Barrier()
    worker = bound.another(Fake(barrier))
    with ThreadPoolExecutor(1) as pool:
        step = pool.submit(worker.step)
        assert barrier.entered.wait(LIMIT)
        change()
        barrier.go.set()
        assert step.result(LIMIT) > 0
    worker.close()


REEMBED = pytest.mark.parametrize("again", [False, True], ids=["first", "again"])


@REEMBED
def test_an_edit_meanwhile_is_not_published(bound: Bound, again: bool) -> None:
    edit_during(bound, again=again)


def edit_during(bound: Bound, *, again: bool) -> None:
    if again:
        put(bound.app, "zero")
        bound.drain()
    before = dict(bound.table.fingerprints())
    put(bound.app, "one")
    during(bound, lambda: bound.app("UPDATE docs SET title = 'two'"))
    assert dict(bound.table.fingerprints()) == before
    assert len(bound.log()) == 1
    bound.drain()
    assert_right(bound)


@REEMBED
def test_a_delete_meanwhile_leaves_no_orphan(bound: Bound, again: bool) -> None:
    delete_during(bound, again=again)


def delete_during(bound: Bound, *, again: bool) -> None:
    if again:
        put(bound.app, "zero")
        bound.drain()
    put(bound.app, "one")
    during(bound, lambda: bound.app("DELETE FROM docs"))
    bound.drain()
    assert_right(bound)
    assert dict(bound.table.fingerprints()) == {}


def test_an_edit_there_and_back_meanwhile(bound: Bound) -> None:
    back_during(bound)


def back_during(bound: Bound) -> None:
    """What is stored is right again before the vector of the text in between is ready."""
    put(bound.app, "zero")
    bound.drain()
    put(bound.app, "one")
    during(bound, lambda: put(bound.app, "zero"))
    bound.drain()
    assert_right(bound)


def test_a_key_that_moves_meanwhile(bound: Bound) -> None:
    put(bound.app, "one")
    during(bound, lambda: bound.app("UPDATE docs SET id = 9"))
    bound.drain()
    assert_right(bound)
    assert set(bound.table.fingerprints()) == {(9,)}


def test_a_row_replaced_through_another_index_meanwhile(bound: Bound) -> None:
    put(bound.app, "one")
    during(bound, lambda: bound.app("REPLACE INTO docs VALUES (5, '1', 'five', 'b')"))
    bound.drain()
    assert_right(bound)
    assert set(bound.table.fingerprints()) == {(5,)}


@pytest.mark.parametrize(
    "check",
    [
        lambda bound: edit_during(bound, again=False),
        lambda bound: edit_during(bound, again=True),
        lambda bound: delete_during(bound, again=False),
        lambda bound: delete_during(bound, again=True),
        back_during,
    ],
    ids=["edit-first", "edit-again", "delete-first", "delete-again", "back"],
)
def test_without_the_fence_each_of_these_fails(
    bound: Bound, check: Callable[[Bound], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    unfence(monkeypatch.setattr)
    with pytest.raises(AssertionError):
        check(bound)


def test_an_application_is_not_blocked_while_the_model_works(bound: Bound) -> None:
    put(bound.app, "one")
    bound.app.db.set_busy_timeout(0)

    def written() -> bool:
        # The worker looks for more work as the model begins: that look is over in a moment, and a
        # lock held for the model would not be.
        try:
            put(bound.app, "two", key=2)
        except apsw.BusyError:
            return False
        return True

    during(bound, lambda: wait_until(written, LIMIT / 4, what="a write"))
    bound.drain()
    assert_right(bound)
