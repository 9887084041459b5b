"""P8: does a bound table fill as fast as the engine alone can go, and what do inserts pay?

    python bench/backfill.py [MODEL_FOLDER] [--rows 20000] [--rounds 5]

Backfill: the rows are dealt into as many tables as rounds. In each round the engine alone embeds
the very passages of a table, then that table is bound and filled, one right after the other, so
that what else the machine does meets both. Beside it the engine alone on the whole texts, cut where
the model stops reading.

Inserts: another process, with Python's own sqlite3 and nothing of ours, inserts the same rows into
a plain table and into a bound one by turns of a few milliseconds: a row a transaction, and 500 rows
a transaction. Then once more into both while a worker keeps the bound one in step. Medians; last
come the ratios.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import _texts
import apsw
from _report import write

from likewise.base.bound import BoundSource, BoundTable
from likewise.base.spec import BindingSpec
from likewise.binding.worker import Options, Worker
from likewise.runtime.service import Service, load
from likewise.server import databases

TABLE = "CREATE TABLE docs (id INTEGER PRIMARY KEY, slug TEXT UNIQUE, body TEXT NOT NULL)"
BACKFILL_TARGET, INSERT_TARGET = 0.9, 1.5
SINGLE, BULK, TURNS = 10, 500, 60

WRITER = """
import json, sqlite3, sys, time
from statistics import median
plain, bound, rounds, single, bulk, body = json.loads(sys.stdin.read())
connections = {name: sqlite3.connect(path, timeout=60, isolation_level=None)
               for name, path in [("plain", plain), ("bound", bound)] if path}
times = {name: {"single": [], "bulk": []} for name in connections}
at = int(time.time() * 1000) * 1000
# Turns of a few milliseconds: whatever else the machine does meets both tables alike.
for _ in range(rounds):
    for name, db in connections.items():
        start = time.perf_counter()
        for _ in range(single):
            at += 1
            db.execute("INSERT INTO docs VALUES (?, ?, ?)", (at, str(at), body))
        times[name]["single"].append((time.perf_counter() - start) / single)
    for name, db in connections.items():
        start = time.perf_counter()
        db.execute("BEGIN")
        for _ in range(bulk):
            at += 1
            db.execute("INSERT INTO docs VALUES (?, ?, ?)", (at, str(at), body))
        db.execute("COMMIT")
        times[name]["bulk"].append((time.perf_counter() - start) / bulk)
