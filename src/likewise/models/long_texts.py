"""Long texts: read only as far as the model reads, and whole ones a piece at a time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from likewise.models.cuts import LONGEST_WORD, STEP, Cuts, Piece, squeezes

if TYPE_CHECKING:
    import numpy.typing as npt
    import tokenizers

    from likewise.base.types import CutSide

    Ids = npt.NDArray[np.int32]

PIECE = 1 << 16
"""Characters of a piece, where all of a text is read: some 15,000 tokens."""
_LEAST = 4096
_CHARACTERS = 8
"""Characters read for each token that is wanted; texts of words have about five."""
_MARGIN = 8
"""Tokens that must be there beyond those that are wanted."""

# What BERT's tokenizer makes one unknown token of, or nothing: no end of such a run is looked at.
_RUN = 2 * LONGEST_WORD
_RUNS = re.compile(
    rf"(?:[A-Za-z0-9]{{{_RUN},}}|[\U0001f300-\U0001faff]{{{_RUN},}}|[\u0300-\u036f]{{{_RUN},}})"
)
_BLANKS = re.compile(r"[ \t\n\r]{3,}")


class LongTexts:
    """Reads long texts with the tokenizer `inner`. Safe to use from several threads.

    What is read is exactly what reading the whole text at once would give, without special tokens.
    """

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        """`inner` must neither cut nor pad."""
        self._inner = inner
        self._cuts = Cuts(inner)
        self._squeezes = squeezes(inner)

    @staticmethod
    def most(limit: int) -> int:
        """Characters of the longest text that is read at once for `limit` tokens."""
        return max(_LEAST, 2 * _CHARACTERS * limit)

    def first(self, text: str, count: int) -> tuple[Ids, bool]:
        """At least the first `count` tokens, int32, and whether these are all there are.

        Raises:
            TypeError, UnicodeEncodeError: as the tokenizer does.
        """
        wanted = count + _MARGIN
        found: list[Ids] = []
        have = 0
        for piece in self._cuts.pieces(text, max(_LEAST, _CHARACTERS * wanted)):
            if have >= wanted:
                return np.concatenate(found), False
            found.append(self._ids(text, piece))
            have += len(found[-1])
        return np.concatenate(found), True

    def last(self, text: str, count: int) -> tuple[Ids, bool]:
        """At least the last `count` tokens, int32, and whether these are all there are.

        Raises:
            TypeError, UnicodeEncodeError: as the tokenizer does.
        """
        wanted = count + _MARGIN
        size = max(_LEAST, _CHARACTERS * wanted)
        while True:
            piece = self._cuts.last(text, size)
            ids = self.all(text) if piece.own == 0 else self._ids(text, piece)
            if piece.own == 0 or len(ids) >= wanted:
                return ids, piece.own == 0
            size *= 4

    def all(self, text: str) -> Ids:
        """Every token, int32; memory is taken for a piece at a time, where the text has pieces.

        Raises:
            TypeError, UnicodeEncodeError: as the tokenizer does.
        """
        return np.concatenate([self._ids(text, each) for each in self._cuts.pieces(text, PIECE)])

    def batch(self, texts: Sequence[str]) -> list[Ids]:
        """Every token of each text, int32.

        Raises:
            TypeError, UnicodeEncodeError: as the tokenizer does.
        """
        short = [text for text in texts if len(text) <= PIECE]
        read = iter(self._inner.encode_batch_fast(short, add_special_tokens=False))
        return [
            self.all(text) if len(text) > PIECE else np.asarray(next(read).ids, np.int32)
            for text in texts
        ]

    def spans(self, text: str) -> npt.NDArray[np.int64]:
        """The character ranges of every token, int [n, 2].

        Raises:
            TypeError, UnicodeEncodeError: as the tokenizer does.
        """
        return np.concatenate(
            [
                np.asarray(found.offsets, np.int64).reshape(-1, 2)[first:] + start
                for found, first, start in self.encodings(text)
            ]
        )

    def shortened(self, text: str, count: int, side: CutSide) -> str:
        """The beginning of `text`, or its end for the side `left`, with the same `count` tokens.

        It is cut where reading it gives those tokens; all of it where there is no such place.
        """
        wanted = count + _MARGIN
        size = max(_LEAST, _CHARACTERS * wanted)
        if side == "left":
            return self._end(text, wanted, size)
        have, end = 0, 0
        for piece in self._cuts.pieces(text, size):
            if have >= wanted:
                return text[:end]
            have, end = have + len(self._ids(text, piece)), piece.end
        return text

    def _end(self, text: str, wanted: int, size: int) -> str:
        while True:
            piece = self._cuts.last(text, size)
            if piece.own == 0 or len(self._ids(text, piece)) >= wanted:
                return text[piece.begin :]
            size *= 4

    def encodings(self, text: str) -> Iterator[tuple[tokenizers.Encoding, int, int]]:
        """What the tokenizer gives for each piece of `text`, whose tokens don't all count.

        Yields:
            The encoding, its first token that counts, and the character at which it begins.

        Raises:
            TypeError, UnicodeEncodeError: as the tokenizer does.
        """
        for piece in self._cuts.pieces(text, PIECE):
            read = [text[piece.begin : piece.end], text[piece.begin : piece.own]]
            whole, context = self._inner.encode_batch(read, add_special_tokens=False)
            yield whole, len(context), piece.begin

    def _ids(self, text: str, piece: Piece) -> Ids:
        own = text[piece.begin : piece.end]
        if self._squeezes and len(own) > 4 * PIECE:
            own = squeezed(own)
        # As a batch: reading one text by itself holds the interpreter.
        read = [own, text[piece.begin : piece.own]]
        whole, context = self._inner.encode_batch_fast(read, add_special_tokens=False)
        return np.asarray(whole.ids, np.int32)[len(context) :]


def encoding(inner: tokenizers.Tokenizer, text: str, *, special: bool) -> tokenizers.Encoding:
    """What `inner` gives for `text`.

    Reading a text by itself holds the interpreter, which is worth it for a short one: no other
    thread is given its turn and has to give it back.

    Raises:
        TypeError, UnicodeEncodeError: as the tokenizer does.
    """
    if len(text) <= _LEAST:
        return inner.encode(text, add_special_tokens=special)
    return inner.encode_batch([text], add_special_tokens=special)[0]


def squeezed(text: str) -> str:
    """`text` with its longest runs cut short, for BERT's tokenizer: see `cuts.squeezes`."""
    parts = (text[at : at + STEP] for at in range(0, len(text), STEP))
    return "".join(_BLANKS.sub(" ", _RUNS.sub(lambda run: run[0][:_RUN], part)) for part in parts)
