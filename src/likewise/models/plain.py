"""Inputs that must be texts, and what is said of those that can't be read."""

from __future__ import annotations

from collections.abc import Sequence

from likewise.base.errors import InputError, InputUnreadable


def plain_texts(texts: Sequence[str], first: int) -> list[str]:
    """`texts` as a list of texts, counted from `first`.

    Raises:
        InputError: one isn't a text.
    """
    plain = list(texts)
    for index, text in enumerate(plain, first):
        if not isinstance(text, str):
            raise InputError(
                f"input {index} must be a text, not {type(text).__name__}", param="input"
            )
    return plain


def unreadable(texts: Sequence[str], first: int, why: Exception) -> InputError:
    """The error for texts that a tokenizer refused: it names a lone surrogate."""
    for index, text in enumerate(texts, first):
        try:
            text.encode()
        except UnicodeEncodeError as broken:
            return InputUnreadable(
                f"input {index} isn't valid Unicode: a lone surrogate at character {broken.start}",
                param="input",
            )
    return InputUnreadable(f"the texts can't be tokenised: {why}", param="input")
