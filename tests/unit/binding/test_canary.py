"""A model is told by the vectors that it gives, not by its name."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likewise.base.errors import SpaceMismatch
from likewise.binding.canary import require_same_model
from tests.binding_kit import DOCS, App, Bound, Fake, fake_vector


class Other(Fake):
    """Gives `vector` for every text."""

    def __init__(self, vector: Any) -> None:
        super().__init__()
        self.vector = np.asarray(vector, np.float32)

    def embed(self, texts: Sequence[str], **options: Any) -> np.ndarray:
        return np.stack([self.vector for _ in texts])


@pytest.fixture
def bound(tmp_path: Path) -> Iterator[Bound]:
    app = App(tmp_path / "app.db", "wal", DOCS)
    made = Bound(app)
    yield made
    made.close()
    app.close()


def test_the_first_is_kept_and_others_are_compared_with_it(bound: Bound) -> None:
    assert bound.table.canary() is None
    require_same_model(bound.table, Fake())
    kept = bound.table.canary()
    assert kept is not None
    require_same_model(bound.table, Fake())
    # Another precision of the same model.
    require_same_model(bound.table, Other(kept * 1.5 + 0.1))
    with pytest.raises(SpaceMismatch, match="docs: fake gives other vectors now.*bind swap docs"):
        require_same_model(bound.table, Other(fake_vector("another text")))
    with pytest.raises(SpaceMismatch):
        require_same_model(bound.table, Other(np.zeros(8)))
    after = bound.table.canary()
    assert after is not None and np.array_equal(kept, after)


def test_one_that_was_kept_in_the_meantime_counts(bound: Bound) -> None:
    """Two processes begin at the same time, with two models."""

    class Slow(Fake):
        def embed(self, texts: Sequence[str], **options: Any) -> np.ndarray:
            bound.table.keep_canary(fake_vector("what the other one gives"))
            return super().embed(texts)

    with pytest.raises(SpaceMismatch):
        require_same_model(bound.table, Slow())