sys.stdout.write(json.dumps({n: {k: median(v) for k, v in t.items()} for n, t in times.items()}))
"""


def table(path: Path, texts: list[str]) -> None:
    """A database with one table of these texts."""
    db = apsw.Connection(str(path))
    db.pragma("journal_mode", "wal")
    with db:
        db.execute(TABLE)
        rows = ((at, f"s{at}", text) for at, text in enumerate(texts))
        db.executemany("INSERT INTO docs VALUES (?, ?, ?)", rows)
    db.close()


def bind(path: Path, service: Service) -> tuple[BoundSource, BoundTable, Worker]:
    """A worker on a new binding of that table."""
    split = service.splitter()
    spec = BindingSpec("docs", f"sqlite:{path}", "docs", "{body}", chunk=split.name)
    record = databases.create(spec, service.space.with_chunker(split.name))
    source, store = databases.open_ends(record)
    return source, store, Worker(source, store, service, split, options=Options())


def fill(path: Path, service: Service, texts: list[str]) -> float:
    """Seconds from `bind` to nothing pending."""
    table(path, texts)
    start = time.perf_counter()
    source, store, worker = bind(path, service)
    worker.drain()
    seconds = time.perf_counter() - start
    stored = store.counts().stored
    for each in (worker, source, store):
        each.close()
    if stored != len(texts):
        raise SystemExit(f"{stored} rows of {len(texts)} have vectors")
    return seconds


def backfill(service: Service, folder: Path, rows: int, rounds: int) -> dict[str, Any]:
    """Rows a second: bound, and the engine alone on the same passages and on whole texts."""
    texts, origin = _texts.mixed(rows)
    split = service.splitter()
    sides: dict[str, list[float]] = {"engine, passages": [], "bound": [], "engine, whole texts": []}
    service.embed(texts[:500])
    for at in range(rounds):
        block = texts[at::rounds]
        cuts = split(block)
        passages = [t[c.start : c.end] for t, cut in zip(block, cuts, strict=True) for c in cut]
        start = time.perf_counter()
        service.embed(passages)
        sides["engine, passages"].append(len(block) / (time.perf_counter() - start))
        seconds = fill(folder / f"fill{at}.db", service, block)
        sides["bound"].append(len(block) / seconds)
        start = time.perf_counter()
        service.embed(block)
        sides["engine, whole texts"].append(len(block) / (time.perf_counter() - start))
        shown = ", ".join(f"{name} {values[-1]:.0f}/s" for name, values in sides.items())
        print(f"round {at + 1}: {len(block)} rows, {len(passages)} passages: {shown}", flush=True)
    speeds = {name: statistics.median(values) for name, values in sides.items()}
    ratios = [b / e for b, e in zip(sides["bound"], sides["engine, passages"], strict=True)]
    whole = [b / e for b, e in zip(sides["bound"], sides["engine, whole texts"], strict=True)]
    return {
        "texts": origin,
        "rows": rows,
        "rows_per_second": speeds,
        "ratio": statistics.median(ratios),
        "ratio_to_whole_texts": statistics.median(whole),
    }


def written(plain: Path | None, bound: Path, rounds: int, body: str) -> dict[str, dict[str, float]]:
    """Seconds a row as the application sees them."""
    values = [str(plain) if plain else None, str(bound), rounds, SINGLE, BULK, body]
    done = subprocess.run(
        [sys.executable, "-c", WRITER],
        input=json.dumps(values),
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, dict[str, float]] = json.loads(done.stdout)
    return found


def inserts(service: Service, folder: Path, rounds: int) -> dict[str, Any]:
    """What an insert costs beside an insert into a plain table."""
    import threading

    plain, bound = folder / "plain.db", folder / "bound.db"
    for path in (plain, bound):
        table(path, [])
    source, store, worker = bind(bound, service)
    worker.drain()
    body = " ".join(_texts.mixed(10)[0])[:300]
    for each in (source, store):
        each.close()
    times = written(plain, bound, rounds, body)
    stop = threading.Event()
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    # The worker computes on all cores all the while; the plain table is the comparison again.
    busy = written(plain, bound, rounds, body)
    stop.set()
    thread.join()
    return {
        "microseconds_a_row": {
            f"{name}, {kind}{' beside a worker' if when is busy else ''}": 1e6 * seconds
            for when in (times, busy)
            for name, kinds in when.items()
            for kind, seconds in kinds.items()
        },
        **{f"ratio_{kind}": times["bound"][kind] / times["plain"][kind] for kind in times["bound"]},
        **{
            f"ratio_{kind}_beside_a_worker": busy["bound"][kind] / busy["plain"][kind]
            for kind in busy["bound"]
        },
    }


def main() -> None:
    """Both questions, the ratios last."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    folder = given.folder or _model()
    service = load(folder)
    print(f"engine: {service.info()['engine']} {service.info()['precision']}", flush=True)
    with tempfile.TemporaryDirectory() as place:
        costs = inserts(service, Path(place), TURNS)
        for name, microseconds in costs["microseconds_a_row"].items():
            print(f"insert, {name}: {microseconds:.1f} us a row", flush=True)
        filled = backfill(service, Path(place), given.rows, given.rounds)
    write("P8", {"backfill": filled, "inserts": costs, "precision": service.info()["precision"]})
    service.close()
    for name, value in costs.items():
        if name.startswith("ratio"):
            print(
                f"inserts, {name.removeprefix('ratio_')}: {value:.2f} x (at most {INSERT_TARGET})"
            )
    print(f"backfill / engine alone on whole texts: {filled['ratio_to_whole_texts']:.3f}")
    print(f"backfill / engine alone, same passages: {filled['ratio']:.3f} (>= {BACKFILL_TARGET})")


def _model() -> Path:
    from likewise.models.locate import DEFAULT_MODEL, locate

    return locate(DEFAULT_MODEL, cache=Path.home() / ".cache" / "likewise").folder


if __name__ == "__main__":
    main()
