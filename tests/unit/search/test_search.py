"""The exact index against a dictionary, the follower, and the join with live rows."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from likewise.base.errors import DimensionsError, InputError, SpaceMismatch
from likewise.base.space import Space
from likewise.base.types import Block, Chunk, Feed, Key, Kind, Row
from likewise.search.exact import ExactIndex, key_order
from likewise.search.follow import Follower
from likewise.search.query import search
from likewise.text.canon import fingerprint

SPACE = Space("fake", "00", "mean", 3, True)
WORDS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "pink": (1, 0, 1)}


class Words:
    """An embedder to compute by hand: the sum of its words' colours."""

    space = SPACE

    def embed(self, texts: Sequence[str], *, kind: Kind = "document") -> np.ndarray:
        sums = [np.sum([WORDS.get(w, (0, 0, 0)) for w in text.split()], axis=0) for text in texts]
        return np.array(sums, dtype=np.float32).reshape(-1, 3)


class Table:
    """Rows in a dictionary, standing for source, store and feed at once."""

    def __init__(self) -> None:
        self.space = SPACE
        self.texts: dict[Key, str] = {}
        self.stored: dict[Key, str] = {}
        self.feed: list[Key] = []
        self.horizon = 0

    def write(self, key: Key, text: str | None, *, publish: bool = True) -> None:
        for side in [self.texts, self.stored] if publish else [self.texts]:
            side.pop(key, None)
            if text is not None:
                side[key] = text
        if publish:
            self.feed.append(key)

    def published(self, after: int, *, limit: int = 10_000) -> Feed:
        if after < self.horizon:
            return Feed(len(self.feed), (), reset=True)
        return Feed(min(len(self.feed), after + limit), tuple(self.feed[after : after + limit]))

    def scan(self, block: int = 2, *, keys: Sequence[Key] | None = None) -> Iterator[Block]:
        wanted = [k for k in self.stored if keys is None or k in keys and self.stored[k]]
        for at in range(0, len(wanted), block):
            part = tuple(wanted[at : at + block])
            vectors = Words().embed([self.stored[k] for k in part])
            yield Block(part, tuple(Chunk(0, 0, len(self.stored[k])) for k in part), vectors)

    def read(self, keys: Sequence[Key]) -> dict[Key, Row]:
        rows = {k: self.texts[k] for k in keys if k in self.texts}
        return {k: Row(k, t, {"text": t}, fingerprint(t)) for k, t in rows.items()}

    def fingerprints(self, keys: Sequence[Key] | None = None) -> dict[Key, bytes]:
        return {k: fingerprint(t) for k, t in self.stored.items() if keys is None or k in keys}


def ask(table: Table, index: ExactIndex, text: str, k: int = 10, **options: bool) -> list[Key]:
    found = search(Words(), index, table, table, text, k, **options)  # type: ignore[arg-type]
    return [result.row.key for result in found]


KEYS = st.tuples(st.integers(0, 5) | st.sampled_from(["a", "b", b"c"]))
VECTORS = st.lists(st.tuples(*[st.integers(-2, 2)] * 3), min_size=1, max_size=3)


@given(st.lists(st.tuples(KEYS, VECTORS | st.none()), max_size=30), st.integers(1, 12))
def test_exact_index_against_a_dictionary(
    operations: list[tuple[Key, list[tuple[int, int, int]] | None]], k: int
) -> None:
    index = ExactIndex(SPACE)
    oracle: dict[Key, list[tuple[int, int, int]]] = {}
    for key, vectors in operations:
        if vectors is None:
            index.remove(key)
            oracle.pop(key, None)
        else:
            chunks = [Chunk(i, i, i + 1) for i in range(len(vectors))]
            index.put(key, chunks, np.array(vectors, dtype=np.float32))
            oracle[key] = vectors
    query = np.array([2, 1, -1], dtype=np.float32)
    best = {key: max(int(np.dot(query, v)) for v in vs) for key, vs in oracle.items()}
    expected = sorted(best, key=lambda key: (-best[key], key_order(key)))[:k]
    hits = index.search(query, k=k)
    assert [(h.key, h.score) for h in hits] == [(key, best[key]) for key in expected]
    assert index.rows == len(oracle)
    assert len(index) == sum(map(len, oracle.values()))
    for hit in hits:
        scores = [int(np.dot(query, v)) for v in oracle[hit.key]]
        assert hit.chunk.ordinal == scores.index(max(scores))


