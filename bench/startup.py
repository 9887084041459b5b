"""P5: how long from the start of a process to its help, its import, and the first vector served?

    python bench/startup.py [MODEL_FOLDER] [--rounds 9]

Compared, interleaved, whole processes on this machine: `python -c pass`; `python -c "import
likewise"`; `likewise --help`; `likewise serve` until it has answered its first request for a
vector (the model is on disk, and one unmeasured start has gone before). Medians. The last line is
`serve` as a multiple of `python -c pass`.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from _report import write
from engine import default_folder

TARGETS_S = {"import likewise": 0.060, "likewise --help": 0.150, "likewise serve": 1.5}
LIKEWISE = [sys.executable, "-m", "likewise"]


def run(*argv: str) -> float:
    """Seconds that the process takes."""
    begun = time.perf_counter()
    subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begun


def first_vector(folder: Path) -> float:
    """Seconds from the start of the server until its first vector is here."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/embeddings", json.dumps({"input": "a text"}).encode()
    )
    argv = [*LIKEWISE, "serve", str(folder), "--port", str(port), "--offline"]
    begun = time.perf_counter()
    with subprocess.Popen(argv, stderr=subprocess.PIPE) as process:
        while True:
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    vector = json.load(answer)["data"][0]["embedding"]
                break
            except OSError:
                # Not listening yet. Once it listens, the request waits in the backlog.
                if process.poll() is not None:
                    assert process.stderr is not None
                    raise SystemExit(process.stderr.read().decode()) from None
                time.sleep(0.002)
        took = time.perf_counter() - begun
        process.terminate()
        process.wait()
    assert len(vector) > 1
    return took


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=9)
    asked = parser.parse_args()
    folder = asked.folder or default_folder()
    questions: dict[str, Callable[[], float]] = {
        "python -c pass": lambda: run(sys.executable, "-c", "pass"),
        "import likewise": lambda: run(sys.executable, "-c", "import likewise"),
        "likewise --help": lambda: run(*LIKEWISE, "--help"),
        "likewise serve": lambda: first_vector(folder),
    }
    took: dict[str, list[float]] = {name: [] for name in questions}
    for number in range(asked.rounds + 1):
        for name, question in questions.items():
            seconds = question()
            if number:  # the first round fills the caches of files and digests
                took[name].append(seconds)
    medians = {name: statistics.median(values) for name, values in took.items()}
    bare = medians["python -c pass"]
    # What an import costs is what it adds to a bare interpreter.
    medians["import likewise"] -= bare
    for name, seconds in medians.items():
        target = f"  (target {TARGETS_S[name] * 1000:.0f} ms)" if name in TARGETS_S else ""
        print(f"{name:18} {seconds * 1000:7.0f} ms{target}")
    met = all(medians[name] <= target for name, target in TARGETS_S.items())
    ratio = medians["likewise serve"] / bare
    write(
        "startup",
        {"question": "P5", "medians_s": medians, "rounds": asked.rounds, "met": met, "x": ratio},
    )
    print(f"targets {'met' if met else 'MISSED'}; serve / python -c pass = {ratio:.1f} x")


if __name__ == "__main__":
    main()
