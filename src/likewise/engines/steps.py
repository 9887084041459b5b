"""What follows the network on the way to a vector: pooling and the modules after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast, get_args

from likewise.models.parts import Dense, LayerNorm, Pooling, Step, Truncate
from likewise.models.weights import Weights, open_weights
from likewise.nets.ops import Activation, Ops, PoolingMode, Tensor


def follow(steps: Sequence[Step], ops: Ops[Tensor], x: Tensor) -> Tensor:
    """What `steps` make of the hidden states `x` [tokens, width]: vectors [texts, dimensions]."""
    for step in steps:
        if isinstance(step, Pooling):
            rows = [
                ops.pool(x, _mode(mode), skip_prompt=not step.include_prompt) for mode in step.modes
            ]
            x = rows[0] if len(rows) == 1 else ops.concat(rows)
        elif isinstance(step, Dense):
            x = _dense(step, ops, x)
        elif isinstance(step, LayerNorm):
            x = ops.layer_norm(x, f"{step.folder.name}/norm", epsilon=step.epsilon)
        elif isinstance(step, Truncate):
            x = ops.split(x, [step.width, step.inputs - step.width])[0]
        else:
            x = ops.normalise(x)
    return x


def with_steps(steps: Sequence[Step], weights: Weights) -> Weights:
    """`weights` and those of `steps`, checked; module `2_Dense` has `2_Dense/linear.weight`.

    Raises:
        ModelCorrupt: they don't fit the configuration.
        ModelUnsupported: they are pickled, or of a type not read here.
    """
    for step in steps:
        if isinstance(step, Dense | LayerNorm):
            part = open_weights(step.folder)
            part.require(step.shapes)
            weights = weights.with_part(step.folder.name, part)
    return weights


def _dense(step: Dense, ops: Ops[Tensor], x: Tensor) -> Tensor:
    y = ops.linear(x, [f"{step.folder.name}/linear"])
    y = ops.activate(y, cast("Activation", step.activation))
    if not step.residual:
        return y
    if step.inputs != step.outputs:
        x = ops.linear(x, [f"{step.folder.name}/residual"])
    return ops.add(y, x)


def _mode(mode: str) -> PoolingMode:
    assert mode in get_args(PoolingMode), "the card let an unknown pooling through: this is a bug"
    return cast("PoolingMode", mode)
