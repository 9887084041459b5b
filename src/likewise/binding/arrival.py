"""Whether what was written by now has become searchable: for searches that wait for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from likewise.base.bound import BoundSource, BoundTable
    from likewise.base.types import Key


class Arrival:
    """Follows what was committed before this was made, from the source into what is published.

    A source that keeps no log is compared for it, so `source` must be the caller's own. What
    nothing captures (a table whose triggers were dropped a moment ago) isn't known here.
    """

    def __init__(self, source: BoundSource, table: BoundTable) -> None:
        self._source = source
        self._table = table
        self._outbox = source.tail() if source.capture == "outbox" else 0
        self._log: int | None = None
        self._waiting: set[Key] = set()

    def is_published(self) -> bool:
        """Whether all of it is; to be asked again while it isn't.

        Raises:
            LikewiseError: source or store can't be read.
        """
        if self._log is None:
            # While they are compared, the log may have yet to be told of what differs.
            if not self._is_logged() or self._table.counts().is_reconciling:
                return False
            self._log = self._table.tail()
            self._waiting = self._table.pending()
        return self._table.is_past(self._log) and not self._lacks_any()

    def _lacks_any(self) -> bool:
        """Whether a row can't be found at all, as a newer change of it has to be published first.

        One that has an older vector can, and isn't fresh.
        """
        waiting = list(self._table.pending(list(self._waiting)) if self._waiting else ())
        held = self._table.fingerprints(waiting) if waiting else {}
        lacking = [key for key in waiting if key not in held]
        self._waiting = set(self._source.read(lacking)) if lacking else set()
        return bool(self._waiting)

    def _is_logged(self) -> bool:
        """Whether the store's log has it, or had it."""
        if self._source.capture == "scan":
            return not any(
                each.keys for page in self._source.differences(self._table) for each in page
            )
        return self._outbox == 0 or self._source.is_past(self._outbox)


def newest(table: BoundTable, version: int) -> int:
    """The newest version that is published, for an index that has followed up to `version`."""
    while True:
        feed = table.published(version)
        if feed.reset or feed.version == version:
            return feed.version
        version = feed.version
