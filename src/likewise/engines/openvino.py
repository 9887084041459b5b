"""The CPU engine: an architecture becomes an OpenVINO graph, straight from its weights' file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import numpy as np

from likewise.base.errors import EngineError, ModelUnsupported
from likewise.base.names import resolve
from likewise.engines.quiet import opset, ov
from likewise.engines.spread import Spread, token_sizes
from likewise.models.card import Dense, ModelCard, Normalise, Pooling
from likewise.models.weights import Weights, open_weights
from likewise.nets.names import NETS
from likewise.nets.ops import Activation, Ops, PoolingMode

if TYPE_CHECKING:
    from likewise.base.types import Vectors
    from likewise.engines.batch import Forward, PackedBatch

Precision = Literal["auto", "f32", "bf16"]

_PREFIXES = ("", "bert.", "model.", "0.auto_model.")
_PROBE = "embeddings.word_embeddings.weight"
# Far below any score, and still finite in every precision.
_MASKED = np.float32(-1e9)
# As in torch.nn.functional.normalize, which adds nothing to longer rows.
_SHORTEST = 1e-12
_MAX_STREAMS = 4
_WARM_UP_TO = 64


class OpenVinoOps(Ops[Any]):
    """The vocabulary as nodes of an OpenVINO graph; weights stay where the file is mapped."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._bias: Any = None
        self.inputs: dict[str, Any] = {}
        self.dense: Weights | None = None

    def tokens(self) -> Any:
        """Token ids, int [tokens]."""
        return self._input("ids", [-1], np.int32)

    def positions(self) -> Any:
        """Places in the text, int [tokens]."""
        return self._input("positions", [-1], np.int32)

    def embedding(self, table: str, indices: Any) -> Any:
        """Rows of a weight."""
        return opset.gather(self._constant(self._weights[table]), indices, _int(0))

    def row(self, table: str, index: int) -> Any:
        """One row of a weight, [1, width]."""
        return self._constant(np.array(self._weights[table][index : index + 1]))

    def add(self, left: Any, right: Any) -> Any:
        """Sum."""
        return opset.add(left, right)

    def layer_norm(self, x: Any, name: str, *, epsilon: float) -> Any:
        """Normalised over the width, scaled and shifted."""
        y = opset.mvn(x, _ints(-1), True, epsilon, "inside_sqrt")
        y = opset.multiply(y, self._constant(self._weights[f"{name}.weight"].reshape(1, -1)))
        return opset.add(y, self._constant(self._weights[f"{name}.bias"].reshape(1, -1)))

    def linear(self, x: Any, names: Sequence[str]) -> Any:
        """Products with several layers side by side, as one product."""
        return self._product(x, self._weights, names)

    def activate(self, x: Any, activation: Activation) -> Any:
        """The activation of each number."""
        return _ACTIVATIONS[activation](x)

    def attention(self, qkv: Any, *, heads: int) -> Any:
        """Spread to [texts, heads, length, head], attend, and gather the tokens back."""
        width = qkv.get_output_partial_shape(0)[1].get_length() // 3
        spread = opset.gather(qkv, self._slots(), _int(0))
        split = opset.reshape(spread, _ints(0, 0, 3 * heads, width // heads), True)
        turned = opset.transpose(split, _ints(0, 2, 1, 3))
        parts = opset.variadic_split(turned, _int(1), _ints(heads, heads, heads))
        query, key, value = parts.outputs()
        context = opset.scaled_dot_product_attention(query, key, value, self._mask_bias())
        joined = opset.transpose(context, _ints(0, 2, 1, 3))
        flat = opset.reshape(joined, _ints(-1, width), False)
        return opset.gather(flat, self._input("back", [-1], np.int32), _int(0))

    def pool(self, x: Any, mode: PoolingMode) -> Any:
        """One row for each text."""
        if mode == "cls":
            return opset.gather(x, self._input("first", [-1], np.int32), _int(0))
        if mode == "lasttoken":
            return opset.gather(x, self._input("last", [-1], np.int32), _int(0))
        slots = opset.gather(x, self._slots(), _int(0))
        mask = opset.unsqueeze(self._mask(), _ints(2))
        if mode == "max":
            empty = opset.multiply(opset.subtract(_float(1), mask), _float(_MASKED))
            return opset.reduce_max(opset.add(opset.multiply(slots, mask), empty), _ints(1))
        total = opset.reduce_sum(opset.multiply(slots, mask), _ints(1))
        count = opset.reduce_sum(self._mask(), _ints(1), True)
        return opset.divide(total, opset.maximum(count, _float(1e-9)))

    def concat(self, parts: Sequence[Any]) -> Any:
        """Rows side by side."""
        return opset.concat(list(parts), 1)

    def normalise(self, x: Any) -> Any:
        """Rows scaled to length 1."""
        return opset.normalize_l2(x, _ints(1), _SHORTEST**2, "max")

    def dense_layer(self, x: Any, dense: Dense, weights: Weights) -> Any:
        """A sentence-transformers Dense module, whose weights lie in their own file."""
        y = self._product(x, weights, ["linear"])
        return self.activate(y, _activation(dense))

    def _product(self, x: Any, weights: Weights, names: Sequence[str]) -> Any:
        matrix = _joined([weights[f"{name}.weight"] for name in names])
        y = opset.matmul(x, self._constant(matrix), False, True)
        if f"{names[0]}.bias" not in weights:
            return y
        bias = _joined([weights[f"{name}.bias"] for name in names])
        return opset.add(y, self._constant(bias.reshape(1, -1)))

    def _constant(self, values: Vectors) -> Any:
        # Shared memory: the graph reads the mapped file, and the weights aren't held twice.
        return ov.op.Constant(np.ascontiguousarray(values), shared_memory=True)

    def _input(self, name: str, shape: list[int], dtype: type) -> Any:
        if name not in self.inputs:
            self.inputs[name] = opset.parameter(shape, dtype, name)
        return self.inputs[name]

    def _slots(self) -> Any:
        return self._input("slots", [-1, -1], np.int32)

    def _mask(self) -> Any:
        return self._input("mask", [-1, -1], np.float32)

    def _mask_bias(self) -> Any:
        if self._bias is None:
            empty = opset.subtract(_float(1), self._mask())
            self._bias = opset.unsqueeze(opset.multiply(empty, _float(_MASKED)), _ints(1, 2))
        return self._bias


class OpenVinoEngine:
    """A model compiled for this CPU."""

    name = "openvino"

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
        self._renormalise = card.normalised and self.precision != "f32"
        graph, self._inputs, held = build(card)
        try:
            self._compiled: Any = core.compile_model(graph, "CPU", self._settings())
        except RuntimeError as refused:
            raise EngineError(f"OpenVINO can't compile {card.folder}: {refused}") from refused
        # The graph's constants look into these files for as long as it runs.
        self._held = held
        for weights in held:
            weights.release()

    def stream(self) -> Forward:
        """A function that computes batches, one at a time."""
        if self._compiled is None:
            raise EngineError("the engine is closed")
        request = self._compiled.create_infer_request()

        def forward(batch: PackedBatch) -> Vectors:
            spread = Spread.of(batch)
            feed = [getattr(spread, name) for name in self._inputs]
            try:
                found = request.infer(feed, share_inputs=True, share_outputs=True)
            except RuntimeError as failed:
                raise EngineError(f"OpenVINO failed on {batch.tokens} tokens: {failed}") from failed
            vectors = np.array(found[0][: batch.texts], dtype=np.float32)
            if self._renormalise:
                lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
                vectors /= np.maximum(lengths, _SHORTEST)
            return vectors

        return forward

    def close(self) -> None:
        """Let the compiled model go."""
        self._compiled = None
        self._held = ()

    def _settings(self) -> dict[str, Any]:
        return {
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": self.streams,
            "INFERENCE_PRECISION_HINT": self.precision,
            # A pinned stream can't move away when something else takes its core.
            "ENABLE_CPU_PINNING": False,
        }


def build(
    card: ModelCard, make: Callable[[Weights], OpenVinoOps] = OpenVinoOps
) -> tuple[Any, tuple[str, ...], tuple[Weights, ...]]:
    """The graph of `card`, the names of its inputs in order, and the weights it looks into.

    Raises:
        ModelUnsupported: the architecture isn't written here.
        ModelCorrupt: the weights don't fit the configuration.
    """
    kind = resolve(card.architecture, NETS, what="architecture", error=ModelUnsupported)
    net = kind.read(card.config, where=str(card.transformer / "config.json"))
    weights = open_weights(card.transformer).without_prefix(_PROBE, _PREFIXES)
    weights.require(net.shapes())
    held = [weights]
    ops = make(weights)
    x = net.forward(ops)
    for step in card.steps:
        if isinstance(step, Pooling):
            rows = [ops.pool(x, _mode(mode)) for mode in step.modes]
            x = rows[0] if len(rows) == 1 else ops.concat(rows)
        elif isinstance(step, Dense):
            held.append(_dense_weights(step))
            x = ops.dense_layer(x, step, held[-1])
        else:
            assert isinstance(step, Normalise)
            x = ops.normalise(x)
    graph = ov.Model([x], list(ops.inputs.values()), card.architecture)
    return graph, tuple(ops.inputs), tuple(held)


def choose_precision(asked: Precision, capabilities: Sequence[str]) -> tuple[str, str]:
    """The precision to run in, and why, on a CPU of these capabilities.

    Raises:
        ModelUnsupported: bf16 was asked for by name and the CPU hasn't got it.
    """
    has_bf16 = "BF16" in capabilities
    if asked == "auto":
        if has_bf16:
            return "bf16", "this CPU computes in bf16"
        return "f32", "this CPU doesn't compute in bf16"
    if asked == "bf16" and not has_bf16:
        raise ModelUnsupported(
            f"precision bf16 isn't something this CPU computes in (it has: "
            f"{', '.join(capabilities)}); use auto or f32",
            param="precision",
        )
    if asked not in get_args(Precision):
        known = ", ".join(get_args(Precision))
        raise ModelUnsupported(
            f"precision {asked!r} isn't known; known: {known}", param="precision"
        )
    return asked, "asked for"


def available_threads() -> int:
    """CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _dense_weights(dense: Dense) -> Weights:
    weights = open_weights(dense.folder)
    shapes: dict[str, tuple[int, ...]] = {"linear.weight": (dense.outputs, dense.inputs)}
    if dense.bias:
        shapes["linear.bias"] = (dense.outputs,)
    weights.require(shapes)
    return weights


def _joined(parts: Sequence[Vectors]) -> Vectors:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _mode(mode: str) -> PoolingMode:
    assert mode in get_args(PoolingMode), "the card let an unknown pooling through: this is a bug"
    return cast("PoolingMode", mode)


def _activation(dense: Dense) -> Activation:
    assert dense.activation in _ACTIVATIONS, "the card let one through: this is a bug"
    return dense.activation


def _int(value: int) -> Any:
    return opset.constant(np.int32(value))


def _ints(*values: int) -> Any:
    return opset.constant(np.array(values, np.int32))


def _float(value: float | np.float32) -> Any:
    return opset.constant(np.float32(value))


_ACTIVATIONS: dict[Activation, Callable[[Any], Any]] = {
    "gelu": lambda x: opset.gelu(x, "erf"),
    "gelu_tanh": lambda x: opset.gelu(x, "tanh"),
    "relu": opset.relu,
    "tanh": opset.tanh,
    "silu": opset.swish,
    "sigmoid": opset.sigmoid,
    "identity": lambda x: x,
}
