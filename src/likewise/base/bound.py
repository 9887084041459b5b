"""What a binding asks of its source and store beyond the waists: logs, leases, counts, repair."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from likewise.base.protocols import Source, VectorTable

if TYPE_CHECKING:
    from likewise.base.space import Space
    from likewise.base.spec import BindingSpec
    from likewise.base.types import Captured, Change, Difference, Key, KeyPart, Row, Shape, Vectors

Capture = Literal["log", "outbox", "scan"]
"""How changes come into the store's log: triggers write them there (source and store are one
database); triggers write them into an outbox in the source, from which a worker carries them over;
or a worker finds them by comparing the source with what was seen of it last."""

GenerationState = Literal["building", "current", "previous"]


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
    """When the oldest log entry was written: seconds since 1970 by this machine's clock, UTC."""
    published: int
    """Rows published since the binding was made."""
    is_reconciling: bool
    """Whether source and store are still to be compared row by row."""
    holder: str | None
    """Who holds the lease; one of them where several may."""
    error: str | None
    """What the last worker waits on."""
    is_paused: bool = False
    """Whether somebody said `pause`."""


@dataclass(frozen=True, slots=True)
class Parked:
    """A row that couldn't be embedded."""

    key: Key
    error: str
    attempts: int
    at: float
    """Seconds since 1970, UTC."""


@dataclass(frozen=True, slots=True)
class BindingRecord:
    """One generation of a binding, as its database has it."""

    spec: BindingSpec
    """With table and key columns as the source spells them."""
    space: Space
    created: float
    """Seconds since 1970, UTC."""
    kinds: tuple[str, ...] = ()
    """Of each key column; see `Shape`."""
    generation: int = 1
    state: GenerationState = "current"


class Seen(Protocol):
    """What a store remembers of a source that keeps no log."""

    def marks(self, units: Sequence[str] | None = None) -> Mapping[str, bytes]:
        """The marks of `units` (or all), as they were noted last; those without are left out."""
        ...

    def under(self, first: KeyPart) -> Mapping[Key, bytes]:
        """Fingerprints of the stored keys that begin with `first`; parked rows too."""
        ...


class BoundSource(Source, Protocol):
    """A source whose changes can be followed."""

    @property
    def capture(self) -> Capture:
        """How its changes come into the store's log."""
        ...

    @property
    def doubts_deletes(self) -> bool:
        """Whether many rows gone at once are more likely a mistake (an unmounted folder)."""
        ...

    def resolve(self) -> Shape:
        """What is to be bound, as it is now; nothing is changed, no binding need exist.

        Raises:
            NoKey: nothing names a row for good.
            SchemaDrift: the table or a column isn't there.
            DatabaseError: it can't be read; the message says which grant is missing.
        """
        ...

    def captured(self, *, limit: int) -> AbstractContextManager[Captured]:
        """Lend at most about `limit` changes of the outbox; off it when the block ends well.

        Nobody else is lent the same meanwhile, where the database can see to it; on an exception
        they stay. Empty unless `capture` is `outbox`.
        """
        ...

    def differences(self, seen: Seen) -> Iterator[list[Difference]]:
        """What isn't as `seen` has it, in pages; nothing unless `capture` is `scan`.

        Rows that came are told before rows that went, so that vectors of rows that were only
        renamed are still there to be found.

        Raises:
            BindingError: the source can't be seen whole; nothing counts as gone then.
        """
        ...

    def unit_of(self, key: Key) -> str:
        """Of which unit of `differences` the row of that key is or would be."""
        ...

    def agrees(self, row: Row, mark: bytes) -> bool:
        """Whether `row`, just read, is of what its unit is remembered as."""
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

    def waiting(self) -> tuple[int, float | None]:
        """Changes in the outbox, and when the oldest was written, by this machine's clock."""
        ...

    def tail(self) -> int:
        """The newest entry of the outbox that can be seen now; 0 when it is empty."""
        ...

    def is_past(self, seq: int) -> bool:
        """Whether no entry up to `seq` is in the outbox any more."""
        ...

    def close(self) -> None:
        """Close what is open."""
        ...


