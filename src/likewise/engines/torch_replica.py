"""A copy of a model on one device, and how a batch runs there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch

from likewise.engines.batch import PackedBatch, is_wanted
from likewise.engines.torch_feed import Feed
from likewise.engines.torch_ops import TorchOps

if TYPE_CHECKING:
    from likewise.engines.batch import Output
    from likewise.engines.torch_attention import Varlen
    from likewise.engines.torch_weights import DeviceWeights
    from likewise.nets.ops import Ops

    Write = Callable[[Ops[torch.Tensor]], Mapping[Output, torch.Tensor]]
    """Computes a model's outputs, and its states, in the vocabulary."""

_PROBE_LENGTHS = (3, 29)


class Replica:
    """A copy of the model on one device; several streams may share it."""

    def __init__(
        self,
        write: Write,
        weights: DeviceWeights,
        *,
        dtype: torch.dtype,
        longest: int,
        varlen: Varlen | None,
    ) -> None:
        """`write` the outputs of texts of up to `longest` tokens, in `dtype`."""
        self._write = write
        self.weights = weights
        self.device = weights.device
        self._dtype = dtype
        self._longest = longest
        self._varlen = varlen
        # Until the first batch shows that no attention needs them.
        self._needs_rectangles = True
        # Held while work is given to the device: nothing may come between what a graph records.
        self.launching = threading.Lock()

    @property
    def is_packed(self) -> bool:
        """Whether every attention of the model runs without rectangles."""
        return not self._needs_rectangles

    def warm(self) -> bool:
        """Bring the weights over by computing two short texts; whether all came out finite."""
        lengths = [min(length, self._longest) for length in _PROBE_LENGTHS]
        feed = Feed.of(PackedBatch.of([range(length) for length in lengths]))
        ops = self._ops(feed, self.moved(feed), is_captured=False)
        found = self._write(ops)
        self._needs_rectangles = ops.used_rectangles
        self.weights.release()
        return all(bool(torch.isfinite(value).all()) for value in found.values())

    def close(self) -> None:
        """Let what is on the device go."""
        self.weights.close()

    def feed(self, batch: PackedBatch, *, tokens: int = 0, texts: int = 0) -> Feed:
        """`batch` as this replica takes it, filled up to `tokens` and `texts`."""
        return Feed.of(batch, tokens=tokens, texts=texts, rectangles=self._needs_rectangles)

    def moved(self, feed: Feed) -> torch.Tensor:
        """The numbers of `feed` on the device."""
        return torch.from_numpy(feed.numbers).to(self.device)

    def compute(
        self,
        feed: Feed,
        numbers: torch.Tensor,
        *,
        wants: frozenset[Output] = frozenset(),
        is_captured: bool = False,
    ) -> dict[Output, torch.Tensor]:
        """What is wanted for `feed`, whose `numbers` are on the device: float32 there."""
        found = self._write(self._ops(feed, numbers, is_captured=is_captured))
        return {name: value.float() for name, value in found.items() if is_wanted(name, wants)}

    def _ops(self, feed: Feed, numbers: torch.Tensor, *, is_captured: bool) -> TorchOps:
        return TorchOps(
            self.weights,
            feed,
            numbers,
            dtype=self._dtype,
            longest=self._longest,
            varlen=self._varlen,
            is_captured=is_captured,
        )


class Runner:
    """One stream of a replica: computes batches one after the other."""

    def __init__(self, replica: Replica, *, threads: int | None = None) -> None:
        """On a CPU, compute with so many `threads`."""
        self._replica = replica
        self._threads = threads

    def __call__(self, batch: PackedBatch) -> dict[Output, torch.Tensor]:
        """What the model gives, on the host."""
        if self._threads is not None:
            # A setting of the thread that computes, which is known only here.
            torch.set_num_threads(self._threads)
            self._threads = None
        feed = self._replica.feed(batch)
        found = self._replica.compute(feed, self._replica.moved(feed), wants=batch.wants)
        return {name: value.cpu() for name, value in found.items()}

    def close(self) -> None:
        """Give back what it holds."""
