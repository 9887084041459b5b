"""Text to token ids as the model was trained on them; what doesn't fit is cut, and counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import tokenizers

from likewise.base.errors import InputError, ModelCorrupt, ModelNotFound

if TYPE_CHECKING:
    import numpy.typing as npt

    from likewise.models.card import ModelCard

    Ids = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Encoded:
    """One text as the model reads it."""

    ids: Ids
    """int32, special tokens included, at most as many as the model reads."""
    total: int
    """How many there would have been without cutting."""
    prompt: int = 0
    """First tokens that stand for the prompt: those that a pooling may leave out."""
    types: Ids | None = None
    """int32, as many as `ids`: 1 in the second text of a pair; None when there is only one."""

    @property
    def truncated(self) -> bool:
        """Whether the end of the text was cut off."""
        return self.total > len(self.ids)


class Tokenizer:
    """A model's tokenizer. Safe to use from several threads."""

    def __init__(self, card: ModelCard) -> None:
        path = card.transformer / "tokenizer.json"
        if not path.is_file():
            raise ModelNotFound(f"{card.transformer} has no tokenizer.json")
        try:
            self._inner = tokenizers.Tokenizer.from_file(str(path))
        except Exception as broken:  # the library raises bare Exception
            raise ModelCorrupt(f"{path} isn't a tokenizer: {broken}") from broken
        # The file carries the cutting and padding of whoever saved it; sentence-transformers
        # overrides both, and left in place they would cut at 128 and pad every text.
        self._inner.no_truncation()
        self._inner.no_padding()
        if card.lower_case:
            _lower(self._inner)
        self.max_tokens = card.max_tokens
        self.vocabulary = self._inner.get_vocab_size(with_added_tokens=True)
        empty = self._inner.encode("")
        head = self._inner.encode("a").special_tokens_mask
        count = head.index(0) if 0 in head else len(empty.ids)
        self._head = np.asarray(empty.ids[:count], np.int32)
        self._tail = np.asarray(empty.ids[count:], np.int32)
        if self.max_tokens <= len(empty.ids):
            raise ModelCorrupt(
                f"{card.transformer}: a limit of {self.max_tokens} tokens leaves no room for text"
            )

    def encode_inputs(
        self,
        inputs: Sequence[str] | Sequence[Sequence[int]],
        *,
        prompt: str = "",
        first: int = 0,
    ) -> list[Encoded]:
        """Texts, or texts as token ids, after `prompt`; errors count inputs from `first`.

        Raises:
            InputError: an input is neither, or can't be read; its position is named.
        """
        kinds = {isinstance(one, str) for one in inputs}
        if kinds == {False}:
            return self.encode_ids(inputs, prompt=prompt, first=first)  # type: ignore[arg-type]
        return self.encode(inputs, prompt=prompt, first=first)  # type: ignore[arg-type]

    def encode(self, texts: Sequence[str], *, prompt: str = "", first: int = 0) -> list[Encoded]:
        """Each text, after `prompt`, as token ids; stripped of space at both ends first.

        Raises:
            InputError: an item isn't a text, or holds a lone surrogate; its position is named.
        """
        stripped = [(prompt + text).strip() for text in _texts(texts, first)]
        try:
            found = self._inner.encode_batch_fast(stripped)
        except (TypeError, UnicodeEncodeError) as broken:
            raise _unreadable(stripped, first, broken) from broken
        return [self._cut(np.asarray(one.ids, np.int32)) for one in found]

    def encode_ids(
        self, texts: Sequence[Sequence[int]], *, prompt: str = "", first: int = 0
    ) -> list[Encoded]:
        """Texts as token ids: checked, and given prompt and special tokens unless they have those.

        Raises:
            InputError: an id isn't in the vocabulary; it and its position are named.
        """
        before = np.concatenate([self._head, self._prompt_ids(prompt)])
        encoded = []
        for index, given in enumerate(texts, first):
            ids = self._checked(given, index)
            if not self._has_specials(ids):
                ids = np.concatenate([before, ids, self._tail])
            encoded.append(self._cut(ids))
        return encoded

    def overhead(self, prompt: str) -> int:
        """Tokens that the special ones and `prompt` take of what the model reads."""
        return len(self._head) + len(self._prompt_ids(prompt)) + len(self._tail)

    def spans(self, texts: Sequence[str]) -> list[npt.NDArray[np.int64]]:
        """For each text its tokens' character ranges, int [n, 2], uncut and without special ones.

        Raises:
            InputError: as for `encode`.
        """
        plain = _texts(texts, 0)
        try:
            found = self._inner.encode_batch(plain, add_special_tokens=False)
        except (TypeError, UnicodeEncodeError) as broken:
            raise _unreadable(plain, 0, broken) from broken
        return [np.asarray(one.offsets, np.int64).reshape(-1, 2) for one in found]

    def _prompt_ids(self, prompt: str) -> Ids:
        ids = self._inner.encode(prompt, add_special_tokens=False).ids
        return np.asarray(ids, np.int32)

    def _cut(self, ids: Ids) -> Encoded:
        if len(ids) <= self.max_tokens:
            return Encoded(ids, len(ids))
        kept = ids[: self.max_tokens - len(self._tail)]
        return Encoded(np.concatenate([kept, self._tail]), len(ids))

    def _checked(self, given: Sequence[int], index: int) -> Ids:
        if isinstance(given, str | bytes) or not isinstance(given, Sequence | np.ndarray):
            raise InputError(f"input {index} isn't a text or a list of token ids", param="input")
        # Booleans count as integers in Python; they aren't token ids.
        if any(isinstance(n, bool) or not isinstance(n, int | np.integer) for n in given):
            raise InputError(f"input {index} holds something that isn't a token id", param="input")
        wrong = [int(n) for n in given if not 0 <= n < self.vocabulary]
        if wrong:
            raise InputError(
                f"input {index} holds token id {wrong[0]}; this model's are 0 to "
                f"{self.vocabulary - 1}",
                param="input",
            )
        return np.asarray(given, np.int32)

    def _has_specials(self, ids: Ids) -> bool:
        head, tail = len(self._head), len(self._tail)
        return len(ids) >= head + tail and bool(
            np.array_equal(ids[:head], self._head)
            and np.array_equal(ids[len(ids) - tail :], self._tail)
        )


def _texts(texts: Sequence[str], first: int) -> list[str]:
    plain = list(texts)
    for index, text in enumerate(plain, first):
        if not isinstance(text, str):
            raise InputError(
                f"input {index} must be a text, not {type(text).__name__}", param="input"
            )
    return plain


def _unreadable(texts: Sequence[str], first: int, why: Exception) -> InputError:
    for index, text in enumerate(texts, first):
        try:
            text.encode()
        except UnicodeEncodeError as broken:
            return InputError(
                f"input {index} isn't valid Unicode: a lone surrogate at character {broken.start}",
                param="input",
            )
    return InputError(f"the texts can't be tokenised: {why}", param="input")


def _lower(inner: tokenizers.Tokenizer) -> None:
    """Lower-case first of all, as sentence-transformers does for `do_lower_case`."""
    lower = tokenizers.normalizers.Lowercase()
    before = inner.normalizer
    steps = [lower] if before is None else [lower, before]
    inner.normalizer = tokenizers.normalizers.Sequence(steps)
