"""A mixture of experts as nodes of an OpenVINO graph: each computes the tokens that chose it."""

from __future__ import annotations

from typing import Any

import numpy as np

from likewise.engines.openvino_activations import ACTIVATIONS
from likewise.engines.openvino_nodes import Nodes, int_, ints
from likewise.engines.quiet import opset
from likewise.nets.ops import Activation

# Rows of an expert are rounded up, as the plugin prepares itself anew for each count it meets: to
# few where there are few tokens, each of which might ask another expert.
_FEW_TOKENS = 32
_FEW_STEP, _STEP = 4, 16


class ExpertNodes(Nodes):
    """Writes mixtures of experts."""

    def experts(
        self,
        x: Any,
        shares: Any,
        *,
        first: str,
        second: str,
        bias: str | None,
        chosen: int,
        activation: Activation,
    ) -> Any:
        """Tokens are sorted by expert, computed, and their shares of the outcomes added up."""
        count, width = (node.get_output_partial_shape(0)[1].get_length() for node in (shares, x))
        best = opset.topk(shares, int_(chosen), 1, "max", "value")
        asked = opset.reshape(best.output(1), ints(-1), False)
        starts, places = _sorted(x, asked, count)
        rows = opset.gather(x, _tokens_at(places, starts, chosen), int_(0))
        ups = np.split(self._weights[first], count)
        downs = np.split(self._weights[second], count)
        outcomes = []
        for index, (up, down) in enumerate(zip(ups, downs, strict=True)):
            begin, end = (opset.gather(starts, ints(at), int_(0)) for at in (index, index + 1))
            part = opset.slice(rows, begin, end, ints(1), ints(0))
            matrix = self._matrix([up], key=f"{first} {index}")
            inner = ACTIVATIONS[activation](opset.matmul(part, matrix, False, True))
            outcomes.append(self._upright(inner, down, key=f"{second} {index}"))
        found = opset.gather(opset.concat(outcomes, 0), places, int_(0))
        apart = opset.reshape(found, ints(-1, chosen, width), False)
        weighed = opset.multiply(apart, opset.unsqueeze(best.output(0), ints(2)))
        total = opset.reduce_sum(weighed, ints(1))
        if bias is None:
            return total
        return opset.add(total, self._constant(self._weights[bias].reshape(1, -1)))


def _sorted(x: Any, asked: Any, count: int) -> tuple[Any, Any]:
    """Where each of `count` experts' rows start, and the row of each question in `asked`.

    Starts are [experts + 1], the last being how many rows there are; all are multiples of a step,
    and each expert has some.
    """
    is_asked = opset.one_hot(asked, int_(count), int_(1), int_(0), 1)
    before = opset.cum_sum(is_asked, int_(0), True, False)
    rank = opset.reduce_sum(opset.multiply(before, is_asked), ints(1))
    tokens = opset.gather(opset.shape_of(x, "i32"), ints(0), int_(0))
    step = opset.select(opset.less_equal(tokens, int_(_FEW_TOKENS)), int_(_FEW_STEP), int_(_STEP))
    counts = opset.maximum(opset.reduce_sum(is_asked, ints(0)), int_(1))
    steps = opset.divide(opset.add(counts, opset.subtract(step, int_(1))), step)
    ends = opset.cum_sum(opset.multiply(steps, step), int_(0))
    starts = opset.concat([ints(0), ends], 0)
    return starts, opset.add(opset.gather(starts, asked, int_(0)), rank)


def _tokens_at(places: Any, starts: Any, chosen: int) -> Any:
    """The token of each row, token 0 where there is none: `chosen` of `places` for each token."""
    rows = opset.gather(starts, ints(-1), int_(0))
    length = opset.shape_of(places, "i32")
    questions = opset.range(int_(0), opset.squeeze(length, ints(0)), int_(1), "i32")
    tokens = opset.divide(questions, int_(chosen))
    return opset.scatter_elements_update(opset.broadcast(int_(0), rows), places, tokens, int_(0))