def test_a_filter_keeps_looking_until_k_are_found() -> None:
    index = ExactIndex(SPACE)
    for n in range(200):
        index.put((n,), [Chunk(0, 0, 1)], np.array([[1000 - n, 0, 0]], dtype=np.float32))
    hits = index.search(
        np.array([1, 0, 0], dtype=np.float32), k=3, filter=lambda k: k[0] in (150, 180)
    )
    assert [h.key for h in hits] == [(150,), (180,)]


def test_widths_are_checked() -> None:
    index = ExactIndex(SPACE)
    with pytest.raises(DimensionsError):
        index.search(np.ones(4, dtype=np.float32), k=1)
    with pytest.raises(DimensionsError):
        index.put((1,), [Chunk(0, 0, 1)], np.ones((1, 4), dtype=np.float32))
    with pytest.raises(DimensionsError):
        index.put((1,), [], np.ones((1, 3), dtype=np.float32))
    assert index.search(np.ones(3, dtype=np.float32), k=1) == []


def test_the_follower_sees_puts_deletes_and_resets() -> None:
    table, index = Table(), ExactIndex(SPACE)
    for n in range(5):
        table.write((n,), "red")
    follower = Follower(table, index)  # type: ignore[arg-type]
    assert follower.catch_up() == 5
    assert follower.catch_up() == 0
    table.write((1,), "blue")
    table.write((2,), None)
    assert follower.catch_up() == 2
    assert ask(table, index, "blue", k=1) == [(1,)]
    assert (2,) not in ask(table, index, "red")
    table.write((7,), "green")
    table.horizon = len(table.feed)  # the feed was trimmed past the follower
    follower.catch_up()
    assert ask(table, index, "green", k=1) == [(7,)]
    assert index.rows == 5


def test_a_follower_of_another_space_is_refused() -> None:
    with pytest.raises(SpaceMismatch):
        Follower(Table(), ExactIndex(SPACE.with_chunker("tokens:8/0")))  # type: ignore[arg-type]


def test_gone_rows_never_appear_and_stale_ones_say_so() -> None:
    table, index = Table(), ExactIndex(SPACE)
    for n in range(60):
        table.write((n,), "red")
    table.write((99,), "pink")
    Follower(table, index).catch_up()  # type: ignore[arg-type]
    for n in range(58):
        table.write((n,), None, publish=False)
    assert ask(table, index, "red", k=3) == [(58,), (59,), (99,)]
    table.write((58,), "blue", publish=False)
    found = search(Words(), index, table, table, "red", 3)  # type: ignore[arg-type]
    assert [r.fresh for r in found] == [False, True, True]
    assert ask(table, index, "red", k=3, fresh_only=True) == [(59,), (99,)]


def test_a_hit_of_an_old_vector_is_never_called_fresh() -> None:
    """The store has the vector of the present text, the index not yet: what was found is old."""
    table, index = Table(), ExactIndex(SPACE)
    table.write((1,), "red")
    table.write((2,), "pink")
    follower = Follower(table, index)  # type: ignore[arg-type] # a table that only writes and tells
    follower.catch_up()
    table.write((1,), "blue")

    def found(version: int) -> list[tuple[Key, bool]]:
        asked: Any = table
        results = search(Words(), index, asked, asked, "red", 3, version=version)
        return [(result.row.key, result.fresh) for result in results]

    assert found(follower.version) == [((1,), False), ((2,), True)]
    follower.catch_up()
    assert found(follower.version) == [((2,), True), ((1,), True)]


def test_wrong_questions_are_refused() -> None:
    table, index = Table(), ExactIndex(SPACE)
    for text, k in [("  ", 3), ("red", 0), ("red", 1001)]:
        with pytest.raises(InputError):
            ask(table, index, text, k)
    table.space = SPACE.with_chunker("x")
    assert ask(table, index, "red") == []
    table.space = Space("fake", "11", "mean", 3, True)
    with pytest.raises(SpaceMismatch, match="weights"):
        ask(table, index, "red")
