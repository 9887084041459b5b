"""Token ids by word, remembered: what a tokenizer that reads word by word gives, in less time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import tokenizers

    from likewise.models.tokenize import Ids

MOST_WORDS = 1 << 17
"""Words remembered, some 20 MB; then it begins anew."""
LONGEST_WORD = 64
"""Characters beyond which a word isn't one, as in languages that write none: not remembered."""

# Each works character by character, or on what lies between two spaces, and never moves a space.
_NORMALIZERS = frozenset(
    ("BertNormalizer", "Lowercase", "StripAccents", "NFC", "NFD", "NFKC", "NFKD")
)
_SPLITTERS = frozenset(("BertPreTokenizer", "Whitespace", "WhitespaceSplit"))
_FURTHER = frozenset(("Punctuation", "Digits"))
_SPACES = ("\n", "\t", "\r")


def reads_word_by_word(inner: tokenizers.Tokenizer) -> bool:
    """Whether the ids of a text are those of its words, one after the other, without special ones.

    True only where each part of the tokenizer is known to look at nothing beyond a space; with
    byte-level or SentencePiece-like parts, whose tokens take the space along, it is False.
    """
    parts = json.loads(inner.to_str())
    normalizers = _kinds(parts["normalizer"], "normalizers")
    splitters = _kinds(parts["pre_tokenizer"], "pretokenizers")
    return (
        normalizers <= _NORMALIZERS
        and bool(splitters & _SPLITTERS)
        and splitters <= _SPLITTERS | _FURTHER
        and not parts["model"].get("dropout")
        and not any(any(map(str.isspace, t["content"])) for t in parts["added_tokens"])
    )


class Words:
    """The tokenizer `inner`, of which `reads_word_by_word` is true. For several threads."""

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        """Read with `inner`, which must neither cut nor pad."""
        self._inner = inner
        self._known: dict[str, bytes] = {"": b""}

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """The ids of each text, int32, without special ones.

        Raises:
            TypeError, UnicodeEncodeError: as the tokenizer does.
        """
        if len(self._known) > MOST_WORDS:
            self._known = {"": b""}
        known = self._known
        found: list[Any] = []
        late: list[int] = []
        split = [_words(text) for text in texts]
        for index, words in enumerate(split):
            try:
                found.append(b"".join(map(known.__getitem__, words)))
            except KeyError:
                found.append(b"")
                late.append(index)
        if late:
            passing = self._learn({word for index in late for word in split[index]}, known)
            both = {**passing, **known} if passing else known
            for index in late:
                found[index] = b"".join(map(both.__getitem__, split[index]))
        return [np.frombuffer(ids, np.int32) for ids in found]

    def _learn(self, words: set[str], known: dict[str, bytes]) -> dict[str, bytes]:
        """Put the ids of `words` into `known`; those too long to be kept are returned."""
        new = [word for word in words if word not in known]
        encoded = self._inner.encode_batch_fast(new, add_special_tokens=False)
        passing: dict[str, bytes] = {}
        for word, one in zip(new, encoded, strict=True):
            kept = known if len(word) <= LONGEST_WORD else passing
            kept[word] = np.array(one.ids, np.int32).tobytes()
        return passing


def _words(text: str) -> list[str]:
    for space in _SPACES:
        text = text.replace(space, " ")
    return text.split(" ")


def _kinds(part: Any, inside: str) -> set[str]:
    """The types of a part of tokenizer.json, those of a sequence each by itself."""
    if part is None:
        return set()
    if part["type"] == "Sequence":
        return set().union(*(_kinds(each, inside) for each in part[inside]))
    return {str(part["type"])}
