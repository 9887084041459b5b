"""P9: how long from an application's commit until a search finds the change?

    python bench/freshness.py [MODEL_FOLDER] [--database sqlite] [--rows 2000] [--changes 200]

In SQLite and in Postgres, unless one of them is named.

A binding at rest, a worker as `likewise serve` runs it, an in-memory index that follows. Another
process, with nothing of ours (Python's own sqlite3, or psycopg), changes one row's text and says
when its commit returned (both processes read the same clock). Searchable means: the index's answer
to the new text is that row, with the new text's vector. Changes come one at a time, at random
moments.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import _databases
import _texts
from _databases import Database, bind
from _report import write
from engine import default_folder

from likewise.runtime.service import Service, load
from likewise.search.exact import ExactIndex
from likewise.search.follow import Follower

P50_TARGET, P99_TARGET = 150.0, 500.0
FOLLOW_SECONDS, LATEST_SECONDS = 0.02, 10.0

WRITER = """
import json, sys, time
db = connect(sys.argv[1])
for line in sys.stdin:
    key, body = json.loads(line)
    db.execute(f"UPDATE docs SET body = {MARK} WHERE id = {MARK}", (body, key))
    sys.stdout.write(f"{time.monotonic()}\\n")
    sys.stdout.flush()
"""


def measure(service: Service, database: Database, rows: int, changes: int) -> list[float]:
    """Milliseconds from commit to searchable, one a change."""
    texts, _ = _texts.mixed(rows + changes)
    address = database.new()
    database.fill(address, texts[:rows])
    source, store, worker = bind(address, service)
    worker.drain()
    index = ExactIndex(store.space)
    follower = Follower(store, index)
    follower.catch_up()
    stop = threading.Event()
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    command = [sys.executable, "-c", database.program + WRITER, address]
    writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    pick = random.Random(9)
    try:
        return [
            one(service, writer, follower, index, (pick.randrange(rows), f"{text} {at}"), pick)
            for at, text in enumerate(texts[rows:])
        ]
    finally:
        writer.communicate()
        stop.set()
        thread.join()
        source.close()
        store.close()


def one(
    service: Service,
    writer: subprocess.Popen[str],
    follower: Follower,
    index: ExactIndex,
    change: tuple[int, str],
    pick: random.Random,
) -> float:
    """Change a row, wait until its new text is found, and give the milliseconds."""
    import json

    key, text = change
    # As the worker will cut and embed it: the first passage of the new text.
    cut = service.splitter()([text])[0][0]
    wanted = service.embed([text[cut.start : cut.end]])[0]
    time.sleep(0.05 + 0.1 * pick.random())
    assert writer.stdin is not None and writer.stdout is not None
    writer.stdin.write(json.dumps([key, text]) + "\n")
    writer.stdin.flush()
    committed = float(writer.stdout.readline())
    while True:
        follower.catch_up()
        hits = index.search(wanted, k=1)
        now = time.monotonic()
        if hits and hits[0].key == (key,) and hits[0].score > 0.9999:
            return 1000 * (now - committed)
        if now - committed > LATEST_SECONDS:
            raise SystemExit(f"row {key} wasn't found within {LATEST_SECONDS} s")
        time.sleep(FOLLOW_SECONDS)


def main() -> None:
    """The figures and their targets, last."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--database", choices=_databases.NAMES)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--changes", type=int, default=200)
    given = parser.parse_args()
    service = load(given.folder or default_folder())
    for name in [given.database] if given.database else _databases.NAMES:
        with _databases.opened(name) as database:
            times = sorted(measure(service, database, given.rows, given.changes))
        p50, p99 = statistics.median(times), times[min(len(times) - 1, int(0.99 * len(times)))]
        row = {"changes": len(times), "p50_ms": p50, "p99_ms": p99, "slowest_ms": times[-1]}
        write("P9", {"database": name, **row, "precision": service.info()["precision"]})
        print(f"{name}: {len(times)} changes, slowest {times[-1]:.0f} ms")
        print(
            f"{name}: p50 {p50:.0f} ms: {p50 / P50_TARGET:.2f} of the {P50_TARGET:.0f} ms allowed"
        )
        print(
            f"{name}: p99 {p99:.0f} ms: {p99 / P99_TARGET:.2f} of the {P99_TARGET:.0f} ms allowed"
        )
    service.close()


if __name__ == "__main__":
    main()
