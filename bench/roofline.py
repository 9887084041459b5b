"""The machine's limit: how fast its matrix products go, in the model's shapes, through OpenVINO.

    python bench/roofline.py

Every row count is measured in each round, interleaved; the peak is the best median. The last line
is the ratio of bf16 to f32, where this CPU computes in bf16.
"""

from __future__ import annotations

import functools
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import openvino as ov
from _report import write
from openvino import opset13 as opset

from likewise.engines.threads import available_threads

ROWS = (512, 1024, 2048, 4096)
WIDTH, INNER, LAYERS = 384, 1536, 6
# One layer of the model: query, key, value and output are 384 x 384.
SHAPES = ((WIDTH, WIDTH),) * 4 + ((WIDTH, INNER), (INNER, WIDTH))
FLOP_PER_TOKEN = 2 * LAYERS * sum(inputs * outputs for inputs, outputs in SHAPES)


def model_flop(lengths: Sequence[int]) -> float:
    """Floating-point operations of the model for texts of these lengths: products and attention."""
    attention = sum(4 * LAYERS * WIDTH * length * length for length in lengths)
    return float(FLOP_PER_TOKEN * sum(lengths) + attention)


class Peak:
    """Matrix products alone, on every core, one thread a stream as the engine does."""

    def __init__(
        self,
        rows: int,
        precision: str,
        shapes: Sequence[tuple[int, int]] = SHAPES,
        layers: int = LAYERS,
    ) -> None:
        self.flop = float(rows * 2 * layers * sum(i * o for i, o in shapes))
        threads = available_threads()
        pick = np.random.default_rng(0)
        x = entry = opset.parameter([rows, shapes[0][0]], np.float32)
        for inputs, outputs in tuple(shapes) * layers:
            matrix = pick.normal(0, inputs**-0.5, (outputs, inputs)).astype(np.float32)
            x = opset.matmul(x, opset.constant(matrix), False, True)
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": threads,
            "INFERENCE_PRECISION_HINT": precision,
        }
        compiled = ov.Core().compile_model(ov.Model([x], [entry]), "CPU", settings)
        values = pick.normal(size=(rows, shapes[0][0])).astype(np.float32)
        self._runs: list[Callable[[], Any]] = []
        for _ in range(threads):
            request = compiled.create_infer_request()
            self._runs.append(functools.partial(request.infer, [values], share_inputs=True))
        self.rate()

    def rate(self) -> float:
        """FLOP/s, all cores together, of one go."""
        workers = [threading.Thread(target=run) for run in self._runs]
        started = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return self.flop * len(workers) / (time.perf_counter() - started)


def measure(rounds: int = 7) -> dict[str, dict[int, float]]:
    """Median FLOP/s by precision and rows."""
    has_bf16 = "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    sides = {
        (precision, rows): Peak(rows, precision)
        for precision in (("f32", "bf16") if has_bf16 else ("f32",))
        for rows in ROWS
    }
    rates: dict[tuple[str, int], list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, peak in sides.items():
            rates[side].append(peak.rate())
    found: dict[str, dict[int, float]] = {}
    for (precision, rows), values in rates.items():
        found.setdefault(precision, {})[rows] = statistics.median(values)
    return found


def main() -> None:
    """Measure, print, record."""
    found = measure()
    for precision, by_rows in found.items():
        for rows, rate in by_rows.items():
            print(f"{precision:5} {rows:5} rows  {rate / 1e9:8.1f} GFLOP/s")
    peaks = {precision: max(by_rows.values()) for precision, by_rows in found.items()}
    write("roofline", {"peak_gflops": {name: rate / 1e9 for name, rate in peaks.items()}})
    if "bf16" in peaks:
        print(f"bf16 : f32 = {peaks['bf16'] / peaks['f32']:.2f}")
    else:
        print("this CPU doesn't compute in bf16; f32 is all there is")


if __name__ == "__main__":
    main()
