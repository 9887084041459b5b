"""NOTIFY instead of asking: a connection of its own that hears when somebody has committed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from likewise.sql.postgres import connect, errors_of
from likewise.sql.postgres_settings import SCHEMA

if TYPE_CHECKING:
    from likewise.sql.postgres import Connection


class Listener:
    """Counts notifications. Safe to use from several threads."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._db: Connection | None = None
        self._count = 0

    def count(self) -> int:
        """A number that grows with what was notified since the last look; asks the server nothing.

        Raises:
            DatabaseUnavailable: the connection was lost; the next look makes another.
        """
        with self._lock, errors_of(self._address):
            if self._db is None or self._db.closed:
                self._db = connect(self._address)
                self._db.execute(f"LISTEN {SCHEMA}")
                # What came while nobody listened is looked for once.
                self._count += 1
            try:
                self._count += sum(1 for _ in self._db.notifies(timeout=0))
            except BaseException:
                self._db.close()
                raise
            return self._count

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            if self._db is not None:
                self._db.close()
