"""Text to token ids as the model was trained on them; what doesn't fit is cut, and counted."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np
import tokenizers

from likewise.base.errors import InputError, InputUnreadable, ModelCorrupt
from likewise.models.long_texts import PIECE, LongTexts, encoding
from likewise.models.parts import read_json
from likewise.models.plain import plain_texts, unreadable
from likewise.models.token_cache import TokenCache
from likewise.models.vocabulary import lower_first, open_tokenizer

if TYPE_CHECKING:
    import numpy.typing as npt

    from likewise.base.types import CutSide
    from likewise.models.card import ModelCard

    Ids = npt.NDArray[np.int32]

# Prompts are few and short; a caller who makes one up for every request shouldn't fill the memory.
_PROMPTS_REMEMBERED = 1000
_LONGEST_REMEMBERED = 4096
_AT_ONCE = 1000
"""Tokens of one part: few enough that the garbage collector never finds them among what is old."""


@dataclass(frozen=True, slots=True)
class Cut:
    """What a caller wants cut, or added, otherwise than the model's files say."""

    limit: int | None = None
    """Tokens that stay, special ones included; never more than the model reads."""
    side: CutSide | None = None
    """Where the others are taken away."""
    special: bool = True
    """Whether special tokens are added, and the prompt to token ids; without, both are as given."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One text as the model reads it."""

    ids: Ids
    """int32, special tokens included, at most as many as the model reads."""
    total: int
    """How many there would have been without cutting; `at_least` so many."""
    prompt: int = 0
    """First tokens that stand for the prompt: those that a pooling may leave out."""
    types: Ids | None = None
    """int32, as many as `ids`: 1 in the second text of a pair; None when there is only one."""
    at_least: bool = False
    """Whether only as much of a text was read as the model reads, so that `total` isn't counted."""

    @property
    def truncated(self) -> bool:
        """Whether the end of the text was cut off."""
        return self.total > len(self.ids)


@dataclass(frozen=True, slots=True)
class Token:
    """One token of a text."""

    id: int
    text: str
    """As the vocabulary writes it."""
    is_special: bool
    span: tuple[int, int] | None
    """First and last character (half open) that it stands for; None for a special one."""


