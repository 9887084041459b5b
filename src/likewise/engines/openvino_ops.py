"""The vocabulary as nodes of an OpenVINO graph; weights stay where their file is mapped."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from likewise.engines.angles import relative_bias, turns
from likewise.engines.openvino_activations import ACTIVATIONS
from likewise.engines.openvino_weights import LARGE, as_stored, constant
from likewise.engines.quiet import opset
from likewise.nets.ops import Activation, Alibi, Attention, HeadNorm, Ops, PoolingMode, Rotary

if TYPE_CHECKING:
    from likewise.base.types import Vectors
    from likewise.models.weights import Weights

T = TypeVar("T")

# Far below any score, and still finite in every precision.
_MASKED = np.float32(-1e9)
# As in torch.nn.functional.normalize, which adds nothing to longer rows.
SHORTEST = 1e-12


class OpenVinoOps(Ops[Any]):
    """Writes a graph; `inputs` are those it came to need, in order."""

    def __init__(self, weights: Weights, *, longest: int) -> None:
        """Read constants from `weights`; no text has more than `longest` tokens, rounded up."""
        self._weights = weights
        self._longest = longest
        self._made: dict[Hashable, Any] = {}
        self._apart: tuple[Any, Sequence[Any]] = (None, ())
        self.inputs: dict[str, Any] = {}

    def release(self) -> None:
        """Let the pages of weights go that were read; they come back when they are read again."""
        self._weights.release()

    def tokens(self) -> Any:
        """Token ids, int [tokens]."""
        return self._input("ids", [-1], np.int32)

    def types(self) -> Any:
        """Token types, int [tokens]."""
        return self._input("types", [-1], np.int32)

    def positions(self, *, start: int = 0) -> Any:
        """Places in the text, int [tokens]."""
        places = self._input("positions", [-1], np.int32)
        return places if start == 0 else opset.add(places, _int(start))

    def embedding(self, table: str, indices: Any) -> Any:
        """Rows of a weight."""
        return opset.gather(as_stored(self._weights, table), indices, _int(0))

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
        return opset.multiply(x, _float(factor))

    def split(self, x: Any, widths: Sequence[int]) -> list[Any]:
        """Columns cut into neighbours."""
        joined, parts = self._apart
        if x is joined and list(widths) == [
            part.get_output_partial_shape(0)[1].get_length() for part in parts
        ]:
            return list(parts)
        return list(opset.variadic_split(x, _int(1), _ints(*widths)).outputs())

    def layer_norm(self, x: Any, name: str | None, *, epsilon: float) -> Any:
        """Normalised over the width, scaled and shifted."""
        y = opset.mvn(x, _ints(-1), True, epsilon, "inside_sqrt")
        if name is None:
            return y
        y = opset.multiply(y, self._constant(self._weights[f"{name}.weight"].reshape(1, -1)))
        if f"{name}.bias" not in self._weights:
            return y
        return opset.add(y, self._constant(self._weights[f"{name}.bias"].reshape(1, -1)))

    def rms_norm(self, x: Any, name: str, *, epsilon: float, offset: float = 0.0) -> Any:
        """Divided by the root mean square, scaled."""
        mean = opset.reduce_mean(opset.multiply(x, x), _ints(-1), True)
        y = opset.multiply(x, opset.divide(_float(1), opset.sqrt(opset.add(mean, _float(epsilon)))))
        weight = self._weights[f"{name}.weight"]
        return opset.multiply(y, self._constant(weight + np.float32(offset) if offset else weight))

    def linear(self, x: Any, names: Sequence[str]) -> Any:
        """Products with several layers side by side, as one product."""
        y = self._products(x, [f"{name}.weight" for name in names])
        biased = [f"{name}.bias" in self._weights for name in names]
        if not any(biased):
            return y
        bias = _joined(
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
        return opset.log(opset.add(x, _float(1)))

    def softmax(self, x: Any) -> Any:
        """Shares of exp in each row."""
        return opset.softmax(x, 1)

    def attention(self, qkv: Any, how: Attention) -> Any:
        """Spread to [texts, heads, length, head], attend, and gather the tokens back."""
        heads, groups, width = how.heads, how.groups, how.width
        spread = opset.gather(qkv, self._slots(), _int(0))
        split = opset.reshape(spread, _ints(0, 0, heads + 2 * groups, width), True)
        turned = opset.transpose(split, _ints(0, 2, 1, 3))
        parts = opset.variadic_split(turned, _int(1), _ints(heads, groups, groups))
        query, key, value = parts.outputs()
        if how.norm is not None:
            query, key = self._head_norm(query, key, how.norm)
        if how.rotary is not None:
            query, key = (self._turned(x, how.rotary, width) for x in (query, key))
        if groups != heads:
            key, value = (_repeated(x, groups, heads // groups, width) for x in (key, value))
        scale = None if how.scale is None else _float(how.scale)
        context = opset.scaled_dot_product_attention(
            query, key, value, self._attention_mask(how), scale, self._is_plainly_causal(how)
        )
        joined = opset.transpose(context, _ints(0, 2, 1, 3))
        flat = opset.reshape(joined, _ints(-1, heads * width), False)
        return opset.gather(flat, self._input("back", [-1], np.int32), _int(0))

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
        """Every expert computes every token; those not chosen have a share of 0."""
        count = shares.get_output_partial_shape(0)[1].get_length()
        kept = opset.topk(shares, _int(chosen), 1, "max", "value")
        least = opset.reduce_min(kept.output(0), _ints(1), True)
        shares = opset.select(opset.greater_equal(shares, least), shares, _float(0))
        ups = np.split(self._weights[first], count)
        downs = np.split(self._weights[second], count)
        total: Any = None
        for index, (up, down) in enumerate(zip(ups, downs, strict=True)):
            inner = self.activate(opset.matmul(x, self._constant(up), False, True), activation)
            y = opset.matmul(inner, self._constant(down), False, False)
            share = opset.gather(shares, _ints(index), _int(1))
            y = opset.multiply(y, share)
            total = y if total is None else opset.add(total, y)
        return total if bias is None else self.shift(total, bias)

    def pool(self, x: Any, mode: PoolingMode, *, skip_prompt: bool = False) -> Any:
        """One row for each text."""
        if mode == "lasttoken":
            return opset.gather(x, self._input("last", [-1], np.int32), _int(0))
        if mode == "cls":
            begin = self._input("begin" if skip_prompt else "first", [-1], np.int32)
            return opset.gather(x, begin, _int(0))
        flat = self._input("pooled" if skip_prompt else "mask", [-1, -1], np.float32)
        slots = opset.gather(x, self._slots(), _int(0))
        mask = opset.unsqueeze(flat, _ints(2))
        if mode == "max":
            empty = opset.multiply(opset.subtract(_float(1), mask), _float(_MASKED))
            return opset.reduce_max(opset.add(opset.multiply(slots, mask), empty), _ints(1))
        if mode == "weightedmean":
            places = opset.convert(self._places(), np.float32)
            flat = opset.multiply(flat, opset.unsqueeze(opset.add(places, _float(1)), _ints(0)))
            mask = opset.unsqueeze(flat, _ints(2))
        total = opset.reduce_sum(opset.multiply(slots, mask), _ints(1))
        if mode == "sum":
            return total
        count = opset.maximum(opset.reduce_sum(flat, _ints(1), True), _float(1e-9))
        if mode == "mean_sqrt_len_tokens":
            count = opset.sqrt(count)
        return opset.divide(total, count)

    def concat(self, parts: Sequence[Any]) -> Any:
        """Rows side by side."""
        return opset.concat(list(parts), 1)

    def normalise(self, x: Any) -> Any:
        """Rows scaled to length 1."""
        return opset.normalize_l2(x, _ints(1), SHORTEST**2, "max")

    def _products(self, x: Any, names: Sequence[str]) -> Any:
        """Products with the weights `names` side by side."""
        if not self._stay(names):
            matrix = self._matrix([self._weights[name] for name in names], key=" ".join(names))
            return opset.matmul(x, matrix, False, True)
        parts = [opset.matmul(x, as_stored(self._weights, name), False, True) for name in names]
        if len(parts) == 1:
            return parts[0]
        self._apart = opset.concat(parts, 1), parts
        return self._apart[0]

    def _stay(self, names: Sequence[str]) -> bool:
        """Whether these are used from where their file is mapped; joined, they'd be a copy.

        One product instead of several is worth that copy as long as it is small.
        """
        return sum(self._weights.size(name) for name in names) >= LARGE

    def _matrix(self, parts: Sequence[Vectors], *, key: str | None = None) -> Any:
        """What multiplies: matrices one above the other; `key` names a table used elsewhere too."""
        del key
        return self._constant(_joined(parts))

    def _constant(self, values: Vectors) -> Any:
        return constant(values)

    def _input(self, name: str, shape: list[int], dtype: type) -> Any:
        if name not in self.inputs:
            self.inputs[name] = opset.parameter(shape, dtype, name)
        return self.inputs[name]

    def _slots(self) -> Any:
        return self._input("slots", [-1, -1], np.int32)

    def _places(self) -> Any:
        return self._input("places", [-1], np.int32)

    def _once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What every layer shares is made when the first one asks."""
        if key not in self._made:
            self._made[key] = make()
        made: T = self._made[key]
        return made

    def _head_norm(self, query: Any, key: Any, norm: HeadNorm) -> tuple[Any, Any]:
        return (
            self.rms_norm(query, norm.query, epsilon=norm.epsilon, offset=norm.offset),
            self.rms_norm(key, norm.key, epsilon=norm.epsilon, offset=norm.offset),
        )

    def _turned(self, x: Any, rotary: Rotary, width: int) -> Any:
        """`x` [texts, heads, length, width] with its first numbers turned by their place."""
        cos, sin = self._once(("turns", rotary), lambda: self._turns(rotary))
        turning = 2 * len(rotary.frequencies)
        rest: Any = None
        if turning < width:
            x, rest = opset.variadic_split(x, _int(3), _ints(turning, width - turning)).outputs()
        half = turning // 2
        if rotary.interleaved:
            pairs = opset.reshape(x, _ints(0, 0, 0, half, 2), True)
            even, odd = opset.variadic_split(pairs, _int(4), _ints(1, 1)).outputs()
            partner = opset.concat([opset.negative(odd), even], 4)
            partner = opset.reshape(partner, _ints(0, 0, 0, turning), True)
        else:
            front, back = opset.variadic_split(x, _int(3), _ints(half, half)).outputs()
            partner = opset.concat([opset.negative(back), front], 3)
        y = opset.add(opset.multiply(x, cos), opset.multiply(partner, sin))
        return y if rest is None else opset.concat([y, rest], 3)

    def _turns(self, rotary: Rotary) -> tuple[Any, Any]:
        # From tables: an engine that computes in bf16 would round the angles themselves.
        tables = turns(rotary, self._longest)
        cos, sin = (opset.gather(self._constant(t), self._places(), _int(0)) for t in tables)
        return opset.unsqueeze(cos, _ints(0, 1)), opset.unsqueeze(sin, _ints(0, 1))

    def _attention_mask(self, how: Attention) -> Any:
        """What is added to the scores: [texts, 1, 1, length], or as wide as it needs to be."""
        if self._is_plainly_causal(how):
            return None
        mask = self._once("padding", self._padding)
        if how.causal or how.window is not None:
            sight = ("sight", how.causal, how.window)
            mask = self._once(sight, lambda: opset.add(mask, self._sight(how.causal, how.window)))
        bias = how.bias
        if bias is not None:
            key = ("bias", how)
            mask = self._once(key, lambda: opset.add(mask, self._distance_bias(how)))
        return mask

    def _is_plainly_causal(self, how: Attention) -> bool:
        # Padding comes after a text's own tokens: none of them looks that far.
        return how.causal and how.window is None and how.bias is None

    def _padding(self) -> Any:
        empty = opset.subtract(_float(1), self._input("mask", [-1, -1], np.float32))
        return opset.unsqueeze(opset.multiply(empty, _float(_MASKED)), _ints(1, 2))

    def _distances(self) -> Any:
        """How far each key lies after each query: int [length, length]."""
        places = self._places()
        return self._once(
            "distances",
            lambda: opset.subtract(
                opset.unsqueeze(places, _ints(0)), opset.unsqueeze(places, _ints(1))
            ),
        )

    def _sight(self, causal: bool, window: int | None) -> Any:
        after = self._distances()
        unseen: list[Any] = []
        if causal:
            unseen.append(opset.greater(after, _int(0)))
        if window is not None:
            unseen.append(opset.greater(opset.abs(after), _int(window)))
        hidden = unseen[0] if len(unseen) == 1 else opset.logical_or(*unseen)
        return opset.unsqueeze(opset.select(hidden, _float(_MASKED), _float(0)), _ints(0, 1))

    def _distance_bias(self, how: Attention) -> Any:
        bias = how.bias
        if isinstance(bias, Alibi):
            slopes = np.array(bias.slopes, np.float32).reshape(1, -1, 1, 1)
            far = opset.convert(opset.abs(self._distances()), np.float32)
            return opset.multiply(opset.unsqueeze(far, _ints(0, 1)), self._constant(-slopes))
        assert bias is not None
        table = relative_bias(bias, self._weights[bias.table], self._longest)
        index = opset.add(self._distances(), _int(self._longest - 1))
        found = opset.gather(self._constant(table), index, _int(1))
        return opset.unsqueeze(found, _ints(0))


def _repeated(x: Any, groups: int, times: int, width: int) -> Any:
    """Each of the `groups` heads of `x` [texts, groups, length, width], `times` over."""
    apart = opset.unsqueeze(x, _ints(2))
    spread = opset.tile(apart, _ints(1, 1, times, 1, 1))
    shape = opset.concat(
        [
            _ints(0),
            _ints(groups * times),
            opset.gather(opset.shape_of(x, "i32"), _ints(2), _int(0)),
            _ints(width),
        ],
        0,
    )
    return opset.reshape(spread, shape, True)


def _joined(parts: Sequence[Vectors]) -> Vectors:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _int(value: int) -> Any:
    return opset.constant(np.int32(value))


def _ints(*values: int) -> Any:
    return opset.constant(np.array(values, np.int32))


def _float(value: float | np.float32) -> Any:
    return opset.constant(np.float32(value))
