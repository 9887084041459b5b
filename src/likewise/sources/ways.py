"""What sources have in common by how they are followed: triggers tell, or a comparison finds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from likewise.base.errors import NoKey
from likewise.base.keys import key_text
from likewise.base.types import Captured, Difference, Key, Row

if TYPE_CHECKING:
    from likewise.base.bound import Capture, Seen


_SHOWN = 3


def refuse_repeats(what: str, key: Sequence[str], twice: Sequence[Sequence[object]]) -> None:
    """Refuse a relation in which several rows have the same key: those in `twice`.

    Raises:
        NoKey: there are any.
    """
    if twice:
        shown = "; ".join("/".join(map(repr, row)) for row in twice[:_SHOWN])
        raise NoKey(
            f"{what or 'the query'} has several rows with the same {', '.join(key)}: {shown}. Name "
            "columns that tell its rows apart with --key."
        )


class Told:
    """A source whose triggers tell of changes: there is nothing to compare."""

    doubts_deletes = False

    def differences(self, seen: Seen) -> Iterator[list[Difference]]:
        """Nothing: triggers tell."""
        yield from ()

    def unit_of(self, key: Key) -> str:
        """Nothing is compared here."""
        return key_text(key)

    def agrees(self, row: Row, mark: bytes) -> bool:
        """Nothing is compared here."""
        return True


class Compared:
    """A source in which nothing is installed and nothing logs: each row is a unit of its own."""

    capture: Capture = "scan"
    doubts_deletes = False

    def detach(self) -> None:
        """Nothing was installed."""

    @contextmanager
    def captured(self, *, limit: int) -> Iterator[Captured]:
        """Nothing: there is no outbox."""
        yield Captured()

    def unit_of(self, key: Key) -> str:
        """Each row is a unit of its own."""
        return key_text(key)

    def agrees(self, row: Row, mark: bytes) -> bool:
        """Whether the row is as it is remembered."""
        return row.mark == mark

    def waiting(self) -> tuple[int, float | None]:
        """There is no outbox."""
        return 0, None

    def tail(self) -> int:
        """There is no outbox."""
        return 0

    def is_past(self, seq: int) -> bool:
        """There is no outbox."""
        return True
