"""From a model's card to its outputs, in the vocabulary: the same for every engine of `nets`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, cast, get_args

from likewise.base.errors import ModelUnsupported
from likewise.base.names import resolve
from likewise.models.card import Dense, ModelCard, Pooling
from likewise.models.weights import Weights, open_weights
from likewise.nets.names import NETS
from likewise.nets.ops import Activation, Net, Ops, PoolingMode, Tensor

if TYPE_CHECKING:
    from likewise.engines.batch import Output


@dataclass(frozen=True, slots=True)
class Traced(Generic[Tensor]):
    """A model written down in an engine's terms."""

    outputs: dict[Output, Tensor]
    weights: Weights
    """What the engine's constants may look into for as long as it runs."""


def trace(card: ModelCard, make: Callable[[Weights], Ops[Tensor]]) -> Traced[Tensor]:
    """The outputs of `card`, written with the `Ops` that `make` gives for its weights.

    Raises:
        ModelUnsupported: the architecture isn't written here.
        ModelCorrupt: the weights don't fit the configuration.
    """
    net, weights = prepare(card)
    return Traced(outputs(card, net, make(weights)), weights)


def outputs(card: ModelCard, net: Net, ops: Ops[Tensor]) -> dict[Output, Tensor]:
    """What `card` gives, by name, from its architecture `net` and what follows it.

    An engine that computes at once, not through a graph, comes here for every batch.
    """
    x = net.forward(ops)
    for step in card.steps:
        if isinstance(step, Pooling):
            rows = [ops.pool(x, _mode(mode)) for mode in step.modes]
            x = rows[0] if len(rows) == 1 else ops.concat(rows)
        elif isinstance(step, Dense):
            x = ops.linear(x, [f"{step.folder.name}/linear"])
            x = ops.activate(x, cast("Activation", step.activation))
        else:
            x = ops.normalise(x)
    return {"vectors": x}


def prepare(card: ModelCard) -> tuple[Net, Weights]:
    """The architecture of `card`, and all its weights, checked against what it asks for.

    The weights of module `2_Dense` are named `2_Dense/linear.weight` and so on.
    """
    kind = resolve(card.architecture, NETS, what="architecture", error=ModelUnsupported)
    net: Any = kind.read(card.config, where=str(card.transformer / "config.json"))
    weights = open_weights(card.transformer).without_prefix(net.probe, net.prefixes)
    weights.require(net.shapes())
    for step in card.steps:
        if isinstance(step, Dense):
            part = open_weights(step.folder)
            shapes: dict[str, tuple[int, ...]] = {"linear.weight": (step.outputs, step.inputs)}
            if step.bias:
                shapes["linear.bias"] = (step.outputs,)
            part.require(shapes)
            weights = weights.with_part(step.folder.name, part)
    return net, weights


def _mode(mode: str) -> PoolingMode:
    assert mode in get_args(PoolingMode), "the card let an unknown pooling through: this is a bug"
    return cast("PoolingMode", mode)
