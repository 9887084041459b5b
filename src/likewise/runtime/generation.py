"""One loaded model and who holds it: a count from the grant of a lease until it is given back."""

from __future__ import annotations

import math
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from likewise.runtime.service import Service


@dataclass(eq=False)
class Generation:
    """A model as it was loaded once; the registry's lock guards what changes."""

    model: str
    """The entry's name."""
    number: int
    """Counts the loads of one entry, from 1."""
    service: Service
    folder: str
    """Where its files were found."""
    origin: str
    """`folder`, `cache`, `hub` or `wheel`."""
    fingerprint: str | None
    """Of the space of its vectors; None when it gives none."""
    resident_bytes: int
    """An estimate: its weights as they are run."""
    loaded_at: float
    """Seconds since 1970, UTC."""
    load_seconds: float
    keep_alive_s: float = math.inf
    """How long it stays when nobody asks, as the last who asked wanted it."""
    holders: int = 0
    last_used: float = 0.0
    """On the registry's clock."""
    expires_at: float = math.inf
    """On the registry's clock; counts only while nobody holds it."""
    retired: str | None = None
    """Why nobody is given it any more; None while it is given out."""
    is_ending: bool = False
    ended: Future[None] = field(default_factory=Future)
    """Done once it is closed."""

    @property
    def is_idle(self) -> bool:
        """Whether nobody holds it."""
        return self.holders == 0


class Hold:
    """What a lease gives: the model, for as long as the context is held; left once at most."""

    def __init__(self, generation: Generation, give_back: Callable[[Generation], None]) -> None:
        self._generation = generation
        self._give_back: Callable[[Generation], None] | None = give_back

    def __enter__(self) -> Service:
        """The model."""
        return self._generation.service

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give it back, whether the context was entered or not."""
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back(self._generation)
