"""Which steps of a schema are left to take: one rule for every store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from likewise.base.errors import BindingError

S = TypeVar("S")


def steps_left(steps: Sequence[S], version: int, whose: str) -> Iterator[tuple[int, S]]:
    """Each step after `version`, with its number; `whose` tables they are, such as `the file's`.

    Raises:
        BindingError: a newer Likewise made them.
    """
    if version > len(steps):
        raise BindingError(
            f"{whose} Likewise tables are of schema {version}; this Likewise knows up to "
            f"{len(steps)}. Install a newer version."
        )
    yield from enumerate(steps[version:], start=version + 1)
