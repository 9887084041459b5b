"""How many rows a worker takes at a time: more where the model is fast, as larger batches pad less.

Not fewer than it begins with where it is slow: an endpoint may count requests.
"""

from __future__ import annotations


class BatchRows:
    """Rows in a batch, from `least` to `most`. Safe to read from several threads."""

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
