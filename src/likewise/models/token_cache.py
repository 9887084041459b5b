"""Token ids of texts that were cut into passages a moment ago, for when they are embedded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt
    import tokenizers

    Ids = npt.NDArray[np.int32]

_MOST = 4096
"""Texts that are remembered: more than workers have under way."""
_MOST_CHARACTERS = 4 << 20
"""Characters of all of them together."""
_LONGEST = 1 << 16
"""Characters of one: a text of white space has any length and no tokens."""
_PROBES = "Two words, 1 é", "de.ux"


class TokenCache:
    """Token ids of texts, without special ones, until they are taken. Safe to share.

    What a tokenizer gives for a text alone must be what it gives between special tokens. Where
    probes say otherwise nothing is remembered.
    """

    def __init__(self, inner: tokenizers.Tokenizer, head: Ids, tail: Ids, *, longest: int) -> None:
        """`longest`: tokens of the longest text worth remembering: one that isn't cut."""
        self._longest = longest
        self._kept: dict[str, Ids] = {}
        self._characters = 0
        self.is_of_use = all(
            [*head, *inner.encode(probe, add_special_tokens=False).ids, *tail]
            == inner.encode(probe).ids
            for probe in _PROBES
        )

    def keep(self, texts: Iterable[str], found: Sequence[tokenizers.Encoding]) -> None:
        """What the tokenizer gave for each of `texts`, without special tokens."""
        if not self.is_of_use:
            return
        for text, one in zip(texts, found, strict=True):
            if len(one) <= self._longest and len(text) <= _LONGEST:
                self._kept[text] = np.asarray(one.ids, np.int32)
                self._characters += len(text)
        if self._characters > _MOST_CHARACTERS:
            # Those that were taken aren't there any more.
            self._characters = sum(map(len, tuple(self._kept)))
        if len(self._kept) > _MOST or self._characters > _MOST_CHARACTERS:
            self._kept = {}
            self._characters = 0

    def take(self, texts: Iterable[str]) -> dict[str, Ids]:
        """The token ids of those that are remembered, which they aren't any longer."""
        kept = self._kept
        if not kept:
            return {}
        # Another thread may take the same text in between.
        found = ((text, kept.pop(text, None)) for text in dict.fromkeys(texts))
        return {text: ids for text, ids in found if ids is not None}
