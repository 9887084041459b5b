"""Whether a model still gives the vectors that a binding was begun with: one text tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from likewise.base.errors import NotFinite, SpaceMismatch
from likewise.base.space import CANARY

if TYPE_CHECKING:
    from likewise.base.bound import BoundTable
    from likewise.base.protocols import Embedder
    from likewise.base.types import Vectors

LEAST_COSINE = 0.99
"""Precisions of one model agree better than this; two models never do."""


def require_same_model(table: BoundTable, embedder: Embedder) -> None:
    """Compare what `embedder` gives for the canary text with what is kept; keep it if nothing is.

    A name says nothing of what an endpoint computes, nor of what it will compute tomorrow.

    Raises:
        SpaceMismatch: the vectors are others.
        LikewiseError: the model can't be asked.
    """
    vector = embedder.embed([CANARY], kind="document")[0]
    if not np.isfinite(vector).all():
        raise NotFinite("the model gave NaN or Inf")
    if table.canary() is None:
        table.keep_canary(vector)
    # Read again: another worker may have kept one first.
    kept = table.canary()
    found = 0.0 if kept is None else _cosine(kept, vector)
    if found < LEAST_COSINE:
        raise SpaceMismatch(
            f"binding {table.name}: {table.space.model} gives other vectors now than when the "
            f"binding was made (cosine {found:.3f} for the same text): the endpoint or the model "
            "behind that name has changed. Vectors of two models are never mixed: put the old "
            f"model back, or rebuild with 'likewise bind swap {table.name} --model NEW'"
        )


def _cosine(one: Vectors, other: Vectors) -> float:
    if one.shape != other.shape:
        return 0.0
    length = float(np.linalg.norm(one) * np.linalg.norm(other))
    if length == 0.0:
        return 1.0 if np.array_equal(one, other) else 0.0
    return float(one @ other) / length
