"""Does a binding in Postgres hold while three workers fill it and an application goes on writing?

    python bench/postgres.py [--rows 100000] [--rate 200] [--changes 3000] [--rounds 7]

Queue: a table of `--rows` texts is bound and three processes of `likewise bind run` fill it. All
the while another process, with psycopg and nothing of ours, makes `--rate` changes a second
(inserts, updates and deletes, each a commit). When the table is filled it makes `--changes` more at
that rate, of rows that it hasn't touched yet, and says when each commit returned. The lag of a
change is from then until it can be seen in the store's feed, which indexes follow (looked at every
10 ms). At the end nothing may wait, be missing, stale or orphaned. The model is a table of random
token vectors, as the subject is the queue: it really embeds each text, and takes next to no time.

Inserts: what a bulk load takes of the application's time with and without a binding, by turns, into
a table like that one (key, unique column, text), and into a bare one without the unique column.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _bulk
import _databases
import _texts
import psycopg
import static
from _report import write

from likewise.binding.reconcile import verify
from likewise.server import databases

LIKEWISE = [sys.executable, "-m", "likewise"]
WORKERS, LAG_TARGET_S, INSERT_TARGET = 3, 1.0, 1.15
LOOK_S, PATIENCE_S = 0.01, 900.0
SPARED = 10
"""One row in so many isn't touched until the table is filled."""

WRITER = """
import json, random, sys, threading, time
address, rows, rate, changes, spared = json.loads(sys.argv[1])
db = connect(address)
pick = random.Random(7)
known = [at for at in range(rows) if at % spared]
untouched = [at for at in range(rows) if not at % spared]
pick.shuffle(untouched)
filled = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), filled.set()), daemon=True).start()
new, began, made, last = rows, time.monotonic(), 0, 0

def taken():
    if last:
        return untouched.pop()
    at = pick.randrange(len(known))
    known[at], known[-1] = known[-1], known[at]
    return known.pop()

def change():
    global new
    kind = pick.random()
    text = f"a text changed for the {made}th time, {pick.random()}"
    if kind < 0.4:
        new += 1
        db.execute("INSERT INTO docs VALUES (%s, %s, %s)", (new, f"s{new}", text))
        key = new
    elif kind < 0.8:
        key = taken()
        db.execute("UPDATE docs SET body = %s WHERE id = %s", (text, key))
    else:
        key = taken()
        db.execute("DELETE FROM docs WHERE id = %s", (key,))
        return key
    if not last:
        known.append(key)
    return key

slowest = 0.0
while not last or made < last + changes:
    if not last and filled.is_set():
        last, began_last = made, time.monotonic()
    due = began + made / rate
    # The rate is what is asked for: each change has its moment.
    time.sleep(max(0.0, due - time.monotonic()))
    key = change()
    at = time.monotonic()
    slowest = max(slowest, at - due)
    made += 1
    if last:
        print(json.dumps([key, at]), flush=True)
end = time.monotonic()
print(json.dumps({"changes_while_filling": last, "rate_while_filling": last / (began_last - began),
                  "changes_after": changes, "rate_after": changes / (end - began_last),
                  "latest_s": slowest}))
"""


