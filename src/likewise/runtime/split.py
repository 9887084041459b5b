"""Cutting texts into passages by the model's own tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from likewise.text.chunk import chunk_tokens

if TYPE_CHECKING:
    from likewise.base.types import Chunk
    from likewise.models.tokenize import Tokenizer


@dataclass(frozen=True, slots=True)
class TokenSplitter:
    """A `Splitter` of passages of at most `size` tokens, which overlap by up to `overlap`."""

    tokenizer: Tokenizer
    size: int
    overlap: int

    @property
    def name(self) -> str:
        """As a `Space` records it: `tokens:SIZE/OVERLAP`."""
        return f"tokens:{self.size}/{self.overlap}"

    def __call__(self, texts: Sequence[str]) -> list[tuple[Chunk, ...]]:
        """The passages of each text, in order; a text without tokens has none."""
        return [
            chunk_tokens(text, spans, size=self.size, overlap=self.overlap)
            for text, spans in zip(texts, self.tokenizer.spans(texts), strict=True)
        ]
