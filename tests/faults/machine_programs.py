"""Programs that run on machines of their own; each reads `ARGS`."""

from __future__ import annotations

WORKER = """
# A worker over a model to compute by hand. `slow`: seconds a call. `pause`: where it waits for a
# line on stdin, once: in the model (`embed`), or in the transaction that publishes, when all but
# the COMMIT has been said (`publish`).
import threading
from likewise.binding.worker import Options, Worker
from likewise.server.databases import open_ends, record
from likewise.stores.postgres_publish import Publisher
from tests.binding_kit import Fake, bars

go, stop = threading.Semaphore(0), threading.Event()
places = [ARGS.get("pause")]

def listen():
    for line in sys.stdin:
        go.release()
    stop.set()
    go.release()

def pause(place):
    if place in places:
        places.remove(place)
        print("paused", place, flush=True)
        go.acquire()

def embed(texts):
    pause("embed")
    time.sleep(ARGS.get("slow", 0))  # not a wait: a model takes time

finish = Publisher._finish
def finish_and_pause(self, *values):
    finish(self, *values)
    pause("publish")
Publisher._finish = finish_and_pause

source, table = open_ends(record(ARGS["address"], ARGS["name"]))
worker = Worker(source, table, Fake(before=embed), bars, options=Options(
    batch_rows=16, most_rows=16, batch_chunks=16, commit_rows=7, reconcile_seconds=None,
    lease_seconds=ARGS.get("lease", 2), idle_seconds=0.05, longest_delay=0.5))
apply, note = table.apply, worker._note

def apply_and_say(actions, **values):
    done = apply(actions, **values)
    print("applied", done, flush=True)
    return done

def note_and_say(error):
    if error is not None:
        print("failed", getattr(error, "code", error), flush=True)
    note(error)

table.apply, worker._note = apply_and_say, note_and_say
threading.Thread(target=listen, daemon=True).start()
print("ready", worker._ledger.holder, flush=True)
worker.run(stop)
source.close()
table.close()
print("done", flush=True)
"""

STATUS = """
# How a binding stands, as this machine sees it.
from likewise.binding.status import status
from likewise.server.databases import ends, record

with ends(record(ARGS["address"], ARGS["name"])) as (source, table):
    now = status(source, table)
print("lag", now.lag_seconds, now.pending, flush=True)
"""
