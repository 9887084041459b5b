"""Sizes, numbers and choices as config.json writes them; what makes no sense is refused by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from likewise.base.errors import ModelCorrupt, ModelUnsupported
from likewise.nets.ops import Activation

# `gelu` is the exact function, the others its tanh approximation.
ACTIVATIONS: Mapping[str, Activation] = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


# Each layer is written out: an absurd number of them would never end.
_LAYERS = ("num_hidden_layers", "n_layers", "n_layer")
_MOST_LAYERS = 10_000


def size(config: Mapping[str, Any], key: str, where: str, *, default: int | None = None) -> int:
    """The positive whole number under `key`; `default`, if any, where it is missing or null.

    Raises:
        ModelCorrupt: it is missing, or something else.
    """
    value = config.get(key)
    if value is None:
        value = default
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ModelCorrupt(f"{where}: {key} must be a positive whole number, not {value!r}")
    if key in _LAYERS and value > _MOST_LAYERS:
        raise ModelCorrupt(f"{where}: {key} {value} is more than any model has: a damaged file")
    return value


def number(
    config: Mapping[str, Any], key: str, where: str, *, default: float | None = None
) -> float:
    """The positive number under `key`; `default`, if any, where it is missing or null.

    Raises:
        ModelCorrupt: it is missing, or something else.
    """
    value = config.get(key)
    if value is None:
        value = default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ModelCorrupt(f"{where}: {key} must be a positive number, not {value!r}")
    return float(value)


def activation(config: Mapping[str, Any], key: str, where: str, *, default: str) -> Activation:
    """The activation named under `key`; `default` where it is missing.

    Raises:
        ModelUnsupported: it isn't computed here.
    """
    name = config.get(key, default)
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise ModelUnsupported(
            f"{where}: {key} {name!r} isn't computed here; known: {', '.join(sorted(ACTIVATIONS))}"
        )
    return ACTIVATIONS[name]
