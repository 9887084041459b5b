"""One stream of a CUDA device; small batches run as recorded graphs, free of launch times."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from likewise.base.log import fields, logger
from likewise.engines.batch import ON_REQUEST
from likewise.engines.torch_replica import Runner

if TYPE_CHECKING:
    from likewise.engines.batch import Output, PackedBatch
    from likewise.engines.torch_feed import Feed
    from likewise.engines.torch_replica import Replica

_log = logger("engines.torch")

# A graph is for one size: batches are filled up to the next of few, so that memory stays bounded.
TOKENS = (16, 32, 64, 128, 256, 512)
TEXTS = (1, 4, 16)
WARM_UP_TO = 128
_CLOSE = 1e-2
"""How far a replayed graph may be from the same batch computed at once, relative to the largest."""


# Torch allows one recording at a time in the process.
_RECORDING = threading.Lock()


def graph_size(tokens: int, texts: int) -> tuple[int, int] | None:
    """The sizes that a batch of `tokens` and `texts` is filled up to; None if it is too large."""
    if tokens > TOKENS[-1] or texts > TEXTS[-1]:
        return None
    rows = next(size for size in TOKENS if size >= tokens)
    return rows, next(size for size in TEXTS if size >= texts)


@dataclass(frozen=True, slots=True)
class _Recorded:
    """A graph, where it reads its batch, and where it leaves what it computed."""

    graph: torch.cuda.CUDAGraph
    numbers: torch.Tensor
    outputs: dict[Output, torch.Tensor]


class CudaRunner(Runner):
    """Copies over, computes and copies back on a CUDA stream of its own."""

    def __init__(self, replica: Replica, *, graphs: bool = True) -> None:
        """Record `graphs` of small batches, where the model's attention allows it."""
        super().__init__(replica)
        self._stream = torch.cuda.Stream(replica.device)
        self._is_recording = graphs and replica.is_packed
        self._recorded: dict[tuple[int, int], _Recorded] = {}
        self._pool = torch.cuda.graph_pool_handle() if self._is_recording else None
        self._staging = torch.empty(0, dtype=torch.int32)

    def __call__(self, batch: PackedBatch) -> dict[Output, torch.Tensor]:
        """What the model gives, on the host."""
        size = graph_size(batch.tokens, batch.texts) if self._is_recording else None
        with torch.cuda.device(self._replica.device), torch.cuda.stream(self._stream):
            if size is None or batch.attended is not None or batch.wants & ON_REQUEST:
                found = self._at_once(batch)
            else:
                found = self._by_graph(size, batch)
            # Waits for the stream: the staging memory is free again.
            return {name: value.cpu() for name, value in found.items() if batch.is_wanted(name)}

    def close(self) -> None:
        """Let the graphs and their memory go."""
        self._recorded.clear()
        self._staging = torch.empty(0, dtype=torch.int32)

    def _at_once(self, batch: PackedBatch) -> dict[Output, torch.Tensor]:
        feed = self._replica.feed(batch)
        staged = self._staged(feed)
        with self._replica.launching:
            numbers = staged.to(self._replica.device, non_blocking=True)
            return self._replica.compute(feed, numbers, wants=batch.wants)

    def _by_graph(self, size: tuple[int, int], batch: PackedBatch) -> dict[Output, torch.Tensor]:
        feed = self._replica.feed(batch, tokens=size[0], texts=size[1])
        known = self._recorded.get(size)
        if known is not None:
            staged = self._staged(feed)
            with self._replica.launching:
                known.numbers.copy_(staged, non_blocking=True)
                known.graph.replay()
            return known.outputs
        try:
            with self._replica.launching, _RECORDING:
                self._recorded[size] = self._record(feed)
        except RuntimeError as refused:
            device = self._replica.device
            _log.warning(fields("CUDA graphs refused", device=device, size=size, why=refused))
            self._is_recording = False
            self.close()
            return self._at_once(batch)
        return self._recorded[size].outputs

    def _record(self, feed: Feed) -> _Recorded:
        """The graph of batches as large as `feed`, replayed once for it.

        Raises:
            RuntimeError: it can't be recorded, or doesn't give what computing at once gives.
        """
        replica = self._replica
        numbers = self._staged(feed).to(replica.device)
        # What libraries set up on their first calls must not be recorded.
        replica.compute(feed, numbers, is_captured=True)
        expected = replica.compute(feed, numbers, is_captured=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
        ):
            outputs = replica.compute(feed, numbers, is_captured=True)
        graph.replay()
        for name, value in outputs.items():
            off = (value - expected[name]).abs().max().item()
            if not off <= _CLOSE * max(1.0, expected[name].abs().max().item()):
                raise RuntimeError(f"a replayed graph gave {name} off by {off}")
        return _Recorded(graph, numbers, outputs)

    def _staged(self, feed: Feed) -> torch.Tensor:
        """The numbers of `feed` in pinned memory, from which copying needs no waiting."""
        size = len(feed.numbers)
        if len(self._staging) < size:
            self._staging = torch.empty(
                1 << (size - 1).bit_length(), dtype=torch.int32, pin_memory=True
            )
        staged = self._staging[:size]
        staged.copy_(torch.from_numpy(feed.numbers))
        return staged
