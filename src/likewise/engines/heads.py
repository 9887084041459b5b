"""From a model's heads to their outputs, in the vocabulary, beside the pooled vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

from likewise.base.errors import ModelCorrupt, ModelUnsupported
from likewise.models.heads import Head, Lexical, MultiVector, Scores, Sparse
from likewise.models.multivector import Projection
from likewise.models.weights import Weights, open_file, open_weights
from likewise.nets.heads import ANSWERS, CLASSIFIERS, DECODERS, MASKED, Stack, answer, sparse
from likewise.nets.ops import Activation, Net, Ops, Tensor

if TYPE_CHECKING:
    from likewise.engines.batch import Output
    from likewise.models.card import ModelCard


_MOST_LOGITS = 1 << 24
"""Numbers over the vocabulary in one batch: 64 MB of float32, a few times over in the pooling."""
_LEAST_TOKENS = 64


def reads_pairs(card: ModelCard) -> bool:
    """Whether the network is told which tokens are of a second text."""
    return any(isinstance(head, Scores) for head in card.heads)


def budget(card: ModelCard, tokens: int) -> int:
    """Tokens of a batch, `tokens` at most, whose numbers over the vocabulary stay within memory."""
    if not any(isinstance(head, Sparse) for head in card.heads):
        return tokens
    return max(_LEAST_TOKENS, min(tokens, _MOST_LOGITS // int(card.config["vocab_size"])))


def with_heads(card: ModelCard, net: Net, weights: Weights) -> Weights:
    """`weights` and those of the heads of `card`, checked.

    They are called after what they give: `scores/last.weight`, `sparse/dense.weight`; those of a
    projection `2_Dense/linear.weight`.

    Raises:
        ModelUnsupported: the architecture's head isn't written here.
        ModelCorrupt: the weights don't fit.
    """
    width = cast("Any", net).width
    for head in card.heads:
        if isinstance(head, Scores | Sparse):
            weights = _with_stack(card, head, width, weights)
        elif isinstance(head, Lexical):
            part = open_file(head.file)
            part.require({"weight": (1, width), "bias": (1,)})
            weights = weights.with_part(head.file.stem, part)
        else:
            weights = _with_projections(card, head, width, weights)
    return weights


def head_outputs(card: ModelCard, ops: Ops[Tensor], x: Tensor) -> dict[Output, Tensor]:
    """What the heads of `card` give for hidden states `x` [tokens, width].

    Scores come as the last layer's numbers, before their activation.
    """
    outputs: dict[Output, Tensor] = {}
    for head in card.heads:
        if isinstance(head, Scores):
            stack = _stack(card, head)
            if head.answers:
                rows = stack.hidden(ops, x, "scores")
                outputs["scores"] = answer(ops, rows, "scores", head.answers)
            else:
                outputs["scores"] = stack.forward(ops, x, "scores")
        elif isinstance(head, Sparse):
            pooling = cast("Literal['max', 'sum']", head.pooling)
            activation = cast("Literal['relu', 'log1p_relu']", head.activation)
            logits = _stack(card, head).forward(ops, x, "sparse")
            outputs["sparse"] = sparse(ops, logits, pooling, activation)
        elif isinstance(head, Lexical):
            name = head.file.stem
            y = ops.shift(ops.project(x, f"{name}/weight"), f"{name}/bias")
            outputs["weights"] = ops.activate(y, "relu")
        else:
            outputs["tokens"] = _token_vectors(head, ops, x)
    return outputs


def _token_vectors(head: MultiVector, ops: Ops[Tensor], x: Tensor) -> Tensor:
    for one in head.projections:
        name = _layer(one)
        y = ops.activate(ops.linear(x, [name]), cast("Activation", one.activation))
        if one.residual == "same":
            y = ops.add(y, x)
        elif one.residual == "projected":
            y = ops.add(y, ops.linear(x, [name.replace("linear", "residual")]))
        x = y
    return ops.normalise(x) if head.normalise else x


def _stack(card: ModelCard, head: Scores | Sparse) -> Stack:
    where = str(card.transformer / "config.json")
    table = MASKED if isinstance(head, Sparse) else ANSWERS if head.answers else CLASSIFIERS
    return Stack.read(table, card.architecture, card.config, where=where)


def _with_stack(card: ModelCard, head: Scores | Sparse, width: int, weights: Weights) -> Weights:
    stack = _stack(card, head)
    vocabulary = int(card.config["vocab_size"])
    is_over_words = isinstance(head, Sparse) or head.answers
    outputs = vocabulary if is_over_words else len(cast("Scores", head).labels)
    if isinstance(head, Scores) and max(head.answers, default=0) >= vocabulary:
        raise ModelCorrupt(
            f"{card.folder}: token ids {list(head.answers)} of the answers are outside the "
            f"vocabulary of {vocabulary}"
        )
    names = stack.names(weights.__contains__)
    shapes = stack.shapes(width, outputs)
    weights.require({actual: shapes[name] for name, actual in names.items()})
    return weights.with_names({f"{head.gives}/{name}": actual for name, actual in names.items()})


def _with_projections(card: ModelCard, head: MultiVector, width: int, weights: Weights) -> Weights:
    expansion = head.expansion
    if expansion is not None and not expansion.is_attended and card.architecture in DECODERS:
        raise ModelUnsupported(
            f"{card.folder}: a query expanded by tokens that nothing looks at isn't computed for "
            f"{card.architecture!r}, where each token looks at those before it"
        )
    for one in head.projections:
        if one.source is None:
            width_out = _require_width(card, weights, "linear.weight", width, one.outputs)
            weights.require({"linear.weight": (width_out, width)})
            width = width_out
            continue
        part = open_file(one.source) if one.is_bare else open_weights(one.source)
        if one.is_bare:
            width_out = _require_width(card, part, "weight", width, one.outputs)
            part.require({"weight": (width_out, width), "bias": (width_out,)})
            part = part.with_names({"linear.weight": "weight", "linear.bias": "bias"})
        else:
            if one.inputs != width:
                raise ModelCorrupt(
                    f"{one.source} takes vectors of width {one.inputs}, those before it have "
                    f"{width}"
                )
            width_out = one.outputs
            part.require(_projection_shapes(one))
        weights = weights.with_part(_part(one), part)
        width = width_out
    return weights


def _projection_shapes(one: Projection) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"linear.weight": (one.outputs, one.inputs)}
    if one.bias:
        shapes["linear.bias"] = (one.outputs,)
    if one.residual == "projected":
        shapes["residual.weight"] = (one.outputs, one.inputs)
    return shapes


def _require_width(card: ModelCard, weights: Weights, name: str, width: int, outputs: int) -> int:
    """The width that the projection by a lone weight gives."""
    found = weights.shape(name) or ()
    if len(found) != 2 or found[1] != width or outputs not in (0, found[0]):
        raise ModelCorrupt(
            f"{card.folder}: the projection of its tokens, {name!r}, is {list(found)}; it should "
            f"be [{outputs or 'any'}, {width}]"
        )
    return found[0]


def _part(one: Projection) -> str:
    assert one.source is not None
    return one.source.stem if one.is_bare else one.source.name


def _layer(one: Projection) -> str:
    return "linear" if one.source is None else f"{_part(one)}/linear"


__all__ = ["Head", "head_outputs", "reads_pairs", "with_heads"]
