"""The policy of a swap where things don't go well; tests/acceptance has the rest."""

from __future__ import annotations

import dataclasses
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from likewise.base.errors import BindingError
from likewise.base.escapes import meant
from likewise.base.same import swap_command, swap_needed
from likewise.binding.generation import PATIENCE_ROUNDS, Swap
from likewise.binding.worker import Worker
from likewise.server import databases, swapping
from tests.acceptance.applications import SqliteApplication
from tests.acceptance.models import MODELS, Telling, models
from tests.acceptance.rigs import NAME, RIGS, Rig
from tests.acceptance.swaps import NEW, OPTIONS, begun, new_text, states
from tests.binding_kit import bars


@pytest.fixture
def rig(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Rig]:
    made = RIGS["sqlite"](tmp_path, request.getfixturevalue)
    begun(made, 5)
    yield made
    made.close()


def lose_rows(rig: Rig) -> None:
    """Somebody damages what is being built."""
    assert isinstance(rig.app, SqliteApplication)
    rig.app.db.execute("DELETE FROM likewise_docs_g2row")


def test_a_generation_that_is_never_right_is_not_cut_over_to(rig: Rig) -> None:
    built = swapping.begin(rig.record, models, model=NEW)
    rounds = 0

    def spoil(step: str) -> None:
        nonlocal rounds
        if step == "level":
            rounds += 1
            lose_rows(rig)

    with (
        databases.bindings_of(rig.spec.store_address) as bindings,
        databases.ends(rig.record) as (_, current),
        databases.ends(built) as (source, table),
    ):
        worker = Worker(source, table, MODELS[NEW], bars, options=OPTIONS)
        swap = Swap(bindings, source, table, worker, current=current, patience_seconds=0, at=spoil)
        with pytest.raises(BindingError, match="isn't right .5 missing.*The old one still answers"):
            swap.run()
        worker.close()
    assert rounds == PATIENCE_ROUNDS
    assert states(rig) == {1: "current", 2: "building"}


def test_what_is_wrong_once_is_mended(rig: Rig) -> None:
    built = swapping.begin(rig.record, models, model=NEW)
    spoilt = 0

    def spoil(step: str) -> None:
        nonlocal spoilt
        if step == "level" and not spoilt:
            spoilt += 1
            lose_rows(rig)

    with swapping.towards(built, models, options=OPTIONS, at=spoil) as towards:
        audit = towards.run()
    assert audit is not None and (audit.is_clean, audit.current) == (True, 5)
    assert states(rig) == {1: "previous", 2: "current"}


def test_no_way_back_to_a_generation_that_would_lose_a_row(rig: Rig) -> None:
    with swapping.towards(
        swapping.begin(rig.record, models, model=NEW), models, options=OPTIONS
    ) as towards:
        towards.run()
        rig.app.write({9: "new"})
        towards.level()
    writing, is_restless = rig.another_application(), True

    def before(texts: Sequence[str]) -> None:
        if is_restless:
            writing.write({9: f"new {time.monotonic()}"})

    restless = Telling(0, before=before)
    with (
        databases.bindings_of(rig.spec.store_address) as bindings,
        databases.ends(databases.record(rig.spec.store_address, NAME)) as (_, current),
        databases.ends(rig.record) as (source, table),
        closing(Worker(source, table, restless, bars, options=OPTIONS)) as worker,
    ):
        back = Swap(bindings, source, table, worker, current=current, patience_seconds=0)
        with pytest.raises(BindingError, match="1 rows that can be found now.*generation 1"):
            back.regain()
        assert states(rig) == {1: "previous", 2: "current"}
        is_restless = False
        back.regain()
        assert len(table.fingerprints()) == 6


def test_the_command_that_makes_it_as_asked(rig: Rig) -> None:
    record = rig.record
    first, second = (MODELS[name].space.with_chunker(record.spec.chunk) for name in MODELS)
    assert swap_needed(record, record.spec, first) is None
    new = dataclasses.replace(record.spec, model=NEW, text=new_text(rig))
    at = f"--db {rig.spec.store_address}"
    assert swap_needed(record, new, second) == (
        f"likewise bind swap docs --model telling/1 --text 'new: {{body}}' {at}"
    )
    assert swap_command(record, new, first) == (
        f"likewise bind swap docs --text 'new: {{body}}' {at}"
    )
    lines = dataclasses.replace(record.spec, text="it's\n{body} \\ {{")
    command = swap_command(record, lines, first)
    assert "\n" not in command
    assert meant(shlex.split(command)[5]) == lines.text
