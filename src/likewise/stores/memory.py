"""The oracle store: the same promises as every other, kept in dictionaries."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from likewise.base.bound import BindingRecord, Counts, Parked
from likewise.base.clock import Clock, wall
from likewise.base.errors import LeaseLost, NotFinite, SpaceMismatch
from likewise.base.spec import BindingSpec
from likewise.base.types import (
    Action,
    Applied,
    Block,
    Captured,
    Change,
    Chunk,
    Delete,
    Difference,
    Feed,
    Keep,
    Key,
    KeyPart,
    Op,
    Park,
    Put,
)

if TYPE_CHECKING:
    from likewise.base.space import Space
    from likewise.base.types import Vectors


class MemoryLog:
    """The change log, shared by a source and a store."""

    def __init__(self, clock: Clock = wall) -> None:
        self.entries: list[Change] = []
        self._seq = 0
        self._clock = clock

    def append(self, key: Key, op: Op = "upsert", at: float | None = None) -> int:
        """Log a change; gives its place."""
        self._seq += 1
        self.entries.append(Change(self._seq, key, op, self._clock() if at is None else at))
        return self._seq

    def newest(self, key: Key) -> int:
        """The newest entry of a key; 0 when it has none."""
        return max((entry.seq for entry in self.entries if entry.key == key), default=0)

    def answer(self, key: Key, seq: int) -> None:
        """Remove a key's entries up to `seq`."""
        self.entries = [e for e in self.entries if e.key != key or e.seq > seq]


@dataclass(slots=True)
class _Held:
    fingerprint: bytes
    seq: int
    chunks: tuple[Chunk, ...] = ()
    vectors: Vectors | None = None
    hashes: tuple[bytes, ...] = ()
    error: str | None = None
    attempts: int = 0
    at: float = 0.0


