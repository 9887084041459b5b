"""The activations as nodes of an OpenVINO graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from likewise.engines.quiet import opset
from likewise.nets.ops import Activation

# Klambauer et al., Self-Normalizing Neural Networks (2017).
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def _float(value: float) -> Any:
    return opset.constant(np.float32(value))


ACTIVATIONS: Mapping[Activation, Callable[[Any], Any]] = {
    "gelu": lambda x: opset.gelu(x, "erf"),
    "gelu_tanh": lambda x: opset.gelu(x, "tanh"),
    "relu": opset.relu,
    "tanh": opset.tanh,
    "silu": opset.swish,
    "sigmoid": opset.sigmoid,
    "identity": lambda x: x,
    "elu": lambda x: opset.elu(x, 1.0),
    "hardsigmoid": lambda x: opset.hard_sigmoid(x, _float(1 / 6), _float(0.5)),
    "hardswish": opset.hswish,
    "hardtanh": lambda x: opset.clamp(x, -1.0, 1.0),
    "leaky_relu": lambda x: opset.prelu(x, _float(0.01)),
    "log_sigmoid": lambda x: opset.negative(opset.softplus(opset.negative(x))),
    "mish": opset.mish,
    "relu6": lambda x: opset.clamp(x, 0.0, 6.0),
    "selu": lambda x: opset.selu(x, _float(_SELU_ALPHA), _float(_SELU_SCALE)),
    "softplus": opset.softplus,
    "softsign": lambda x: opset.softsign(x),
    "tanhshrink": lambda x: opset.subtract(x, opset.tanh(x)),
}
