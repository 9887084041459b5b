"""P8: does a bound table fill as fast as the engine alone can go, and what do inserts pay?

    python bench/backfill.py [MODEL_FOLDER] [--database sqlite] [--rows 20000] [--rounds 5]

In SQLite and in Postgres, unless one of them is named.

Backfill: the rows are dealt into as many tables as rounds. In each round the engine alone embeds
the very passages of a table, each text once as a worker does, then that table is bound and filled,
one right after the other, so that what else the machine does meets both. Beside it the engine alone
on the whole texts, cut where the model stops reading.

Inserts: another process, with nothing of ours (Python's own sqlite3, or psycopg), inserts the same
rows into a plain table and into a bound one by turns of a few milliseconds: a row a transaction,
and 500 rows a transaction, one statement each. Both lie in one database and are written to over one
connection, as a round trip to one server process may take four times as long as to another. Then
once more into both while a worker keeps the bound one in step. Medians; last come the ratios.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import _databases
import _texts
from _databases import Database, bind
from _report import write
from engine import default_folder

from likewise.runtime.service import Service, load

BACKFILL_TARGET, INSERT_TARGET = 0.9, 1.5
SINGLE, BULK, TURNS = 10, 500, 60

WRITER = """
import json, sys, time
from statistics import median
address, rounds, single, bulk, body = json.loads(sys.stdin.read())
db = connect(address)
inserts = {name: f"INSERT INTO {table} VALUES ({MARK}, {MARK}, {MARK})"
           for name, table in [("plain", "twin"), ("bound", "docs")]}
times = {name: {"single": [], "bulk": []} for name in inserts}
at = int(time.time() * 1000) * 1000
# Turns of a few milliseconds: whatever else the machine does meets both tables alike.
for _ in range(rounds):
    for name, insert in inserts.items():
        start = time.perf_counter()
        for _ in range(single):
            at += 1
            db.execute(insert, (at, str(at), body))
        times[name]["single"].append((time.perf_counter() - start) / single)
    for name, insert in inserts.items():
        start = time.perf_counter()
        db.execute("BEGIN")
        for _ in range(bulk):
            at += 1
            db.execute(insert, (at, str(at), body))
        db.execute("COMMIT")
        times[name]["bulk"].append((time.perf_counter() - start) / bulk)
sys.stdout.write(json.dumps({n: {k: median(v) for k, v in t.items()} for n, t in times.items()}))
"""


def fill(database: Database, service: Service, texts: list[str]) -> float:
    """Seconds from `bind` to nothing pending."""
    address = database.new()
    database.fill(address, texts)
    start = time.perf_counter()
    source, store, worker = bind(address, service)
    worker.drain()
    seconds = time.perf_counter() - start
    stored = store.counts().stored
    for each in (worker, source, store):
        each.close()
    if stored != len(texts):
        raise SystemExit(f"{stored} rows of {len(texts)} have vectors")
    return seconds


def backfill(service: Service, database: Database, rows: int, rounds: int) -> dict[str, Any]:
    """Rows a second: bound, and the engine alone on the same passages and on whole texts."""
    texts, origin = _texts.mixed(rows)
    split = service.splitter()
    sides: dict[str, list[float]] = {"engine, passages": [], "bound": [], "engine, whole texts": []}
    service.embed(texts[:500])
    for at in range(rounds):
        # In one piece: every fourth text is a question, and rounds are to be alike.
        block = texts[at * len(texts) // rounds : (at + 1) * len(texts) // rounds]
        cuts = split(block)
        found = (t[c.start : c.end] for t, cut in zip(block, cuts, strict=True) for c in cut)
        passages = list(dict.fromkeys(found))
        start = time.perf_counter()
        service.embed(passages)
        sides["engine, passages"].append(len(block) / (time.perf_counter() - start))
        seconds = fill(database, service, block)
        sides["bound"].append(len(block) / seconds)
        start = time.perf_counter()
        service.embed(list(dict.fromkeys(block)))
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


def written(database: Database, address: str, body: str) -> dict[str, dict[str, float]]:
    """Seconds a row as the application sees them."""
    done = subprocess.run(
        [sys.executable, "-c", database.program + WRITER],
        input=json.dumps([address, TURNS, SINGLE, BULK, body]),
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, dict[str, float]] = json.loads(done.stdout)
    return found


def inserts(service: Service, database: Database) -> dict[str, Any]:
    """What an insert costs beside an insert into a plain table."""
    import threading

    address = database.new()
    source, store, worker = bind(address, service)
    worker.drain()
    body = " ".join(_texts.mixed(10)[0])[:300]
    for each in (source, store):
        each.close()
    times = written(database, address, body)
    stop = threading.Event()
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    # The worker computes on all cores all the while; the plain table is the comparison again.
    busy = written(database, address, body)
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
    parser.add_argument("--database", choices=_databases.NAMES)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    service = load(given.folder or default_folder())
    print(f"engine: {service.info()['engine']} {service.info()['precision']}", flush=True)
    for name in [given.database] if given.database else _databases.NAMES:
        with _databases.opened(name) as database:
            costs = inserts(service, database)
            for kind, microseconds in costs["microseconds_a_row"].items():
                print(f"{name}: insert, {kind}: {microseconds:.1f} us a row", flush=True)
            filled = backfill(service, database, given.rows, given.rounds)
        row = {"database": name, "backfill": filled, "inserts": costs}
        write("P8", {**row, "precision": service.info()["precision"]})
        for kind, value in costs.items():
            if kind.startswith("ratio"):
                shown = kind.removeprefix("ratio_").replace("_", " ")
                print(f"{name}: inserts, {shown}: {value:.2f} x (at most {INSERT_TARGET})")
        whole, ratio = filled["ratio_to_whole_texts"], filled["ratio"]
        print(f"{name}: backfill / engine alone on whole texts: {whole:.3f}")
        print(f"{name}: backfill / engine alone, same passages: {ratio:.3f} (>= {BACKFILL_TARGET})")
    service.close()


if __name__ == "__main__":
    main()
