"""From a model's card to its outputs, in the vocabulary: the same for every engine of `nets`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic

from likewise.base.errors import ModelUnsupported
from likewise.base.names import resolve
from likewise.engines.heads import head_outputs, reads_pairs, with_heads
from likewise.engines.steps import follow, with_steps
from likewise.models.card import ModelCard
from likewise.models.lora import adapted
from likewise.models.parts import Truncate, scales, unscaled
from likewise.models.weights import Weights, open_weights
from likewise.nets.names import NETS
from likewise.nets.ops import Net, Ops, Tensor
from likewise.nets.spellings import respelled

if TYPE_CHECKING:
    from likewise.engines.batch import Output

# Saved by some versions, and computed from the configuration by all.
_BUFFERS = (".position_ids", ".token_type_ids", ".inv_freq")


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
    """What `card` gives, its `states` and `raw` vectors, from its architecture and what follows.

    An engine that computes at once, not through a graph, comes here for every batch.
    """
    states = net.forward(ops, pairs=reads_pairs(card))
    given = head_outputs(card, ops, states)
    if card.steps:
        before, after = unscaled(card.steps)
        raw = follow(before, ops, states)
        given["vectors"] = follow(after, ops, raw)
        if scales(card.steps):
            cuts = [step for step in after if isinstance(step, Truncate)]
            given["raw"] = follow(cuts, ops, raw)
    given["states"] = states
    return given


def prepare(card: ModelCard) -> tuple[Net, Weights]:
    """The architecture of `card`, and all its weights, checked against what it asks for.

    The weights of module `2_Dense` are named `2_Dense/linear.weight` and so on.

    Raises:
        ModelUnsupported: the architecture isn't written here.
        ModelCorrupt: the weights don't fit the configuration.
    """
    where = str(card.base / "config.json")
    what = f"architecture in {where}:"
    kind = resolve(card.architecture, NETS, what=what, error=ModelUnsupported)
    net: Any = kind.read(card.config, where=where)
    weights = open_weights(card.base).without_prefix(net.probe, net.prefixes)
    weights = weights.respelled(partial(respelled, card.architecture))
    if card.adapter is not None:
        weights = adapted(weights, card.adapter, net.prefixes)
    weights.require(net.shapes())
    if card.brings_code:
        _require_all_read(card, net, weights)
    return net, with_heads(card, net, with_steps(card.steps, weights))


def _require_all_read(card: ModelCard, net: Net, weights: Weights) -> None:
    """Refuse a model with code of its own whose layers have weights that the architecture hasn't.

    The code that comes with it may compute more than the class of that name did when it was
    written here; what it needs for that is in the file.
    """
    read = net.shapes()
    layers = {name.partition(".")[0] for name in read}
    unread = [
        name
        for name in weights.names
        if name not in read and name.partition(".")[0] in layers and not name.endswith(_BUFFERS)
    ]
    if unread:
        raise ModelUnsupported(
            f"{card.base} brings code of its own, and weights that {card.architecture} as written "
            f"here doesn't read: {', '.join(sorted(unread)[:3])}"
        )
