"""Attention as nodes of an OpenVINO graph: tokens laid out in rectangles, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from likewise.engines.angles import distance_rows, distance_vectors, relative_bias, turns
from likewise.engines.openvino_nodes import MASKED, Nodes, float_, int_, ints
from likewise.engines.quiet import opset, ov
from likewise.engines.spread import Near
from likewise.nets.ops import Alibi, Attention, Disentangled, Relative, Rotary


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where attention finds its tokens: R rectangles of Q queries that look at K keys."""

    queries: Any
    """[R, Q]: tokens."""
    keys: Any
    """[R, K]: tokens."""
    back: Any
    """[tokens]: each one's slot among the flattened queries."""


class AttentionNodes(Nodes):
    """Writes attention."""

    def attention(self, qkv: Any, how: Attention) -> Any:
        """Spread to [texts, heads, length, head], attend, and gather the tokens back."""
        if isinstance(how.bias, Alibi):
            return self._by_distance(qkv, how, how.bias)
        layout = self._layout(how)
        query, key, value = self._parts(qkv, how, layout)
        key, value = (_repeated(x, how) for x in (key, value))
        mask = self._attention_mask(how)
        if isinstance(how.bias, Disentangled):
            mask = opset.add(mask, self._met(query, key, how, how.bias))
        context = opset.scaled_dot_product_attention(query, key, value, mask, _scale(how))
        joined = opset.transpose(context, ints(0, 2, 1, 3))
        flat = opset.reshape(joined, ints(-1, how.heads * how.width), False)
        return opset.gather(flat, layout.back, int_(0))

    def _by_distance(self, qkv: Any, how: Attention, bias: Alibi) -> Any:
        """Some queries at a time: what is added to all scores at once would fill the memory.

        A number for each head, query and key: 3 GB in 12 heads of 8,192 tokens.
        """
        query, key, value = self._prepared(qkv, how)
        query = opset.gather(query, self._indices("block_slots", 3), int_(0))
        key, value = (_repeated(_laid(x, self._slots()), how) for x in (key, value))
        turned = opset.transpose(query, ints(0, 1, 3, 2, 4))
        mask = self._once("padding", self._padding)
        places = (self._indices("block_places", 2), self._places())
        blocks = _attend_in_turn((turned, places[0]), (key, value, mask, places[1]), how, bias)
        joined = opset.transpose(blocks, ints(0, 1, 3, 2, 4))
        flat = opset.reshape(joined, ints(-1, how.heads * how.width), False)
        return opset.gather(flat, self._indices("block_back"), int_(0))

    def _layout(self, how: Attention) -> _Layout:
        if how.window is None:
            slots = self._slots()
            return _Layout(slots, slots, self._indices("back"))
        queries, keys, back = (
            Near(how.window, how.causal, part) for part in ("queries", "keys", "back")
        )
        return _Layout(self._indices(queries, 2), self._indices(keys, 2), self._indices(back))

    def _parts(self, qkv: Any, how: Attention, layout: _Layout) -> list[Any]:
        """Queries, keys and values, each [rectangles, heads, length, width]."""
        counts = (how.heads, how.groups, how.groups)
        if how.norm is None and how.rotary is None and how.window is None:
            # One look-up for all three.
            spread = opset.gather(qkv, layout.queries, int_(0))
            split = opset.reshape(spread, ints(0, 0, sum(counts), how.width), True)
            turned = opset.transpose(split, ints(0, 2, 1, 3))
            return list(opset.variadic_split(turned, int_(1), ints(*counts)).outputs())
        parts = self._prepared(qkv, how)
        places = (layout.queries, layout.keys, layout.keys)
        return [_laid(x, where) for x, where in zip(parts, places, strict=True)]

    def _prepared(self, qkv: Any, how: Attention) -> list[Any]:
        """Queries, keys and values, each [tokens, heads, width], normed and turned.

        That comes before they are laid out: afterwards a key may be there several times.
        """
        counts = (how.heads, how.groups, how.groups)
        split = opset.reshape(qkv, ints(0, sum(counts), how.width), True)
        query, key, value = opset.variadic_split(split, int_(1), ints(*counts)).outputs()
        norm = how.norm
        if norm is not None:
            query, key = (
                self.rms_norm(x, name, epsilon=norm.epsilon, offset=norm.offset)
                for x, name in ((query, norm.query), (key, norm.key))
            )
        if how.rotary is not None:
            query, key = (self._turned(x, how.rotary, how.width) for x in (query, key))
        return [query, key, value]

    def _slots(self) -> Any:
        return self._indices("slots", 2)

    def _places(self) -> Any:
        return self._indices("places")

    def _turned(self, x: Any, rotary: Rotary, width: int) -> Any:
        """`x` [tokens, heads, width] with its first numbers turned by their place."""
        cos, sin = self._once(("turns", rotary), lambda: self._turns(rotary))
        turning = 2 * len(rotary.frequencies)
        rest: Any = None
        if turning < width:
            x, rest = opset.variadic_split(x, int_(2), ints(turning, width - turning)).outputs()
        half = turning // 2
        if rotary.interleaved:
            pairs = opset.reshape(x, ints(0, 0, half, 2), True)
            even, odd = opset.variadic_split(pairs, int_(3), ints(1, 1)).outputs()
            partner = opset.concat([opset.negative(odd), even], 3)
            partner = opset.reshape(partner, ints(0, 0, turning), True)
        else:
            front, back = opset.variadic_split(x, int_(2), ints(half, half)).outputs()
            partner = opset.concat([opset.negative(back), front], 2)
        y = opset.add(opset.multiply(x, cos), opset.multiply(partner, sin))
        return y if rest is None else opset.concat([y, rest], 2)

    def _turns(self, rotary: Rotary) -> tuple[Any, Any]:
        # From tables: an engine that computes in bf16 would round the angles themselves.
        tables = turns(rotary, self._longest)
        places = self._indices("positions")
        cos, sin = (opset.gather(self._constant(t), places, int_(0)) for t in tables)
        return opset.unsqueeze(cos, ints(1)), opset.unsqueeze(sin, ints(1))

    def _attention_mask(self, how: Attention) -> Any:
        """What is added to the scores: [texts, 1, 1, length], or as wide as it needs to be."""
        if how.causal and how.window is None and how.bias is None:
            # Padding comes after a text's own tokens: none of them looks that far. One triangle for
            # all layers: told only that it is causal, the plugin makes one for each, all at once.
            return self._once("later", self._causal)
        assert how.window is None or how.bias is None, "near, and by distance: this is a bug"
        if how.window is not None:
            window, causal = how.window, how.causal
            mask = self._once(("near", window, causal), lambda: self._near(window, causal))
        else:
            mask = self._once("padding", self._padding)
            if how.causal:
                mask = self._once("causal", lambda: opset.add(mask, self._causal()))
        if isinstance(how.bias, Relative):
            bias = how.bias
            mask = self._once((bias, how.causal), lambda: opset.add(mask, self._learned(bias)))
        return mask

    def _met(self, query: Any, key: Any, how: Attention, bias: Disentangled) -> Any:
        """What queries and keys make of their distances: [texts, heads, length, length]."""
        rows = self._once(("rows", bias.span, bias.furthest), lambda: self._distance_rows(bias))
        total: Any = None
        for x, layer in ((query, bias.keys), (key, bias.queries)):
            if layer is None:
                continue
            vectors = distance_vectors(bias, layer, how.heads, self._weights.__getitem__)
            scores = opset.matmul(x, self._constant(vectors), False, True)
            index = opset.transpose(rows, ints(1, 0)) if x is key else rows
            wide = opset.gather(opset.shape_of(scores, "i32"), ints(0, 1, 2, 2), int_(0))
            met = opset.gather_elements(scores, opset.broadcast(index, wide), 3)
            if x is key:
                met = opset.transpose(met, ints(0, 1, 3, 2))
            total = met if total is None else opset.add(total, met)
        return opset.multiply(total, float_(how.scale or how.width**-0.5))

    def _distance_rows(self, bias: Disentangled) -> Any:
        """The row of each query and key's distance: int [length, length]."""
        rows = opset.constant(distance_rows(bias, self._longest))
        return opset.gather(rows, opset.add(self._distances(), int_(self._longest - 1)), int_(0))

    def _padding(self) -> Any:
        empty = opset.subtract(float_(1), self._input("mask", [-1, -1], np.float32))
        return opset.unsqueeze(opset.multiply(empty, float_(MASKED)), ints(1, 2))

    def _near(self, window: int, causal: bool) -> Any:
        """[rectangles, 1, queries, keys]; what isn't there is as far as can be."""
        after = self._after(window, causal)
        hidden = opset.greater(opset.abs(after), int_(window))
        if causal:
            hidden = opset.logical_or(hidden, opset.greater(after, int_(0)))
        return opset.unsqueeze(opset.select(hidden, float_(MASKED), float_(0)), ints(1))

    def _after(self, window: int, causal: bool) -> Any:
        """How far each key lies after each query: int [rectangles, queries, keys]."""
        start, end = (self._indices(Near(window, causal, part), 2) for part in ("starts", "ends"))
        return opset.subtract(opset.unsqueeze(end, ints(1)), opset.unsqueeze(start, ints(2)))

    def _distances(self) -> Any:
        """How far each key lies after each query: int [length, length]."""
        places = self._places()
        return self._once(
            "distances",
            lambda: opset.subtract(
                opset.unsqueeze(places, ints(0)), opset.unsqueeze(places, ints(1))
            ),
        )

    def _causal(self) -> Any:
        # Compared, not subtracted: distances would be a second rectangle as large.
        places = self._places()
        hidden = opset.greater(opset.unsqueeze(places, ints(0)), opset.unsqueeze(places, ints(1)))
        return opset.unsqueeze(opset.select(hidden, float_(MASKED), float_(0)), ints(0, 1))

    def _learned(self, bias: Relative) -> Any:
        """The number for each head and distance: [1, heads, length, length]."""
        table = relative_bias(bias, self._weights[bias.table], self._longest)
        index = opset.add(self._distances(), int_(self._longest - 1))
        found = opset.gather(self._constant(table), index, int_(1))
        return opset.unsqueeze(found, ints(0))


