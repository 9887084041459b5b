"""When what was written before a search is searchable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest

from likewise.base.types import Applied, Chunk, Delete, Key, Put, Row
from likewise.binding.arrival import Arrival
from likewise.stores.memory import MemoryTable
from tests.binding_kit import SPACE, fake_vector

if TYPE_CHECKING:
    from likewise.base.bound import BoundSource

A, B = (1,), (2,)


class Rows:
    """A source whose log is the table's own."""

    capture = "log"

    def __init__(self, *keys: Key) -> None:
        self.keys = set(keys)

    def read(self, keys: Sequence[Key]) -> dict[Key, Row]:
        return {key: Row(key, "text", {}, b"") for key in keys if key in self.keys}


@pytest.fixture
def table() -> MemoryTable:
    made = MemoryTable(SPACE)
    made.reconcile_done(made.reconcile_wanted() or 0)
    return made


def arrival(table: MemoryTable, *keys: Key) -> Arrival:
    return Arrival(cast("BoundSource", Rows(*keys)), table)


def put(table: MemoryTable, key: Key, seq: int) -> Applied:
    vectors = np.array([fake_vector("text")], np.float32)
    return table.apply([Put(key, seq, b"1", (Chunk(0, 0, 4),), vectors, ("text",))], cursor=seq)


def test_it_is_when_the_log_is_past_it(table: MemoryTable) -> None:
    seq = table.log.append(A)
    before = arrival(table, A, B)
    assert not before.is_published()
    later = table.log.append(B)
    assert put(table, A, seq) == Applied(put=1)
    assert before.is_published(), "what came after the search doesn't count"
    assert put(table, B, later) == Applied(put=1)


def test_a_row_that_changed_again_meanwhile_must_be_found_all_the_same(table: MemoryTable) -> None:
    seq = table.log.append(A)
    before = arrival(table, A)
    assert not before.is_published()
    later = table.log.append(A)
    assert put(table, A, seq) == Applied(superseded=1)
    assert not before.is_published(), "nothing is stored of it"
    assert put(table, A, later) == Applied(put=1)
    assert before.is_published()


def test_an_old_vector_will_do_for_one_that_changed_again(table: MemoryTable) -> None:
    assert put(table, A, table.log.append(A)) == Applied(put=1)
    seq = table.log.append(A)
    before = arrival(table, A)
    assert not before.is_published()
    table.log.append(A)
    assert put(table, A, seq) == Applied(superseded=1)
    assert before.is_published()


def test_a_row_that_went_isnt_waited_for(table: MemoryTable) -> None:
    seq = table.log.append(A)
    before = arrival(table)
    assert not before.is_published()
    later = table.log.append(A)
    assert put(table, A, seq) == Applied(superseded=1)
    assert before.is_published()
    assert table.apply([Delete(A, later)], cursor=later) == Applied(deleted=1)
