"""Rows in, actions out: split, embed, and set aside the rows that can't be embedded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from likewise.base.errors import (
    EndpointGarbled,
    EndpointRefused,
    EngineError,
    InputError,
    LikewiseError,
    NotFinite,
)
from likewise.base.log import fields, logger
from likewise.base.space import CANARY
from likewise.base.types import Action, Chunk, Park, Put, Row, passage_hash
from likewise.binding.edits import Edits, nothing_known, nothing_stored

if TYPE_CHECKING:
    from likewise.base.protocols import Embedder, Splitter
    from likewise.base.types import Vectors
    from likewise.binding.edits import Known, Stored

_log = logger("binding.embedding")

_OF_A_TEXT = (InputError, EngineError, EndpointRefused, EndpointGarbled)
"""What a single text can bring about. Anything else, such as a key that isn't let in any more, is
true of every row, so that none is parked for it."""

Piece = tuple[Row, int, tuple[Chunk, ...]]
"""A row, the log entry it answers, and its passages."""


class Embedding:
    """Turns rows into actions. Safe to use from several threads when the embedder is.

    A passage whose very text has a vector in the store, or comes twice, is embedded once.
    """

    def __init__(
        self,
        embedder: Embedder,
        split: Splitter,
        *,
        most_chunks: int,
        known: Known = nothing_known,
        stored: Stored = nothing_stored,
    ) -> None:
        self._embedder = embedder
        self._split = split
        self._most_chunks = most_chunks
        self._known = known
        self._edits = Edits(split, known=known, stored=stored)

    def actions(self, rows: Sequence[tuple[Row, int]]) -> list[Action]:
        """A `Put` for each row, or a `Park` for one that the model can't embed.

        Raises:
            LikewiseError: of a kind that a retry can mend or that no text is to blame for, or the
                embedder fails on any text.
        """
        made: list[Action] = [_set_aside(row, seq, row.error) for row, seq in rows if row.error]
        readable = [(row, seq) for row, seq in rows if not row.error]
        for group in _grouped(self._settled(self._pieces(readable, made)), self._most_chunks):
            made += self._embed(group)
        return made

    def _pieces(self, rows: Sequence[tuple[Row, int]], made: list[Action]) -> list[Piece]:
        """Cut the texts; rows that can't even be cut are parked in `made`."""
        try:
            passages = self._split([row.text for row, _ in rows])
        except LikewiseError as error:
            if error.retryable:
                raise
            if len(rows) == 1:
                made.append(_park(*rows[0], error))
                return []
            half = len(rows) // 2
            return self._pieces(rows[:half], made) + self._pieces(rows[half:], made)
        return [(row, seq, cut) for (row, seq), cut in zip(rows, passages, strict=True)]

    def _settled(self, pieces: Sequence[Piece]) -> list[Piece]:
        settled = self._edits.settle([row for row, *_ in pieces], [cut for *_, cut in pieces])
        return [(row, seq, cut) for (row, seq, _), cut in zip(pieces, settled, strict=True)]

    def _embed(self, pieces: Sequence[Piece], *, is_suspect: bool = False) -> list[Action]:
        """Embed; on a failure halve until the rows that cause it stand alone.

        A row is blamed that fails, then plain words don't, then it fails again (`is_suspect`): the
        first failure may have been of something that was mended since.
        """
        try:
            vectors, texts = self._vectors(pieces)
        except LikewiseError as error:
            if error.retryable or not isinstance(error, _OF_A_TEXT):
                raise
            if len(pieces) > 1:
                half = len(pieces) // 2
                return [*self._embed(pieces[:half]), *self._embed(pieces[half:])]
            if not is_suspect:
                self._require_alive()
                return self._embed(pieces, is_suspect=True)
            row, seq, _ = pieces[0]
            return [_park(row, seq, error)]
        made: list[Action] = []
        at = 0
        for row, seq, chunks in pieces:
            end = at + len(chunks)
            made.append(
                Put(row.key, seq, row.fingerprint, chunks, vectors[at:end], tuple(texts[at:end]))
            )
            at = end
        return made

    def _vectors(self, pieces: Sequence[Piece]) -> tuple[Vectors, list[str]]:
        """A vector for each passage of `pieces`, end to end, and its text."""
        texts = [row.text[c.start : c.end] for row, _, chunks in pieces for c in chunks]
        hashes = [passage_hash(text) for text in texts]
        found = dict(self._known(list(dict.fromkeys(hashes))))
        missing = {h: text for h, text in zip(hashes, texts, strict=True) if h not in found}
        found.update(zip(missing, self._embedded(list(missing.values())), strict=True))
        vectors = np.empty((len(texts), self._embedder.space.dimensions), dtype=np.float32)
        for at, digest in enumerate(hashes):
            vectors[at] = found[digest]
        return vectors, texts

    def _embedded(self, texts: Sequence[str]) -> Vectors:
        if not texts:
            return np.empty((0, self._embedder.space.dimensions), dtype=np.float32)
        blocks = [
            self._embedder.embed(texts[at : at + self._most_chunks], kind="document")
            for at in range(0, len(texts), self._most_chunks)
        ]
        vectors = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
        if not np.isfinite(vectors).all():
            raise NotFinite("the model gave NaN or Inf")
        return vectors

    def _require_alive(self) -> None:
        """Raise if it fails on plain words: then it is broken, or set up wrongly, itself."""
        self._embedder.embed([CANARY], kind="document")


def _park(row: Row, seq: int, error: LikewiseError) -> Park:
    return _set_aside(row, seq, f"{error.code}: {error}")


def _set_aside(row: Row, seq: int, error: str) -> Park:
    _log.warning(fields("row parked", key=row.key, error=error))
    return Park(row.key, seq, row.fingerprint, error)


def _grouped(pieces: Sequence[Piece], most_chunks: int) -> Iterator[list[Piece]]:
    """Runs of rows with at most `most_chunks` passages together, or one row that has more."""
    group: list[Piece] = []
    count = 0
    for piece in pieces:
        if group and count + len(piece[2]) > most_chunks:
            yield group
            group, count = [], 0
        group.append(piece)
        count += len(piece[2])
    if group:
        yield group