def _scale(how: Attention) -> Any:
    return None if how.scale is None else float_(how.scale)


def _laid(x: Any, where: Any) -> Any:
    """`x` [tokens, heads, width] at `where` [texts, length]: [texts, heads, length, width]."""
    return opset.transpose(opset.gather(x, where, int_(0)), ints(0, 2, 1, 3))


def _attend_in_turn(
    sliced: tuple[Any, Any], whole: tuple[Any, Any, Any, Any], how: Attention, bias: Alibi
) -> Any:
    """Attention of one block of queries after the other, scores falling with distance.

    `sliced` are queries [blocks, texts, heads, queries, width] and their places [blocks, queries];
    `whole` keys and values [texts, heads, length, width], a mask and the keys' places [length].
    """
    inner = [
        opset.parameter([1, -1, how.heads, -1, how.width], np.float32),
        opset.parameter([1, -1], np.int32),
        *(opset.parameter([-1, how.heads, -1, how.width], np.float32) for _ in range(2)),
        opset.parameter([-1, 1, 1, -1], np.float32),
        opset.parameter([-1], np.int32),
    ]
    query, starts, key, value, mask, ends = inner
    after = opset.subtract(opset.unsqueeze(ends, ints(0, 1)), opset.unsqueeze(starts, ints(2)))
    far = opset.unsqueeze(opset.convert(opset.abs(after), np.float32), ints(1))
    slopes = np.array(bias.slopes, np.float32).reshape(1, -1, 1, 1)
    added = opset.add(opset.multiply(far, opset.constant(-slopes)), mask)
    if how.causal:
        hidden = opset.unsqueeze(opset.greater(after, int_(0)), ints(1))
        added = opset.select(hidden, float_(MASKED), added)
    context = opset.scaled_dot_product_attention(
        opset.squeeze(query, ints(0)), key, value, added, _scale(how)
    )
    result = opset.result(opset.unsqueeze(context, ints(0)))
    turns_taken = opset.tensor_iterator()
    turns_taken.set_body(ov.Model([result], inner, "block"))
    for parameter, values in zip(inner[:2], sliced, strict=True):
        turns_taken.set_sliced_input(parameter, values.output(0), 0, 1, 1, -1, 0)
    for parameter, values in zip(inner[2:], whole, strict=True):
        turns_taken.set_invariant_input(parameter, values.output(0))
    return turns_taken.get_concatenated_slices(result.output(0), 0, 1, 1, -1, 0)


def _repeated(x: Any, how: Attention) -> Any:
    """Each of the groups' heads of `x` [texts, groups, length, width] for all heads it serves."""
    times = how.heads // how.groups
    if times == 1:
        return x
    apart = opset.unsqueeze(x, ints(2))
    spread = opset.tile(apart, ints(1, 1, times, 1, 1))
    length = opset.gather(opset.shape_of(x, "i32"), ints(2), int_(0))
    shape = opset.concat([ints(0), ints(how.heads), length, ints(how.width)], 0)
    return opset.reshape(spread, shape, True)
