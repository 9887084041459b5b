"""Programs that fault tests run in processes of their own; each reads `ARGS`."""

from __future__ import annotations

WRITER = """
# An application: random writes with Python's own sqlite3, nothing of ours imported.
import random, sqlite3, time
rng = random.Random(ARGS["seed"])
db = sqlite3.connect(ARGS["path"], timeout=60, isolation_level=None)
db.execute("PRAGMA foreign_keys = 1")
db.execute(f"PRAGMA recursive_triggers = {rng.randrange(2)}")
KEYS, SLUGS = 60, 40

def text():
    return "|".join(rng.choice("abcdefgh") * rng.randint(1, 9) for _ in range(rng.randint(0, 3)))

def key():
    return rng.choice([rng.randrange(KEYS), f"k{rng.randrange(KEYS)}", b"%d" % rng.randrange(9)])

def slug():
    return rng.choice([None, f"s{rng.randrange(SLUGS)}", f"S{rng.randrange(SLUGS)}"])

def owner():
    db.execute("INSERT OR IGNORE INTO owners VALUES (?)", (rng.randrange(6),))
    return rng.choice([None, *(row[0] for row in db.execute("SELECT id FROM owners"))])

def insert(verb):
    db.execute(f"{verb} INTO docs (id, slug, title, body, other, owner) VALUES (?, ?, ?, ?, ?, ?)",
               (key(), slug(), text(), text(), rng.random(), owner()))

def upsert():
    db.execute("INSERT INTO docs (id, slug, title) VALUES (?, NULL, ?) ON CONFLICT (id)"
               " DO UPDATE SET title = excluded.title, body = NULL", (key(), text()))

def update(verb, column, value):
    db.execute(f"{verb} docs SET {column} = ? WHERE id = ?", (value, key()))

ACTIONS = [
    *[lambda: insert("INSERT")] * 4,
    *[lambda: insert("INSERT OR REPLACE")] * 4,
    lambda: insert("INSERT OR IGNORE"),
    lambda: insert("REPLACE"),
    *[upsert] * 2,
    *[lambda: update("UPDATE", "title", text())] * 4,
    *[lambda: update("UPDATE OR REPLACE", "slug", slug())] * 3,
    lambda: update("UPDATE OR IGNORE", "slug", slug()),
    lambda: update("UPDATE", "other", rng.random()),
    *[lambda: update("UPDATE OR REPLACE", "id", key())] * 2,
    lambda: update("UPDATE", "id", key()),
    lambda: db.execute("UPDATE docs SET body = title WHERE slug > ?", (slug() or "s",)),
    *[lambda: db.execute("DELETE FROM docs WHERE id = ?", (key(),))] * 4,
    lambda: db.execute("DELETE FROM owners WHERE id = ?", (rng.randrange(6),)),
    lambda: db.execute("UPDATE OR REPLACE owners SET id = ? WHERE id = ?",
                       (rng.randrange(6), rng.randrange(6))),
    lambda: db.execute("DELETE FROM docs WHERE slug LIKE ?", (f"s{rng.randrange(10)}%",)),
]

def act():
    try:
        rng.choice(ACTIONS)()
    except sqlite3.IntegrityError:
        pass

def transaction():
    db.execute("BEGIN IMMEDIATE")
    for _ in range(rng.randint(1, 6)):
        if rng.random() < 0.2:
            db.execute("SAVEPOINT s")
            for _ in range(rng.randint(1, 3)):
                act()
            db.execute("ROLLBACK TO s" if rng.random() < 0.6 else "RELEASE s")
        else:
            act()
    db.execute("ROLLBACK" if rng.random() < 0.2 else "COMMIT")

done, end = 0, time.monotonic() + ARGS["seconds"]
while time.monotonic() < end:
    act() if rng.random() < 0.4 else transaction()
    done += 1
    time.sleep(rng.random() * 0.006)
print(done)
"""

SCHEMA = (
    "CREATE TABLE owners (id INTEGER PRIMARY KEY);"
    "CREATE TABLE docs (id PRIMARY KEY NOT NULL, slug TEXT COLLATE NOCASE UNIQUE, title TEXT,"
    " body TEXT, other REAL, owner REFERENCES owners ON DELETE CASCADE ON UPDATE CASCADE);"
)

WORKER = """
# A worker over a model to compute by hand. `slow`: seconds a call; `kill_at`: the name of the step,
# and `kill_after` how many times it is passed, where the process kills itself.
import os, signal, threading, time
from likewise.binding.worker import Options, Worker
from likewise.server.databases import open_ends, record
from likewise.stores import publish
from tests.binding_kit import Fake, bars, unfence

def die():
    os.kill(os.getpid(), signal.SIGKILL)

if ARGS.get("unfenced"):
    unfence()

passed = 0
def at(step):
    global passed
    if step == ARGS.get("kill_at"):
        passed += 1
        if passed > ARGS.get("kill_after", 0):
            die()

if ARGS.get("kill_at") == "inside":
    # In the middle of the transaction that publishes: some rows written, none committed.
    one = publish.Publisher._one
    def dying(self, action, blobs):
        made = one(self, action, blobs)
        at("inside")
        return made
    publish.Publisher._one = dying

worker = Worker(
    *open_ends(record("sqlite:" + ARGS["path"], "docs")),
    Fake(before=lambda texts: time.sleep(ARGS.get("slow", 0))),
    bars,
    options=Options(batch_rows=ARGS.get("batch", 16), most_rows=ARGS.get("batch", 16),
                    batch_chunks=16, commit_rows=7,
                    reconcile_seconds=None, lease_seconds=ARGS.get("lease", 30)),
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
