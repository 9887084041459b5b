"""The status from counts, and rows a second from polls."""

import pytest

from likewise.binding.status import Meter, Status, status
from likewise.stores.memory import MemoryTable
from tests.binding_kit import DOCS, SPACE, App, Bound


def made(published: int, pending: int = 0) -> Status:
    return Status("b", 10, 5, pending, 0, 5, 0.0, published, "idle", None)


class Rows:
    """A source of which only the number of rows is asked."""

    capture = "log"

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def waiting(self) -> tuple[int, float | None]:
        return 0, None

    def count(self) -> int:
        return self.rows


@pytest.mark.parametrize(
    ("rows", "logged", "reconciled", "expected"),
    [
        (0, 0, True, (0, 0, "idle")),
        (3, 0, False, (0, 3, "waiting")),
        (3, 2, False, (0, 3, "waiting")),
        (3, 2, True, (0, 2, "waiting")),
    ],
)
def test_what_is_pending(rows, logged, reconciled, expected) -> None:
    table = MemoryTable(SPACE, clock=lambda: 100.0)
    if reconciled:
        table.reconcile_done(1)
    for at in range(logged):
        table.log.append((at,))
    now = status(Rows(rows), table, clock=lambda: 107.0)  # type: ignore[arg-type]
    assert (now.current, now.pending, now.state) == expected
    assert now.lag_seconds == (7.0 if logged else 0.0)


def test_a_new_binding_counts_up(tmp_path) -> None:
    app = App(tmp_path / "app.db", "wal", DOCS)
    app("INSERT INTO docs VALUES (1, 1, 't', 'b'), (2, 2, 't', 'b'), (3, 3, 'poison', 'b')")
    bound = Bound(app)
    before = status(bound.source, bound.table)
    assert (before.rows, before.current, before.pending, before.state) == (3, 0, 3, "waiting")
    assert before.coverage == 0.0
    bound.drain()
    after = status(bound.source, bound.table)
    assert (after.rows, after.current, after.pending, after.parked) == (3, 2, 0, 1)
    assert after.coverage == pytest.approx(2 / 3)
    assert after.chunks == 4
    assert after.state == "idle"
    app("UPDATE docs SET title = 'u' WHERE id = 1")
    edited = status(bound.source, bound.table)
    assert (edited.current, edited.pending) == (1, 1)
    bound.table.note_error("database_full: no")
    assert status(bound.source, bound.table).state == "failing"
    bound.close()
    app.close()


def test_rows_a_second() -> None:
    now = [0.0]
    meter = Meter(clock=lambda: now[0])
    assert meter.rate(made(0, 100)) == 0.0
    assert meter.left(made(0, 100)) is None
    now[0] = 2.0
    assert meter.rate(made(100, 50)) == 50.0
    assert meter.left(made(100, 50)) == 1.0
    assert meter.left(made(100, 0)) == 0.0
    for second in range(3, 20):
        now[0] = float(second)
        last = meter.rate(made(100, 50))
    assert last == 0.0
    assert meter.left(made(100, 50)) is None
