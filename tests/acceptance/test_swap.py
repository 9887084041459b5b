"""A model swap: each answer is wholly of one generation, and whoever is killed, both end right."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from likewise.base.errors import (
    BindingError,
    BindingExists,
    BindingNotFound,
    LikewiseError,
    SettingsError,
)
from likewise.base.types import Result
from likewise.server import databases, swapping
from likewise.server.bindings import LiveBinding
from tests.acceptance.models import MODELS, Telling, models
from tests.acceptance.programs import WRITER
from tests.acceptance.rigs import NAME, RIGS, Rig
from tests.acceptance.swaps import (
    NEW,
    OPTIONS,
    PREFIX,
    SWAP,
    assert_holds,
    begun,
    generations,
    new_text,
    objects,
    states,
    swap,
    work,
)
from tests.support import LIMIT, wait_until

STEPS = (
    "begun",
    "attached",
    "compared",
    "claimed",
    "embedded",
    "published",
    "level",
    "verified",
    "cutting over",
    "cut over",
)

ALIKE = ("sqlite-view", "sqlite-query", "postgres-partitioned", "duckdb-sqlite")
"""Rigs that only read otherwise than another does with such a log and such a store."""


class Searching(threading.Thread):
    """Asks all the time, and keeps every answer."""

    def __init__(self, live: LiveBinding, stop: threading.Event) -> None:
        super().__init__()
        self.live = live
        self.stop = stop
        self.answers: list[list[Result]] = []
        self.errors: list[LikewiseError] = []

    def run(self) -> None:
        while not self.stop.is_set():
            try:
                self.answers.append(self.live.search("a question", 50))
            except LikewiseError as failed:
                self.errors.append(failed)


def is_at_rest(live: LiveBinding) -> bool:
    now = live.status()
    assert (now.state, now.pending) == ("idle", 0), now
    return True


def generation_of(answer: list[Result]) -> int:
    """Which generation an answer is of; fails unless that is one, in every respect."""
    made = {each.number for result in answer for each in MODELS.values() if _is_of(each, result)}
    assert len(made) == 1, [(result.hit.score, result.row.text) for result in answer]
    (number,) = made
    assert all(_is_of(MODELS[f"telling/{number}"], result) for result in answer)
    return number


def _is_of(model: Telling, result: Result) -> bool:
    is_new_text = result.row.text.startswith(PREFIX.strip())
    return model.made(result.hit.score) and is_new_text == (model.number == 1)


@contextmanager
def searched(live: LiveBinding) -> Iterator[list[Searching]]:
    stop = threading.Event()
    asking = [Searching(live, stop) for _ in range(2)]
    for each in asking:
        each.start()
    try:
        yield asking
    finally:
        stop.set()
        for each in asking:
            each.join()


def test_every_answer_is_of_one_generation_while_others_write(rig: Rig) -> None:
    live = LiveBinding(begun(rig), models)

    def is_answered_by(number: int) -> bool:
        """Whether all who ask have had an answer of that generation last."""
        assert not any(each.errors for each in asking)
        return all(each.answers and generation_of(each.answers[-1]) == number for each in asking)

    live.start()
    try:
        wait_until(lambda: live.is_ready and live.state()["indexed"] == 40, what="the index")
        writers = [rig.process(WRITER, seed=seed, seconds=4) for seed in (1, 2)]
        with searched(live) as asking:
            after = swap(rig)
            assert after.generation == 2
            wait_until(lambda: is_answered_by(1), what="the switch")
            swapping.roll_back(swapping.previous(rig.spec.store_address, NAME), models)
            wait_until(lambda: is_answered_by(0), what="the way back")
            for each in writers:
                assert each.communicate(timeout=LIMIT)[1] == ""
            swapping.roll_back(swapping.previous(rig.spec.store_address, NAME), models)
            wait_until(lambda: is_answered_by(1), what="the switch")
            swapping.finish(rig.spec.store_address, NAME)
        assert [error for each in asking for error in each.errors] == []
        for each in asking:
            seen = [generation_of(answer) for answer in each.answers]
            # From one to the next there is one moment, also for somebody who asks all the time.
            turns = [seen[0], *(b for a, b in zip(seen, seen[1:], strict=False) if a != b)]
            assert turns == [0, 1, 0, 1]
        wait_until(lambda: is_at_rest(live), what="rest")
    finally:
        live.stop()
    (left,) = generations(rig)
    work(left)
    assert_holds(rig, left)
    first = [name for name in objects(rig) if "docs_" in name and "_g2" not in name]
    assert [name for name in first if not name.endswith("docs_view")] == []


def test_the_generation_before_follows_and_is_right_at_once(rig: Rig) -> None:
    before = begun(rig)
    after = swap(rig)
    assert states(rig) == {1: "previous", 2: "current"}
    assert_holds(rig, before)
    assert_holds(rig, after)
    rig.app.write({2: "two", 90: "ninety"})
    rig.app.remove(3)
    swapping.roll_back(swapping.previous(rig.spec.store_address, NAME), models)
    assert states(rig) == {1: "current", 2: "previous"}
    assert_holds(rig, before)
    swapping.roll_back(swapping.previous(rig.spec.store_address, NAME), models)
    assert states(rig) == {1: "previous", 2: "current"}
    assert_holds(rig, after)


def test_a_swap_given_up_leaves_everything_as_it_was(rig: Rig) -> None:
    record = begun(rig)
    before = objects(rig)
    built = swapping.begin(record, models, model=NEW, text=new_text(rig))
    worker_steps = 0

    def at(step: str) -> None:
        nonlocal worker_steps
        worker_steps += step == "published"
        if worker_steps == 2:
            raise KeyboardInterrupt

    with (
        pytest.raises(KeyboardInterrupt),
        swapping.towards(built, models, options=OPTIONS, at=at) as towards,
    ):
        towards.run()
    assert states(rig) == {1: "current", 2: "building"}
    swapping.abort(rig.spec.store_address, NAME)
    assert states(rig) == {1: "current"}
    assert objects(rig) == before
    rig.app.write({1: "later"})
    work(record)
    assert_holds(rig, record)
    with pytest.raises(BindingNotFound, match="no swap is under way"):
        swapping.abort(rig.spec.store_address, NAME)


@pytest.mark.parametrize(
    ("rig", "step"),
    [(kind, step) for kind in RIGS for step in (STEPS[::3] if kind in ALIKE else STEPS)],
    indirect=["rig"],
)
def test_killed_at(rig: Rig, step: str) -> None:
    record = begun(rig)
    before = objects(rig)
    assert run(rig, kill_at=step) == -signal.SIGKILL
    rig.app.write({number: "later" for number in range(3, 41, 3)})
    rig.app.remove(*range(5, 41, 5))
    if step != "cut over":
        # Given up.
        assert states(rig)[1] == "current"
        work(record)
        assert_holds(rig, record)
        swapping.abort(rig.spec.store_address, NAME)
        assert objects(rig) == before
        assert_holds(rig, record)
        # Or gone on with.
        assert run(rig, kill_at=step) == -signal.SIGKILL
        rig.app.write({7: "again", 8: "again"})
        assert run(rig) == 0
    assert states(rig) == {1: "previous", 2: "current"}
    for each in generations(rig):
        work(each)
        assert_holds(rig, each)


def run(rig: Rig, **options: Any) -> int:
    process = rig.process(SWAP, text=new_text(rig), **options)
    _, errors = process.communicate(timeout=LIMIT)
    assert process.returncode in {0, -signal.SIGKILL}, errors
    return int(process.returncode)


def test_killed_while_it_is_given_up(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The source has been left, the store hasn't: the swap can be given up, or gone on with."""
    record = begun(rig)
    before = objects(rig)
    assert run(rig, kill_at="verified") == -signal.SIGKILL
    databases.detach(swapping.building(rig.spec.store_address, NAME))
    rig.app.write({1: "unseen by the building one"})
    swap(rig)
    for each in generations(rig):
        work(each)
        assert_holds(rig, each)
    swapping.roll_back(record, models)
    swapping.finish(rig.spec.store_address, NAME)
    assert run(rig, kill_at="verified") == -signal.SIGKILL
    databases.detach(swapping.building(rig.spec.store_address, NAME))
    swapping.abort(rig.spec.store_address, NAME)
    assert objects(rig) == before


