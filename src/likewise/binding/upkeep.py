"""Upkeep of a store beside the work: what may take minutes, such as building an index."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from likewise.base.clock import Clock, monotonic
from likewise.base.errors import LikewiseError
from likewise.base.log import fields, logger

if TYPE_CHECKING:
    from likewise.base.bound import BoundTable

_log = logger("binding.upkeep")


class Upkeep:
    """Calls `table.maintain` now and then, in a thread of its own and one at a time.

    The thread isn't waited for at the end: closing the table cuts it short.
    """

    def __init__(
        self, table: BoundTable, every_seconds: float, *, clock: Clock = monotonic
    ) -> None:
        self._table = table
        self._every_seconds = every_seconds
        self._clock = clock
        self._last: float | None = None
        self._thread: threading.Thread | None = None

    def begin_if_due(self) -> None:
        """Begin unless it is being done, or was a while ago."""
        now = self._clock()
        if self._last is not None and now - self._last < self._every_seconds:
            return
        if self._thread is not None and self._thread.is_alive():
            return
        self._last = now
        name = f"likewise-upkeep-{self._table.name}"
        self._thread = threading.Thread(target=self._maintain, name=name, daemon=True)
        self._thread.start()

    def _maintain(self) -> None:
        try:
            self._table.maintain()
        except LikewiseError as failed:
            # Searches and workers do without; it is tried again.
            _log.warning(fields("upkeep failed", binding=self._table.name, why=failed))
