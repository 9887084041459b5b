"""The slow way on a CPU: a model that ships only a graph, ONNX or OpenVINO's, with padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from likewise.base.errors import ModelCorrupt, ModelUnsupported
from likewise.base.log import fields, logger
from likewise.base.precision import profile
from likewise.engines.graph import outputs
from likewise.engines.openvino import Built, OpenVinoEngine
from likewise.engines.openvino_ops import OpenVinoOps
from likewise.engines.quiet import opset, ov
from likewise.engines.spread import rounded_length
from likewise.engines.steps import with_steps
from likewise.models.graphs import require_graph
from likewise.models.heads import Scores
from likewise.models.weights import Weights

if TYPE_CHECKING:
    from pathlib import Path

    from likewise.base.precision import Precision
    from likewise.engines.batch import Output
    from likewise.models.card import ModelCard
    from likewise.nets.ops import Ops, Tensor

_log = logger("engines.onnx_file")

_STATES = ("last_hidden_state", "token_embeddings")
_SCORES = "logits"
_WHOLE = "sentence_embedding"


class OnnxFileEngine(OpenVinoEngine):
    """Somebody else's graph between our own packing and pooling."""

    name = "onnx_file"

    def __init__(
        self, card: ModelCard, *, precision: Precision = "auto", threads: int | None = None
    ) -> None:
        """Compile the graph of `card`.

        Raises:
            ModelNotFound: the folder has no graph.
            ModelUnsupported: the graph, what follows it, or `precision` can't be computed.
            ModelCorrupt: the graph's file is damaged, or doesn't fit the folder.
            EngineError: OpenVINO refused it.
        """
        if profile(precision) == "small":
            raise ModelUnsupported(
                f"precision {precision}: the weights of a ready-made graph stay as they are; use "
                "auto, exact or fast",
                param="precision",
            )
        self._file = require_graph(card)
        super().__init__(card, precision=precision, threads=threads)
        self.why = f"{self.why}; {self._file.name} is computed with padding, the slow way"
        _log.info(fields("the slow way", model=card.name, graph=self._file))

    def _build(self, card: ModelCard) -> Built:
        read = _read(self._file)
        weights = with_steps(card.steps, Weights({}, {}))
        ops = GraphOps(weights, longest=rounded_length(card.max_tokens))
        ops.feed(read, self._file)
        given: dict[Output, Any]
        if card.heads:
            given = {"scores": _scores(card, read, self._file)}
        else:
            given = outputs(card, _States(), ops.reading(_states(card, read, self._file)))
        inputs = ops.inputs
        results = [opset.result(each) for each in given.values()]
        graph = ov.Model(results, list(inputs.values()), card.architecture)
        return Built(graph, tuple(inputs), tuple(given), ops)


@dataclass(frozen=True, slots=True)
class _States:
    """In the place of an architecture: the hidden states come out of the graph."""

    prefixes: ClassVar[tuple[str, ...]] = ("",)
    probe: ClassVar[str] = ""

    @classmethod
    def read(cls, config: Any, *, where: str) -> _States:
        """Nothing is to be read."""
        del config, where
        return cls()

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The graph has its own weights."""
        return {}

    def forward(self, ops: Ops[Tensor], *, pairs: bool = False) -> Tensor:
        """The last hidden state of every token, [tokens, width]."""
        del pairs
        states: Tensor = cast("Any", ops).states
        return states


class GraphOps(OpenVinoOps):
    """The vocabulary, and a graph whose inputs are made from a packed batch."""

    states: Any = None
    """Hidden states of every token, [tokens, width]."""

    def feed(self, graph: Any, file: Path) -> None:
        """Put nodes of ours in the place of the inputs of `graph`, which was read from `file`.

        Raises:
            ModelUnsupported: it asks for something else, or takes one size only.
        """
        for parameter in graph.get_parameters():
            shape = parameter.get_partial_shape()
            name = _name(parameter.output(0))
            if shape.rank.is_static and any(dimension.is_static for dimension in shape):
                raise ModelUnsupported(
                    f"{file}: input {name!r} takes only {shape}; a graph for any number and length "
                    "of texts is needed"
                )
            made = opset.convert(self._fed(name, file), parameter.get_element_type())
            parameter.output(0).replace(made.output(0))

    def reading(self, states: Any) -> GraphOps:
        """This, with the graph's hidden `states` [texts, length, width] gathered to tokens."""
        width = states.get_partial_shape()[2]
        size = width.get_length() if width.is_static else -1
        flat = opset.reshape(states, opset.constant(np.array([-1, size], np.int32)), False)
        self.states = opset.gather(flat, self._input("back", [-1], np.int32), _int(0))
        return self

    def _fed(self, name: str, file: Path) -> Any:
        zero = _int(0)
        if name == "input_ids":
            return opset.gather(self.tokens(), self._slots(), zero)
        if name == "token_type_ids":
            return opset.gather(self.types(), self._slots(), zero)
        if name == "position_ids":
            shape = opset.shape_of(self._slots(), "i32")
            return opset.broadcast(self._places(), shape)
        if name == "attention_mask":
            # Rows beyond the batch's texts are empty; a softmax over nothing would be NaN.
            mask = self._input("mask", [-1, -1], np.float32)
            first = opset.convert(opset.equal(self._places(), zero), np.float32)
            return opset.maximum(mask, opset.unsqueeze(first, zero))
        raise ModelUnsupported(
            f"{file} asks for an input {name!r}; known: input_ids, attention_mask, token_type_ids, "
            "position_ids"
        )