def test_a_worker_of_a_swap_that_was_given_up_publishes_nothing_into_the_next(rig: Rig) -> None:
    """It has the same number and the same model, and another text."""
    record = begun(rig)
    stale = swapping.begin(record, models, model=NEW, text="stale " + new_text(rig))
    with swapping.towards(stale, models, options=OPTIONS) as towards:
        swapping.abort(rig.spec.store_address, NAME)
        built = swapping.begin(record, models, model=NEW, text=new_text(rig))
        assert built.generation == stale.generation
        work(built)
        rig.app.write({1: "later"})
        with pytest.raises(BindingNotFound):
            towards.level()
    work(built)
    assert_holds(rig, built)


def test_no_row_is_missing_where_all_of_them_change_all_the_time(rig: Rig) -> None:
    """What was written may all be answered without a vector, as there is something newer each time.

    Then nothing waits but what was just written, and searches of the new generation find nothing.
    """
    record = begun(rig)
    writing = rig.another_application()
    verified, stored, one_at_a_time = 0, [], threading.Lock()

    def before(texts: Sequence[str]) -> None:
        with one_at_a_time:
            if verified >= 2:
                return
            writing.write({number: f"{number}|{time.monotonic()}" for number in range(1, 41)})

    restless = {**MODELS, NEW: Telling(1, before=before)}
    built = swapping.begin(record, restless.__getitem__, model=NEW, text=new_text(rig))

    def at(step: str) -> None:
        nonlocal verified
        verified += step == "verified"
        if step == "cutting over":
            with databases.ends(built) as (_, table):
                stored.append(len(table.fingerprints()))

    with swapping.towards(built, restless.__getitem__, options=OPTIONS, at=at) as towards:
        assert towards.run() is not None
    assert stored == [40]
    for each in generations(rig):
        work(each)
        assert_holds(rig, each)


