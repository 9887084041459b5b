"""What a binding asks of its source and store beyond the waists: leases, counts, repair."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from likewise.base.protocols import Source, VectorTable

if TYPE_CHECKING:
    from likewise.base.types import Key


@dataclass(frozen=True, slots=True)
class Counts:
    """How a store stands, read in one moment."""

    stored: int
    """Keys that have vectors (or an empty text)."""
    parked: int
    chunks: int
    waiting: int
    """Keys with a log entry."""
    oldest: float | None
    """When the oldest log entry was written: seconds since 1970, UTC."""
    published: int
    """Rows published since the binding was made."""
    is_reconciling: bool
    """Whether source and store are still to be compared row by row."""
    holder: str | None
    """Who holds the lease."""
    error: str | None
    """What the last worker waits on."""


@dataclass(frozen=True, slots=True)
class Parked:
    """A row that couldn't be embedded."""

    key: Key
    error: str
    attempts: int
    at: float
    """Seconds since 1970, UTC."""


class BoundSource(Source, Protocol):
    """A source whose changes wait in a log that can be added to."""

    def enqueue(self, keys: Sequence[Key]) -> int:
        """Log each key as perhaps changed; gives how many."""
        ...

    def count(self) -> int:
        """Rows there are."""
        ...

    def unnamed(self) -> int:
        """Rows that no key names; they can't be bound."""
        ...

    def stamp(self) -> object:
        """A value that differs once somebody else has written; cheap."""
        ...


class BoundTable(VectorTable, Protocol):
    """A store that one worker at a time may publish to."""

    @property
    def name(self) -> str:
        """The binding's name."""
        ...

    def take_lease(self, holder: str, *, seconds: float, is_dead: Callable[[str], bool]) -> bool:
        """Become the one that publishes, unless another living holder's lease runs."""
        ...

    def renew_lease(self) -> None:
        """Prolong the lease.

        Raises:
            LeaseLost: another worker took over, or the file was replaced.
        """
        ...

    def release_lease(self) -> None:
        """Give the lease back, if it is still held."""
        ...

    def pending(self, keys: Sequence[Key] | None = None) -> set[Key]:
        """Those of `keys` (or all) that have a log entry."""
        ...

    def has_work(self) -> bool:
        """Whether the log holds anything, or source and store are still to be compared."""
        ...

    def counts(self) -> Counts:
        """How it stands."""
        ...

    def parked(self, limit: int | None = 100) -> list[Parked]:
        """Rows that couldn't be embedded, and why; all of them when `limit` is None."""
        ...

    def retry_parked(self) -> int:
        """Put all parked rows back on the queue; gives how many."""
        ...

    def reconcile_wanted(self) -> int | None:
        """The number of the comparison that is asked for; None when none is."""
        ...

    def reconcile_done(self, number: int) -> None:
        """Note that comparison `number` has been made."""
        ...

    def flaws(self) -> Iterable[tuple[Key, str]]:
        """Keys whose stored chunks are damaged or left over, each with what is wrong."""
        ...

    def forget(self, keys: Sequence[Key]) -> None:
        """No longer take what is stored for `keys` to be of any text."""
        ...

    def note_error(self, error: str | None) -> None:
        """Keep what the worker waits on, for `status`."""
        ...
