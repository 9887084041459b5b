"""Cutting a text that was edited so that few of its passages change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from likewise.base.types import passage_hash
from likewise.text.held import Span, held_ends, moved

if TYPE_CHECKING:
    from likewise.base.protocols import Splitter, VectorTable
    from likewise.base.types import Chunk, Key, Row, Vectors

    Known = Callable[[Sequence[bytes]], Mapping[bytes, Vectors]]
    """Vectors that are stored already, by the hash of a passage's text."""
    Stored = Callable[[Key], Sequence[Span]]
    """Where the passages of a row are that are stored now, in order."""

FEW = 2
"""Passages that any edit may cost: an overlap gives an edited word to two."""


def nothing_known(hashes: Sequence[bytes]) -> Mapping[bytes, Vectors]:
    """The default for `Known`."""
    return {}


def nothing_stored(key: Key) -> Sequence[Span]:
    """The default for `Stored`."""
    return ()


class Edits:
    """Holds the ends of passages that an edit left as they were, where that saves embedding them.

    Mostly it doesn't: `split` gives an edited text the ends that it had, but for those beside the
    edit. Where more move, the passages are not those of the text alone until it is next cut anew.
    """

    def __init__(self, split: Splitter, *, known: Known, stored: Stored) -> None:
        self._split = split
        self._known = known
        self._stored = stored

    def settle(
        self, rows: Sequence[Row], cut: Sequence[tuple[Chunk, ...]]
    ) -> list[tuple[Chunk, ...]]:
        """The passages for each row; `cut` are those of its text alone."""
        settled = list(cut)
        hashes = {
            at: set(_hashes(rows[at].text, _spans(chunks)).values())
            for at, chunks in enumerate(cut)
            if len(chunks) > FEW
        }
        if not hashes:
            return settled
        known = self._known(list(set().union(*hashes.values()))).keys()
        for at, wanted in hashes.items():
            cost = len(wanted - known)
            # Of a text that is new, or another throughout, there is nothing to keep.
            if FEW < cost < len(wanted):
                settled[at] = self._cheaper(rows[at], cut[at], cost)
        return settled

    def _cheaper(self, row: Row, chunks: tuple[Chunk, ...], cost: int) -> tuple[Chunk, ...]:
        """Passages that hold their ends, if fewer than `cost` of them have to be embedded."""
        stored = self._stored(row.key)
        if not stored:
            return chunks
        held = self._held(row.text, stored, grown=chunks[-1].end - stored[-1][1])
        [again] = self._split([row.text], [held])
        wanted = set(_hashes(row.text, _spans(again)).values())
        return again if len(wanted - self._known(list(wanted)).keys()) < cost else chunks

    def _held(self, text: str, stored: Sequence[Span], *, grown: int) -> list[int]:
        later = (moved(span, grown) for span in stored)
        spans = {span for span in (*stored, *later) if 0 <= span[0] and span[1] <= len(text)}
        hashes = _hashes(text, spans)
        known = self._known(list(set(hashes.values()))).keys()
        return held_ends(text, stored, grown=grown, is_same=lambda span: hashes.get(span) in known)


def passages_of(table: VectorTable) -> Stored:
    """What tells where the passages are that `table` has of a row."""

    def stored(key: Key) -> Sequence[Span]:
        found = [chunk for block in table.scan(keys=[key]) for chunk in block.chunks]
        return _spans(sorted(found, key=lambda chunk: chunk.ordinal))

    return stored


def _spans(chunks: Iterable[Chunk]) -> list[Span]:
    return [(chunk.start, chunk.end) for chunk in chunks]


def _hashes(text: str, spans: Iterable[Span]) -> dict[Span, bytes]:
    return {(start, end): passage_hash(text[start:end]) for start, end in spans}
