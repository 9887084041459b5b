"""Texts as late-interaction models read them, and which of their tokens get a vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import AddedToken

from likewise.base.errors import ModelCorrupt
from likewise.models.parts import read_json

if TYPE_CHECKING:
    import numpy.typing as npt

    from likewise.models.card import ModelCard
    from likewise.models.multivector import MultiVector
    from likewise.models.tokenize import Cut, Encoded, Ids, Tokenizer

    Mask = npt.NDArray[np.bool_]

# As FlagEmbedding drops them from BGE-M3's lexical weights.
_WORDLESS = ("cls_token", "eos_token", "pad_token", "unk_token")


@dataclass(frozen=True, slots=True)
class LateText:
    """A text and what becomes of its tokens."""

    encoded: Encoded
    attended: int | None
    """First tokens that the others look at; None for all."""
    kept: Mask
    """Whether each token's vector is handed out: bool, as many as ids."""


class LateTokenizer:
    """Encodes texts for one multi-vector model. Safe to use from several threads."""

    def __init__(self, card: ModelCard, head: MultiVector, tokenizer: Tokenizer) -> None:
        """Make the markers of `head` tokens of their own in `tokenizer`.

        Raises:
            ModelCorrupt: the token that queries are expanded with isn't in the vocabulary.
        """
        self._head = head
        self._tokenizer = tokenizer
        inner = tokenizer.inner
        for marker in (head.query_marker, head.document_marker):
            _register(inner, marker)
        found = [inner.token_to_id(word) for word in head.skiplist]
        self._skipped = np.array([token for token in found if token is not None], np.int32)
        self._filler: int | None = None
        if head.expansion is not None:
            self._filler = _filler(card, inner, head.expansion.token)
            if head.expansion.length > card.max_tokens:
                raise ModelCorrupt(
                    f"{card.folder}: queries are expanded to {head.expansion.length} tokens, the "
                    f"model reads {card.max_tokens}"
                )

    def encode(
        self,
        texts: Sequence[str],
        *,
        kind: str,
        prompt: str = "",
        first: int = 0,
        cut: Cut | None = None,
    ) -> list[LateText]:
        """Each text of this kind, after the model's marker and `prompt`.

        Raises:
            InputError: as `Tokenizer.encode`.
        """
        marker = self._head.marker(kind)
        prompt = marker + prompt.removeprefix(marker)
        found = self._tokenizer.encode(texts, prompt=prompt, first=first, cut=cut)
        limit = self._head.length(kind)
        return [self._late(self._tokenizer.shortened(one, limit), kind) for one in found]

    def _late(self, one: Encoded, kind: str) -> LateText:
        expansion, attended = self._head.expansion, None
        if kind == "query" and expansion is not None and len(one.ids) < expansion.length:
            if not expansion.is_attended:
                attended = len(one.ids)
            one = _filled(one, expansion.length, self._filler)
        kept = np.ones(len(one.ids), np.bool_)
        kept[: self._head.skip_first] = False
        if kind in self._head.skips:
            kept &= ~np.isin(one.ids, self._skipped)
        return LateText(one, attended, kept)


def wordless_tokens(card: ModelCard, tokenizer: Tokenizer) -> Ids:
    """Token ids that stand for no word: int32, those of begin, end, padding and unknown."""
    named = special_tokens(card.transformer)
    found = [tokenizer.inner.token_to_id(named[key]) for key in _WORDLESS if key in named]
    return np.array(sorted({token for token in found if token is not None}), np.int32)


def special_tokens(transformer: Path) -> dict[str, str]:
    """What the folder's tokenizer files call their special tokens: `mask_token` to `[MASK]`."""
    found: dict[str, str] = {}
    for file in ("special_tokens_map.json", "tokenizer_config.json"):
        written: Mapping[str, Any] = read_json(transformer / file, missing={})
        for key, value in written.items():
            token = value.get("content") if isinstance(value, dict) else value
            if key.endswith("_token") and isinstance(token, str):
                found[key] = token
    return found


def _filled(one: Encoded, length: int, filler: int | None) -> Encoded:
    assert filler is not None
    ids = np.full(length, filler, np.int32)
    ids[: len(one.ids)] = one.ids
    # Tokens that were added aren't tokens that were cut.
    total = length if not one.truncated else max(one.total, length + 1)
    return replace(one, ids=ids, total=total)


def _filler(card: ModelCard, inner: Any, token: str | None) -> int:
    named = special_tokens(card.transformer)
    asked = token or named.get("mask_token") or named.get("eos_token")
    found = None if asked is None else inner.token_to_id(asked)
    if found is None:
        raise ModelCorrupt(
            f"{card.folder}: queries are expanded with {asked or 'the mask token'!r}, which isn't "
            "in the tokenizer's vocabulary"
        )
    return int(found)


def _register(inner: Any, marker: str) -> None:
    """A marker that the vocabulary has is read as that one token, wherever it stands in a text.

    PyLate and Stanford's ColBERT put it there as a token; written as text it would fall to pieces.
    One that the vocabulary hasn't got stays text, as it was in training.
    """
    for token in (marker, *marker.split(None, 1)[:1]):
        if token and inner.token_to_id(token) is not None:
            if inner.encode(token, add_special_tokens=False).tokens != [token]:
                inner.add_special_tokens([AddedToken(token, normalized=False, special=True)])
            return
