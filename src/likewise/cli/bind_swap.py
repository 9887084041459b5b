"""`likewise bind swap`, `rollback`, `finish`: another model, text or passages without a pause."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from likewise.base.chunking import METAVAR, WAYS
from likewise.base.errors import SettingsError
from likewise.base.spec import DTYPES
from likewise.cli import output, resolve
from likewise.cli.bound import one
from likewise.cli.options import config_option, database_option, model_options

if TYPE_CHECKING:
    from likewise.base.bound import BindingRecord
    from likewise.base.precision import Precision
    from likewise.base.types import Audit
    from likewise.server.generations import Models


@click.command()
@click.argument("name")
@click.option("-m", "--model", metavar="MODEL", help="The model to change to.")
@click.option(
    "--chunk",
    metavar=METAVAR,
    help=f"How long texts are cut from now on. WAY: {', '.join(WAYS)}.",
)
@click.option(
    "--text",
    metavar="TEMPLATE",
    help="The text that stands for a row from now on, written as for 'bind add'.",
)
@click.option("--dtype", type=click.Choice(DTYPES), help="As what numbers vectors are kept.")
@click.option("--abort", is_flag=True, help="Give up the swap that is under way.")
@click.option(
    "--wait/--no-wait",
    default=True,
    show_default=True,
    help="Build and cut over before returning, or only begin: a running server builds it.",
)
@click.option(
    "--allow-parked",
    is_flag=True,
    help="Cut over even if rows that have vectors now can't be embedded any more.",
)
@database_option
@config_option
@model_options
def swap(
    name: str,
    model: str | None,
    chunk: str | None,
    text: str | None,
    dtype: str | None,
    abort: bool,
    wait: bool,
    allow_parked: bool,
    db: str | None,
    config_path: Path,
    precision: Precision | None,
    threads: int | None,
    engine: str | None,
    offline: bool | None,
) -> None:
    """Change a binding's model, text or passages; searches are answered all the while.

    New vectors are built beside the old ones, both follow what is written. When the new ones are
    complete and verified, they answer, from one moment to the next; the old ones are kept and
    followed until 'likewise bind finish'. A swap that was interrupted goes on when it is called
    again.
    """
    from likewise.cli import loading
    from likewise.server import swapping

    record = one(name, db, config_path)
    if abort:
        if model or chunk or text or dtype:
            raise SettingsError("--abort gives up what is under way; name nothing else with it")
        given_up = swapping.abort(record.spec.store_address, name)
        output.note(f"the swap to {given_up.space.model} is given up; {name} is as it was")
        return
    place = resolve.place(offline=offline, precision=precision, threads=threads, engine=engine)
    with contextlib.closing(loading.Models(place)) as models:
        begun = swapping.begin(
            record, models.bound, model=model, chunk=chunk, text=text, dtype=dtype
        )
        if not wait:
            output.note(
                f"generation {begun.generation} is begun; a server that runs the binding builds it."
                f" Cut over with: likewise bind swap {name}"
            )
            return
        _build(begun, models.bound, allow_parked=allow_parked)


def _build(begun: BindingRecord, models: Models, *, allow_parked: bool) -> None:
    from likewise.server import swapping

    name = begun.spec.name
    try:
        with (
            swapping.towards(begun, models, allow_parked=allow_parked) as swap,
            output.bar(f"building {name} with {begun.space.model}") as show,
        ):
            audit = swap.run(lambda now: show(max(0, now.rows - now.pending), now.rows))
    except KeyboardInterrupt:
        output.note(f"go on with: likewise bind swap {name}; or give up with --abort")
        raise
    if audit is not None:
        _say(begun, audit)


def _say(record: BindingRecord, audit: Audit) -> None:
    name = record.spec.name
    output.say(
        f"{name}: generation {record.generation} answers now: {record.space.model}; verified "
        f"{audit.rows:,} rows: {audit.current:,} current, {audit.pending:,} pending, "
        f"{audit.parked:,} parked, 0 wrong"
    )
    output.note(f"back to the old vectors: likewise bind rollback {name}")
    output.note(f"drop the old vectors:    likewise bind finish {name}")


@click.command()
@click.argument("name")
@click.option(
    "--wait/--no-wait",
    default=True,
    show_default=True,
    help="Work off first what those vectors have missed, or go back at once.",
)
@database_option
@config_option
@model_options
def rollback(
    name: str,
    wait: bool,
    db: str | None,
    config_path: Path,
    precision: Precision | None,
    threads: int | None,
    engine: str | None,
    offline: bool | None,
) -> None:
    """Let the vectors from before the last swap answer again; those of now are kept in turn."""
    from likewise.cli import loading
    from likewise.server import swapping

    record = one(name, db, config_path)
    before = swapping.previous(record.spec.store_address, name)
    place = resolve.place(offline=offline, precision=precision, threads=threads, engine=engine)
    with contextlib.closing(loading.Models(place)) as models:
        swapping.roll_back(before, models.bound, wait=wait)
    output.say(f"{name}: generation {before.generation} answers again: {before.space.model}")


@click.command()
@click.argument("name")
@database_option
@config_option
def finish(name: str, db: str | None, config_path: Path) -> None:
    """Drop the vectors from before the last swap: there is no way back then."""
    from likewise.server import swapping

    record = one(name, db, config_path)
    for gone in swapping.finish(record.spec.store_address, name):
        output.note(f"generation {gone.generation} ({gone.space.model}) of {name} is dropped")


COMMANDS = (swap, rollback, finish)
