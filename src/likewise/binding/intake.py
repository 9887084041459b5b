"""How changes come into a store's log: an outbox is carried over, a source without one compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from likewise.base.clock import Clock, monotonic
from likewise.base.errors import MassDelete
from likewise.base.log import fields, logger
from likewise.base.types import Difference

if TYPE_CHECKING:
    from likewise.base.bound import BoundSource, BoundTable
    from likewise.base.types import Key, Row

MOST_GONE = 0.3
"""Part of a source that doubts deletes which may go at once unasked."""
FEW = 20
"""So many may always go."""
_RELAY_ROWS = 10_000
_DOUBTFUL = b""
_REST = 9
"""Comparing takes at most a tenth of the time."""
_FIRST_REST, _LONGEST_REST = 0.02, 0.5
"""Seconds after a comparison that found nothing; they double with each. The lease for it is written
into the store, which looks like a change where that is the source's own file."""
_log = logger("binding.intake")


def require_meant(source: BoundSource, table: BoundTable, gone: int, of: int) -> None:
    """Refuse to take many rows for gone where that is more likely a mistake.

    Raises:
        MassDelete: nothing was changed.
    """
    if not source.doubts_deletes or gone <= max(FEW, MOST_GONE * of) or table.allows_deletes():
        return
    raise MassDelete(
        f"binding {table.name}: {gone:,} of {of:,} are gone at once. If the folder is mounted and "
        "they are meant to be gone, say so with "
        f"'likewise bind resume {table.name} --accept-deletes'; until then nothing is removed"
    )


class Intake:
    """Brings a source's changes into the log. `at` is called between every two steps."""

    def __init__(
        self,
        source: BoundSource,
        table: BoundTable,
        *,
        hold: Callable[[], object],
        at: Callable[[str], None],
        idle_seconds: float,
        clock: Clock = monotonic,
    ) -> None:
        self._source = source
        self._table = table
        self._hold = hold
        self._at = at
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._looked: float | None = None
        self._scanned: object = None
        self._scan_began: float | None = None
        self._not_before = 0.0
        self._pause = 0.0
        self.scans = 0
        """Comparisons finished."""

    def is_due(self) -> bool:
        """Whether something waits outside the log, or it is time to look."""
        if self._source.capture == "outbox":
            since = self._looked
            is_time = since is None or self._clock() - since >= self._idle_seconds
            return is_time or self._source.tail() > 0
        return self.is_behind() and self._clock() >= self._not_before

    def is_behind(self) -> bool:
        """Whether a source without a log isn't as it was when it was compared last."""
        return self._source.capture == "scan" and self._source.stamp() != self._scanned

    def is_settled(self, since: float) -> bool:
        """Whether all that was committed before `since`, by this clock, has been taken in.

        Unlike `is_due` it asks nothing of the time since: where a look takes longer than the pause
        between two looks, as on a busy machine, there would always be another one to wait for.
        """
        if self._source.capture == "outbox":
            return self._looked is not None and self._source.tail() == 0
        began = self._scan_began
        return (began is not None and began >= since) or not self.is_behind()

    def read(self, keys: Sequence[Key]) -> dict[Key, Row]:
        """The rows as they are now.

        Where changes are found by comparing, what is published must be what is remembered, or a row
        that is soon as it was before would never differ again. So a row of which no comparison
        knows counts as gone until one finds it, and a unit that isn't as it is remembered gets a
        mark that nothing has: the next comparison finds it changed or, by the mark, gone.
        """
        if self._source.capture != "scan":
            return self._source.read(keys)
        units = {key: self._source.unit_of(key) for key in keys}
        marks = self._table.marks(list(dict.fromkeys(units.values())))
        rows = self._source.read([key for key in keys if units[key] in marks])
        doubtful = {
            unit
            for key, unit in units.items()
            if unit in marks and not self._is_as_seen(rows.get(key), marks[unit])
        }
        if doubtful:
            self._table.note([Difference(unit, _DOUBTFUL, ()) for unit in sorted(doubtful)])
            self.again()
        return rows

    def _is_as_seen(self, row: Row | None, mark: bytes) -> bool:
        return row is not None and self._source.agrees(row, mark)

    def run(self) -> None:
        """Take in what there is.

        Raises:
            LikewiseError: what was not taken in is still where it was.
        """
        if self._source.capture == "outbox":
            self._relay()
        elif self._source.capture == "scan":
            self._scan()

    def hurry(self) -> None:
        """Don't rest after the last comparison for as long as it took many times over.

        For one who waits for the end; who only follows takes a small part of the machine.
        """
        self._not_before = min(self._not_before, self._clock() + self._pause)

    def again(self) -> None:
        """Look once more although nothing seems to have changed."""
        self._scanned, self._looked, self._scan_began = None, None, None
        self._not_before = 0.0

    def _relay(self) -> None:
        """The store commits first: a crash between the two doubles entries and loses none."""
        while True:
            with self._source.captured(limit=_RELAY_ROWS) as captured:
                self._at("captured")
                self._table.relay(captured)
                self._at("relayed")
            self._at("taken off")
            self._looked = self._clock()
            if not captured.changes:
                return
            self._hold()

    def _scan(self) -> None:
        stamp, began = self._source.stamp(), self._clock()
        if stamp == self._scanned or began < self._not_before:
            return
        known = len(self._table.marks()) if self._source.doubts_deletes else 0
        gone = []
        noted = 0
        for page in self._source.differences(self._table):
            self._at("compared")
            self._hold()
            noted += self._table.note([each for each in page if each.mark is not None])
            gone += [each for each in page if each.mark is None]
            self._at("noted")
        require_meant(self._source, self._table, len(gone), known)
        for start in range(0, len(gone), _RELAY_ROWS):
            self._hold()
            noted += self._table.note(gone[start : start + _RELAY_ROWS])
            self._at("noted")
        self._scanned, self._scan_began = stamp, began
        # Where vectors lie in the same database, each publication looks like a change.
        took = self._clock() - began
        self._pause = 0.0 if noted else min(max(2 * self._pause, _FIRST_REST), _LONGEST_REST)
        self._not_before = self._clock() + max(_REST * took, self._pause)
        self.scans += 1
        if noted:
            _log.info(fields("source compared", binding=self._table.name, changed=noted))
