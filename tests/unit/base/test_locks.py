"""How long a locked file is waited for, in one thread and in the process."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from likewise.base import locks
from likewise.base.locks import BRIEF_SECONDS, LOCK_SECONDS, briefly, lock_seconds


def test_within_a_block_and_its_thread_it_is_short() -> None:
    assert lock_seconds() == LOCK_SECONDS > BRIEF_SECONDS
    with briefly():
        assert lock_seconds() == BRIEF_SECONDS
        with briefly():
            assert lock_seconds() == BRIEF_SECONDS
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(lock_seconds).result() == LOCK_SECONDS
    assert lock_seconds() == LOCK_SECONDS


def test_what_is_set_holds_and_no_block_makes_it_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_set", LOCK_SECONDS)
    locks.set_lock_seconds(0.5)
    assert lock_seconds() == 0.5
    with briefly():
        assert lock_seconds() == 0.5
    locks.set_lock_seconds(100.0)
    assert lock_seconds() == 100.0
    with briefly():
        assert lock_seconds() == BRIEF_SECONDS


def test_a_function_can_be_brief() -> None:
    @briefly()
    def patience(*values: Any) -> float:
        return lock_seconds()

    assert patience() == patience(1) == BRIEF_SECONDS
    assert lock_seconds() == LOCK_SECONDS
