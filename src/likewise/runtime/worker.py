"""One thread an engine stream: takes the next batch, computes it, hands the vectors out."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from likewise.base.clock import monotonic
from likewise.base.errors import EngineError, LikewiseError, NotFinite
from likewise.base.log import fields, logger
from likewise.engines.batch import PER_TOKEN, PackedBatch
from likewise.runtime import metrics
from likewise.runtime.lanes import Batch
from likewise.runtime.pending import Took

if TYPE_CHECKING:
    import numpy.typing as npt

    from likewise.base.types import Vectors
    from likewise.engines.batch import Forward, Output, Outputs
    from likewise.runtime.lanes import Lanes
    from likewise.runtime.pace import Pace
    from likewise.runtime.pending import Piece

_log = logger("runtime")


class Worker:
    """Works until its lanes are closed."""

    def __init__(
        self,
        forward: Forward,
        lanes: Lanes,
        pace: Pace,
        *,
        model: str,
        warm_lengths: tuple[int, ...] = (),
        is_nimble: bool = False,
    ) -> None:
        """Run `forward` on what comes; texts of `warm_lengths` are tried while nothing does.

        One that `is_nimble` is kept from long bulk batches while queries come in.
        """
        self._forward = forward
        self._lanes = lanes
        self._pace = pace
        self._model = model
        self._cold = iter(warm_lengths)
        self._is_nimble = is_nimble
        self._thread = threading.Thread(target=self._run, name=f"likewise-{model}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def join(self) -> None:
        """Wait for the end, which `Lanes.close` brings."""
        self._thread.join()

    def _run(self) -> None:
        is_warm, answered = False, 0
        while True:
            batch = self._lanes.take(wait=is_warm, is_nimble=self._is_nimble, after=answered)
            answered = 0
            if batch is not None:
                if batch.lane == "interactive":
                    answered = len(batch.pieces)
                try:
                    self._do(batch)
                except Exception as failure:  # noqa: BLE001 - the thread must outlive it
                    self._fail(batch, failure)
            elif is_warm or self._lanes.is_closed:
                return
            else:
                is_warm = not _warm_next(self._forward, self._cold)

    def _do(self, batch: Batch) -> None:
        labels = (self._model, batch.lane)
        started = monotonic()
        waited = [started - at for at in batch.queued_at]
        metrics.QUEUE_SECONDS.labels(*labels).observe(max(waited))
        packed = _packed(batch.pieces)
        outputs = self._forward(packed)
        seconds = monotonic() - started
        self._pace.saw_batch(packed.tokens, seconds)
        metrics.saw_batch(
            *labels,
            seconds=seconds,
            tokens=packed.tokens,
            texts=packed.texts,
            longest=packed.max_length,
            budget=self._pace.largest,
            dialects=[(piece.pending.dialect, len(piece.ids)) for piece in batch.pieces],
        )
        self._hand_out(batch, packed, outputs, [Took(each, seconds) for each in waited])

    def _hand_out(
        self, batch: Batch, packed: PackedBatch, outputs: Outputs, took: Sequence[Took]
    ) -> None:
        finite = {
            name: _finite_texts(name, outputs[name], packed).tolist() for name in packed.wants
        }
        begins = packed.cumulative
        for row, piece in enumerate(batch.pieces):
            found: dict[Output, Vectors] = {}
            for name in piece.pending.wants:
                if not finite[name][row]:
                    break
                of = slice(begins[row], begins[row + 1]) if name in PER_TOKEN else row
                found[name] = outputs[name][of]
            else:
                piece.pending.deliver(piece.index, found, took[row])
                continue
            self._not_finite(batch, piece, took[row])

    def _not_finite(self, batch: Batch, piece: Piece, took: Took) -> None:
        """A text without finite numbers fails; beside others, only if it has none alone either.

        In a rectangle, 0 times infinity carries one text's damage over to its neighbours.
        """
        if len(batch.pieces) > 1:
            alone = Batch(batch.lane, (piece,), (0.0,))
            packed = _packed(alone.pieces)
            self._hand_out(alone, packed, self._forward(packed), [took])
            return
        metrics.NOT_FINITE.labels(self._model).inc()
        _log.error(fields("not finite", model=self._model, tokens=len(piece.ids)))
        piece.pending.fail_input(
            piece.index, NotFinite(f"{self._model} gave NaN or Inf", param="input")
        )

    def _fail(self, batch: Batch, failure: Exception) -> None:
        if not isinstance(failure, LikewiseError):
            _log.error(fields("engine failed", model=self._model), exc_info=failure)
            failure = EngineError(f"{self._model}: {failure!r}. This is a bug.")
        metrics.FAILED_BATCHES.labels(self._model, failure.code).inc()
        _log.error(fields("batch failed", model=self._model, error=failure))
        for piece in batch.pieces:
            piece.pending.fail_input(piece.index, failure)


def _packed(pieces: Sequence[Piece]) -> PackedBatch:
    types = attended = None
    if any(piece.types is not None for piece in pieces):
        types = [
            np.zeros(len(piece.ids), np.int32) if piece.types is None else piece.types
            for piece in pieces
        ]
    if any(piece.attended is not None for piece in pieces):
        attended = [
            len(piece.ids) if piece.attended is None else piece.attended for piece in pieces
        ]
    return PackedBatch.of(
        [piece.ids for piece in pieces],
        types=types,
        prompts=[piece.prompt for piece in pieces],
        attended=attended,
        wants=frozenset().union(*{piece.pending.wants for piece in pieces}),
    )


def _finite_texts(name: Output, rows: Vectors, packed: PackedBatch) -> npt.NDArray[np.bool_]:
    """Whether each text's numbers are all finite: bool [texts]."""
    finite = np.asarray(np.isfinite(rows).all(axis=1))
    if name in PER_TOKEN:
        finite = np.asarray(np.logical_and.reduceat(finite, packed.cumulative[:-1]))
    return finite


def _warm_next(forward: Forward, lengths: Iterator[int]) -> bool:
    """Compute a text of the next length; whether there was one."""
    length = next(lengths, None)
    if length is None:
        return False
    try:
        forward(PackedBatch.of([[0] * length]))
    except LikewiseError as failure:
        # Real work will say it again, to someone who can act on it.
        _log.warning(fields("warming failed", length=length, error=failure))
    return True
