"""How a request is to be treated on its way, whatever it asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from likewise.base.types import CutSide, Lane, Overflow


class How(TypedDict, total=False):
    """The keywords by which a caller says so; each is a field of `Manner`."""

    lane: Lane
    overflow: Overflow
    deadline: float | None
    limit: int | None
    side: CutSide | None
    dialect: str


@dataclass(frozen=True, slots=True)
class Manner:
    """What holds for all inputs of a request."""

    lane: Lane = "interactive"
    overflow: Overflow = "cut"
    """What is done with a text of more tokens than the model reads."""
    deadline: float | None = None
    """When the answer is of no use any more, on the monotonic clock; None: never."""
    limit: int | None = None
    """Tokens to cut texts to, special ones included; None: as many as the model reads."""
    side: CutSide | None = None
    """Where a text that is too long loses tokens; None: where the model's own files say."""
    dialect: str = "program"
    """Who asks, for the metrics: a dialect of the server, `binding` or `program`."""


__all__ = ["CutSide", "How", "Lane", "Manner", "Overflow"]