class BoundTable(VectorTable, Protocol):
    """A store that workers publish to: one at a time, or several where claims are by entry."""

    @property
    def name(self) -> str:
        """The binding's name."""
        ...

    @property
    def record(self) -> BindingRecord:
        """The generation of it that this is."""
        ...

    def claim(self, after: int, *, limit: int) -> list[Change]:
        """Log entries to work on, oldest first, at most about `limit`.

        Where one worker holds the lease: those with `seq > after`. Where several work: those that
        nobody living has claimed; `after` doesn't matter. Entries with `op` `all` are never given:
        they become a wish for a comparison.
        """
        ...

    def gather(self, seqs: Mapping[Key, int]) -> dict[Key, int]:
        """Claimed keys, with the fence under which their later log entries are answered too.

        As the row is read after this. So a row that was changed a hundred times is embedded once.
        """
        ...

    def unclaim(self) -> None:
        """Give back what this handle has claimed and not answered."""
        ...

    def enqueue(self, keys: Sequence[Key], *, at: Sequence[float] | None = None) -> int:
        """Log each key as perhaps changed (`at`: when, else now); gives how many."""
        ...

    def relay(self, captured: Captured) -> None:
        """Take over a source's changes and its place, in one transaction.

        A change with `op` `all`, or a source that isn't where it was left (see `Captured`), becomes
        a wish for a comparison.
        """
        ...

    def note(self, differences: Sequence[Difference]) -> int:
        """Log the keys of what differs and remember its marks, in one transaction; gives how many.

        Keys are logged in the order given.
        """
        ...

    def marks(self, units: Sequence[str] | None = None) -> Mapping[str, bytes]:
        """See `Seen`."""
        ...

    def under(self, first: KeyPart) -> Mapping[Key, bytes]:
        """See `Seen`."""
        ...

    def known(self, hashes: Sequence[bytes]) -> Mapping[bytes, Vectors]:
        """Vectors (float32 [dimensions]) that are stored for passages with these hashes.

        Of this binding, or of any other generation or binding in the database whose space differs
        in nothing but the chunker. Damaged ones (another width, NaN) are left out.
        """
        ...

    def take_lease(self, holder: str, *, seconds: float, is_dead: Callable[[str], bool]) -> bool:
        """Become one that publishes, unless that is another living holder's alone."""
        ...

    def renew_lease(self) -> None:
        """Prolong the lease.

        Raises:
            LeaseLost: another worker took over, or the database was replaced.
        """
        ...

    def release_lease(self) -> None:
        """Give the lease back, if it is still held, and what was claimed under it."""
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

    def want_reconcile(self) -> None:
        """Ask for source and store to be compared row by row."""
        ...

    def reconcile_wanted(self) -> int | None:
        """The number of the comparison asked for; None when none is, or another worker is at it."""
        ...

    def reconcile_done(self, number: int) -> None:
        """Note that comparison `number` has been made."""
        ...

    def flaws(self) -> Iterable[tuple[Key, str]]:
        """Keys whose stored chunks are damaged or left over, each with what is wrong."""
        ...

    def forget(self, keys: Sequence[Key]) -> None:
        """No longer take what is stored for `keys` to be of any text, nor give its vectors away.

        `known` doesn't find them any more: they may be damaged.
        """
        ...

    def note_error(self, error: str | None) -> None:
        """Keep what the worker waits on, for `status`."""
        ...

    def is_paused(self) -> bool:
        """Whether the binding is paused; cheap."""
        ...

    def allows_deletes(self) -> bool:
        """Whether somebody has said that many rows gone at once are meant so."""
        ...

    def allow_deletes(self, allowed: bool) -> None:
        """Say so, or take it back."""
        ...

    def maintain(self) -> bool:
        """Do upkeep that may take long while others write; True when there was any."""
        ...

    def canary(self) -> Vectors | None:
        """What the model gave for the canary text when the binding began: float32 [dimensions]."""
        ...

    def keep_canary(self, vector: Vectors) -> None:
        """Keep it, unless one is kept."""
        ...

    def tail(self) -> int:
        """The newest log entry that can be seen now; 0 when the log is empty."""
        ...

    def is_past(self, seq: int) -> bool:
        """Whether no entry up to `seq` is in the log any more."""
        ...

    def close(self) -> None:
        """Close what is open."""
        ...
