"""Programs that acceptance tests run in processes of their own; each reads `ARGS`."""

from __future__ import annotations

WRITER = """
# An application: random writes, one after another.
import random, time
from tests.acceptance.applications import open_application
rng = random.Random(ARGS["seed"])
app = open_application(ARGS["kind"], ARGS["where"])
KEYS = 60

def text():
    return "|".join(rng.choice("abcdefgh") * rng.randint(1, 9) for _ in range(rng.randint(1, 3)))

def some(most):
    return {rng.randrange(1, KEYS): text() for _ in range(rng.randint(1, most))}

ACTIONS = [
    *[lambda: app.write(some(1))] * 6,
    *[lambda: app.write(some(8))] * 3,
    *[lambda: app.remove(rng.randrange(1, KEYS))] * 4,
    *[lambda: app.remove(*(rng.randrange(1, KEYS) for _ in range(4)))] * 2,
    *[lambda: app.move(rng.randrange(1, KEYS), rng.randrange(1, KEYS))] * 3,
    lambda: app.undo(some(4)),
    lambda: app.touch(),
]
done, end = 0, time.monotonic() + ARGS["seconds"]
while time.monotonic() < end or done < ARGS.get("least", 0):
    rng.choice(ACTIONS)()
    done += 1
    time.sleep(rng.random() * 0.01)  # not a wait: the moments of the writes are random
if ARGS.get("clear"):
    app.clear()
    app.write(some(20))
print(done)
"""

WORKER = """
# A worker over a model to compute by hand. `slow`: seconds a call; `kill_at`: the name of the step,
# and `kill_after` how many times it is passed, where the process kills itself.
import os, signal, threading, time
from likewise.base.errors import LikewiseError
from likewise.binding.worker import Options, Worker
from likewise.server.databases import open_ends, record
from tests.binding_kit import Fake, bars

passed = 0
def at(step):
    global passed
    if step == ARGS.get("kill_at"):
        passed += 1
        if passed > ARGS.get("kill_after", 0):
            os.kill(os.getpid(), signal.SIGKILL)

worker = Worker(
    *open_ends(record(ARGS["store"], ARGS["name"])),
    # Not a wait: a model takes time, and that is when kills should hit.
    Fake(before=lambda texts: time.sleep(ARGS.get("slow", 0))),
    bars,
    options=Options(batch_rows=ARGS.get("batch", 16), most_rows=ARGS.get("batch", 16),
                    batch_chunks=16, commit_rows=7,
                    reconcile_seconds=None, lease_seconds=ARGS.get("lease", 30),
                    idle_seconds=0.05),
    at=at,
)
print("ready", flush=True)
if ARGS.get("drain"):
    worker.drain()
    worker.close()
else:
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    worker.run(stop)
print("done", flush=True)
"""