def main() -> None:
    """Both questions, the figures with their targets last."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--changes", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    with _databases.postgres_server() as server:
        database = _databases.Postgres(server)
        loaded: dict[str, Any] = {}
        if given.rounds:
            for kind in _bulk.KINDS:
                for way, seconds in _bulk.loads(database.new(), kind, given.rows, given.rounds):
                    loaded[f"{kind}: {way}"] = seconds
                    shown = ", ".join(f"{side} {took:.3f} s" for side, took in seconds.items())
                    print(f"{kind}: {way}: {shown}", flush=True)
        with tempfile.TemporaryDirectory() as place:
            found = queue(database, Path(place), given.rows, given.rate, given.changes)
    print(write("postgres", {"rows": given.rows, **found, "loads": loaded}))
    for way, seconds in loaded.items():
        idle = seconds["idle trigger"] / seconds["plain"]
        ratio = seconds["bound"] / seconds["plain"]
        print(f"{way}: {ratio:.2f} x (at most {INSERT_TARGET}); {idle:.2f} x with an idle trigger")
    print(f"filled: {found['rows_per_second']:,.0f} rows/s with {WORKERS} workers")
    print(
        f"lag: p50 {found['lag_p50_s']:.3f} s, p99 {found['lag_p99_s']:.3f} s (<= {LAG_TARGET_S})"
    )
    print(f"verify: {found['verify']}")


def queue(
    database: _databases.Postgres, place: Path, rows: int, rate: float, changes: int
) -> dict[str, Any]:
    """Fill under changes, then changes alone; what was measured."""
    static.write(place / "model")
    address = database.new()
    texts, _ = _texts.mixed(rows)
    # Each is of its own, so that each is embedded.
    database.fill(address, [f"{text} {at}" for at, text in enumerate(texts)])
    added = ["bind", "add", "docs", "--source", address, "--table", "docs", "--text", "{body}"]
    subprocess.run([*LIKEWISE, *added, "--model", str(place / "model"), "--no-wait"], check=True)
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        # The writer goes first, so that workers begin beside it.
        writer = stack.enter_context(_writer(database.program, address, rows, rate, changes))
        for number in range(WORKERS):
            stack.enter_context(_worker(address, place / f"worker{number}.log"))
        db = stack.enter_context(psycopg.connect(address, autocommit=True))
        seconds = _filled(db, rows, began)
        lags, told = _lags(db, writer, changes)
        _quiet(db)
    with databases.ends(databases.record(address, "docs")) as (source, table):
        audit = verify(source, table, repair=False)
        pending, waiting = len(table.pending()), source.waiting()[0]
    if not audit.is_clean or audit.pending or pending or waiting:
        raise SystemExit(f"changes were lost: {audit}, {pending} pending, {waiting} waiting")
    return {
        "workers": WORKERS,
        "filled_s": seconds,
        "rows_per_second": rows / seconds,
        **told,
        "lag_p50_s": statistics.median(lags),
        "lag_p99_s": statistics.quantiles(lags, n=100, method="inclusive")[98],
        "lag_most_s": max(lags),
        "verify": {
            each: getattr(audit, each)
            for each in ("rows", "current", "missing", "stale", "orphan", "parked", "pending")
        },
    }


@contextlib.contextmanager
def _worker(address: str, log: Path) -> Iterator[None]:
    """A process that works on the binding until the block ends."""
    with log.open("wb") as output:
        argv = [*LIKEWISE, "bind", "run", "docs", "--db", address]
        process = subprocess.Popen(argv, stdout=output, stderr=output)
        try:
            yield
        finally:
            process.terminate()
            code = process.wait()
    if code:
        raise SystemExit(f"a worker ended with {code}: {log.read_text(encoding='utf-8')}")


@contextlib.contextmanager
def _writer(
    program: str, address: str, rows: int, rate: float, changes: int
) -> Iterator[subprocess.Popen[str]]:
    given = json.dumps([address, rows, rate, changes, SPARED])
    command = [sys.executable, "-c", program + WRITER, given]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _filled(db: Any, rows: int, began: float) -> float:
    """Wait until all that was there has vectors; seconds since `began`."""
    told, last = began, None
    while True:
        stored, spared, first, newest, comparing = db.execute(
            "SELECT (SELECT count(*) FROM likewise.docs_row),"
            f" (SELECT count(*) FROM likewise.docs_row WHERE key_id < {rows}"
            f" AND key_id % {SPARED} = 0), (SELECT min(seq) FROM likewise.docs_log),"
            " (SELECT coalesce(max(seq), 0) FROM likewise.docs_log),"
            " reconcile_wanted > reconcile_done FROM likewise.binding"
        ).fetchone()
        now = time.monotonic()
        if last is None and not comparing:
            # Whatever the comparison asked for is among what waits now; changes never stop.
            last = newest
        if last is not None and (first or last + 1) > last and spared == -(-rows // SPARED):
            print(f"filled after {now - began:.1f} s", flush=True)
            return now - began
        if now - told > 5:
            told = now
            print(f"{now - began:.0f} s: {stored:,} rows stored", flush=True)
        if now - began > PATIENCE_S:
            raise SystemExit(f"the table wasn't filled after {PATIENCE_S} s")
        time.sleep(0.5)  # only looks how far the workers are


def _lags(
    db: Any, writer: subprocess.Popen[str], changes: int
) -> tuple[list[float], dict[str, Any]]:
    """Let the writer make its last changes: seconds until each was seen, and what it told."""
    assert writer.stdin is not None and writer.stdout is not None
    lines: list[Any] = []
    output = writer.stdout
    reader = threading.Thread(target=lambda: lines.extend(map(json.loads, output)))
    version = db.execute("SELECT version FROM likewise.binding").fetchone()[0]
    reader.start()
    writer.stdin.write("go\n")
    writer.stdin.flush()
    seen: dict[int, float] = {}
    until = time.monotonic() + PATIENCE_S
    while reader.is_alive() or any(key not in seen for key, _ in lines[:changes]):
        found = db.execute(
            "SELECT version, key_id FROM likewise.docs_feed WHERE version > %s ORDER BY version",
            (version,),
        ).fetchall()
        now = time.monotonic()
        for _, key in found:
            # Each key of these is changed once.
            seen.setdefault(key, now)
        version = found[-1][0] if found else version
        if now > until:
            raise SystemExit("not every change was seen")
        time.sleep(LOOK_S)  # far less than the lags that are measured
    return [seen[key] - at for key, at in lines[:changes]], lines[changes]


def _quiet(db: Any) -> None:
    """Wait until nothing is left to do."""
    until = time.monotonic() + PATIENCE_S
    sql = (
        "SELECT EXISTS (SELECT FROM likewise.docs_log) OR EXISTS (SELECT FROM likewise.docs_outbox)"
    )
    while db.execute(sql).fetchone()[0]:
        if time.monotonic() > until:
            raise SystemExit("the log isn't empty")
        time.sleep(0.1)  # the workers are given time, up to `until`


if __name__ == "__main__":
    main()
