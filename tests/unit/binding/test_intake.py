"""When a source without a log is compared again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from likewise.base.types import Difference
from likewise.binding.intake import Intake
from likewise.stores.memory import MemoryTable
from tests.binding_kit import SPACE

if TYPE_CHECKING:
    from likewise.base.bound import BoundSource, BoundTable

COMPARING_SECONDS = 5.0


class Compared:
    """A source without a log, in which nothing differs; comparing takes its time."""

    capture = "scan"
    doubts_deletes = False

    def __init__(self) -> None:
        self.now = 100.0
        self.written = 0

    def clock(self) -> float:
        return self.now

    def stamp(self) -> int:
        return self.written

    def differences(self, table: object) -> Iterator[list[Difference]]:
        self.now += COMPARING_SECONDS
        yield []


def intake_of(source: Compared) -> Intake:
    table = cast("BoundTable", MemoryTable(SPACE))
    return Intake(
        cast("BoundSource", source),
        table,
        hold=lambda: True,
        at=lambda step: None,
        idle_seconds=1.0,
        clock=source.clock,
    )


def test_comparing_takes_a_tenth_of_the_time() -> None:
    source = Compared()
    intake = intake_of(source)
    assert intake.is_due()
    intake.run()
    assert not intake.is_due() and not intake.is_behind()
    source.written += 1
    assert intake.is_behind() and not intake.is_due()
    source.now += 8.9 * COMPARING_SECONDS
    assert not intake.is_due()
    source.now += 0.2 * COMPARING_SECONDS
    assert intake.is_due()


def test_one_who_waits_for_the_end_doesnt_wait_for_that() -> None:
    source = Compared()
    intake = intake_of(source)
    for most in (0.02, 0.04, 0.08):
        intake.run()
        source.written += 1
        assert not intake.is_due()
        for _ in range(3):
            intake.hurry()  # as often as one likes: it doesn't put it off
            source.now += most / 2 + 1e-6
        assert intake.is_due(), "only as long as comparisons that found nothing let it"
        assert intake.scans > 0
