"""The GPU engine: the same architectures on torch, packed; it runs on a CPU and on MPS as well."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from likewise.base.errors import EngineError
from likewise.base.log import fields, logger
from likewise.engines.batch import PER_TOKEN, PackedBatch
from likewise.engines.graph import outputs, prepare
from likewise.engines.threads import available_threads
from likewise.engines.torch_attention import find_varlen
from likewise.engines.torch_device import (
    NAMES,
    budget_tokens,
    choose_devices,
    choose_dtype,
    described,
    use_full_f32,
)
from likewise.engines.torch_graphs import TOKENS, WARM_UP_TO, CudaRunner
from likewise.engines.torch_replica import Replica, Runner
from likewise.engines.torch_weights import DeviceWeights
from likewise.nets.names import NETS

if TYPE_CHECKING:
    from likewise.base.precision import Precision
    from likewise.base.types import Vectors
    from likewise.engines.batch import Forward, Output, Outputs
    from likewise.models.card import ModelCard

_log = logger("engines.torch")

_MAX_CPU_STREAMS = 4
# On a GPU the next batch is prepared while one is computed.
_STREAMS = {"cuda": 2, "mps": 1}


class TorchPackedEngine:
    """A model on one or several devices, a replica on each."""

    name = "torch"
    gives_states = True
    least_fill = 0.0

    def __init__(
        self,
        card: ModelCard,
        *,
        precision: Precision = "auto",
        threads: int | None = None,
        device: str | Sequence[str] | None = None,
        graphs: bool = True,
    ) -> None:
        """Bring the model of `card` to `device`: names as torch's; None for all GPUs, or the CPU.

        `threads` counts on a CPU only, all that this process may use if None. `graphs` lets
        small batches on CUDA devices run as recorded graphs.

        Raises:
            ModelUnsupported: the model or `precision` can't be computed.
            ModelCorrupt: the weights are damaged or don't fit the configuration.
            SettingsError: there is no such device.
            EngineError: the device failed, or hasn't the memory.
        """
        devices = choose_devices(device)
        dtype, self.why = choose_dtype(precision, devices[0])
        self.version = described(devices)
        self._graphs = graphs
        self._replicas = self._load(card, devices, dtype)
        if not self._are_finite() and dtype == torch.float16:
            # Some models were trained in bf16 and leave the range of f16.
            self.why = "f16 gave NaN or Inf for this model, and there is no bf16 here"
            _log.warning(fields("precision refused", model=card.name, why=self.why))
            dtype = torch.float32
            self._let_go()
            self._replicas = self._load(card, devices, dtype)
            self._are_finite()
        self.precision = NAMES[dtype]
        self.budget_tokens = budget_tokens(card, devices)
        self._longest = card.max_tokens
        self.threads = threads or available_threads()
        each = _STREAMS.get(devices[0].type) or min(self.threads // len(devices), _MAX_CPU_STREAMS)
        self.streams = max(1, each) * len(devices)
        self.warm_lengths = self._warm_lengths()
        self._turn = itertools.cycle(self._replicas)
        self._runners: list[Runner] = []

    @staticmethod
    def can_run(card: ModelCard) -> bool:
        """Whether the architecture is one of those written here; torch itself is there."""
        return card.architecture in NETS

    def stream(self) -> Forward:
        """A function that computes batches, one at a time, on the next device in turn."""
        if not self._replicas:
            raise EngineError("the engine is closed")
        runner = self._runner(next(self._turn))
        self._runners.append(runner)

        def forward(batch: PackedBatch) -> Outputs:
            if batch.max_length > self._longest:
                raise EngineError(
                    f"a text of {batch.max_length} tokens for a model that reads {self._longest}: "
                    "this is a bug"
                )
            try:
                with torch.inference_mode():
                    return _run(runner, batch)
            except RuntimeError as failed:
                raise EngineError(f"torch failed on {batch.tokens} tokens: {failed}") from failed

        return forward

    def close(self) -> None:
        """Let the weights and the devices' memory go."""
        self._let_go()

    def _load(
        self, card: ModelCard, devices: Sequence[torch.device], dtype: torch.dtype
    ) -> list[Replica]:
        if dtype == torch.float32:
            use_full_f32()
        net, weights = prepare(card)
        replicas: list[Replica] = []
        for device in devices:
            varlen, kind = find_varlen(device, dtype)
            write: Any = functools.partial(outputs, card, net)
            held = DeviceWeights(weights, device)
            replica = Replica(write, held, dtype=dtype, longest=card.max_tokens, varlen=varlen)
            _log.info(fields("replica", model=card.name, device=device, attention=kind))
            replicas.append(replica)
        return replicas

    def _are_finite(self) -> bool:
        """Bring the weights over; whether the first vectors are numbers."""
        try:
            with torch.inference_mode():
                return all([replica.warm() for replica in self._replicas])
        except RuntimeError as failed:
            self._let_go()
            raise EngineError(f"torch can't compute this model: {failed}") from failed

    def _runner(self, replica: Replica) -> Runner:
        if replica.device.type == "cuda":
            return CudaRunner(replica, graphs=self._graphs)
        if replica.device.type == "cpu":
            return Runner(replica, threads=max(1, self.threads // self.streams))
        return Runner(replica)

    def _warm_lengths(self) -> tuple[int, ...]:
        first = self._replicas[0]
        if first.device.type != "cuda" or not self._graphs or not first.is_packed:
            return ()
        return tuple(size for size in TOKENS if size <= min(self._longest, WARM_UP_TO))

    def _let_go(self) -> None:
        for runner in getattr(self, "_runners", ()):
            runner.close()
        for replica in self._replicas:
            replica.close()
        self._replicas = []
        self._turn = itertools.cycle(())
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _run(runner: Runner, batch: PackedBatch) -> Outputs:
    """What `batch` gives; by halves where another program has taken the memory for the whole."""
    try:
        found = runner(batch)
    except torch.cuda.OutOfMemoryError as full:
        if batch.texts == 1:
            raise
        _log.warning(fields("out of memory", tokens=batch.tokens, why=full))
    else:
        return {name: _rows(name, value, batch) for name, value in found.items()}
    # Outside of the handler, whose traceback would keep what was computed so far.
    torch.cuda.empty_cache()
    half = batch.texts // 2
    first, second = (_run(runner, batch.part(*ends)) for ends in ((0, half), (half, batch.texts)))
    return {name: np.concatenate([first[name], second[name]]) for name in first}


def _rows(name: Output, value: torch.Tensor, batch: PackedBatch) -> Vectors:
    """What belongs to the batch itself, without what it was filled up with."""
    rows = batch.tokens if name in PER_TOKEN else batch.texts
    found: Vectors = value[:rows].numpy()
    return found
