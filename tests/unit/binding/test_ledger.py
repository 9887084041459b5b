"""Leases: who is dead, when a lease is prolonged, what a lost one means."""

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from likewise.base.errors import DatabaseUnavailable, LeaseLost
from likewise.binding.ledger import Ledger, is_dead, new_holder, started, this_place
from likewise.stores.memory import MemoryTable
from tests.binding_kit import SPACE


def test_this_process_lives() -> None:
    assert not is_dead(new_holder())
    assert new_holder() != new_holder()


def test_a_process_that_ended_is_dead() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    holder = f"{this_place()}|{ended.pid}|{started(ended.pid)}|x"
    ended.wait()
    assert is_dead(holder)


def test_a_process_that_got_the_same_number_is_another() -> None:
    assert is_dead(f"{this_place()}|{os.getpid()}|1|x")


@pytest.mark.parametrize("holder", ["elsewhere|{pid}|1|x", "somebody", "a|b|c", ""])
def test_nothing_is_known_of_holders_elsewhere(holder: str) -> None:
    assert not is_dead(holder.format(pid=os.getpid()))


def test_a_lease_is_prolonged_in_time_and_given_back() -> None:
    now = [0.0]
    table = MemoryTable(SPACE, clock=lambda: now[0])
    mine = Ledger(table, seconds=30, clock=lambda: now[0])
    other = Ledger(table.another(), seconds=30, clock=lambda: now[0])
    assert mine.hold()
    for _ in range(10):
        now[0] += mine.renew_every
        assert mine.hold()
        assert not other.hold()
    mine.release()
    mine.release()
    assert other.hold()


def test_a_lost_lease_is_told_once_and_can_be_taken_again() -> None:
    now = [0.0]
    table = MemoryTable(SPACE, clock=lambda: now[0])
    mine = Ledger(table, seconds=30, clock=lambda: now[0])
    other = Ledger(table.another(), seconds=30, clock=lambda: now[0])
    assert mine.hold()
    now[0] += 31
    assert other.hold()
    with pytest.raises(LeaseLost):
        mine.hold()
    mine.lost()
    assert not mine.hold()
    other.release()
    assert mine.hold()


def test_who_lost_the_database_goes_on_at_once_as_another() -> None:
    table = MemoryTable(SPACE)
    mine = Ledger(table, seconds=30)
    other = Ledger(table.another(), seconds=30)
    mine.failed(DatabaseUnavailable("before there was a lease"))
    first = mine.holder
    assert mine.hold()
    mine.failed(DatabaseUnavailable("the connection was lost"))
    assert not mine.is_held
    assert mine.holder != first
    assert not other.hold()
    assert mine.hold()
    assert not other.hold()


def test_machines_of_one_name_where_the_kernel_doesnt_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*values: object, **named: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", nothing)
    places = set()
    for card in (1, 2):
        monkeypatch.setattr(uuid, "getnode", lambda card=card: card)
        places.add(this_place())
    assert len(places) == 2
