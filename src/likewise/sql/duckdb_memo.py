"""Answers about a DuckDB file that hold until something is committed to it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from likewise.sql.duckdb import Database, Stamp

T = TypeVar("T")


class Memo:
    """Answers that hold as long as nothing is committed to a file: it needn't be opened for them.

    Safe to use from several threads.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._stamp: Stamp | None = None
        self._kept: dict[object, Any] = {}

    def get(self, what: object, ask: Callable[[], T]) -> T:
        """What `ask` gives, or gave since the last commit; `what` names the question."""
        stamp = self._database.stamp()
        with self._lock:
            if stamp is None or stamp != self._stamp:
                self._kept.clear()
                self._stamp = stamp
            elif what in self._kept:
                kept: T = self._kept[what]
                return kept
        answer = ask()
        with self._lock:
            # Asked after the stamp was taken: a commit in between makes another stamp.
            if stamp is not None and stamp == self._stamp:
                self._kept[what] = answer
        return answer
