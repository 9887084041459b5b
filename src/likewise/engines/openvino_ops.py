"""The vocabulary as nodes of an OpenVINO graph; weights stay where their file is mapped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from likewise.engines.openvino_activations import ACTIVATIONS
from likewise.engines.openvino_attention import AttentionNodes
from likewise.engines.openvino_experts import ExpertNodes
from likewise.engines.openvino_nodes import MASKED, float_, int_, ints, joined
from likewise.engines.openvino_weights import LARGE, SMALL, rows_of, spill_for, widened
from likewise.engines.quiet import opset
from likewise.engines.spread import Placed
from likewise.nets.ops import Activation, Ops, PoolingMode

if TYPE_CHECKING:
    from likewise.engines.spill import Spill
    from likewise.models.weights import Weights

# As in torch.nn.functional.normalize, which adds nothing to longer rows.
SHORTEST = 1e-12


class OpenVinoOps(AttentionNodes, ExpertNodes, Ops[Any]):
    """Writes a graph; `inputs` are those it came to need, in order."""

    def __init__(self, weights: Weights, *, longest: int) -> None:
        """Read constants from `weights`; no text has more than `longest` tokens, rounded up."""
        super().__init__(weights, longest=longest)
        self._apart: tuple[Any, Sequence[Any]] = (None, ())

    def release(self) -> None:
        """Let the pages of weights go that were read; they come back when they are read again."""
        super().release()
        if "spill" in self._made:
            self.spill.release()

    @property
    def spill(self) -> Spill:
        """Where weights lie that aren't used as their file has them; made when first asked for."""
        return self._once("spill", lambda: spill_for(self._weights))

    def tokens(self) -> Any:
        """Token ids, int [tokens]."""
        return self._input("ids", [-1], np.int32)

    def types(self) -> Any:
        """Token types, int [tokens]."""
        return self._input("types", [-1], np.int32)

    def positions(self, *, start: int = 0, skip: int | None = None) -> Any:
        """Places in the text, int [tokens]."""
        places = self._indices("positions" if skip is None else Placed(skip))
        return places if start == 0 else opset.add(places, int_(start))

    def embedding(self, table: str, indices: Any) -> Any:
        """Rows of a weight."""
        return opset.gather(rows_of(self._weights, table), indices, int_(0))

    def row(self, table: str, index: int) -> Any:
        """One row of a weight, [1, width]."""
        return self._constant(np.array(self._weights[table][index : index + 1]))

    def add(self, left: Any, right: Any) -> Any:
        """Sum."""
        return opset.add(left, right)

    def multiply(self, left: Any, right: Any) -> Any:
        """Product of each with each."""
        return opset.multiply(left, right)

    def scale(self, x: Any, factor: float) -> Any:
        """Every number times `factor`."""
        return opset.multiply(x, float_(factor))

    def split(self, x: Any, widths: Sequence[int]) -> list[Any]:
        """Columns cut into neighbours."""
        whole, parts = self._apart
        if x is whole and list(widths) == [
            part.get_output_partial_shape(0)[1].get_length() for part in parts
        ]:
            return list(parts)
        return list(opset.variadic_split(x, int_(1), ints(*widths)).outputs())

    def layer_norm(self, x: Any, name: str | None, *, epsilon: float) -> Any:
        """Normalised over the width, scaled and shifted."""
        y = opset.mvn(x, ints(-1), True, epsilon, "inside_sqrt")
        if name is None:
            return y
        y = opset.multiply(y, self._constant(self._weights[f"{name}.weight"].reshape(1, -1)))
        if f"{name}.bias" not in self._weights:
            return y
        return opset.add(y, self._constant(self._weights[f"{name}.bias"].reshape(1, -1)))

    def linear(self, x: Any, names: Sequence[str]) -> Any:
        """Products with several layers side by side, as one product."""
        y = self._products(x, [f"{name}.weight" for name in names])
        biased = [f"{name}.bias" in self._weights for name in names]
        if not any(biased):
            return y
        bias = joined(
            [
                self._weights[f"{name}.bias"]
                if has
                else np.zeros(len(self._weights[f"{name}.weight"]), np.float32)
                for name, has in zip(names, biased, strict=True)
            ]
        )
        return opset.add(y, self._constant(bias.reshape(1, -1)))

    def project(self, x: Any, table: str, rows: Sequence[int] | None = None) -> Any:
        """Products with rows of a weight."""
        if rows is None:
            return self._products(x, [table])
        chosen = self._matrix([np.array(self._weights[table][list(rows)])])
        return opset.matmul(x, chosen, False, True)

    def shift(self, x: Any, name: str) -> Any:
        """A weight added to every row."""
        return opset.add(x, self._constant(self._weights[name].reshape(1, -1)))

    def activate(self, x: Any, activation: Activation) -> Any:
        """The activation of each number."""
        return ACTIVATIONS[activation](x)

    def log1p(self, x: Any) -> Any:
        """log(1 + number)."""
        return opset.log(opset.add(x, float_(1)))

    def softmax(self, x: Any) -> Any:
        """Shares of exp in each row."""
        return opset.softmax(x, 1)

    def pool(self, x: Any, mode: PoolingMode, *, skip_prompt: bool = False) -> Any:
        """One row for each text."""
        if mode == "lasttoken":
            return opset.gather(x, self._input("last", [-1], np.int32), int_(0))
        if mode == "cls":
            begin = self._input("begin" if skip_prompt else "first", [-1], np.int32)
            return opset.gather(x, begin, int_(0))
        flat = self._input("pooled" if skip_prompt else "mask", [-1, -1], np.float32)
        slots = opset.gather(x, self._slots(), int_(0))
        mask = opset.unsqueeze(flat, ints(2))
        if mode == "max":
            empty = opset.multiply(opset.subtract(float_(1), mask), float_(MASKED))
            return opset.reduce_max(opset.add(opset.multiply(slots, mask), empty), ints(1))
        if mode == "weightedmean":
            places = opset.convert(self._places(), np.float32)
            flat = opset.multiply(flat, opset.unsqueeze(opset.add(places, float_(1)), ints(0)))
            mask = opset.unsqueeze(flat, ints(2))
        total = opset.reduce_sum(opset.multiply(slots, mask), ints(1))
        if mode == "sum":
            return total
        count = opset.maximum(opset.reduce_sum(flat, ints(1), True), float_(1e-9))
        if mode == "mean_sqrt_len_tokens":
            count = opset.sqrt(count)
        return opset.divide(total, count)

    def concat(self, parts: Sequence[Any]) -> Any:
        """Rows side by side."""
        return opset.concat(list(parts), 1)

    def normalise(self, x: Any) -> Any:
        """Rows scaled to length 1."""
        return opset.normalize_l2(x, ints(1), SHORTEST**2, "max")

    def _products(self, x: Any, names: Sequence[str]) -> Any:
        """Products with the weights `names` side by side."""
        size = sum(self._weights.size(name) for name in names)
        if size >= SMALL and not all(self._weights.is_mapped(name) for name in names):
            return opset.matmul(x, widened(self._weights, names, self.spill), False, True)
        if len(names) == 1 or size < LARGE:
            matrix = self._matrix([self._weights[name] for name in names], key=" ".join(names))
            return opset.matmul(x, matrix, False, True)
        # One by one: to be joined, large ones would have to be copied.
        parts = [self._products(x, [name]) for name in names]
        self._apart = opset.concat(parts, 1), parts
        return self._apart[0]
