"""The only printer: results to standard output; progress, warnings and errors to standard error."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from likewise.base.log import JsonFormatter, TextFormatter, logger

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import BinaryIO

    from rich.progress import Progress

    from likewise.base.errors import LikewiseError

Show = Callable[[int, "int | None"], None]
"""Told how much is done, and of how much."""
_log = logger("cli")
_json_records = False
"""Whether standard error is read by a program, which wants nothing there but records."""


def say(text: str = "") -> None:
    """A line of the result."""
    click.echo(_sayable(text, sys.stdout.encoding))


def stdout_bytes() -> BinaryIO:
    """Standard output, for results that are bytes."""
    return sys.stdout.buffer


def counted(number: int, what: str) -> str:
    """`1 row`, `1,234 rows`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def note(text: str) -> None:
    """A line for people that is no part of the result."""
    _note(text, logging.INFO)


def warn(text: str) -> None:
    """Something to know that stops nothing."""
    _note(text, logging.WARNING, click.style("warning: ", fg="yellow"))


def fail(error: LikewiseError) -> None:
    """Why nothing was done."""
    _note(str(error), logging.ERROR, click.style("error: ", fg="red", bold=True))


def usage(wrong: click.ClickException) -> None:
    """What is wrong with the command line, and where its help is."""
    context = getattr(wrong, "ctx", None)
    _note(wrong.format_message(), logging.ERROR, click.style("error: ", fg="red", bold=True))
    if context is not None:
        note(f"See '{context.command_path} --help'.")


def _note(text: str, level: int, before: str = "") -> None:
    """On standard error: for people, or as one more record where records are JSON."""
    line = before + text
    if _json_records:
        record = _log.makeRecord(_log.name, level, "", 0, click.unstyle(text), (), None)
        line = JsonFormatter().format(record)
    click.echo(_sayable(line, sys.stderr.encoding), err=True)


def bug(error: BaseException) -> None:
    """An error that is ours, with all that helps to find it."""
    import traceback

    note("".join(traceback.format_exception(error)))
    note(
        click.style("error: ", fg="red", bold=True)
        + f"{type(error).__name__}: {error}\n"
        + "This is a bug in likewise; please report the lines above."
    )


def json(value: object) -> None:
    """`value` as one line of JSON."""
    import orjson

    text = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
    say(text.decode())


def table(rows: Sequence[Mapping[str, object]], columns: Sequence[str], *, empty: str = "") -> None:
    """Rows under headings, in columns as wide as they need to be."""
    if not rows:
        if empty:
            say(empty)
        return
    cells = [[_cell(row.get(name)) for name in columns] for row in rows]
    widths = [max(len(name), *(len(line[at]) for line in cells)) for at, name in enumerate(columns)]
    heading = "  ".join(name.ljust(width) for name, width in zip(columns, widths, strict=True))
    say(click.style(heading.rstrip(), bold=True))
    for line in cells:
        say("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip())


def pairs(values: Mapping[str, object]) -> None:
    """Names and values, one pair a line."""
    width = max(map(len, values), default=0)
    for name, value in values.items():
        say(f"{click.style(name.ljust(width), bold=True)}  {_cell(value)}")


def emphasis(text: str) -> str:
    """`text` made to stand out where the terminal can."""
    return click.style(text, bold=True)


def faint(text: str) -> str:
    """`text` made to stand back where the terminal can."""
    return click.style(text, dim=True)


def good(text: str) -> str:
    """`text` in the colour of what is well."""
    return click.style(text, fg="green")


def bad(text: str) -> str:
    """`text` in the colour of what isn't."""
    return click.style(text, fg="red")


@contextlib.contextmanager
def bar(what: str, *, total: int | None = None, unit: str = "rows") -> Iterator[Show]:
    """Progress on standard error: call what it gives with how much is done, and of how much.

    It shows the rate and the time left, from the first call on; nothing where there is no
    terminal.
    """
    if not sys.stderr.isatty():
        yield lambda done, of: None
        return
    shown: Progress | None = None

    def show(done: int, of: int | None) -> None:
        nonlocal shown
        if shown is None:
            shown = _progress(unit)
            shown.add_task(what, total=total, rate="")
            shown.start()
        task = shown.tasks[0]
        rate = f"{task.speed:,.0f}/s" if task.speed else ""
        shown.update(task.id, completed=done, total=total if of is None else of, rate=rate)

    try:
        yield show
    finally:
        if shown is not None:
            shown.stop()


def _progress(unit: str) -> Progress:
    # rich costs 50 ms to import: only where a bar is shown.

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}" + f" {unit}"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True))


def log_to_stderr(level: str, form: str = "text") -> None:
    """Show what is logged from `level` upwards; with the form `json`, notes are records too."""
    global _json_records
    _json_records = form == "json"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if _json_records else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(_json_records)


def drop_stdout() -> None:
    """The reader of our output went away: say no more, and don't fail saying so."""
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, sys.stdout.fileno())


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def _sayable(text: str, encoding: str | None) -> str:
    """`text` with what the terminal can't show replaced; a print must not fail on a row's text."""
    return text.encode(encoding or "utf-8", "replace").decode(encoding or "utf-8", "replace")
