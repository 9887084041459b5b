"""`likewise bind run`, `retry`, `pause`, `resume`: workers without a server, and their stops."""

from __future__ import annotations

import contextlib
import functools
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from likewise.base.errors import BindingNotFound
from likewise.cli import output, resolve
from likewise.cli.bound import one, several
from likewise.cli.options import config_option, database_option, model_options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from likewise.base.precision import Precision
    from likewise.server.bindings import LiveBinding

_LOOK_S = 0.2
_TELL_EVERY = 50
"""Looks between two lines on a terminal."""


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--workers",
    default=1,
    show_default=True,
    type=click.IntRange(1, 64),
    help="Workers of each binding in this process; where one works at a time, the others wait.",
)
@database_option
@config_option
@model_options
def run(
    names: tuple[str, ...],
    workers: int,
    db: str | None,
    config_path: Path,
    precision: Precision | None,
    threads: int | None,
    engine: str | None,
    offline: bool | None,
) -> None:
    """Keep vectors in step with their rows until SIGTERM or Ctrl-C, without a server.

    Without NAME, all bindings of the database. Several of these may run at once, also on several
    machines; all generations of a binding are worked on.
    """
    from likewise.cli import catalogue
    from likewise.cli.launch import all_stop
    from likewise.server.bindings import LiveBinding

    records = several(names, db, config_path)
    if not records:
        raise BindingNotFound("there is no binding to work on; make one with: likewise bind add")
    place = resolve.place(offline=offline, precision=precision, threads=threads, engine=engine)
    with contextlib.ExitStack() as cleanup:
        stop = cleanup.enter_context(_asked_to_stop())
        models = cleanup.enter_context(catalogue.opened(place, resolve.Keeping()))
        live: list[LiveBinding] = []
        cleanup.callback(all_stop, live, models)
        for record in records:
            bound = functools.partial(models.bound, binding=record.spec.name)
            released = functools.partial(models.unbound, binding=record.spec.name)
            for _ in range(workers):
                made = LiveBinding(record, bound, is_searchable=False, release=released)
                live.append(made)
                made.start()
        shown = ", ".join(record.spec.name for record in records)
        output.note(f"working on {shown} (Ctrl-C stops)")
        _watch(live, stop)
    output.note("stopped")


@contextlib.contextmanager
def _asked_to_stop() -> Iterator[threading.Event]:
    """Set by SIGTERM and SIGINT, so that leases are given back."""
    stop = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stop.set())
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch(live: list[LiveBinding], stop: threading.Event) -> None:
    """Wait; say what is in the way when that changes, and on a terminal how it stands.

    Raises:
        BindingNotFound: a binding was dropped.
    """
    said: dict[str, str | None] = {}
    looks = 0
    while not stop.wait(_LOOK_S):
        for each in live:
            if each.gone is not None:
                raise each.gone
            if (trouble := each.trouble) != said.get(each.name):
                said[each.name] = trouble
                output.warn(f"{each.name}: {trouble or 'goes on'}")
        looks += 1
        if sys.stderr.isatty() and looks % _TELL_EVERY == 1:
            for each in {one.name: one for one in live}.values():
                output.note(_line(each))


def _line(live: LiveBinding) -> str:
    state = live.state()
    if "rows" not in state:
        return f"{live.name}: {state.get('error')}"
    return (
        f"{live.name}: {state['rows']:,} rows, {100 * state['coverage']:.1f} % current, "
        f"{state['pending']:,} pending, {state['parked']:,} parked, "
        f"{state['rows_per_second']:,.0f} rows/s"
    )


@click.command()
@click.argument("name")
@database_option
@config_option
def retry(name: str, db: str | None, config_path: Path) -> None:
    """Put the rows that couldn't be embedded back on the queue."""
    from likewise.server.databases import retry_parked

    count = retry_parked(one(name, db, config_path))
    output.say(f"{name}: {count:,} rows are tried again")
    if count:
        output.note("a running server does it now; or: likewise bind run")


@click.command()
@click.argument("name")
@database_option
@config_option
def pause(name: str, db: str | None, config_path: Path) -> None:
    """Stop all workers of a binding, wherever they run; changes go on being noted."""
    from likewise.server.databases import pause as pause_binding

    pause_binding(one(name, db, config_path), True)
    output.say(f"{name} is paused; let it go on with: likewise bind resume {name}")


@click.command()
@click.argument("name")
@click.option(
    "--accept-deletes",
    is_flag=True,
    help="Rows that went all at once are meant to be gone: remove their vectors.",
)
@database_option
@config_option
def resume(name: str, accept_deletes: bool, db: str | None, config_path: Path) -> None:
    """Let a paused binding go on, or one that doubts that so many rows are meant to be gone."""
    from likewise.server.databases import pause as pause_binding

    pause_binding(one(name, db, config_path), False, accept_deletes=accept_deletes)
    output.say(f"{name} goes on")


COMMANDS = (run, retry, pause, resume)
