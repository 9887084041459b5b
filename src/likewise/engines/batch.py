"""`PackedBatch`: the tokens of several texts end to end; and what an engine is to the runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from likewise.base.types import Vectors

    Ints = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Texts as token ids without padding: text i has `ids[cumulative[i]:cumulative[i + 1]]`."""

    ids: Ints
    """int32 [tokens]."""
    cumulative: Ints
    """int32 [texts + 1]: where each text begins; the last number is the count of tokens."""
    positions: Ints
    """int32 [tokens]: each token's place in its own text, from 0."""
    max_length: int
    """Tokens of the longest text."""
    types: Ints | None = None
    """int32 [tokens]: 1 in the second text of a pair; None when there are no pairs."""
    prompts: Ints | None = None
    """int32 [texts]: first tokens of each text that pooling leaves out; None for none."""
    attended: Ints | None = None
    """int32 [texts]: first tokens of each text that its tokens look at; None for all of them.

    Those after them look at the others and get a hidden state, but nothing looks at them: the
    [MASK] tokens by which ColBERT expands a query.
    """
    wants: frozenset[Output] = frozenset()
    """What is to come back; empty: what the model gives by itself, all but `ON_REQUEST`."""

    @classmethod
    def of(
        cls,
        texts: Sequence[Sequence[int] | Ints],
        *,
        types: Sequence[Sequence[int] | Ints] | None = None,
        prompts: Sequence[int] | None = None,
        attended: Sequence[int] | None = None,
        wants: frozenset[Output] = frozenset(),
    ) -> PackedBatch:
        """The batch of `texts`, each a non-empty run of token ids; there is at least one."""
        assert texts, "an empty batch: this is a bug"
        lengths = np.fromiter((len(text) for text in texts), np.int32, len(texts))
        assert lengths.min() > 0, "a text without tokens: this is a bug"
        cumulative = np.zeros(len(texts) + 1, np.int32)
        np.cumsum(lengths, out=cumulative[1:])
        ids = np.concatenate([np.asarray(text, np.int32) for text in texts])
        positions = np.arange(len(ids), dtype=np.int32) - np.repeat(cumulative[:-1], lengths)
        kinds = None
        if types is not None:
            kinds = np.concatenate([np.asarray(one, np.int32) for one in types])
            assert len(kinds) == len(ids), "types of another length than the texts: this is a bug"
        left_out = None if prompts is None else np.asarray(prompts, np.int32)
        seen = None if attended is None else np.asarray(attended, np.int32)
        places = positions.astype(np.int32)
        return cls(ids, cumulative, places, int(lengths.max()), kinds, left_out, seen, wants)

    def is_wanted(self, name: Output) -> bool:
        """Whether the output `name` is to come back."""
        return is_wanted(name, self.wants)

    def placed(self, skip: int) -> Ints:
        """int32 [tokens]: `positions` where tokens `skip` don't count, and stand at -1 themselves.

        RoBERTa and MPNet number positions so, which shows when a text has a literal padding token.
        """
        counts = self.ids != skip
        seen = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        first = np.repeat(self.cumulative[:-1], np.diff(self.cumulative))
        return np.where(counts, seen[:-1] - seen[first], np.int32(-1))

    def part(self, start: int, stop: int) -> PackedBatch:
        """The texts `start` to `stop` alone; at least one."""
        tokens, texts = slice(*self.cumulative[[start, stop]]), slice(start, stop)
        cumulative = self.cumulative[start : stop + 1] - self.cumulative[start]
        return PackedBatch(
            ids=self.ids[tokens],
            cumulative=cumulative,
            positions=self.positions[tokens],
            max_length=int(np.diff(cumulative).max()),
            types=None if self.types is None else self.types[tokens],
            prompts=None if self.prompts is None else self.prompts[texts],
            attended=None if self.attended is None else self.attended[texts],
            wants=self.wants,
        )

    @property
    def tokens(self) -> int:
        """How many tokens there are in all."""
        return len(self.ids)

    @property
    def texts(self) -> int:
        """How many texts there are."""
        return len(self.cumulative) - 1


Output = Literal["vectors", "scores", "sparse", "weights", "tokens", "states", "raw"]
"""What a model gives: `vectors` [texts, dimensions]; `scores` [texts, labels]; `sparse`
[texts, vocabulary]; `weights` [tokens, 1], a weight for each token (BGE-M3's lexical ones);
`tokens` [tokens, width], a vector for each token (ColBERT); `states` [tokens, width], the last
hidden state of each token, before any pooling; `raw` [texts, dimensions], of a model whose vectors
have length 1 what stands before they are scaled to it."""

Outputs = Mapping[Output, "Vectors"]
"""float32 arrays by name: those that are wanted of what the model has."""

PER_TOKEN: frozenset[Output] = frozenset(("weights", "tokens", "states"))
"""Outputs with a row for each token; the others have one for each text."""


ON_REQUEST: frozenset[Output] = frozenset(("states", "raw"))
"""Outputs that come back only where they are named."""


def is_wanted(name: Output, wants: frozenset[Output]) -> bool:
    """Whether the output `name` is among those that are wanted (`PackedBatch.wants`)."""
    return name in wants if wants else name not in ON_REQUEST


Forward = Callable[[PackedBatch], Outputs]
"""One stream of an engine: what a batch gives. Used by one thread at a time."""


class Engine(Protocol):
    """A model made ready to compute."""

    @property
    def name(self) -> str:
        """The engine's name, as in `engines.names`."""
        ...

    @property
    def version(self) -> str:
        """The library that computes, its version, and the device where that isn't the CPU."""
        ...

    @property
    def precision(self) -> str:
        """The arithmetic it runs in: `f32`, `bf16`, `f16` or `int8`."""
        ...

    @property
    def why(self) -> str:
        """Why that precision."""
        ...

    @property
    def streams(self) -> int:
        """How many batches it computes side by side."""
        ...

    @property
    def budget_tokens(self) -> int:
        """Tokens of a batch beyond which more gain nothing."""
        ...

    @property
    def least_fill(self) -> float:
        """Share of a batch's rectangle (texts by the longest one) that should hold tokens.

        Two batches are quicker than one with less; 0 where texts aren't laid side by side.
        """
        ...

    @property
    def warm_lengths(self) -> tuple[int, ...]:
        """Lengths of single texts whose first run is slower, shortest first."""
        ...

    @property
    def gives_states(self) -> bool:
        """Whether it gives `states` to a batch that wants them."""
        ...

    def stream(self) -> Forward:
        """One of the `streams`: a function that computes batches, one at a time.

        Calling it raises:
            EngineError: the computation failed.
        """
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...
