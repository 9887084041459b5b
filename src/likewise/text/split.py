"""Cutting texts into passages by a model's own tokens, in the way that a setting names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from likewise.base.chunking import parse_chunking
from likewise.base.errors import SettingsError
from likewise.text.chunk import chunk_tokens
from likewise.text.code import chunk_code
from likewise.text.headings import chunk_headings
from likewise.text.sentences import chunk_sentences

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from likewise.base.chunking import Chunking
    from likewise.base.types import Chunk

    Spans = Callable[[Sequence[str]], list[npt.NDArray[np.int64]]]
    """For each text the character ranges of its tokens, in order: int [n, 2], half open."""

CUTTERS = {
    "tokens": chunk_tokens,
    "sentences": chunk_sentences,
    "headings": chunk_headings,
    "code": chunk_code,
}
"""What cuts a text, for each of `WAYS`."""


@dataclass(frozen=True, slots=True)
class TextSplitter:
    """A `Splitter` of passages as `chunking` says; `spans` finds the tokens."""

    chunking: Chunking
    spans: Spans

    @property
    def name(self) -> str:
        """As a `Space` records it, such as `tokens:128/16`."""
        return self.chunking.name

    def __call__(
        self, texts: Sequence[str], held: Sequence[Sequence[int]] = (), /
    ) -> list[tuple[Chunk, ...]]:
        """The passages of each text, in order; a text without tokens has none.

        `held`: for each text, characters after which passages end too.
        """
        size, overlap = self.chunking.size, self.chunking.overlap
        cutter = CUTTERS[self.chunking.way]
        return [
            cutter(text, spans, size=size, overlap=overlap, held=ends)
            for text, spans, ends in zip(
                texts, self.spans(texts), held or [()] * len(texts), strict=True
            )
        ]


def splitter(chunk: str, spans: Spans, *, room: int, model: str) -> TextSplitter:
    """What cuts texts as `chunk` says, for a model that reads up to `room` tokens at once.

    Raises:
        SettingsError: it isn't a way that is known, or of no size for that model.
    """
    chunking = parse_chunking(chunk)
    size, overlap = chunking.size, chunking.overlap
    if not 1 <= size <= room or not 0 <= overlap <= size // 2:
        raise SettingsError(
            f"chunks of {size} tokens overlapping by {overlap}: {model} reads up to {room} tokens "
            "at once, and the overlap is at most half of the size",
            param="chunk",
        )
    return TextSplitter(chunking, spans)
