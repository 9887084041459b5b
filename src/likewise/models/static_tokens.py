"""Texts for a table of token vectors: no special tokens, and each style's rule for long texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import tokenizers

from likewise.base.errors import ModelCorrupt
from likewise.models.long_texts import PIECE
from likewise.models.parts import read_json
from likewise.models.plain import plain_texts, unreadable
from likewise.models.static import NO_LIMIT, NOTHING, STATIC
from likewise.models.tokenize import Cut, Encoded, Tokenizer
from likewise.models.words import Words, reads_word_by_word

if TYPE_CHECKING:
    from likewise.models.card import ModelCard
    from likewise.models.tokenize import Ids


def tokenizer_for(card: ModelCard) -> Tokenizer:
    """The tokenizer of `card`, whatever its kind.

    Raises:
        ModelError: as `Tokenizer`.
    """
    return StaticTokenizer(card) if card.architecture == STATIC else Tokenizer(card)


class StaticTokenizer(Tokenizer):
    """Ids of a static model. A text without tokens has one that stands for nothing.

    model2vec cuts a text to `max_length` times the median length of its tokens in characters, then
    to `max_length` tokens, then drops unknown ones. sentence-transformers cuts as tokenizer.json
    says, from either end, and keeps them.
    """

    def __init__(self, card: ModelCard) -> None:
        super().__init__(card)
        cutting = read_json(card.transformer / "tokenizer.json").get("truncation") or {}
        self._unknown: int | None = None
        self._most_characters: int | None = None
        self._cuts_front = cutting.get("direction") == "Left"
        if card.config["style"] == "model2vec":
            self._unknown = _unknown_token(self._inner)
            self._cuts_front = False
            if card.max_tokens != NO_LIMIT:
                lengths = [len(token) for token in self._inner.get_vocab()]
                self._most_characters = card.max_tokens * int(np.median(lengths))
        self._words = Words(self._inner) if reads_word_by_word(self._inner) else None
        none = np.zeros(0, np.int32)
        self._head, self._tail = none, none
        self._nothing = np.array([NOTHING], np.int32)
        last, ids = max(self._inner.get_vocab().values(), default=-1), card.config["ids"]
        if last >= ids:
            raise ModelCorrupt(
                f"{card.transformer}: the tokenizer has ids up to {last}, the table vectors for "
                f"{ids}"
            )

    def encode(
        self,
        texts: Sequence[str],
        *,
        prompt: str = "",
        first: int = 0,
        cut: Cut | None = None,
    ) -> list[Encoded]:
        """Each text, after `prompt`, as token ids.

        Raises:
            InputError: an item isn't a text, or holds a lone surrogate; its position is named.
        """
        whole = plain_texts(texts, first)
        if prompt:
            whole = [prompt + text for text in whole]
        most = self._most_characters
        read = whole if most is None else [text[:most] for text in whole]
        try:
            found = self._first(read, cut)
        except (TypeError, UnicodeEncodeError) as broken:
            raise unreadable(whole, first, broken) from broken
        return [
            self._kept(ids, is_cut=most is not None and len(text) > most, cut=cut, is_all=is_all)
            for (ids, is_all), text in zip(found, whole, strict=True)
        ]

    def encode_ids(
        self,
        texts: Sequence[Sequence[int]],
        *,
        prompt: str = "",
        first: int = 0,
        cut: Cut | None = None,
    ) -> list[Encoded]:
        """Texts as token ids: checked, and put after `prompt`.

        Raises:
            InputError: an id isn't in the vocabulary; it and its position are named.
        """
        before = self._prompt_ids(prompt if cut is None or cut.special else "")
        return [
            self._kept(
                np.concatenate([before, self._checked(ids, index)]),
                is_cut=False,
                cut=cut,
                is_all=True,
            )
            for index, ids in enumerate(texts, first)
        ]

    def _first(self, texts: Sequence[str], cut: Cut | None) -> list[tuple[Ids, bool]]:
        """The tokens of each text, at least those that can stay; and whether these are all."""
        limit, side = self.limits(cut)
        most = PIECE if limit == NO_LIMIT else min(PIECE, self.long_texts.most(limit))
        read = iter(self._ids([text for text in texts if len(text) <= most]))
        found = []
        for text in texts:
            if len(text) <= most:
                found.append((next(read), True))
            elif limit == NO_LIMIT:
                found.append((self.long_texts.all(text), True))
            else:
                found.append(self._ends(text, limit, side))
        return found

    def _ids(self, texts: Sequence[str]) -> list[Ids]:
        if self._words is not None:
            return self._words.encode(texts)
        found = self._inner.encode_batch_fast(texts, add_special_tokens=False)
        return [np.asarray(one.ids, np.int32) for one in found]

    def _kept(self, ids: Ids, *, is_cut: bool, cut: Cut | None, is_all: bool) -> Encoded:
        total = len(ids)
        limit, side = self.limits(cut)
        if total > limit:
            ids = ids[-limit:] if side == "left" else ids[:limit]
        read = len(ids)
        if self._unknown is not None:
            is_known = ids != self._unknown
            if not is_known.all():
                ids = ids[is_known]
        # `total` counts what is over the tokens that are kept, so that what is dropped as unknown
        # isn't taken for cut; a text cut by its characters has at least one token more.
        over = total - read + (is_cut and total == read)
        ids = ids if len(ids) else self._nothing
        return Encoded(ids, len(ids) + over, at_least=is_cut or not is_all)


def _unknown_token(inner: tokenizers.Tokenizer) -> int | None:
    model = json.loads(inner.to_str())["model"]
    if "unk_token" in model:
        token = model["unk_token"]
        return None if token is None else inner.token_to_id(token)
    unknown = model.get("unk_id")
    return None if unknown is None else int(unknown)