def _read(file: Path) -> Any:
    try:
        return ov.Core().read_model(file)
    except RuntimeError as broken:
        raise ModelCorrupt(f"{file} can't be read as a graph: {broken}") from broken


def _states(card: ModelCard, graph: Any, file: Path) -> Any:
    """The output of `graph` that the modules of `card` follow."""
    named = _outputs(graph)
    for name in _STATES:
        if name in named:
            return _checked(card, named[name], file)
    if _WHOLE in named:
        raise ModelUnsupported(
            f"{file} gives {_WHOLE!r} but no hidden states: nothing in it says which pooling and "
            f"modules that includes, so it can't be known to be what modules.json lists; export "
            f"it with {' or '.join(_STATES)}"
        )
    raise _lacks(file, _STATES, named)


def _scores(card: ModelCard, graph: Any, file: Path) -> Any:
    heads = [head for head in card.heads if isinstance(head, Scores) and not head.answers]
    if len(card.heads) != 1 or not heads or card.steps:
        raise ModelUnsupported(
            f"{card.folder} gives {', '.join(card.gives)}: of a ready-made graph only vectors, or "
            "the scores of a classifier, are computed here"
        )
    named = _outputs(graph)
    if _SCORES not in named:
        raise _lacks(file, (_SCORES,), named)
    labels = named[_SCORES].get_partial_shape()
    if len(labels) != 2 or (labels[1].is_static and labels[1].get_length() != len(heads[0].labels)):
        raise ModelCorrupt(
            f"{file}: {_SCORES!r} is {labels}, config.json has {len(heads[0].labels)} labels"
        )
    return named[_SCORES]


def _checked(card: ModelCard, states: Any, file: Path) -> Any:
    shape, width = states.get_partial_shape(), _width(card)
    if len(shape) != 3 or (shape[2].is_static and shape[2].get_length() != width):
        raise ModelCorrupt(f"{file}: hidden states are {shape}, the folder says width {width}")
    return states


def _width(card: ModelCard) -> int:
    width = card.dimensions
    for step in reversed(card.steps):
        width = getattr(step, "inputs", width)
    return width // len(card.pooling.modes)


def _outputs(graph: Any) -> dict[str, Any]:
    """What flows into each result of `graph`, by name."""
    return {
        name: result.input_value(0)
        for result in graph.get_results()
        for name in (*result.input_value(0).get_names(), *result.output(0).get_names())
    }


def _lacks(file: Path, wanted: Sequence[str], named: dict[str, Any]) -> ModelUnsupported:
    return ModelUnsupported(
        f"{file} has no output {' or '.join(wanted)}; it has: {', '.join(sorted(named)) or 'none'}"
    )


def _name(output: Any) -> str:
    names = sorted(output.get_names())
    return names[0] if names else str(output.get_node().get_friendly_name())


def _int(value: int) -> Any:
    return opset.constant(np.int32(value))
