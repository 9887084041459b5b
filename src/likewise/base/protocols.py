"""The waists: the few methods by which layers know each other, so any part can be replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from likewise.base.chunking import DEFAULT_CHUNK

if TYPE_CHECKING:
    from likewise.base.space import Space
    from likewise.base.types import (
        Action,
        Applied,
        Block,
        Chunk,
        Feed,
        Hit,
        Key,
        Kind,
        Lane,
        Row,
        Vectors,
    )

Filter = Callable[["Key"], bool]
"""Whether a row may be returned."""


class Splitter(Protocol):
    """Cuts texts into passages that the model reads whole."""

    def __call__(
        self, texts: Sequence[str], held: Sequence[Sequence[int]] = (), /
    ) -> list[tuple[Chunk, ...]]:
        """The passages of each text, in order.

        `held`: for each text, characters after which passages should end too, if given.
        """
        ...


class Embedder(Protocol):
    """A local model or a remote endpoint; callers can't tell."""

    @property
    def space(self) -> Space:
        """The space its vectors lie in."""
        ...

    def embed(self, texts: Sequence[str], *, kind: Kind = "document") -> Vectors:
        """Vectors float32 [len(texts), space.dimensions], in order; finite, or an error is raised.

        Raises:
            InputError: a text can't be embedded.
            EngineError: the computation failed.
        """
        ...


class BoundModel(Embedder, Protocol):
    """What a binding asks of its model: vectors, in a lane, and passages that the model reads."""

    def embed(
        self, texts: Sequence[str], *, kind: Kind = "document", lane: Lane = "bulk"
    ) -> Vectors:
        """As an `Embedder`; in the lane `interactive` where somebody waits for the answer."""
        ...

    def splitter(self, chunk: str = DEFAULT_CHUNK) -> Splitter:
        """Cuts texts into passages that the model reads whole, as `chunk` says.

        Raises:
            SettingsError: it isn't known, or the model doesn't read that many tokens at once.
        """
        ...


class Scorer(Protocol):
    """A cross-encoder or a remote reranker; callers can't tell."""

    def score(self, query: str, texts: Sequence[str]) -> Vectors:
        """How well each text answers `query`: float32 [len(texts)], higher is better; finite.

        Raises:
            InputError: a text can't be read.
            ModelUnsupported: the model gives no such scores.
            EngineError: the computation failed.
        """
        ...


class Source(Protocol):
    """Where rows come from, and how we learn that they changed."""

    def attach(self) -> bool:
        """Begin (or mend) change capture; True when changes may have been missed before it.

        Raises:
            NoKey: nothing names a row for good.
            SchemaDrift: the table or a column isn't there.
        """
        ...

    def read(self, keys: Sequence[Key]) -> dict[Key, Row]:
        """The rows as they are now; keys that have no row are left out."""
        ...

    def snapshot(self) -> Iterator[Row]:
        """Every row, each as of some moment during the iteration."""
        ...

    def detach(self) -> None:
        """Leave nothing behind in the source."""
        ...


class VectorTable(Protocol):
    """The durable truth: for each key the vectors of its chunks and the text they are of."""

    @property
    def space(self) -> Space:
        """The only space whose vectors it takes."""
        ...

    def apply(self, actions: Sequence[Action], *, cursor: int) -> Applied:
        """Publish in one transaction: rows, log entries answered, and `cursor` move together.

        An action whose key has a log entry newer than `action.seq` is not published.

        Raises:
            SpaceMismatch: vectors of another width.
            LeaseLost: another worker owns the binding now.
            DatabaseError: nothing was changed.
        """
        ...

    def fingerprints(self, keys: Sequence[Key] | None = None) -> Mapping[Key, bytes]:
        """What text each key's vectors are of; all keys when None. Parked rows too."""
        ...

    def scan(self, block: int = 4096, *, keys: Sequence[Key] | None = None) -> Iterator[Block]:
        """All vectors (or those of `keys`) in blocks of about `block` chunks."""
        ...

    def published(self, after: int, *, limit: int = 10_000) -> Feed:
        """Keys put or deleted since version `after`, for indexes that follow."""
        ...


class Index(Protocol):
    """Finds the nearest vectors."""

    def search(self, vector: Vectors, *, k: int, filter: Filter | None = None) -> list[Hit]:
        """The `k` nearest rows to `vector` (float32 [dimensions]), best chunk of each, best first.

        Raises:
            DimensionsError: `vector` has another width.
        """
        ...
