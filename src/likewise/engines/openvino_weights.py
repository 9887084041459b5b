"""Weights as constants of an OpenVINO graph, in the memory where their file is mapped."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from likewise.engines.quiet import opset, ov
from likewise.engines.spill import Spill

if TYPE_CHECKING:
    from likewise.base.types import Vectors
    from likewise.models.weights import Weights

LARGE = 1 << 21
"""Numbers from which matrices aren't copied to make one product of several: 8 MB of float32."""
SMALL = 1 << 16
"""Numbers up to which a matrix is simply copied: 256 KB of float32."""
_EVERY = 0.1
"""Seconds between two times that pages are let go."""


def constant(values: Vectors) -> Any:
    """A constant that looks into `values`: what is mapped stays so, and isn't held twice."""
    return ov.op.Constant(np.ascontiguousarray(values), shared_memory=True)


def rows_of(weights: Weights, name: str) -> Any:
    """The weight `name` as float32 for looking up rows, held in 16 bits if its file has it so."""
    half = weights.halves(name)
    if half is None:
        return constant(weights[name])
    kind = ov.Type.f16 if half.dtype == np.float16 else ov.Type.bf16
    stored = ov.op.Constant(ov.Tensor(half, list(half.shape), kind), shared_memory=True)
    wide = opset.convert(stored, np.float32)
    # By this mark the plugin knows that it isn't meant to be computed once and for all.
    wide.get_rt_info()["decompression_0"] = ""
    return wide


def widened(weights: Weights, names: Sequence[str], spill: Spill) -> Any:
    """The weights `names`, one above the other, as float32 that lies in `spill`.

    For those that aren't float32 in their file. The plugin lays them out anew for its products and
    then reads them no more. It could take 16 bits, but then it keeps two layouts, for few and for
    many tokens.
    """
    shapes = [weights.shape(name) or () for name in names]
    values = spill.empty((sum(shape[0] for shape in shapes), *shapes[0][1:]), np.float32)
    row = 0
    for name in names:
        for block in weights.blocks(name):
            values[row : row + len(block)] = block
            row += len(block)
    weights.release()
    spill.release()
    return constant(values)


def spill_for(weights: Weights) -> Spill:
    """Room for all of `weights` in float32, and for what is lost at the edges of pages."""
    stored = sum(path.stat().st_size for path in weights.files)
    return Spill(2 * stored + stored // 8 + mmap.PAGESIZE)


@contextmanager
def letting_go(release: Callable[[], None]) -> Iterator[None]:
    """While it lasts, and once at its end, `release` lets the pages go that were read meanwhile.

    Compiling reads every weight and lays it out anew: without this, both would be in memory.
    """
    done = threading.Event()

    def work() -> None:
        while not done.wait(_EVERY):
            release()

    thread = threading.Thread(target=work, name="likewise-pages", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        release()
