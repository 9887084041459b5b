"""How many tokens a text has, estimated where the model's tokenizer isn't at hand; rather too many.

What a tokenizer makes of a text differs from model to model, and most by alphabet: common English
words are one token each, while a letter of an alphabet that a vocabulary hardly holds is spelt in
bytes. So each kind of character has a price of its own, set by what five tokenizers make of it:
cl100k (of text-embedding-3), o200k, Anthropic's, DeepSeek's and all-MiniLM-L6-v2's. Of English
prose and of code they make two thirds to three quarters of what is estimated here; of prose in 16
other languages, tables and digests at most `MOST_OVER` times that.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

MOST_OVER = 1.25
"""How many times the estimate a passage may have. The worst that was measured is 1.23, of digests
in hexadecimal; of prose 1.21, of Finnish. Not proven."""
_PIECE = re.compile(
    r"""
    (?!\s) (?:                                 # no space, also where signs and kana have their own
    (?P<one>   [A-Za-z]{1,3} | [0-9]{1,2}      # one token for so many letters or digits,
             | [!-/:-@\[-`{-~]                 # punctuation,
             | [\u00a1-\u052f\u0590-\u08ff]    # letters of Latin, Greek, Cyrillic, Hebrew, Arabic
             | [\u1e00-\u1fff]                 # and more of those,
             | [\u3000-\u30ff\uff00-\uffef] )  # kana
    | (?P<two> [\u0530-\u058f\u0900-\u0eff]    # two for each of Armenian, of India's, Thai, Lao,
             | [\u2000-\u2fff\u3100-\u9fff]    # signs, Chinese
             | [\ua000-\ud7af] )               # and Korean,
    | (?P<three> \S )                          # three for anything else that can be seen
    )
    """,
    re.VERBOSE,
)
_PRICES = {"one": 1, "two": 2, "three": 3}


def estimated_spans(texts: Sequence[str]) -> list[npt.NDArray[np.int64]]:
    """For each text the character ranges of what are taken for its tokens: int [n, 2], half open.

    In order and without holes but for white space. A character that is taken for several tokens is
    there so many times.
    """
    return [_spans(text) for text in texts]


def estimated_tokens(text: str) -> int:
    """How many tokens `text` is taken to have, special ones not counted."""
    return len(_spans(text))


def _spans(text: str) -> npt.NDArray[np.int64]:
    found: list[tuple[int, int]] = []
    for piece in _PIECE.finditer(text):
        kind = piece.lastgroup
        if kind == "one":
            found.append(piece.span())
        else:
            found += [piece.span()] * (2 if kind == "two" else 3)
    return np.array(found, dtype=np.int64).reshape(-1, 2)