class _State:
    """What all handles on one store share."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.held: dict[Key, _Held] = {}
        self.feed: list[Key] = []
        self.lease: tuple[str, float] | None = None
        self.published = 0
        self.error: str | None = None
        self.wanted, self.done = 1, 0
        self.cursor = 0
        self.marks: dict[str, bytes] = {}
        self.place: str | None = None
        self.paused = False
        self.allows_deletes = False
        self.canary: Vectors | None = None


class MemoryTable:
    """Vectors of one binding in this process. Safe to use from several threads."""

    def __init__(
        self,
        space: Space,
        log: MemoryLog | None = None,
        *,
        name: str = "memory",
        clock: Clock = wall,
    ) -> None:
        self.space = space
        self.name = name
        spec = BindingSpec(name, "sqlite::memory:", "memory", "{text}")
        self.record = BindingRecord(spec, space, clock())
        self.log = log or MemoryLog(clock)
        self._clock = clock
        self._state = _State()
        self._holder: str | None = None
        self._lease_seconds = 0.0

    def another(self) -> MemoryTable:
        """A second handle on the same store, as another worker has."""
        made = MemoryTable(self.space, self.log, name=self.name, clock=self._clock)
        made._state = self._state
        return made

    def claim(self, after: int, *, limit: int) -> list[Change]:
        """Log entries with `seq > after`, in order, at most `limit`."""
        with self._state.lock:
            return [entry for entry in self.log.entries if entry.seq > after][:limit]

    def gather(self, seqs: Mapping[Key, int]) -> dict[Key, int]:
        """Claimed keys, each with its newest entry."""
        with self._state.lock:
            return {key: max(seq, self.log.newest(key)) for key, seq in seqs.items()}

    def unclaim(self) -> None:
        """Nothing."""

    def enqueue(self, keys: Sequence[Key], *, at: Sequence[float] | None = None) -> int:
        """Log each key as perhaps changed; gives how many."""
        with self._state.lock:
            for number, key in enumerate(keys):
                self.log.append(key, at=None if at is None else at[number])
        return len(keys)

    def relay(self, captured: Captured) -> None:
        """Take over a source's changes and its place."""
        with self._state.lock:
            if not captured.before and not captured.changes:
                return
            if self._state.place not in (None, captured.before):
                self._state.wanted += 1
            for change in captured.changes:
                if change.op == "all":
                    self._state.wanted += 1
                else:
                    self.log.append(change.key, at=change.at)
            self._state.place = captured.after

    def note(self, differences: Sequence[Difference]) -> int:
        """Log the keys of what differs and remember its marks."""
        with self._state.lock:
            for each in differences:
                if each.mark is None:
                    self._state.marks.pop(each.unit, None)
                else:
                    self._state.marks[each.unit] = each.mark
            return self.enqueue([key for each in differences for key in each.keys])

    def marks(self, units: Sequence[str] | None = None) -> Mapping[str, bytes]:
        """The marks of `units` (or all), as they were noted last."""
        with self._state.lock:
            there = self._state.marks
            return {
                unit: there[unit] for unit in (there if units is None else units) if unit in there
            }

    def under(self, first: KeyPart) -> Mapping[Key, bytes]:
        """Fingerprints of the stored keys that begin with `first`; parked rows too."""
        return {key: held for key, held in self.fingerprints().items() if key[0] == first}

    def known(self, hashes: Sequence[bytes]) -> Mapping[bytes, Vectors]:
        """Vectors that are stored for passages with these hashes."""
        with self._state.lock:
            there = {
                digest: held.vectors[number]
                for held in self._state.held.values()
                if held.vectors is not None
                for number, digest in enumerate(held.hashes)
                if np.isfinite(held.vectors[number]).all()
            }
        return {digest: there[digest] for digest in hashes if digest in there}

    def apply(self, actions: Sequence[Action], *, cursor: int) -> Applied:
        """Publish; see `VectorTable.apply`."""
        for action in actions:
            if isinstance(action, Put):
                self._check(action)
        with self._state.lock:
            self.renew_lease()
            counts = dict.fromkeys(("put", "deleted", "parked", "kept", "superseded"), 0)
            for action in actions:
                counts[self._one(action)] += 1
            self._state.cursor = max(self._state.cursor, cursor)
            self._state.published += counts["put"]
            return Applied(**counts)

    def fingerprints(self, keys: Sequence[Key] | None = None) -> Mapping[Key, bytes]:
        """What text each key's vectors are of; all keys when None. Parked rows too."""
        with self._state.lock:
            wanted = self._state.held if keys is None else keys
            return {
                key: self._state.held[key].fingerprint for key in wanted if key in self._state.held
            }

    def scan(self, block: int = 4096, *, keys: Sequence[Key] | None = None) -> Iterator[Block]:
        """All vectors (or those of `keys`), a block a row."""
        with self._state.lock:
            wanted = list(self._state.held if keys is None else keys)
            found = [(key, self._state.held[key]) for key in wanted if key in self._state.held]
        for key, held in found:
            if held.vectors is not None and held.chunks:
                yield Block((key,) * len(held.chunks), held.chunks, held.vectors)

    def published(self, after: int, *, limit: int = 10_000) -> Feed:
        """Keys put or deleted since version `after`."""
        with self._state.lock:
            if not 0 <= after <= len(self._state.feed):
                return Feed(len(self._state.feed), (), reset=True)
            keys = self._state.feed[after : after + limit]
            return Feed(after + len(keys), tuple(dict.fromkeys(keys)))

    def take_lease(self, holder: str, *, seconds: float, is_dead: Callable[[str], bool]) -> bool:
        """Become the one that publishes, unless another living holder's lease runs."""
        with self._state.lock:
            now = self._clock()
            if self._state.lease is not None:
                other, until = self._state.lease
                if other != holder and until > now and not is_dead(other):
                    return False
            self._state.lease = (holder, now + seconds)
            self._holder, self._lease_seconds = holder, seconds
            return True

    def renew_lease(self) -> None:
        """Prolong the lease."""
        with self._state.lock:
            self._require_mine()
            if self._holder is not None:
                self._state.lease = (self._holder, self._clock() + self._lease_seconds)

    def release_lease(self) -> None:
        """Give the lease back, if it is still held."""
        with self._state.lock:
            if self._state.lease is not None and self._state.lease[0] == self._holder:
                self._state.lease = None
            self._holder = None

    def pending(self, keys: Sequence[Key] | None = None) -> set[Key]:
        """Those of `keys` (or all) that have a log entry."""
        found = {entry.key for entry in self.log.entries}
        return found if keys is None else found & set(keys)

    def has_work(self) -> bool:
        """Whether the log holds anything, or source and store are still to be compared."""
        return bool(self.log.entries) or self._state.wanted > self._state.done

    def counts(self) -> Counts:
        """How it stands."""
        with self._state.lock:
            parked = sum(held.error is not None for held in self._state.held.values())
            return Counts(
                stored=len(self._state.held) - parked,
                parked=parked,
                chunks=sum(len(held.chunks) for held in self._state.held.values()),
                waiting=len(self.pending()),
                oldest=self.log.entries[0].at if self.log.entries else None,
                published=self._state.published,
                is_reconciling=self._state.wanted > self._state.done,
                holder=self._state.lease[0] if self._state.lease else None,
                error=self._state.error,
                is_paused=self._state.paused,
            )

    def parked(self, limit: int | None = 100) -> list[Parked]:
        """Rows that couldn't be embedded, and why; all of them when `limit` is None."""
        with self._state.lock:
            found = [
                Parked(key, each.error, each.attempts, each.at)
                for key, each in self._state.held.items()
                if each.error
            ]
        return found[:limit]

    def retry_parked(self) -> int:
        """Put all parked rows back on the queue; gives how many."""
        keys = [each.key for each in self.parked(None)]
        self.forget(keys)
        return self.enqueue(keys)

    def want_reconcile(self) -> None:
        """Ask for source and store to be compared row by row."""
        self._state.wanted += 1

    def is_paused(self) -> bool:
        """Whether the binding is paused."""
        return self._state.paused

    def pause(self, paused: bool) -> None:
        """Stop workers of the binding at their next step, or let them go on."""
        self._state.paused = paused

    def allows_deletes(self) -> bool:
        """Whether somebody has said that many rows gone at once are meant so."""
        return self._state.allows_deletes

    def allow_deletes(self, allowed: bool) -> None:
        """Say so, or take it back."""
        self._state.allows_deletes = allowed

    def maintain(self) -> bool:
        """Nothing wants upkeep here."""
        return False

    def canary(self) -> Vectors | None:
        """What the model gave for the canary text when the binding began."""
        return self._state.canary

    def keep_canary(self, vector: Vectors) -> None:
        """Keep it, unless one is kept."""
        if self._state.canary is None:
            self._state.canary = vector

    def tail(self) -> int:
        """The newest log entry; 0 when the log is empty."""
        return max((entry.seq for entry in self.log.entries), default=0)

    def is_past(self, seq: int) -> bool:
        """Whether no entry up to `seq` is in the log any more."""
        return all(entry.seq > seq for entry in self.log.entries)

    def reconcile_wanted(self) -> int | None:
        """The number of the comparison that is asked for; None when none is."""
        return self._state.wanted if self._state.wanted > self._state.done else None

    def reconcile_done(self, number: int) -> None:
        """Note that comparison `number` has been made."""
        self._state.done = max(self._state.done, number)

    def flaws(self) -> list[tuple[Key, str]]:
        """Nothing is damaged in memory."""
        return []

    def forget(self, keys: Sequence[Key]) -> None:
        """No longer take what is stored for `keys` to be of any text, nor give its vectors away."""
        with self._state.lock:
            for key in keys:
                if key in self._state.held:
                    self._state.held[key].fingerprint = b""
                    self._state.held[key].hashes = ()

    def note_error(self, error: str | None) -> None:
        """Keep what the worker waits on, for `status`."""
        self._state.error = error

    def close(self) -> None:
        """Nothing to close."""

    def _check(self, action: Put) -> None:
        if action.vectors.shape != (len(action.chunks), self.space.dimensions):
            raise SpaceMismatch(
                f"row {action.key}: vectors of shape {action.vectors.shape} don't fit "
                f"{len(action.chunks)} chunks of {self.space.dimensions} dimensions"
            )
        if not np.isfinite(action.vectors).all():
            raise NotFinite(f"row {action.key}: a vector holds NaN or Inf; it isn't stored")

    def _one(self, action: Action) -> str:
        key, seq = action.key, action.seq
        held = self._state.held.get(key)
        is_newer = self.log.newest(key) > seq or (held is not None and held.seq > seq)
        if isinstance(action, Keep):
            if self.log.newest(key) > seq or held is None:
                return "superseded"
            if held.fingerprint != action.fingerprint:
                return "superseded"
            self.log.answer(key, seq)
            return "kept"
        self.log.answer(key, seq)
        if is_newer:
            return "superseded"
        self._state.feed.append(key)
        if isinstance(action, Delete):
            self._state.held.pop(key, None)
            return "deleted"
        made = _Held(action.fingerprint, seq, at=self._clock())
        self._state.held[key] = made
        if isinstance(action, Park):
            made.error, made.attempts = action.error, 1 + (held.attempts if held else 0)
            return "parked"
        made.chunks, made.vectors, made.hashes = action.chunks, action.vectors, action.hashes
        return "put"

    def _require_mine(self) -> None:
        if (self._state.lease[0] if self._state.lease else None) != self._holder:
            raise LeaseLost(f"binding {self.name}: another worker holds the lease")
