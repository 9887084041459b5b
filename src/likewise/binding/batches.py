"""How many rows a worker takes at a time, and how many it publishes at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from likewise.base.types import Action


class BatchRows:
    """Rows in a batch: more where the model is fast, as larger batches pad less.

    Never fewer than `least`, however slow it is: an endpoint may count requests. Safe to use from
    several threads.
    """

    def __init__(self, least: int, most: int, *, seconds: float) -> None:
        """`seconds`: what a batch is to take at most, as stopping waits for it."""
        self.rows = least
        self._least = least
        self._most = max(least, most)
        self._seconds = seconds

    def took(self, rows: int, seconds: float) -> None:
        """A batch of `rows` was embedded in `seconds`: the next may be twice as large, or half."""
        if seconds > self._seconds:
            self.rows = max(self._least, self.rows // 2)
        elif rows and 2 * self.rows * seconds <= rows * self._seconds:
            self.rows = min(self._most, 2 * self.rows)


def parts(actions: Sequence[Action], rows: int, chunks: int) -> Iterator[list[Action]]:
    """Cut into runs of at most `rows` actions and, but for a single action, `chunks` vectors."""
    part: list[Action] = []
    count = 0
    for action in actions:
        size = len(getattr(action, "chunks", ()))
        if part and (len(part) == rows or count + size > chunks):
            yield part
            part, count = [], 0
        part.append(action)
        count += size
    if part:
        yield part
