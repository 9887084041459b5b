"""A served binding whose generations come, go and are cut over by somebody else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from likewise.base.bound import BindingRecord
from likewise.base.errors import ModelNotFound, SpaceMismatch
from likewise.cli.bind_work import _line
from likewise.server import databases, swapping
from likewise.server.app import build
from likewise.server.bindings import LiveBinding
from likewise.server.generations import LiveGeneration
from tests.acceptance.models import MODELS, Telling, models
from tests.acceptance.rigs import NAME, RIGS, Rig
from tests.acceptance.swaps import NEW, begun, new_text, objects, swap
from tests.support import LIMIT, wait_until
from tests.unit.server.fakes import FakeModel

ROWS = 5
Live = Callable[..., LiveBinding]


@pytest.fixture
def rig(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Rig]:
    made = RIGS["sqlite"](tmp_path, request.getfixturevalue)
    begun(made, ROWS)
    yield made
    made.close()


@pytest.fixture
def live(rig: Rig) -> Iterator[Live]:
    made: list[LiveBinding] = []

    def start(models: Any = models, **options: Any) -> LiveBinding:
        made.append(LiveBinding(rig.record, models, **options))
        made[-1].start()
        wait_until(lambda: made[-1].is_ready)
        return made[-1]

    yield start
    for each in made:
        each.stop()


def answered_by(live: LiveBinding) -> int:
    results = live.search("a question")
    assert len(results) == ROWS
    (number,) = {
        model.number
        for model in MODELS.values()
        for result in results
        if model.made(result.hit.score)
    }
    return number


class Gate:
    """Holds up the index of the second generation after so many passes."""

    def __init__(self, patch: pytest.MonkeyPatch, passes: int) -> None:
        self.reached, self.go = threading.Event(), threading.Event()
        catch_up = LiveGeneration.catch_up

        def held(live: LiveGeneration) -> None:
            if live.record.generation == 2 and live.passes >= passes:
                self.reached.set()
                assert self.go.wait(LIMIT)
            catch_up(live)

        patch.setattr(LiveGeneration, "catch_up", held)


@pytest.mark.parametrize("passes", [0, 1])
def test_answers_change_over_only_when_the_index_is_filled(
    rig: Rig, live: Live, monkeypatch: pytest.MonkeyPatch, passes: int
) -> None:
    gate = Gate(monkeypatch, passes)
    binding = live()
    built = swapping.begin(rig.record, models, model=NEW, text=new_text(rig))
    assert gate.reached.wait(LIMIT)
    swap(rig)
    wait_until(lambda: binding._to_come is not None, what="the cut-over to be noticed")
    assert binding.record.generation == 1
    assert answered_by(binding) == 0
    gate.go.set()
    wait_until(lambda: binding.record.generation == built.generation)
    assert answered_by(binding) == 1


def test_a_search_that_comes_between_cut_over_and_finish_is_answered(
    rig: Rig, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    binding = live()
    look, held, go = LiveBinding._look, threading.Event(), threading.Event()

    def late(self: LiveBinding) -> None:
        held.set()
        assert go.wait(LIMIT)
        look(self)

    monkeypatch.setattr(LiveBinding, "_look", late)
    assert held.wait(LIMIT)
    swap(rig)
    swapping.finish(rig.spec.store_address, NAME)
    assert binding.record.generation == 1
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(answered_by, binding)
        go.set()
        assert asked.result(LIMIT) == 1


def test_a_model_that_can_not_be_loaded_disturbs_nobody(rig: Rig, live: Live) -> None:
    is_there = threading.Event()

    def some(name: str) -> Telling:
        if name == NEW and not is_there.is_set():
            raise ModelNotFound("no such model here")
        return models(name)

    binding = live(some)
    client = TestClient(build({"fake/lengths": FakeModel()}, [binding]))
    swap(rig)
    wait_until(lambda: binding.trouble is not None, what="the trouble")
    assert client.get("/health").json()["troubles"] == {NAME: "generation 2: no such model here"}
    assert client.get("/ready").json()["waiting_for"] == []
    # What is in the store is right; this process can't ask it, and goes on with what it can.
    assert binding.record.generation == 1
    assert answered_by(binding) == 0

    def shown() -> list[tuple[int, str]]:
        (state,) = client.get("/bindings").json()["bindings"]
        return [(each["generation"], each["state"]) for each in state["generations"]]

    wait_until(lambda: shown() == [(1, "previous"), (2, "current")])
    assert binding.record.generation == 1
    rig.app.write({1: "later"})
    wait_until(lambda: binding.search("later", 1)[0].fresh, what="the change")
    is_there.set()
    wait_until(lambda: binding.record.generation == 2)
    assert answered_by(binding) == 1
    wait_until(lambda: binding.trouble is None)


def test_generations_are_shown_and_models_let_go(rig: Rig, live: Live) -> None:
    released: list[str] = []
    binding = live(release=released.append)
    client = TestClient(build({"fake/lengths": FakeModel()}, [binding]))
    swapping.begin(rig.record, models, model=NEW)
    wait_until(lambda: len(binding.state()["generations"]) == 2)
    swapping.abort(rig.spec.store_address, NAME)
    wait_until(lambda: released == [NEW])
    assert binding.trouble is None
    swap(rig)
    wait_until(lambda: binding.record.generation == 2)
    wait_until(lambda: binding.state()["generations"][1]["coverage"] == 1)
    text = client.get("/metrics").text
    for line in (
        'likewise_binding_generation{binding="docs"} 2.0',
        'likewise_binding_coverage{binding="docs"} 1.0',
        'likewise_binding_generation_coverage{binding="docs",generation="1",state="previous"} 1.0',
        'likewise_binding_generation_pending{binding="docs",generation="2",state="current"} 0.0',
    ):
        assert line in text
    swapping.finish(rig.spec.store_address, NAME)
    wait_until(lambda: released == [NEW, "telling/0"])
    (left,) = binding.state()["generations"]
    assert (left["generation"], left["state"]) == (2, "current")


def test_only_to_be_worked_on(rig: Rig, live: Live) -> None:
    binding = live(is_searchable=False)
    swapping.begin(rig.record, models, model=NEW, text=new_text(rig))
    wait_until(lambda: len(binding.state()["generations"]) == 2)
    wait_until(lambda: binding.state()["generations"][1]["coverage"] == 1)
    assert binding.state()["indexed"] == 0
    assert _line(binding) == "docs: 5 rows, 100.0 % current, 0 pending, 0 parked, 0 rows/s"


def test_a_binding_made_anew_is_served(rig: Rig, live: Live) -> None:
    binding = live()
    databases.drop(rig.spec.store_address, NAME)
    wait_until(lambda: binding.gone is not None)
    assert "has no binding 'docs'" in str(binding.trouble)
    first = MODELS["telling/0"]
    databases.create(rig.record.spec, first.space.with_chunker(rig.spec.chunk))
    wait_until(lambda: binding.gone is None and binding.is_ready)
    wait_until(lambda: binding.trouble is None)
    assert answered_by(binding) == 0


def test_a_model_that_gives_other_vectors_under_its_name_is_refused(rig: Rig) -> None:
    class Changed(Telling):
        def vector(self, text: str) -> Any:
            return -super().vector(text)

    live = None
    with pytest.raises(SpaceMismatch, match="gives other vectors now"):
        live = LiveBinding(rig.record, lambda name: Changed(0))
    assert live is None


def test_what_is_to_be_noticed_is_trouble(rig: Rig, live: Live) -> None:
    def notice(record: BindingRecord) -> str | None:
        return None if record.generation == 2 else "not as set"

    binding = live(notice=notice)
    assert binding.trouble == "not as set"
    swap(rig)
    wait_until(lambda: binding.trouble is None)


def test_triggers_that_a_worker_puts_back_while_its_generation_is_dropped_go_with_it(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart = RIGS["sqlite-apart"](tmp_path, request.getfixturevalue)
    begun(apart, ROWS)
    before = objects(apart)
    detach = databases._detach_all

    def then_wait(records: Any) -> None:
        detach(records)
        wait_until(lambda: any("app.db: likewise_docs_g2" in name for name in objects(apart)))

    live = LiveBinding(apart.record, models)
    live.start()
    try:
        swapping.begin(apart.record, models, model=NEW)
        wait_until(lambda: len(live.state()["generations"]) == 2)
        wait_until(lambda: live.state()["generations"][1]["coverage"] == 1)
        monkeypatch.setattr(databases, "_detach_all", then_wait)
        swapping.abort(apart.spec.store_address, NAME)
        wait_until(lambda: objects(apart) == before, what="nothing of the swap")
        # Until its generation is gone here too, that its tables are gone is trouble.
        wait_until(lambda: live.trouble is None)
        monkeypatch.setattr(databases, "_detach_all", detach)
        databases.drop(apart.spec.store_address, NAME)
        wait_until(lambda: objects(apart) == set(), what="nothing at all")
    finally:
        live.stop()
        apart.close()
