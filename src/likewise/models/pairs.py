"""Two texts as a cross-encoder reads them: together, each cut as far as it must be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from likewise.base.errors import InputError, ModelCorrupt, ModelUnsupported
from likewise.models.parts import read_json
from likewise.models.plain import lone_surrogate
from likewise.models.tokenize import Cut, Encoded

if TYPE_CHECKING:
    import tokenizers

    from likewise.base.types import CutSide
    from likewise.models.card import ModelCard
    from likewise.models.heads import Scores
    from likewise.models.template import Template
    from likewise.models.tokenize import Ids, Tokenizer

_UNSAID_TYPES = {"deberta-v2": 0, "gte": 1, "new": 1}
"""Segments that an architecture has where config.json leaves `type_vocab_size` out."""
_USUAL_TYPES = 2
_UNTYPED = ("DistilBertTokenizer", "TokenizersBackend")
"""Tokenizer classes that no version of transformers hands segments on for. `TokenizersBackend` is
what transformers 5 writes in the place of `PreTrainedTokenizerFast`, and 4 doesn't know."""
# Two texts that share no token, to see what of a template stays the same.
_FILLERS = ("0", "1 2 3 4")
# Special tokens of a pair, at most, and one of each text.
_LEAST_PAIR = 6


@dataclass(frozen=True, slots=True)
class _Read:
    """A pair of texts, as much of it as is read."""

    texts: tuple[str, str]
    at_least: bool = False
    """Whether there is more."""
    is_second_longer: bool | None = None
    """Whether the second has as many tokens as the first or more; None where counting what is read
    tells."""


class PairTokenizer:
    """Encodes pairs for one model. Safe to use from several threads."""

    def __init__(self, card: ModelCard, head: Scores, tokenizer: Tokenizer) -> None:
        """Try the tokenizer on a pair.

        Raises:
            ModelCorrupt: it numbers more segments than the model has.
            ModelUnsupported: it ends a pair with what counts as padding.
        """
        settings = read_json(card.tokenizer / "tokenizer_config.json", missing={})
        self._inner: tokenizers.Tokenizer = tokenizer.inner
        self._long = tokenizer.long_texts
        self._limit = card.max_tokens
        self._template = head.template
        self._cuts_left = tokenizer.cuts_front
        types, names = _types(card), settings.get("model_input_names")
        is_insisting = isinstance(names, list) and "token_type_ids" in names
        self._has_types = is_insisting or (types > 1 and _takes_types(settings))
        self._specials = self._inner.encode("a", "b").sequence_ids.count(None)
        probe = self.encode([("a", "b")])[0]
        padding = card.config.get("pad_token_id")
        if padding is not None and probe.ids[-1] == padding:
            raise ModelUnsupported(
                f"{card.transformer}: the tokenizer ends every pair with token {padding}, which is "
                "pad_token_id: transformers takes it for padding and scores the token before it"
            )
        highest = 0 if probe.types is None else int(probe.types.max(initial=0))
        if types and highest >= types:
            raise ModelCorrupt(
                f"{card.transformer}: the tokenizer gives token type {highest}, and the model has "
                f"only {types} (type_vocab_size)"
            )

    def encode(
        self,
        pairs: Sequence[tuple[str, str]],
        *,
        prompt: str = "",
        first: int = 0,
        cut: Cut | None = None,
    ) -> list[Encoded]:
        """Each pair as the model reads it, at most as long as the model reads.

        `prompt` goes before the first text, or into the template as its instruction. What is too
        long loses tokens of its longer text first, as transformers' `longest_first` does; what is
        written into a template loses its end, and the template's own end is put back.

        Raises:
            InputError: an item isn't two texts, or holds a lone surrogate; its position is named.
                Or `cut` asks for less than a pair's special tokens take.
        """
        limit, cuts_left = self._limits(cut)
        checked = [_pair(pair, index) for index, pair in enumerate(pairs, first)]
        if self._template is not None:
            return self._written(checked, self._template, prompt, limit)
        side: CutSide = "left" if cuts_left else "right"
        counts: dict[str, int] = {}
        read = [self._shortened(prompt + a, b, limit, side, counts) for a, b in checked]
        found = self._inner.encode_batch([one.texts for one in read])
        return [self._cut(one, limit, cuts_left, of) for one, of in zip(found, read, strict=True)]

    def _shortened(
        self, first: str, second: str, limit: int, side: CutSide, counts: dict[str, int]
    ) -> _Read:
        """Two texts, long ones only as far as they can stay; `counts` is of texts seen before."""
        most = self._long.most(limit)
        if len(first) <= most and len(second) <= most:
            return _Read((first, second))
        short = [
            self._long.shortened(text, limit, side) if len(text) > most else text
            for text in (first, second)
        ]
        at_least = len(short[0]) < len(first) or len(short[1]) < len(second)
        is_second_longer = None
        if at_least and min(map(self._count, short)) >= limit - self._specials:
            # The longer one gives way by a token: which one that is takes counting them.
            for text in (first, second):
                if text not in counts:
                    counts[text] = self._count(text)
            is_second_longer = counts[second] >= counts[first]
        return _Read((short[0], short[1]), at_least, is_second_longer)

    def _count(self, text: str) -> int:
        return len(self._long.all(text))

    def _written(
        self, pairs: Sequence[tuple[str, str]], template: Template, prompt: str, limit: int
    ) -> list[Encoded]:
        texts = [template.write(query, document, prompt) for query, document in pairs]
        encoded = []
        for ids, is_all in self._first(texts, limit):
            total = len(ids)
            if total > limit:
                end = self._template_end(template, prompt)[-limit:]
                ids = np.concatenate([ids[: limit - len(end)], end])
            encoded.append(Encoded(ids, total, at_least=not is_all))
        return encoded

    def _first(self, texts: Sequence[str], limit: int) -> list[tuple[Ids, bool]]:
        """The tokens of each text, at least those that can stay; and whether these are all."""
        most = self._long.most(limit)
        short = [text for text in texts if len(text) <= most]
        read = iter(self._inner.encode_batch_fast(short, add_special_tokens=False))
        return [
            self._long.first(text, limit)
            if len(text) > most
            else (np.asarray(next(read).ids, np.int32), True)
            for text in texts
        ]

    def _template_end(self, template: Template, prompt: str) -> Ids:
        """The tokens that end every text of the template."""
        texts = [template.write(filler, filler, prompt) for filler in _FILLERS]
        one, other = (
            np.asarray(found.ids, np.int32)
            for found in self._inner.encode_batch_fast(texts, add_special_tokens=False)
        )
        shorter = min(len(one), len(other))
        differs = np.flatnonzero(one[::-1][:shorter] != other[::-1][:shorter])
        count = int(differs[0]) if len(differs) else 0
        return one[len(one) - count :]

    def _cut(self, found: tokenizers.Encoding, limit: int, cuts_left: bool, read: _Read) -> Encoded:
        ids = np.asarray(found.ids, np.int32)
        types = np.asarray(found.type_ids, np.int32)
        if not self._has_types:
            types = np.zeros_like(types)
        total = len(ids)
        if total > limit:
            kept = self._kept(found.sequence_ids, limit, cuts_left, read.is_second_longer)
            ids, types = ids[kept], types[kept]
        return Encoded(ids, total, types=types, at_least=read.at_least)

    def _limits(self, cut: Cut | None) -> tuple[int, bool]:
        """How many tokens a pair may have, and whether it loses the first ones."""
        if cut is None:
            return self._limit, self._cuts_left
        limit = min(self._limit, cut.limit or self._limit)
        if limit < _LEAST_PAIR:
            raise InputError(
                f"a limit of {limit} tokens leaves no room for a pair of texts", param="truncate"
            )
        if cut.side == "left" and self._template is not None:
            raise InputError(
                "this model writes pairs into a template, which can't lose its beginning; "
                "cut texts on the right",
                param="truncation_direction",
            )
        return limit, self._cuts_left if cut.side is None else cut.side == "left"

    @staticmethod
    def _kept(
        sequence_ids: Sequence[int | None],
        limit: int,
        cuts_left: bool,
        is_second_longer: bool | None,
    ) -> Any:
        """Which tokens stay: bool, one each."""
        of = np.array([-1 if text is None else text for text in sequence_ids])
        kept = of == -1
        room = limit - int(kept.sum())
        have = int((of == 0).sum()), int((of == 1).sum())
        if is_second_longer is not None and min(have) >= room:
            # Only which is the longer makes a difference.
            have = (room, room + 1) if is_second_longer else (room + 1, room)
        counts = longest_first(*have, room)
        for text, count in enumerate(counts):
            places = np.flatnonzero(of == text)
            kept[places[len(places) - count :] if cuts_left else places[:count]] = True
        return kept


def longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """How many tokens of two texts stay where there is `room` for so many: the longer gives way.

    As the tokenizers library cuts a pair (`TruncationStrategy::LongestFirst`): the shorter keeps
    all it has if the other is the longer by enough, else each gets half, the second the odd one.
    """
    if first + second <= room:
        return first, second
    room = max(room, 0)
    shorter = min(first, second)
    longer = max(shorter, room - shorter) if shorter <= room else shorter
    if shorter + longer > room:
        shorter = room // 2
        longer = shorter + room % 2
    return (longer, shorter) if first > second else (shorter, longer)


def _pair(pair: Any, index: int) -> tuple[str, str]:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise InputError(f"input {index} isn't a pair of texts", param="input")
    for text in pair:
        if not isinstance(text, str):
            raise InputError(
                f"input {index} must be two texts, not a {type(text).__name__}", param="input"
            )
        place = lone_surrogate(text)
        if place is not None:
            raise InputError(
                f"input {index} isn't valid Unicode: a lone surrogate at character {place}",
                param="input",
            )
    return pair[0], pair[1]


def _types(card: ModelCard) -> int:
    """How many segments the model tells apart."""
    usual = _UNSAID_TYPES.get(card.architecture, _USUAL_TYPES)
    written = card.config.get("type_vocab_size", usual)
    return written if isinstance(written, int) else usual


def _takes_types(settings: dict[str, Any]) -> bool:
    """Whether the tokenizer's segments reach the model, as they did when the folder was saved.

    A list of the model's inputs decides where there is one. Else all do that the post-processor
    gives, also for `PreTrainedTokenizerFast`: transformers 4 trained such folders with segments 0
    and 1. Transformers 5 hands none on for that class, and so computes other scores from the same
    files than they had when they were saved.
    """
    given = settings.get("model_input_names")
    if isinstance(given, list):
        return "token_type_ids" in given
    return str(settings.get("tokenizer_class")).removesuffix("Fast") not in _UNTYPED
