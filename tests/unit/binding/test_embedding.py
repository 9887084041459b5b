"""Splitting, grouping and setting aside, with an embedder to compute by hand."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from likewise.base.errors import (
    EndpointKeyRefused,
    EngineError,
    InputError,
    LikewiseError,
    ModelNotFound,
    Overloaded,
    SpaceMismatch,
)
from likewise.base.types import Chunk, Park, Put, Row
from likewise.binding.embedding import Embedding
from likewise.text.canon import fingerprint
from tests.binding_kit import Fake, bars, fake_vector


def rows(texts: Sequence[str]) -> list[tuple[Row, int]]:
    return [(Row((at,), text, {}, fingerprint(text)), 10 + at) for at, text in enumerate(texts)]


WORDS = st.sampled_from(["", "a", "b|c", "poison", "a|poison|b", "crash", "infinite", "x|y|z|w"])


@given(st.lists(WORDS, max_size=12), st.integers(1, 5))
def test_each_row_gets_its_own_vectors_or_its_own_error(texts: list[str], most: int) -> None:
    calls: list[int] = []
    embedder = Fake(lambda passages: calls.append(len(passages)))
    made = Embedding(embedder, bars, most_chunks=most).actions(rows(texts))
    assert [action.key for action in made] == [(at,) for at in range(len(texts))]
    assert all(count <= most for count in calls)
    for (row, seq), action in zip(rows(texts), made, strict=True):
        bad = any(word in row.text for word in ("poison", "crash", "infinite"))
        assert isinstance(action, Park if bad else Put)
        assert (action.seq, action.fingerprint) == (seq, row.fingerprint)
        if isinstance(action, Put):
            parts = [part for part in row.text.split("|") if part]
            assert action.chunks == bars([row.text])[0]
            wanted = np.array([fake_vector(part) for part in parts]).reshape(-1, 8)
            assert np.array_equal(action.vectors, wanted)


def test_a_text_that_cannot_be_cut_is_parked_alone() -> None:
    def split(texts: Sequence[str], held: object = (), /) -> list[tuple[Chunk, ...]]:
        if any("bad" in text for text in texts):
            raise InputError("can't be cut")
        return bars(texts)

    made = Embedding(Fake(), split, most_chunks=9).actions(rows(["a", "bad", "c"]))
    kinds = {action.key: type(action) for action in made}
    assert kinds == {(0,): Put, (1,): Park, (2,): Put}


def test_what_a_retry_can_mend_is_raised() -> None:
    def busy(texts: Sequence[str]) -> None:
        raise Overloaded("later")

    with pytest.raises(Overloaded):
        Embedding(Fake(busy), bars, most_chunks=9).actions(rows(["a"]))


@pytest.mark.parametrize("kind", [EndpointKeyRefused, ModelNotFound, SpaceMismatch])
def test_what_no_text_brings_about_is_raised_at_once(kind: type[LikewiseError]) -> None:
    calls: list[int] = []

    def refused(texts: Sequence[str]) -> None:
        calls.append(len(texts))
        raise kind("no")

    with pytest.raises(kind):
        Embedding(Fake(refused), bars, most_chunks=9).actions(rows(["a", "b", "c"]))
    assert calls == [3], "halving it would only ask more often"


def test_a_row_that_failed_before_it_was_mended_is_not_blamed() -> None:
    """It fails alone; by the time the plain sentence is tried, all is well again."""
    calls: list[int] = []

    def mended_after_two(texts: Sequence[str]) -> None:
        calls.append(len(texts))
        if len(calls) <= 2:
            raise EngineError("out of memory")

    made = Embedding(Fake(mended_after_two), bars, most_chunks=9).actions(rows(["a", "b"]))
    assert [type(action) for action in made] == [Put, Put]
    assert calls == [2, 1, 1, 1, 1]


def test_vectors_that_are_not_finite_are_not_handed_on() -> None:
    class Broken(Fake):
        def embed(self, texts: Sequence[str], **options: object) -> np.ndarray:
            made = super().embed(texts)
            made[[at for at, text in enumerate(texts) if text == "nan"]] = np.nan
            return made

    made = Embedding(Broken(), bars, most_chunks=9).actions(rows(["a", "nan", "c"]))
    assert [type(action) for action in made] == [Put, Park, Put]
