"""`likewise bind status` and `bind parked`: how far vectors have followed their rows."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from likewise.base.errors import LikewiseError
from likewise.base.same import escapes_notice
from likewise.base.spec import without_password
from likewise.cli import output
from likewise.cli.bound import one, several
from likewise.cli.options import config_option, database_option, json_option

if TYPE_CHECKING:
    from likewise.base.bound import BindingRecord
    from likewise.binding.status import Meter

_COLUMNS = (
    "name",
    "table",
    "rows",
    "current",
    "pending",
    "parked",
    "coverage",
    "lag",
    "rows/s",
    "left",
    "state",
    "generation",
    "model",
)
Meters = dict[tuple[str, int], "Meter"]


@click.command()
@click.argument("name", required=False)
@click.option(
    "--watch",
    "watch_s",
    type=click.FloatRange(0.1),
    metavar="SECONDS",
    help="Show it again every so many seconds, with rows a second, until Ctrl-C.",
)
@database_option
@config_option
@json_option
def status(
    name: str | None, watch_s: float | None, db: str | None, config_path: Path, as_json: bool
) -> None:
    """Show how far each binding's vectors have followed its rows.

    A generation that a swap builds, or that is kept to go back to, has a line of its own.
    """
    meters: Meters = {}
    names = () if name is None else (name,)
    with contextlib.suppress(KeyboardInterrupt) if watch_s else contextlib.nullcontext():
        while True:
            _show([_state(each, meters) for each in several(names, db, config_path)], as_json)
            if watch_s is None:
                return
            threading.Event().wait(watch_s)


@click.command()
@click.argument("name")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1), help="At most.")
@database_option
@config_option
@json_option
def parked(name: str, limit: int, db: str | None, config_path: Path, as_json: bool) -> None:
    """List the rows that couldn't be embedded, and why."""
    from datetime import UTC, datetime

    from likewise.server.databases import ends

    with ends(one(name, db, config_path)) as (_, vectors):
        found = vectors.parked(limit)
    rows = [
        {
            # A document of a folder has no second part.
            "key": "/".join(str(part) for part in each.key if part != ""),
            "error": each.error,
            "attempts": each.attempts,
            "at": datetime.fromtimestamp(each.at, UTC).isoformat(timespec="seconds"),
        }
        for each in found
    ]
    if as_json:
        output.json([row | {"key": list(each.key)} for row, each in zip(rows, found, strict=True)])
        return
    output.table(rows, ("key", "at", "attempts", "error"), empty="no row is parked")
    if found:
        output.note(f"try them again with: likewise bind retry {name}")


def _state(record: BindingRecord, meters: Meters) -> dict[str, Any]:
    """A binding as it stands, with its generations; one that can't be read says why."""
    from likewise.server.databases import bindings_of

    with bindings_of(record.spec.store_address) as bindings:
        there = bindings.generations(record.spec.name)
    # The one that answers first.
    there.sort(key=lambda each: (each.state != "current", each.generation))
    seen = [_generation(each, meters) for each in there]
    about = {
        "name": record.spec.name,
        "table": record.spec.table or record.spec.source,
        "database": without_password(record.spec.store_address),
    }
    return seen[0] | about | {"generations": seen}


def _generation(record: BindingRecord, meters: Meters) -> dict[str, Any]:
    from likewise.binding.status import Meter, status
    from likewise.server.databases import ends

    about: dict[str, Any] = {
        "name": record.spec.name,
        "generation": record.generation,
        "generation_state": record.state,
        "model": record.space.model,
        "chunk": record.spec.chunk,
        "text": record.spec.text,
        "text_notice": escapes_notice(record),
    }
    try:
        with ends(record) as (rows, vectors):
            now = status(rows, vectors)
    except LikewiseError as unreadable:
        return about | {"state": "failing", "error": str(unreadable)}
    meter = meters.setdefault((record.spec.name, record.generation), Meter())
    rate, left = meter.rate(now), meter.left(now)
    seen = dataclasses.asdict(now) | {"coverage": now.coverage}
    return seen | about | {"rows_per_second": rate, "seconds_left": left}


def _show(states: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        output.json(states)
        return
    lines = [line for state in states for line in _lines(state)]
    output.table(lines, _COLUMNS, empty="no binding yet; make one with: likewise bind add --help")
    for state in states:
        for each in state["generations"]:
            for said in ("error", "text_notice"):
                if each.get(said):
                    output.warn(f"{state['name']}: {each[said]}")


def _lines(state: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for each in state["generations"]:
        line = each | {"table": state["table"]}
        line["generation"] = f"{each['generation']} {each['generation_state']}"
        if "rows" in each:
            left = each["seconds_left"]
            line |= {
                "coverage": f"{100 * each['coverage']:.1f} %",
                "lag": f"{each['lag_seconds']:.1f} s",
                "rows/s": f"{each['rows_per_second']:,.0f}" if each["rows_per_second"] else None,
                "left": None if left is None or not each["pending"] else f"{left:,.0f} s",
            }
        yield line


COMMANDS = (status, parked)
