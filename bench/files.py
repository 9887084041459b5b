"""How long does it take to see that nothing has changed in a folder of 20,000 files?

    python bench/files.py [--files 20000] [--rounds 9]

Markdown files of mixed length in folders of a hundred, bound into a SQLite file. A scan is what a
worker does: walk, compare with what is remembered, note what differs. Measured: the first scan,
which reads every file; then by turns a scan after which nothing is noted, one that finds ten files
changed, and, to compare with, a bare `os.walk` with an `lstat` a file. No model runs. Last comes
the time of a scan that finds nothing, against its target.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import _texts
from _report import write

from likewise.base.bound import BoundSource, BoundTable
from likewise.base.space import Space
from likewise.base.spec import BindingSpec
from likewise.binding.intake import Intake
from likewise.server import databases

TARGET_S, IN_A_FOLDER, TOUCHED = 3.0, 100, 10
SETTLED_S = 3.0
"""A file changed a moment before it is read is read once more: times on disk are coarse."""


def main() -> None:
    """The table, and the figure with its target last."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "pages"
        paths = files(root, given.files)
        record = databases.create(
            BindingSpec("pages", f"files:{root}", "", "{text}", store=f"sqlite:{place}/vectors.db"),
            Space("none", "00", "mean", 8, False, chunker="none"),
        )
        with databases.ends(record) as (source, table):
            # What was changed a moment ago is read again until it isn't new any more.
            time.sleep(SETTLED_S)
            cold, noted = timed(scan, source, table)
            require(noted, given.files)
            print(f"first scan, every file read: {cold:.2f} s", flush=True)
            times = rounds(source, table, root, paths, given.rounds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, seconds in medians.items():
        print(f"{name:>28}: {seconds:.3f} s, {1e6 * seconds / given.files:.0f} us a file")
    nothing, walked = medians["scan, nothing changed"], medians["os.walk and lstat"]
    print(f"{nothing / walked:.2f} x os.walk and lstat")
    print(f"scan, nothing changed: {nothing:.2f} s (at most {TARGET_S} s)")
    row = {"files": given.files, "first_scan_s": cold, "seconds": medians}
    print(write("files", {**row, "ratio_to_walk": nothing / walked}))


def files(root: Path, count: int) -> list[Path]:
    """Write the files; where they are."""
    texts, _ = _texts.mixed(count)
    paths = []
    for at, text in enumerate(texts):
        folder = root / f"part{at // IN_A_FOLDER:03}"
        if at % IN_A_FOLDER == 0:
            folder.mkdir(parents=True)
        paths.append(folder / f"page{at}.md")
        paths[-1].write_text(f"# Page {at}\n\n{text}\n", encoding="utf-8")
    return paths


def rounds(
    source: BoundSource, table: BoundTable, root: Path, paths: list[Path], count: int
) -> dict[str, list[float]]:
    """Seconds of each, by turns."""
    times: dict[str, list[float]] = {}
    for at in range(count):
        walked, seen = timed(walk, root)
        require(seen, len(paths))
        nothing, noted = timed(scan, source, table)
        require(noted, 0)
        for path in paths[at * TOUCHED : (at + 1) * TOUCHED]:
            path.write_text(f"changed {at}\n", encoding="utf-8")
        few, noted = timed(scan, source, table)
        require(noted, TOUCHED)
        found = {
            "os.walk and lstat": walked,
            "scan, nothing changed": nothing,
            f"scan, {TOUCHED} files changed": few,
        }
        for name, seconds in found.items():
            times.setdefault(name, []).append(seconds)
        print(
            f"round {at + 1}: {', '.join(f'{n} {s:.3f} s' for n, s in found.items())}", flush=True
        )
        # What was changed a moment ago is read again until it isn't new any more.
        time.sleep(SETTLED_S)
        scan(source, table)
    return times


def scan(source: BoundSource, table: BoundTable) -> int:
    """Look at the folder as a worker does; how many rows were put into the log."""
    before = table.tail()
    intake = Intake(source, table, hold=lambda: None, at=lambda step: None, idle_seconds=1)
    intake.run()
    return table.tail() - before


def walk(root: Path) -> int:
    """What any program must do; how many files there are."""
    count = 0
    for folder, _, names in os.walk(root):
        for name in names:
            os.lstat(os.path.join(folder, name))
            count += 1
    return count


def timed(call: Callable[..., int], *values: object) -> tuple[float, int]:
    """Seconds, and what `call` gave."""
    began = time.perf_counter()
    found = call(*values)
    return time.perf_counter() - began, found


def require(found: int, wanted: int) -> None:
    """End the run when it did something else than it is to measure."""
    if found != wanted:
        raise SystemExit(f"{found:,} rows were noted or files seen, not {wanted:,}")


if __name__ == "__main__":
    main()
