"""The CPU engine: an architecture becomes an OpenVINO graph, straight from its weights' file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from likewise.base.errors import EngineError, ModelUnsupported
from likewise.base.precision import profile
from likewise.engines.batch import PER_TOKEN
from likewise.engines.graph import trace
from likewise.engines.heads import budget
from likewise.engines.int8 import GROUP, Int8Ops, quantises_activations
from likewise.engines.openvino_ops import SHORTEST, OpenVinoOps
from likewise.engines.openvino_weights import letting_go
from likewise.engines.quiet import opset, ov
from likewise.engines.spread import feed, rounded_length, token_sizes
from likewise.engines.threads import available_threads

if TYPE_CHECKING:
    from likewise.base.precision import Precision
    from likewise.base.types import Vectors
    from likewise.engines.batch import Forward, Output, Outputs, PackedBatch
    from likewise.engines.spread import Entry
    from likewise.models.card import ModelCard
    from likewise.models.weights import Weights

_MAX_STREAMS = 4
_WARM_UP_TO = 64
_BUDGET_TOKENS = 512
"""More leaves the caches of a CPU and gains nothing."""


class OpenVinoEngine:
    """A model compiled for this CPU."""

    name = "openvino"
    # Measured with texts of mixed length, four to eight at a time: 0.6 to 0.75 was the best.
    least_fill = 0.75
    version = f"openvino {ov.get_version()}"

    def __init__(
        self, card: ModelCard, *, precision: Precision = "auto", threads: int | None = None
    ) -> None:
        """Compile the model of `card` for `threads` threads, all that this process may use if None.

        Raises:
            ModelUnsupported: the model, or `precision` on this CPU, can't be computed.
            ModelCorrupt: the weights are damaged or don't fit the configuration.
            EngineError: OpenVINO refused the graph.
        """
        core = ov.Core()
        self.precision, self.why = choose_precision(
            precision, core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        )
        self.threads = threads or available_threads()
        self.streams = min(self.threads, _MAX_STREAMS)
        self.warm_lengths = token_sizes(min(card.max_tokens, _WARM_UP_TO))
        self.budget_tokens = budget(card, _BUDGET_TOKENS)
        # Less precise arithmetic leaves lengths a little off.
        self._unit = card.of_length_one if self.precision != "f32" else ()
        graph, self._inputs, self._outputs, ops = self._build(card)
        self.gives_states = "states" in self._outputs
        try:
            with letting_go(ops.release):
                self._compiled: Any = core.compile_model(graph, "CPU", self._settings())
        except RuntimeError as refused:
            raise EngineError(f"OpenVINO can't compile {card.folder}: {refused}") from refused
        # The graph's constants look into the files of its weights for as long as it runs.
        self._held: OpenVinoOps | None = ops

    def stream(self) -> Forward:
        """A function that computes batches, one at a time."""
        if self._compiled is None:
            raise EngineError("the engine is closed")
        request = self._compiled.create_infer_request()
        runs = 0

        def forward(batch: PackedBatch) -> Outputs:
            nonlocal runs
            arrays = feed(batch, self._inputs)
            try:
                found = request.infer(arrays, share_inputs=True, share_outputs=True)
            except RuntimeError as failed:
                raise EngineError(f"OpenVINO failed on {batch.tokens} tokens: {failed}") from failed
            runs += 1
            # OpenVINO lays weights out anew at the first batches of each kind; after that nobody
            # reads the file's pages.
            if runs.bit_count() == 1 and self._held is not None:
                self._held.release()
            outputs: dict[Output, Vectors] = {}
            for index, name in enumerate(self._outputs):
                if not batch.is_wanted(name):
                    continue
                rows = batch.tokens if name in PER_TOKEN else batch.texts
                outputs[name] = np.array(found[index][:rows], dtype=np.float32)
            for name in self._unit:
                if name not in outputs:
                    continue
                lengths = np.linalg.norm(outputs[name], axis=1, keepdims=True)
                outputs[name] /= np.maximum(lengths, SHORTEST)
            return outputs

        return forward

    def close(self) -> None:
        """Let the compiled model go."""
        self._compiled = None
        self._held = None

    def _build(self, card: ModelCard) -> Built:
        return build(card, Int8Ops if self.precision == "int8" else OpenVinoOps)

    def _settings(self) -> dict[str, Any]:
        in_int8 = self.precision == "int8"
        return {
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": self.streams,
            # int8 activations are made from float32 ones; from bf16 the plugin makes none.
            "INFERENCE_PRECISION_HINT": "f32" if in_int8 else self.precision,
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": GROUP if in_int8 else 0,
            # A pinned stream can't move away when something else takes its core.
            "ENABLE_CPU_PINNING": False,
        }


class Built(NamedTuple):
    """A graph to be compiled."""

    graph: Any
    inputs: tuple[Entry, ...]
    """What it takes, in order."""
    outputs: tuple[Output, ...]
    ops: OpenVinoOps
    """What holds the weights that its constants look into."""


def build(card: ModelCard, make: Callable[..., OpenVinoOps] = OpenVinoOps) -> Built:
    """The graph of `card`, over weights that `make` looks up.

    Raises:
        ModelUnsupported: the architecture isn't written here.
        ModelCorrupt: the weights don't fit the configuration.
    """
    made: list[OpenVinoOps] = []

    def ops(weights: Weights) -> OpenVinoOps:
        made.append(make(weights, longest=rounded_length(card.max_tokens)))
        return made[0]

    traced = trace(card, ops)
    inputs = made[0].inputs
    # One output of a node with several, as a cut has, is no node by itself.
    results = [opset.result(each) for each in traced.outputs.values()]
    graph = ov.Model(results, list(inputs.values()), card.architecture)
    return Built(graph, tuple(inputs), tuple(traced.outputs), made[0])


def choose_precision(asked: Precision, capabilities: Sequence[str]) -> tuple[str, str]:
    """The arithmetic to run in (`f32`, `bf16`, `int8`), and why, on a CPU of these capabilities.

    Raises:
        ModelUnsupported: `fast` was asked for by name and the CPU hasn't got bf16, or there is no
            such profile.
    """
    meant, has_bf16 = profile(asked), "BF16" in capabilities
    if meant == "auto":
        if has_bf16:
            return "bf16", "this CPU computes in bf16"
        return "f32", "this CPU doesn't compute in bf16"
    if meant == "fast" and not has_bf16:
        raise ModelUnsupported(
            f"precision {asked}: bf16 isn't something this CPU computes in (it has: "
            f"{', '.join(capabilities)}); use auto, exact or small",
            param="precision",
        )
    if meant == "small":
        return "int8", f"asked for; int8 weights, and {_activations()}"
    return ("bf16" if meant == "fast" else "f32"), "asked for"


def _activations() -> str:
    if quantises_activations():
        return f"activations are turned into int8 too, {GROUP} at a time"
    return "activations stay f32, as this CPU has no VNNI: less memory, but no more speed"