class Tokenizer:
    """A model's tokenizer. Safe to use from several threads."""

    def __init__(self, card: ModelCard) -> None:
        self._inner = open_tokenizer(card.tokenizer, card.architecture)
        # The file carries the cutting and padding of whoever saved it; sentence-transformers
        # overrides both, and left in place they would cut at 128 and pad every text.
        cutting = self._inner.truncation
        self._inner.no_truncation()
        self._inner.no_padding()
        if card.lower_case:
            lower_first(self._inner)
        self.max_tokens = card.max_tokens
        self.vocabulary = self._inner.get_vocab_size(with_added_tokens=True)
        rows = card.config.get("vocab_size")
        self._rows = rows if isinstance(rows, int) else self.vocabulary
        self._head, self._tail = _around(self._inner)
        longest = self.max_tokens - len(self._head) - len(self._tail)
        self._token_cache = TokenCache(self._inner, self._head, self._tail, longest=longest)
        self.long_texts = LongTexts(self._inner)
        """What reads texts much longer than the model does."""
        self._specials = {
            index
            for index, token in self._inner.get_added_tokens_decoder().items()
            if token.special
        }
        settings = read_json(card.tokenizer / "tokenizer_config.json", missing={})
        side = settings.get("truncation_side") or (cutting or {}).get("direction")
        self._cuts_front = side == "left"
        self._prompt_lengths: dict[str, int] = {}
        highest = max([*self._head, *self._tail], default=-1)
        if highest >= self._rows:
            raise ModelCorrupt(
                f"{card.tokenizer}: the tokenizer gives every text the token id {highest}, and "
                f"the model has only {self._rows} (vocab_size)"
            )
        if self.max_tokens <= len(self._head) + len(self._tail):
            raise ModelCorrupt(
                f"{card.transformer}: a limit of {self.max_tokens} tokens leaves no room for text"
            )

    @property
    def cuts_front(self) -> bool:
        """Whether a text that is too long loses its beginning, as the folder says."""
        return self._cuts_front

    @property
    def inner(self) -> tokenizers.Tokenizer:
        """The library's own tokenizer, which neither cuts nor pads."""
        return self._inner

    def encode_inputs(
        self,
        inputs: Sequence[str] | Sequence[Sequence[int]],
        *,
        prompt: str = "",
        first: int = 0,
        cut: Cut | None = None,
    ) -> list[Encoded]:
        """Texts, texts as token ids, or some of each, after `prompt`; counted from `first`.

        Raises:
            InputError: an input is neither, or can't be read; its position is named.
        """
        kinds = {isinstance(one, str) for one in inputs}
        if kinds == {False}:
            return self.encode_ids(inputs, prompt=prompt, first=first, cut=cut)  # type: ignore[arg-type]
        if len(kinds) == 2:
            return [
                self.encode_inputs([one], prompt=prompt, first=index, cut=cut)[0]  # type: ignore[arg-type]
                for index, one in enumerate(inputs, first)
            ]
        return self.encode(inputs, prompt=prompt, first=first, cut=cut)  # type: ignore[arg-type]

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
            InputError: an item isn't a text, holds a lone surrogate, or has no tokens; its
                position is named. Or `cut` leaves no room for text.
        """
        limit, side = self.limits(cut)
        special = cut is None or cut.special
        whole = [prompt + text for text in plain_texts(texts, first)]
        try:
            found = self._read(whole, limit, side, special)
        except (TypeError, UnicodeEncodeError) as broken:
            raise unreadable(whole, first, broken) from broken
        count = self._prompt_length(prompt) if special else len(self._prompt_ids(prompt))
        encoded = []
        for index, (ids, is_all) in enumerate(found, first):
            one = self._cut(ids, index, count, limit, side, special)
            encoded.append(one if is_all else replace(one, at_least=True))
        return encoded

    def _read(
        self, texts: Sequence[str], limit: int, side: CutSide, special: bool
    ) -> list[tuple[Ids, bool]]:
        """The tokens of each text, at least those that can stay; and whether these are all."""
        most = sys.maxsize
        if not special or self._token_cache.is_of_use:
            most = self.long_texts.most(limit)
        short = [text for text in texts if len(text) <= most]
        known = self._token_cache.take(short)
        new = [text for text in short if text not in known] if known else short
        # One text is read before another thread could be given its turn and give it back.
        if len(new) == 1:
            encodings = [encoding(self._inner, new[0], special=special)]
        else:
            encodings = self._inner.encode_batch_fast(new, add_special_tokens=special)
        read = iter(encodings)
        found = []
        for text in texts:
            if len(text) > most:
                ids, is_all = self._ends(text, limit, side)
                found.append((self._framed(ids, special), is_all))
            elif text in known:
                found.append((self._framed(known[text], special), True))
            else:
                found.append((np.asarray(next(read).ids, np.int32), True))
        return found

    def _ends(self, text: str, limit: int, side: CutSide) -> tuple[Ids, bool]:
        """Tokens of a long text from the end that stays, and whether these are all."""
        read = self.long_texts.last if side == "left" else self.long_texts.first
        return read(text, limit)

    def encode_ids(
        self,
        texts: Sequence[Sequence[int]],
        *,
        prompt: str = "",
        first: int = 0,
        cut: Cut | None = None,
    ) -> list[Encoded]:
        """Texts as token ids: checked, and given prompt and special tokens unless they have those.

        Raises:
            InputError: an id isn't in the vocabulary; it and its position are named. Or `cut`
                leaves no room for text.
        """
        limit, side = self.limits(cut)
        special = cut is None or cut.special
        before = np.concatenate([self._head, self._prompt_ids(prompt)])
        encoded = []
        for index, given in enumerate(texts, first):
            ids, count = self._checked(given, index), 0
            if special and not self._has_specials(ids):
                ids = np.concatenate([before, ids, self._tail])
                count = len(before) if prompt else 0
            encoded.append(self._cut(ids, index, count, limit, side, special))
        return encoded

    def bare(self, inputs: Sequence[str] | Sequence[Sequence[int]], *, first: int = 0) -> list[Ids]:
        """Texts, or texts as token ids, uncut and without the special tokens around a text.

        Raises:
            InputError: as for `encode_inputs`; one without tokens is refused too.
        """
        if {isinstance(one, str) for one in inputs} == {False}:
            found = [self._stripped(one, index) for index, one in enumerate(inputs, first)]  # type: ignore[arg-type]
        else:
            texts = plain_texts(inputs, first)  # type: ignore[arg-type]
            try:
                found = self.long_texts.batch(texts)
            except (TypeError, UnicodeEncodeError) as broken:
                raise unreadable(texts, first, broken) from broken
        for index, ids in enumerate(found, first):
            self._require_known(ids, f"input {index}")
        return found

    def around(self, prompt: str) -> tuple[Ids, Ids]:
        """What stands before and after the tokens of a text: special tokens, and `prompt`.

        Raises:
            InputError: the prompt can't be read.
        """
        self._prompt_length(prompt)
        before = np.concatenate([self._head, self._prompt_ids(prompt)])
        if prompt:
            self._require_known(before, "the prompt")
        return before, self._tail

    def shortened(self, one: Encoded, limit: int | None) -> Encoded:
        """`one` cut to `limit` tokens, where there is a limit and it is longer."""
        if limit is None or len(one.ids) <= limit:
            return one
        tail = self._tail[-limit:]
        ids = np.concatenate([one.ids[: limit - len(tail)], tail])
        return replace(one, ids=ids, prompt=min(one.prompt, len(ids)))

    def overhead(self, prompt: str) -> int:
        """Tokens that the special ones and `prompt` take of what the model reads."""
        return len(self._head) + len(self._prompt_ids(prompt)) + len(self._tail)

    def spans(self, texts: Sequence[str]) -> list[npt.NDArray[np.int64]]:
        """For each text its tokens' character ranges, int [n, 2], uncut and without special ones.

        Raises:
            InputError: as for `encode`.
        """
        plain = plain_texts(texts, 0)
        short = [text for text in plain if len(text) <= PIECE]
        try:
            found = self._inner.encode_batch(short, add_special_tokens=False)
            long = {text: self.long_texts.spans(text) for text in plain if len(text) > PIECE}
        except (TypeError, UnicodeEncodeError) as broken:
            raise unreadable(plain, 0, broken) from broken
        self._token_cache.keep(short, found)
        read = (np.asarray(one.offsets, np.int64).reshape(-1, 2) for one in found)
        return [long[text] if text in long else next(read) for text in plain]

    def tokens(self, text: str, *, prompt: str = "", special: bool = True) -> list[Token]:
        """The tokens of one text as they are, uncut, with their places in `prompt` + `text`.

        Raises:
            InputError: it holds a lone surrogate.
        """
        parts = self.token_parts(text, prompt=prompt, special=special)
        return list(itertools.chain.from_iterable(parts))

    def token_parts(
        self, text: str, *, prompt: str = "", special: bool = True
    ) -> Iterator[list[Token]]:
        """The same as `tokens`, some at a time.

        Hundreds of thousands of tokens that are held together cost every thread of the process: the
        garbage collector looks at all of them again and again, for a tenth of a second each time.
        """
        whole = prompt + text
        # Special tokens are put around the pieces of a long text where that gives the same.
        is_long = len(whole) > PIECE and (not special or self._token_cache.is_of_use)
        try:
            if not is_long:
                yield from _tokens(encoding(self._inner, whole, special=special))
                return
            if special:
                yield self._special(self._head)
            for part in self.long_texts.encodings(whole):
                yield from _tokens(*part)
            if special:
                yield self._special(self._tail)
        except (TypeError, UnicodeEncodeError) as broken:
            raise unreadable([whole], 0, broken) from broken

    def _special(self, ids: Ids) -> list[Token]:
        return [
            Token(index, self._inner.id_to_token(index) or "", True, None) for index in ids.tolist()
        ]

    def text(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """The text that token ids stand for.

        Raises:
            InputError: an id isn't in the vocabulary.
        """
        checked = self._checked(ids, 0)
        # As a batch: decoding one by itself holds the interpreter.
        return self._inner.decode_batch([checked.tolist()], skip_special_tokens=skip_special)[0]

    def _framed(self, ids: Ids, special: bool) -> Ids:
        return np.concatenate([self._head, ids, self._tail]) if special else ids

    def _prompt_ids(self, prompt: str) -> Ids:
        return np.asarray(encoding(self._inner, prompt, special=False).ids, np.int32)

    def _prompt_length(self, prompt: str) -> int:
        """Tokens of `prompt` alone without the special one at its end: sentence-transformers' rule.

        It is the count that matters there, even where prompt and text share a token.
        """
        if not prompt:
            return 0
        known = self._prompt_lengths.get(prompt)
        if known is None:
            try:
                ids = encoding(self._inner, prompt, special=True).ids[: self.max_tokens]
            except (TypeError, UnicodeEncodeError) as broken:
                raise InputError(f"the prompt can't be tokenised: {broken}", param="prompt") from (
                    broken
                )
            ends = len(self._tail) > 0 or (bool(ids) and ids[-1] in self._specials)
            known = len(ids) - int(ends)
            is_short = len(prompt) <= _LONGEST_REMEMBERED
            if is_short and len(self._prompt_lengths) < _PROMPTS_REMEMBERED:
                self._prompt_lengths[prompt] = known
        return known

    def _cut(
        self, ids: Ids, index: int, prompt: int, limit: int, side: CutSide, special: bool
    ) -> Encoded:
        self._require_known(ids, f"input {index}")
        total = len(ids)
        head, tail = (self._head, self._tail) if special else (ids[:0], ids[:0])
        if total > limit and side == "left":
            ids = np.concatenate([ids[: len(head)], ids[total - limit + len(head) :]])
        elif total > limit:
            ids = np.concatenate([ids[: limit - len(tail)], tail])
        return Encoded(ids, total, min(prompt, len(ids)))

    def _require_known(self, ids: Ids, what: str) -> None:
        if not len(ids):
            raise InputError(
                f"{what} is empty: this model's tokenizer gives it no tokens", param="input"
            )
        # Some tokenizers know more tokens than the model has vectors for.
        if ids.max() >= self._rows:
            raise InputError(
                f"{what} has the token {self._inner.id_to_token(int(ids.max()))!r}, for which "
                f"this model has no vector: its {self._rows} end before it",
                param="input",
            )

    def limits(self, cut: Cut | None) -> tuple[int, CutSide]:
        """How many tokens a text may have, special ones included, and where it loses the rest."""
        limit, side = self.max_tokens, "left" if self._cuts_front else "right"
        if cut is not None:
            limit, side = min(limit, cut.limit or limit), cut.side or side
            taken = len(self._head) + len(self._tail) if cut.special else 0
            if limit <= taken:
                raise InputError(
                    f"a limit of {limit} tokens leaves no room for text: this model's special "
                    f"tokens take {taken}",
                    param="truncate",
                )
        return limit, cast("CutSide", side)

    def _checked(self, given: Sequence[int], index: int) -> Ids:
        if isinstance(given, str | bytes) or not isinstance(given, Sequence | np.ndarray):
            raise InputError(f"input {index} isn't a text or a list of token ids", param="input")
        # Booleans count as integers in Python; they aren't token ids.
        if any(isinstance(n, bool) or not isinstance(n, int | np.integer) for n in given):
            raise InputError(f"input {index} holds something that isn't a token id", param="input")
        wrong = [int(n) for n in given if not 0 <= n < self.vocabulary]
        if wrong:
            raise InputUnreadable(
                f"input {index} holds token id {wrong[0]}; this model's are 0 to "
                f"{self.vocabulary - 1}",
                param="input",
            )
        return np.asarray(given, np.int32)

    def _stripped(self, given: Sequence[int], index: int) -> Ids:
        ids = self._checked(given, index)
        ends = slice(len(self._head), len(ids) - len(self._tail))
        return ids[ends] if self._has_specials(ids) else ids

    def _has_specials(self, ids: Ids) -> bool:
        head, tail = ids[: len(self._head)], ids[max(0, len(ids) - len(self._tail)) :]
        is_long = len(ids) >= len(self._head) + len(self._tail)
        return is_long and np.array_equal(head, self._head) and np.array_equal(tail, self._tail)


def _tokens(found: tokenizers.Encoding, first: int = 0, start: int = 0) -> Iterator[list[Token]]:
    """Tokens `first` and following of what was read from character `start` of a text on."""
    parts = zip(found.ids, found.tokens, found.special_tokens_mask, found.offsets, strict=True)
    wanted = itertools.islice(parts, first, None)
    while some := [
        Token(index, token, bool(is_special), None if is_special else (start + begin, start + end))
        for index, token, is_special, (begin, end) in itertools.islice(wanted, _AT_ONCE)
    ]:
        yield some


def _around(inner: tokenizers.Tokenizer) -> tuple[Ids, Ids]:
    """The special tokens before and after every text, int32."""
    empty = inner.encode("").ids
    for probe in ("a", "1", ".", "\u7684"):
        mask = inner.encode(probe).special_tokens_mask
        if 0 in mask:
            count = mask.index(0)
            return np.asarray(empty[:count], np.int32), np.asarray(empty[count:], np.int32)
    return np.asarray(empty, np.int32), np.zeros(0, np.int32)
