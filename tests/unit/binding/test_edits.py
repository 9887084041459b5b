"""Passages of edited texts: few change, and nothing is asked for that can't save anything."""

import re
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from likewise.base.chunking import WAYS
from likewise.base.types import Chunk, Row, passage_hash
from likewise.binding.edits import Edits
from likewise.text.split import CUTTERS
from tests.unit.text.test_passages import sentences, words

SIZE = 20


class Binding:
    """What a binding has of one row, and how many passages its changes cost."""

    def __init__(self, way: str, overlap: int) -> None:
        self.way, self.overlap = way, overlap
        self.there: dict[bytes, np.ndarray] = {}
        self.spans: list[tuple[int, int]] = []
        self.asked = 0
        self.edits = Edits(self.split, known=self.known, stored=lambda key: self.spans)

    def split(
        self, texts: Sequence[str], held: Sequence[Sequence[int]] = (), /
    ) -> list[tuple[Chunk, ...]]:
        cutter = CUTTERS[self.way]
        return [
            cutter(text, words(text), size=SIZE, overlap=self.overlap, held=ends)
            for text, ends in zip(texts, held or [()] * len(texts), strict=True)
        ]

    def known(self, hashes: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        self.asked += 1
        return {digest: self.there[digest] for digest in hashes if digest in self.there}

    def take(self, text: str) -> int:
        """How many passages have to be embedded when the row's text becomes `text`."""
        row = Row((1,), text, {}, b"")
        [chunks] = self.edits.settle([row], self.split([text]))
        assert_covers(text, chunks, self.overlap)
        self.spans = [(chunk.start, chunk.end) for chunk in chunks]
        hashes = {passage_hash(text[start:end]) for start, end in self.spans}
        cost = len(hashes - self.there.keys())
        self.there = dict.fromkeys(hashes, np.zeros(1, np.float32))
        return cost


def assert_covers(text: str, chunks: Sequence[Chunk], overlap: int) -> None:
    tokens = words(text).tolist()
    reach = 0
    for chunk in chunks:
        inside = [i for i, (a, b) in enumerate(tokens) if a >= chunk.start and b <= chunk.end]
        assert 1 <= len(inside) <= SIZE
        assert inside[0] <= reach < inside[-1] + 1
        assert reach - inside[0] <= overlap
        reach = inside[-1] + 1
    assert reach == len(tokens)


@pytest.mark.parametrize("overlap", [0, 5])
@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=40, deadline=None)
@given(st.integers(0, 50), st.data())
def test_each_of_many_edits_costs_a_passage_or_two(
    way: str, overlap: int, seed: int, data: st.DataObject
) -> None:
    text = sentences(seed, 120)
    binding = Binding(way, overlap)
    assert binding.take(text) > 50
    for _ in range(4):
        found = list(re.finditer(r"\w+", text))
        word = found[data.draw(st.integers(0, len(found) - 1))]
        new = data.draw(st.sampled_from(["", "new", f"new {word[0]}"]))
        text = text[: word.start()] + new + text[word.end() :]
        # Three: of two that share the word the first may have become too long.
        assert binding.take(text) <= (3 if overlap else 2)


@pytest.mark.parametrize("way", WAYS)
def test_a_text_that_grows_and_shrinks_has_passages_of_a_good_length(way: str) -> None:
    text = sentences(1, 120)
    binding = Binding(way, 0)
    binding.take(text)
    few = len(binding.spans)
    for _ in range(60):
        at = text.index(" ", len(text) // 2)
        text = text[:at] + " more" + text[at:]
        assert binding.take(text) <= 2
    assert len(binding.spans) <= few + 8
    for _ in range(60):
        text = text.replace(" more", "", 1)
        assert binding.take(text) <= 2
    assert len(binding.spans) <= few + 4


def test_only_what_can_save_something_is_looked_up() -> None:
    binding = Binding("sentences", 0)
    assert binding.take("One sentence. Another one.") == 1
    assert binding.asked == 0
    first, second = sentences(2, 40), sentences(3, 40)
    binding.take(first)
    assert binding.asked == 1
    # Nothing of it is known, so nothing that is stored helps.
    binding.take(second)
    assert binding.asked == 2


def test_ends_are_held_only_where_that_is_cheaper() -> None:
    """A splitter that, asked to hold ends, cuts after each letter instead."""

    def split(
        texts: Sequence[str], held: Sequence[Sequence[int]] = (), /
    ) -> list[tuple[Chunk, ...]]:
        size = 1 if held else 2
        return [
            tuple(Chunk(at // size, at, at + size) for at in range(0, len(text), size))
            for text in texts
        ]

    there = {passage_hash("aa"): np.zeros(1, np.float32)}
    edits = Edits(
        split,
        known=lambda hashes: {h: there[h] for h in hashes if h in there},
        stored=lambda key: [(0, 2)],
    )
    row = Row((1,), "aabbccdd", {}, b"")
    assert edits.settle([row], split([row.text])) == split([row.text])


def test_a_text_keeps_the_ends_of_its_own_where_that_costs_no_more() -> None:
    binding = Binding("sentences", 0)
    text = sentences(4, 60)
    binding.take(text)
    edited = f"{sentences(5, 20)}{text}"
    binding.take(edited)
    assert binding.spans == [(c.start, c.end) for c in binding.split([edited])[0]]
