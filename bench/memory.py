"""P6: how much memory does serving take after 10,000 mixed requests, and does it stay flat?

    python bench/memory.py [MODEL_FOLDER] [--requests 10000]

Requests are of 1 to 32 texts, short and long, from two lanes, over several callers. Resident
memory is read every 500 requests. The last line is the ratio of the end to the half-way mark.
"""

from __future__ import annotations

import argparse
import random
import resource
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import _texts
from _report import write
from engine import default_folder

LIMIT_MB = 450
GROWTH = 1.02
STEP = 500
IN_FLIGHT = 16


def resident_mb() -> float:
    """Resident memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def main() -> None:
    """Measure, print, record."""
    from likewise.runtime.service import load

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--requests", type=int, default=10_000)
    asked = parser.parse_args()
    texts, _ = _texts.mixed(5000)
    service = load(asked.folder or default_folder())
    print(f"loaded: {resident_mb():.0f} MB")
    pick = random.Random(2)
    waiting: list[Future[Any]] = []
    marks: list[float] = []
    for number in range(1, asked.requests + 1):
        # Mostly single texts, as servers see them, and now and then a batch.
        count = 1 if pick.random() < 0.9 else pick.randint(2, 32)
        lane: Any = "interactive" if count == 1 else "bulk"
        waiting.append(service.submit(pick.sample(texts, count), lane=lane))
        if len(waiting) >= IN_FLIGHT:
            waiting.pop(0).result()
        if number % STEP == 0:
            marks.append(resident_mb())
            print(f"{number:6} requests: {marks[-1]:.0f} MB", flush=True)
    for future in waiting:
        future.result()
    half, end = marks[len(marks) // 2 - 1], marks[-1]
    write("memory", {"requests": asked.requests, "resident_mb": marks})
    print(f"resident {end:.0f} MB (target <= {LIMIT_MB})")
    print(f"end : half-way = {end / half:.3f} (flat: <= {GROWTH})")
    service.close()


if __name__ == "__main__":
    main()
