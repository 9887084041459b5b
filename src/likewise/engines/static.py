"""The engine for tables of token vectors, in numpy: a text's vector is the mean of its tokens'."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from likewise.base.errors import EngineError, ModelCorrupt, ModelUnsupported
from likewise.base.precision import profile
from likewise.models.parts import Normalise
from likewise.models.static import NOTHING, STATIC
from likewise.models.weights import open_weights

if TYPE_CHECKING:
    import numpy.typing as npt

    from likewise.base.precision import Precision
    from likewise.base.types import Vectors
    from likewise.engines.batch import Forward, Output, Outputs, PackedBatch
    from likewise.models.card import ModelCard
    from likewise.models.weights import Weights

_AT_ONCE = 512
"""Tokens whose rows are gathered at a time: they stay in the cache until they are added up."""
_SHORTEST = 1e-12


class StaticEngine:
    """A table, mapped from its file where that holds float32."""

    name = "static"
    version = f"numpy {np.__version__}"
    precision = "f32"
    streams = 1
    budget_tokens = 1 << 14
    gives_states = True
    least_fill = 0.0
    warm_lengths: tuple[int, ...] = ()

    def __init__(
        self, card: ModelCard, *, precision: Precision = "auto", threads: int | None = None
    ) -> None:
        """Read the table of `card`; one thread is enough, so `threads` changes nothing.

        Raises:
            ModelUnsupported: the card is of another kind, or asks for another precision.
            ModelCorrupt: the table is damaged.
        """
        del threads
        if card.architecture != STATIC:
            raise ModelUnsupported(
                f"{card.folder}: architecture {card.architecture!r} is no table of token vectors, "
                "which is all that the engine static computes",
                param="engine",
            )
        if profile(precision) not in ("auto", "exact"):
            raise ModelUnsupported(
                f"precision {precision}: a table of token vectors is only added up; use exact",
                param="precision",
            )
        self.why = "adding up needs no less"
        self._normalised = any(isinstance(step, Normalise) for step in card.steps)
        self._width = card.dimensions
        self._table: _Table | None = _Table(card)

    def stream(self) -> Forward:
        """A function that computes batches, one at a time."""
        table = self._table
        if table is None:
            raise EngineError("the engine is closed")
        room = np.empty((_AT_ONCE, table.width), np.float32)

        def means(batch: PackedBatch) -> Vectors:
            out: Vectors = np.empty((batch.texts, table.width), np.float32)
            starts = batch.cumulative.tolist()
            for row, (start, end) in enumerate(zip(starts, starts[1:], strict=False)):
                table.add_up(batch.ids[start:end], room, out[row])
            out /= np.diff(batch.cumulative)[:, None].astype(np.float32)
            out[batch.ids[batch.cumulative[:-1]] == NOTHING] = 0
            return out

        def forward(batch: PackedBatch) -> Outputs:
            outputs: dict[Output, Vectors] = {}
            wants_raw = self._normalised and batch.is_wanted("raw")
            if batch.is_wanted("vectors") or wants_raw:
                raw = means(batch)
                if wants_raw:
                    outputs["raw"] = np.ascontiguousarray(raw[:, : self._width])
                if batch.is_wanted("vectors"):
                    rows = raw.copy() if wants_raw else raw
                    rows = _scaled(rows) if self._normalised else rows
                    outputs["vectors"] = np.ascontiguousarray(rows[:, : self._width])
            if batch.is_wanted("states"):
                outputs["states"] = table.rows(batch.ids)
            return outputs

        return forward

    def close(self) -> None:
        """Let the table go."""
        self._table = None


def _scaled(rows: Vectors) -> Vectors:
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), _SHORTEST)
    return rows


class _Table:
    """A row for each token id, perhaps through a mapping, perhaps with a weight."""

    def __init__(self, card: ModelCard) -> None:
        self._held = open_weights(card.transformer)
        tensor = str(card.config["tensor"])
        rows = self._held.integers(tensor)
        self._rows: npt.NDArray[Any] = _floats(self._held, tensor) if rows is None else rows
        self._mapping: npt.NDArray[Any] | None = None
        self._weights: Vectors | None = None
        if card.config["style"] == "model2vec":
            self._mapping = self._held.integers("mapping")
            if "weights" in self._held:
                self._weights = _floats(self._held, "weights").reshape(-1)
        self._require_agreement(card)
        if self._mapping is None and self._weights is not None:
            self._rows = self._rows * self._weights[:, None]
            self._weights = None
        self.width = int(self._rows.shape[1])
        self._is_plain = (
            self._mapping is None and self._weights is None and self._rows.dtype == np.float32
        )
        self._held.release()

    def rows(self, ids: npt.NDArray[np.int32]) -> Vectors:
        """The row of each of `ids`: float32 [ids, width]."""
        found = self._gathered(ids, np.empty((len(ids), self.width), np.float32))
        found[ids == NOTHING] = 0
        return found

    def add_up(self, ids: npt.NDArray[np.int32], room: Vectors, out: Vectors) -> None:
        """Put the sum of the rows of `ids` into `out` [width], by way of `room` [n, width]."""
        if len(ids) <= len(room):
            np.add.reduce(self._gathered(ids, room), axis=0, out=out)
            return
        total = np.zeros(self.width, np.float64)
        for start in range(0, len(ids), len(room)):
            total += self._gathered(ids[start : start + len(room)], room).sum(axis=0)
        out[:] = total

    def _gathered(self, ids: npt.NDArray[np.int32], room: Vectors) -> Vectors:
        # Clipping is what lets numpy write into `out` directly, and what becomes of NOTHING.
        if self._is_plain:
            found: Vectors = self._rows.take(ids, axis=0, out=room[: len(ids)], mode="clip")
            return found
        at = ids if self._mapping is None else self._mapping.take(ids, mode="clip")
        rows = self._rows.take(at, axis=0, mode="clip").astype(np.float32)
        if self._weights is not None:
            rows *= self._weights.take(ids, mode="clip")[:, None]
        return rows

    def _require_agreement(self, card: ModelCard) -> None:
        ids, where = int(card.config["ids"]), card.transformer / "model.safetensors"
        if self._weights is not None and len(self._weights) != ids:
            raise ModelCorrupt(f"{where}: {len(self._weights)} weights for {ids} token ids")
        if self._mapping is not None and not (
            0 <= self._mapping.min() and self._mapping.max() < len(self._rows)
        ):
            raise ModelCorrupt(
                f"{where}: the mapping leads to rows {self._mapping.min()} to "
                f"{self._mapping.max()}; the table has {len(self._rows)}"
            )


def _floats(weights: Weights, name: str) -> Vectors:
    weights.require({name: weights.shape(name) or ()})
    return weights[name]