def test_rows_that_would_be_lost_are_said_first(rig: Rig) -> None:
    record = begun(rig, 3)
    rig.app.write({9: "a poison"})
    work(record)
    refusing = {**MODELS, NEW: Telling(1, refuses="poison")}
    built = swapping.begin(record, refusing.__getitem__, model=NEW)
    with swapping.towards(built, refusing.__getitem__, options=OPTIONS) as towards:
        with pytest.raises(BindingError, match="1 rows that can be found now.*poison.*--allow-par"):
            towards.run()
    assert states(rig) == {1: "current", 2: "building"}
    with swapping.towards(
        built, refusing.__getitem__, options=OPTIONS, allow_parked=True
    ) as towards:
        audit = towards.run()
    assert audit is not None and audit.parked == 1
    assert states(rig) == {1: "previous", 2: "current"}


def test_what_can_not_be_swapped_is_said(rig: Rig) -> None:
    record = begun(rig, 3)
    with pytest.raises(SettingsError, match="nothing to change"):
        swapping.begin(record, models, model="telling/0", text=rig.spec.text)
    with pytest.raises(SettingsError, match="what is to change"):
        swapping.begin(record, models)
    with pytest.raises(BindingNotFound, match="no generation before"):
        swapping.previous(rig.spec.store_address, NAME)
    first = swapping.begin(record, models, model=NEW)
    assert swapping.begin(record, models) == first
    assert swapping.begin(record, models, model=NEW) == first
    with pytest.raises(BindingExists, match="under way already.*--abort"):
        swapping.begin(record, models, model=NEW, text=new_text(rig))
    with swapping.towards(first, models, options=OPTIONS) as towards:
        towards.run()
    now = databases.record(rig.spec.store_address, NAME)
    with pytest.raises(BindingExists, match="bind finish docs"):
        swapping.begin(now, models, model="telling/0")
    with (
        pytest.raises(LikewiseError, match="is previous now"),
        swapping.towards(first, models, options=OPTIONS) as towards,
    ):
        swapping.roll_back(record, models)
        towards.run()


def test_a_paused_binding_is_not_swapped(rig: Rig) -> None:
    record = begun(rig, 3)
    databases.pause(record, True)
    built = swapping.begin(record, models, model=NEW)
    with swapping.towards(built, models, options=OPTIONS) as towards:
        with pytest.raises(BindingError, match="paused.*bind resume docs"):
            towards.run()
        databases.pause(record, False)
        assert towards.run() is not None


def test_a_drop_leaves_nothing_of_any_generation(rig: Rig) -> None:
    begun(rig, 3)
    swap(rig)
    databases.drop(rig.spec.store_address, NAME)
    assert objects(rig) == set()
