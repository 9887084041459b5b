"""Weights as constants of an OpenVINO graph, in the memory where their file is mapped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from likewise.engines.quiet import opset, ov

if TYPE_CHECKING:
    from likewise.base.types import Vectors
    from likewise.models.weights import Weights

LARGE = 1 << 21
"""Numbers from which a matrix isn't copied to save an operation: 8 MB of float32."""


def constant(values: Vectors) -> Any:
    """A constant that looks into `values`: what is mapped stays so, and isn't held twice."""
    return ov.op.Constant(np.ascontiguousarray(values), shared_memory=True)


def as_stored(weights: Weights, name: str) -> Any:
    """The weight `name` as float32, held in 16 bits if its file has it so.

    The plugin reads 16 bits where a product or a look-up needs them; a copy in float32 would be
    twice as large as the file.
    """
    half = weights.halves(name)
    if half is None:
        return constant(weights[name])
    kind = ov.Type.f16 if half.dtype == np.float16 else ov.Type.bf16
    stored = ov.op.Constant(ov.Tensor(half, list(half.shape), kind), shared_memory=True)
    wide = opset.convert(stored, np.float32)
    # By this mark the plugin knows that it isn't meant to be computed once and for all.
    wide.get_rt_info()["decompression_0"] = ""
    return wide
