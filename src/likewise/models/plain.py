"""Inputs that must be texts, and what is said of those that can't be read."""

from __future__ import annotations

from collections.abc import Sequence

from likewise.base.errors import InputError, InputUnreadable

_STEP = 1 << 18


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
        place = lone_surrogate(text)
        if place is not None:
            return InputUnreadable(
                f"input {index} isn't valid Unicode: a lone surrogate at character {place}",
                param="input",
            )
    return InputUnreadable(f"the texts can't be tokenised: {why}", param="input")


def lone_surrogate(text: str) -> int | None:
    """Where in `text` is half of a character, which no encoding has; None where there is none.

    A long text is gone over in steps, between which other threads have their turn.
    """
    for at in range(0, len(text), _STEP):
        try:
            text[at : at + _STEP].encode()
        except UnicodeEncodeError as broken:
            return at + broken.start
    return None
