"""How many tokens a text has, estimated where the model's tokenizer isn't at hand; rather too many.

What a tokenizer does to a text differs from model to model, yet not by much for a kind of
character: English words lose three to five characters to a token, a Chinese character is one or
two tokens, a number is cut into pieces of one to three digits. Pieces are cut here at the short end
of that, so that a passage of so many pieces has no more tokens; it may have a third fewer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

# In this order: English letters; digits; letters of other alphabets that are written with spaces
# (Latin, Greek, Cyrillic, Armenian, Hebrew, Arabic); anything else that can be seen, by itself.
_PIECE = re.compile(
    r"[A-Za-z]{1,4}|[0-9]{1,2}|[\u00c0-\u024f\u0370-\u06ff\u1e00-\u1fff]{1,2}|\S",
)
_RARE = re.compile(r"[^\u0000-\u06ff\u1e00-\u30ff\u3400-\u9fff\uac00-\ud7af\uff00-\uffef]")
_RARE_TOKENS = 3
"""What a character costs that few vocabularies hold: an emoji is spelt in bytes, which are up to
four, of which two often have a token together."""


def estimated_spans(texts: Sequence[str]) -> list[npt.NDArray[np.int64]]:
    """For each text the character ranges of what are taken for its tokens: int [n, 2], half open.

    In order and without holes but for white space. A rare character stands in it several times.
    """
    return [_spans(text) for text in texts]


def estimated_tokens(text: str) -> int:
    """How many tokens `text` is taken to have, special ones not counted."""
    return len(_spans(text))


def _spans(text: str) -> npt.NDArray[np.int64]:
    found: list[tuple[int, int]] = []
    for piece in _PIECE.finditer(text):
        span = piece.span()
        found += [span] * (_RARE_TOKENS if _RARE.match(piece[0]) else 1)
    return np.array(found, dtype=np.int64).reshape(-1, 2)
