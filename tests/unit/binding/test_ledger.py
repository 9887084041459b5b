"""Leases: who is dead, when a lease is prolonged, what a lost one means."""

import os
import subprocess
import sys

import pytest

from likewise.base.errors import LeaseLost
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
