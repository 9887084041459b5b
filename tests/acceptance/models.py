"""Models whose scores tell which of them made both the query's vector and the row's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from likewise.base.errors import InputError
from likewise.base.space import Space
from tests.binding_kit import DIMENSIONS, SPACE, bars, fake_vector

if TYPE_CHECKING:
    from likewise.runtime.service import Service as Base
else:
    Base = object

SPREAD = 8
"""Most that two texts' own parts of a vector add to a score."""


class Telling(Base):
    """One of several models: the score of one with itself is `mark` squared and less than 8 more.

    Of two of them it is less than 8, as each marks a place of its own.
    """

    def __init__(
        self,
        number: int,
        *,
        before: Callable[[Sequence[str]], None] | None = None,
        refuses: str | None = None,
    ) -> None:
        self.number = number
        self.mark = 10 * (number + 1)
        self.before = before
        self.refuses = refuses
        self.label = f"telling/{number}"

    @property
    def space(self) -> Space:
        return dataclasses.replace(
            SPACE, model=self.label, weights=f"0{self.number}", dimensions=4 + DIMENSIONS
        )

    def vector(self, text: str) -> np.ndarray:
        marks = np.zeros(4, np.float32)
        marks[self.number] = self.mark
        return np.concatenate([marks, fake_vector(text) / 256]).astype(np.float32)

    def embed(self, texts: Sequence[str], **options: Any) -> np.ndarray:
        if self.before is not None:
            self.before(texts)
        for text in texts:
            if self.refuses is not None and self.refuses in text:
                raise InputError(f"the model can't read {self.refuses}")
        return np.stack([self.vector(text) for text in texts])

    def splitter(self, chunk: str = "") -> Any:
        return bars

    def made(self, score: float) -> bool:
        """Whether this model made both vectors that have this score."""
        return 0 <= score - self.mark**2 <= SPREAD


MODELS = {"telling/0": Telling(0), "telling/1": Telling(1)}


def models(name: str) -> Telling:
    return MODELS[name]
