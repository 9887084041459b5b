"""The rectangle holds each token once, where its text and place say."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from likewise.engines.batch import PackedBatch
from likewise.engines.spread import Spread, token_sizes


@given(st.lists(st.integers(1, 90), min_size=1, max_size=40))
def test_there_and_back(lengths: list[int]) -> None:
    ids = np.arange(1, sum(lengths) + 1, dtype=np.int32)
    texts = np.split(ids, np.cumsum(lengths)[:-1])
    batch = PackedBatch.of(texts)
    spread = Spread.of(batch)
    assert batch.tokens == len(ids) and batch.max_length == max(lengths)
    for row, text in enumerate(texts):
        assert np.array_equal(spread.ids[spread.slots[row, : len(text)]], text)
        assert spread.mask[row].sum() == len(text) and spread.mask[row, : len(text)].all()
        assert spread.ids[spread.first[row]] == text[0] and spread.ids[spread.last[row]] == text[-1]
    flat = spread.slots.reshape(-1)
    assert np.array_equal(flat[spread.back[: batch.tokens]], np.arange(batch.tokens))
    assert spread.mask[len(texts) :].sum() == 0
    assert len(spread.ids) == len(spread.back) == len(spread.positions) >= batch.tokens
    assert all(
        batch.positions[start:end].tolist() == list(range(end - start))
        for start, end in zip(batch.cumulative, batch.cumulative[1:], strict=False)
    )


def test_sizes_are_few_and_near() -> None:
    sizes = token_sizes(512)
    assert len(sizes) < 45 and sizes[0] == 4 and sizes[-1] == 512
    waste = [next(s for s in sizes if s >= n) / n for n in range(16, 513)]
    assert max(waste) < 1.25 and np.mean(waste) < 1.04
