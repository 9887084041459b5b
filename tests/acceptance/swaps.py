"""What tests of model swaps share: a binding of the first model, how a generation stands."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import apsw
import numpy as np

from likewise.base.bound import BindingRecord
from likewise.base.spec import scheme_of
from likewise.binding.reconcile import verify
from likewise.binding.worker import Options
from likewise.server import databases, swapping
from tests.acceptance.models import MODELS, Telling, models
from tests.acceptance.rigs import NAME, Rig
from tests.binding_kit import bars

OPTIONS = Options(
    batch_rows=16, most_rows=16, batch_chunks=16, reconcile_seconds=None, idle_seconds=0.05
)
NEW = "telling/1"
PREFIX = "new: "
"""The second generation has another text too, so that a row tells which source read it."""

SWAP = """
# A swap to the second model; `kill_at` is the step at which the process kills itself.
import os, signal
from likewise.server import databases, swapping
from tests.acceptance.models import models
from tests.acceptance.swaps import NEW, OPTIONS

def at(step):
    if step == ARGS.get("kill_at"):
        os.kill(os.getpid(), signal.SIGKILL)

record = databases.record(ARGS["store"], ARGS["name"])
begun = swapping.begin(record, models, model=NEW, text=ARGS["text"])
at("begun")
with swapping.towards(begun, models, options=OPTIONS, at=at) as swap:
    swap.run()
print("done", flush=True)
"""


def begun(rig: Rig, rows: int = 40) -> BindingRecord:
    """The rig's binding, made for the first model instead, with its rows embedded."""
    databases.drop(rig.spec.store_address, NAME)
    first = MODELS["telling/0"]
    spec = dataclasses.replace(rig.spec, model=first.label)
    rig.record = databases.create(spec, first.space.with_chunker(spec.chunk))
    rig.app.write({number: f"t{number}|{number}" for number in range(1, rows + 1)})
    work(rig.record)
    return rig.record


def new_text(rig: Rig) -> str:
    return PREFIX + rig.spec.text


def work(record: BindingRecord) -> None:
    """Work off what waits for one generation."""
    with swapping.towards(record, models, options=OPTIONS) as towards:
        towards.level()


def swap(rig: Rig, **options: Any) -> BindingRecord:
    """Swap to the second model; gives the generation that answers now."""
    built = swapping.begin(rig.record, models, model=NEW, text=new_text(rig))
    with swapping.towards(built, models, options=OPTIONS, **options) as towards:
        assert towards.run() is not None
    return databases.record(rig.spec.store_address, NAME)


def generations(rig: Rig) -> list[BindingRecord]:
    with databases.bindings_of(rig.spec.store_address) as bindings:
        return bindings.generations(NAME)


def states(rig: Rig) -> dict[int, str]:
    return {each.generation: each.state for each in generations(rig)}


def assert_holds(rig: Rig, record: BindingRecord, model: Telling | None = None) -> None:
    """At rest, a generation has the vectors of the rows as they are, by its model, of its text."""
    model = model or models(record.spec.model)
    prefix = PREFIX if record.spec.text.startswith(PREFIX) else ""
    with databases.ends(record) as (source, table):
        assert table.pending() == set()
        assert source.waiting() == (0, None)
        audit = verify(source, table, repair=False)
        assert audit.is_clean, audit
        found = {
            (key, chunk.ordinal): vector
            for block in table.scan()
            for key, chunk, vector in zip(block.keys, block.chunks, block.vectors, strict=True)
        }
    wanted = {}
    for number, text in rig.app.rows().items():
        whole = (prefix + text).strip()
        for chunk in bars([whole])[0]:
            passage = whole[chunk.start : chunk.end]
            wanted[rig.key_of(number), chunk.ordinal] = model.vector(passage)
    assert found.keys() == wanted.keys()
    for at, vector in wanted.items():
        assert np.array_equal(found[at], vector), at


def objects(rig: Rig) -> set[str]:
    """What of ours lies in the SQLite files of source and store."""
    found = set()
    for address in {rig.spec.source, rig.spec.store_address}:
        path = Path(address.partition(":")[2])
        if scheme_of(address) == "sqlite" and path.is_file():
            db = apsw.Connection(str(path))
            names = db.execute("SELECT name FROM sqlite_schema WHERE name LIKE '%likewise%'")
            found |= {f"{path.name}: {name}" for (name,) in names}
            db.close()
    return found
