"""Where the rows of a request gather, each kind of output in the form that callers get."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from likewise.base.types import Vectors
    from likewise.models.late import Mask
    from likewise.models.tokenize import Ids

    SparseVector = tuple[Ids, Vectors]
    """Token ids int32 [k], rising, and their weights float32 [k], all above 0."""


@dataclass(frozen=True, slots=True)
class Times:
    """Where the time of a request went, in seconds."""

    tokenise_s: float = 0.0
    queue_s: float = 0.0
    """How long its inputs waited, on average."""
    compute_s: float = 0.0
    """How long the batches of its inputs took, on average."""

    @classmethod
    def mean(cls, several: Sequence[Times]) -> Times:
        """What each of `several` took on average; nothing where there are none."""
        count = max(1, len(several))
        return cls(
            sum(one.tokenise_s for one in several) / count,
            sum(one.queue_s for one in several) / count,
            sum(one.compute_s for one in several) / count,
        )


class Sink(Protocol):
    """Takes what an engine gave for each input; may be called from any thread."""

    gives: str
    """What callers call it: `vectors`, `sparse`, `tokens`."""

    def put(self, index: int, rows: Vectors) -> None:
        """Input `index` got `rows`: its row, or one for each of its tokens. Copy what is kept."""
        ...

    def result(self) -> Any:
        """Everything, in the order of the inputs."""
        ...


class Rows:
    """A row for each input: float32 [inputs, width]."""

    gives = "vectors"

    def __init__(self, count: int, width: int) -> None:
        self._rows = np.empty((count, width), np.float32)

    def put(self, index: int, rows: Vectors) -> None:
        """Keep the row."""
        self._rows[index] = rows

    def result(self) -> Vectors:
        """float32 [inputs, width]."""
        return self._rows


class SparseRows:
    """What is above 0 of a row over the vocabulary."""

    gives = "sparse"

    def __init__(self, count: int) -> None:
        self._found: list[SparseVector | None] = [None] * count

    def put(self, index: int, rows: Vectors) -> None:
        """Keep what isn't 0."""
        ids = np.flatnonzero(rows > 0).astype(np.int32)
        self._found[index] = (ids, np.array(rows[ids], np.float32))

    def result(self) -> list[SparseVector]:
        """Ids and weights of each input."""
        return [one for one in self._found if one is not None]


class LexicalRows(SparseRows):
    """A weight for each token of the text: for each id the largest (FlagEmbedding, BGE-M3)."""

    def __init__(self, count: int, wordless: Ids) -> None:
        """Leave out the ids in `wordless`."""
        super().__init__(count)
        self._wordless = wordless
        self._ids: list[Ids | None] = [None] * count

    def expect(self, index: int, ids: Ids) -> None:
        """Input `index` has these tokens."""
        self._ids[index] = ids

    def put(self, index: int, rows: Vectors) -> None:
        """Keep the largest weight of each id; `rows` is [tokens, 1]."""
        ids = self._ids[index]
        assert ids is not None
        kept = (rows[:, 0] > 0) & ~np.isin(ids, self._wordless)
        unique, at = np.unique(ids[kept], return_inverse=True)
        largest = np.zeros(len(unique), np.float32)
        np.maximum.at(largest, at, rows[kept, 0])
        self._found[index] = (unique.astype(np.int32), largest)


class TokenRows:
    """A vector for each token that counts."""

    gives = "tokens"

    def __init__(self, count: int) -> None:
        self._found: list[Vectors | None] = [None] * count
        self._kept: list[Mask | None] = [None] * count

    def expect(self, index: int, kept: Mask) -> None:
        """Of input `index` these tokens count."""
        self._kept[index] = kept

    def put(self, index: int, rows: Vectors) -> None:
        """Keep the vectors of tokens that count; `rows` is [tokens, width]."""
        self._found[index] = np.array(rows[self._kept[index]], np.float32)

    def result(self) -> list[Vectors]:
        """float32 [tokens, width] for each input."""
        return [one for one in self._found if one is not None]


@dataclass(frozen=True, slots=True)
class Answered:
    """What a request for several kinds of output gave, in the order of its inputs."""

    vectors: Vectors | None
    """float32 [inputs, dimensions]; None when they weren't asked for, as for the others."""
    sparse: Sequence[SparseVector] | None
    tokens: Sequence[Vectors] | None
    """float32 [tokens, width] for each input."""
    token_counts: tuple[int, ...]
    """Tokens computed of each input, special ones included."""
    truncated: tuple[int, ...]
    """Positions of inputs that were cut."""
    times: Times = Times()
    states: Sequence[Vectors] | None = None
    """float32 [tokens, width] for each input: hidden states of all its tokens."""


@dataclass(frozen=True, slots=True)
class Scored:
    """What pairs of texts gave, in their order."""

    scores: Vectors
    """float32 [pairs, labels]."""
    tokens: tuple[int, ...]
    """Tokens computed of each pair, special ones included."""
    truncated: tuple[int, ...]
    """Positions of pairs that were cut."""
    times: Times = Times()
