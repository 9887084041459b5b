"""Rows of a source that keeps no log against what was seen of them: pure bookkeeping on marks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from likewise.base.keys import key_of, key_text
from likewise.base.types import Difference

if TYPE_CHECKING:
    from likewise.base.types import Key

PAGE = 500


def differences(
    present: Iterable[tuple[Key, bytes]], seen: Mapping[str, bytes]
) -> Iterator[list[Difference]]:
    """Pages of what came or changed, then of what went; `present` must be every row, whole.

    Each row is a unit of its own, called by its key's text.
    """
    page: list[Difference] = []
    there: set[str] = set()
    for key, mark in present:
        unit = key_text(key)
        there.add(unit)
        if seen.get(unit) != mark:
            page.append(Difference(unit, mark, (key,)))
            if len(page) == PAGE:
                yield page
                page = []
    for unit in seen.keys() - there:
        page.append(Difference(unit, None, (key_of(unit),)))
        if len(page) == PAGE:
            yield page
            page = []
    if page:
        yield page
