"""Small frozen values that cross between layers: keys, changes, rows, chunks, actions, hits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Vectors = npt.NDArray[np.float32]
    """float32, shape [n, dimensions], C-contiguous."""

KeyPart = int | float | str | bytes
Key = tuple[KeyPart, ...]
"""A row's name: the values of its key columns, in order, with their database types."""

Kind = Literal["document", "query"]
"""What a text is for: some models put another prompt before each."""

Lane = Literal["interactive", "bulk"]
"""Which queue work waits in: somebody waits for the answer, or nobody does."""

Overflow = Literal["cut", "refuse"]
"""What is done with a text of more tokens than the model reads."""

CutSide = Literal["left", "right"]
"""Where a text that is too long loses tokens."""

Op = Literal["upsert", "delete", "all"]
"""What was done to a row; `all`: to any row (a TRUNCATE, a trigger made anew)."""

Freshness = Literal["any", "fresh", "wait"]
"""What a search may answer from: any vector, only those of the present text, or wait for those."""


@dataclass(frozen=True, slots=True)
class Change:
    """A log entry: the row named `key` may have changed. The row itself must be read again.

    In a store `seq` is the fence: a number that grows from claim to claim, and of which it is
    certain that the row was read after all changes answered under it could be seen.
    """

    seq: int
    key: Key
    """Empty when `op` is `all`."""
    op: Op
    at: float
    """When it was logged: seconds since 1970, UTC."""


@dataclass(frozen=True, slots=True)
class Captured:
    """Changes that a source has written down itself and that a store's log is to take over."""

    changes: tuple[Change, ...] = ()
    before: str = ""
    """The source's place before it gives these away: what the store was told last time, unless
    the source was put back to an older state (a restored backup) or is another one."""
    after: str = ""
    """Its place once they are taken off."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One unit of a source that keeps no log (a row, or a file of rows) is not as it was seen."""

    unit: str
    mark: bytes | None
    """How it is to be remembered now; None: it is gone."""
    keys: tuple[Key, ...]
    """The rows of it that may have changed, come or gone."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a source found that is to be bound."""

    table: str
    """The table's own spelling; empty where there is none."""
    key: tuple[str, ...]
    """The columns that name a row."""
    kinds: tuple[str, ...]
    """Of each: `int`, `real`, `text`, `bytes`, `any` (of several types), or `cast:TYPE`: text that
    the source's own database reads as TYPE."""
    unguarded: tuple[str, ...] = ()
    """In words: what changes of it are only noticed by comparing."""


@dataclass(frozen=True, slots=True)
class Row:
    """A source row as it is now: its columns, and the one text that stands for it."""

    key: Key
    text: str
    """The template filled in, canonicalised (see `likewise.text.canon`)."""
    values: Mapping[str, object]
    """Every column of the source row that the template or a result needs."""
    fingerprint: bytes
    """sha256 (32 bytes) of `text`: equal texts have equal vectors."""
    error: str | None = None
    """Why it has no text: the row is parked with it. The fingerprint then says of what state of the
    source that is true."""
    mark: bytes = b""
    """How a source that keeps no log would remember what was read here; see `Difference`."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage: characters `start` to `end` (half open) of a row's `text`."""

    ordinal: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Put:
    """Replace all that is stored for `key` by these chunks and vectors."""

    key: Key
    seq: int
    """Newest log entry of this key that the read of the row saw; the fence compares with it."""
    fingerprint: bytes
    chunks: tuple[Chunk, ...]
    vectors: Vectors
    """float32 [len(chunks), dimensions]."""
    texts: tuple[str, ...]
    """The passages' texts, as they were embedded."""

    @property
    def hashes(self) -> tuple[bytes, ...]:
        """sha256 (32 bytes) of each passage's text: equal passages have equal vectors."""
        return tuple(passage_hash(text) for text in self.texts)


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove all that is stored for `key`."""

    key: Key
    seq: int


@dataclass(frozen=True, slots=True)
class Park:
    """The row can't be embedded: keep why, publish nothing for it, take it off the queue."""

    key: Key
    seq: int
    fingerprint: bytes
    error: str


@dataclass(frozen=True, slots=True)
class Keep:
    """What is stored is of the row's present text already: only answer the log.

    Should something else be stored by then, the log entry stays.
    """

    key: Key
    seq: int
    fingerprint: bytes


def passage_hash(text: str) -> bytes:
    """sha256 (32 bytes) of a passage's UTF-8: by it stores find a vector that is there already."""
    return hashlib.sha256(text.encode("utf-8")).digest()


Action = Put | Delete | Park | Keep


@dataclass(frozen=True, slots=True)
class Applied:
    """What `VectorTable.apply` did."""

    put: int = 0
    deleted: int = 0
    parked: int = 0
    kept: int = 0
    superseded: int = 0
    """Actions not published because the log holds a newer entry for their key."""


@dataclass(frozen=True, slots=True)
class Block:
    """Vectors as a store hands them out, row i of each field belonging together."""

    keys: tuple[Key, ...]
    chunks: tuple[Chunk, ...]
    vectors: Vectors
    """float32 [len(keys), dimensions]."""


@dataclass(frozen=True, slots=True)
class Feed:
    """What was published after a version: the keys touched, and the version reached.

    `reset` says that the feed no longer reaches back that far: read everything again.
    """

    version: int
    keys: tuple[Key, ...]
    reset: bool = False


@dataclass(frozen=True, slots=True)
class Hit:
    """One passage found: the row's key, which chunk, and its score (higher is nearer)."""

    key: Key
    chunk: Chunk
    score: float


@dataclass(frozen=True, slots=True)
class Result:
    """A hit joined to its source row as it is now."""

    hit: Hit
    row: Row
    fresh: bool
    """Whether the vector is of the row's present text."""


@dataclass(frozen=True, slots=True)
class Audit:
    """What `verify` found (and, unless told not to, mended)."""

    rows: int
    current: int
    missing: int
    stale: int
    orphan: int
    parked: int
    pending: int = 0
    """Rows whose change waits in the log; they count in none of the four before."""
    repaired: int = 0
    details: tuple[str, ...] = field(default=())

    @property
    def is_clean(self) -> bool:
        """Whether every row has the vector of its present text and no vector is left over."""
        return self.missing == self.stale == self.orphan == 0
