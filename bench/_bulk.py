"""What a bulk load of a Postgres table pays for being bound."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import _texts
import psycopg

from likewise.base.space import Space
from likewise.base.spec import BindingSpec
from likewise.server import databases

BATCH, BODY_CHARACTERS = 1000, 300
SIDES = ("plain", "idle trigger", "bound")
"""`idle trigger`: a statement trigger that is given the new rows and does nothing with them, which
is what Postgres itself takes for telling."""
KINDS = {
    "bare": "id bigint PRIMARY KEY, body text NOT NULL",
    "docs": "id bigint PRIMARY KEY, slug text UNIQUE, body text NOT NULL",
}
"""`docs` is the table of the other benches; `bare` is the cheapest that can be bound."""
Row = tuple[Any, ...]
Load = Callable[[Any, str, Sequence[Row]], None]


def loads(
    address: str, kind: str, rows: int, rounds: int
) -> Iterator[tuple[str, dict[str, float]]]:
    """Of each way to load a table of a kind: its name, and seconds of each side, median `rounds`.

    A worker doesn't run; tables and outbox are emptied, and all is written to disk, before each.
    """
    # Without what COPY reads as an escape.
    text = " ".join(_texts.mixed(100)[0]).replace("\\", "")
    bodies = (text[at % 1000 : at % 1000 + BODY_CHARACTERS] for at in range(rows))
    data: list[Row] = [
        (at, body) if kind == "bare" else (at, f"s{at}", body) for at, body in enumerate(bodies)
    ]
    with psycopg.connect(address, autocommit=True) as db:
        _prepare(db, address, KINDS[kind], data)
        for name, load in WAYS.items():
            times: dict[str, list[float]] = {side: [] for side in SIDES}
            for at in range(rounds):
                for turn in range(len(SIDES)):
                    side = SIDES[(at + turn) % len(SIDES)]
                    times[side].append(_timed(db, load, side, data))
            yield name, {side: statistics.median(each) for side, each in times.items()}


def _prepare(db: Any, address: str, columns: str, data: Sequence[Row]) -> None:
    for name in ("stage", *SIDES):
        db.execute(f'CREATE TABLE "{name}" ({columns})')
    _copy(db, "stage", data)
    db.execute(
        "CREATE FUNCTION idle() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
    )
    db.execute(
        'CREATE TRIGGER idle AFTER INSERT ON "idle trigger" REFERENCING NEW TABLE AS n'
        " FOR EACH STATEMENT EXECUTE FUNCTION idle()"
    )
    record = databases.create(
        BindingSpec("bulk", address, "bound", "{body}"),
        Space("none", "00", "mean", 8, False, chunker="none"),
    )
    source, table = databases.open_ends(record)
    with closing(source), closing(table):
        source.attach()


def _timed(db: Any, load: Load, side: str, data: Sequence[Row]) -> float:
    db.execute(f'TRUNCATE "{side}", likewise.bulk_outbox')
    db.execute("CHECKPOINT")
    began = time.perf_counter()
    load(db, side, data)
    took = time.perf_counter() - began
    sql = "SELECT coalesce(sum(cardinality(k1)), 0) FROM likewise.bulk_outbox WHERE op = 'upsert'"
    noted = db.execute(sql).fetchone()[0]
    if noted != (len(data) if side == "bound" else 0):
        raise SystemExit(f"{noted:,} keys of {len(data):,} were noted")
    return took


def _select(db: Any, side: str, data: Sequence[Row]) -> None:
    db.execute(f'INSERT INTO "{side}" SELECT * FROM stage')


def _copy(db: Any, side: str, data: Sequence[Row]) -> None:
    with db.cursor().copy(f'COPY "{side}" FROM STDIN') as copy:
        for at in range(0, len(data), BATCH):
            copy.write("".join("\t".join(map(str, row)) + "\n" for row in data[at : at + BATCH]))


def _arrays(db: Any, side: str, data: Sequence[Row]) -> None:
    arrays = ", ".join(["%s::bigint[]"] + ["%s::text[]"] * (len(data[0]) - 1))
    for at in range(0, len(data), BATCH):
        columns = [list(column) for column in zip(*data[at : at + BATCH], strict=True)]
        db.execute(f'INSERT INTO "{side}" SELECT * FROM unnest({arrays})', columns)


def _executemany(db: Any, side: str, data: Sequence[Row]) -> None:
    for at in range(0, len(data), BATCH):
        with db.transaction(), db.cursor() as cursor:
            marks = ", ".join(["%s"] * len(data[0]))
            cursor.executemany(f'INSERT INTO "{side}" VALUES ({marks})', data[at : at + BATCH])


WAYS: dict[str, Load] = {
    "INSERT ... SELECT": _select,
    "COPY": _copy,
    f"{BATCH:,} rows a statement": _arrays,
    f"executemany, {BATCH:,} statements a commit": _executemany,
}
