"""What no store takes: vectors of another width, or with NaN or Inf."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from likewise.base.errors import NotFinite, SpaceMismatch
from likewise.base.types import Action, Put

if TYPE_CHECKING:
    from likewise.base.space import Space


def require_storable(actions: Sequence[Action], space: Space) -> None:
    """Refuse vectors that aren't of `space`, before anything is written.

    Raises:
        SpaceMismatch: vectors of another width, or not one a chunk.
        NotFinite: a vector holds NaN or Inf.
    """
    for action in actions:
        if not isinstance(action, Put):
            continue
        shape = (len(action.chunks), space.dimensions)
        if action.vectors.shape != shape:
            raise SpaceMismatch(
                f"row {action.key}: vectors of shape {action.vectors.shape} don't fit "
                f"{shape[0]} chunks of {shape[1]} dimensions"
            )
        if not np.isfinite(action.vectors).all():
            raise NotFinite(f"row {action.key}: a vector holds NaN or Inf; it isn't stored")
