"""`likewise demo`: Python's own documentation in a table, bound, embedded, served, searchable."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from likewise.base.clock import monotonic
from likewise.base.errors import SettingsError
from likewise.base.precision import Precision
from likewise.cli import launch, output, resolve
from likewise.cli.options import model_options
from likewise.cli.settings import DEFAULT_HOST, DEFAULT_PORT

if TYPE_CHECKING:
    from likewise.cli.demo_rows import DocRow
    from likewise.server.bindings import LiveBinding

BINDING = "docs"
TABLE = "docs"
TEXT = "{name}\n{doc}"
DEFAULT_FILE = "demo.db"
_POLL_SECONDS = 0.2

_SCHEMA = f"""
CREATE TABLE {TABLE} (
  id INTEGER PRIMARY KEY,
  place TEXT NOT NULL UNIQUE,
  module TEXT NOT NULL,
  name TEXT NOT NULL,
  kind TEXT NOT NULL,
  doc TEXT NOT NULL
)
"""
_INSERT = f"INSERT INTO {TABLE} (place, module, name, kind, doc) VALUES (?, ?, ?, ?, ?)"


@click.command()
@click.option(
    "--db",
    "path",
    type=click.Path(path_type=Path),
    default=DEFAULT_FILE,
    show_default=True,
    help="The SQLite file to make, or to go on with.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True,
    help="Port to listen on; 0 takes a free one.",
)  # fmt: skip
@click.option(
    "--rows", type=click.IntRange(1), default=5200, show_default=True,
    help="How many docstrings to read at most; the first time only.",
)  # fmt: skip
@model_options
def demo(
    path: Path,
    port: int,
    rows: int,
    precision: Precision | None,
    threads: int | None,
    engine: str | None,
    offline: bool | None,
) -> None:
    """See it work: bind Python's documentation and search it.

    The first time it reads the docstrings of the standard library and of the installed packages
    into a SQLite file and embeds them; from then on it goes on where it was. Delete the file to
    begin anew.
    """
    from likewise.base.spec import BindingSpec

    place = resolve.place(offline=offline, precision=precision, threads=threads, engine=engine)
    ensure_rows(path, at_most=rows)
    stopping = threading.Event()
    tellers: list[threading.Thread] = []

    def ready(running: launch.Running) -> None:
        teller = threading.Thread(target=_tell, args=(running, path, stopping), daemon=True)
        tellers.append(teller)
        teller.start()

    try:
        launch.serve(
            launch.Launch(
                place=place,
                specs=(BindingSpec(BINDING, f"sqlite:{path}", TABLE, TEXT),),
                host=DEFAULT_HOST,
                port=port,
            ),
            on_ready=ready,
        )
    finally:
        stopping.set()
        for teller in tellers:
            teller.join()
    output.note("stopped; run it again to go on")


def ensure_rows(path: Path, *, at_most: int) -> int:
    """Fill the table of the demo unless it is there; how many rows it has.

    All rows come in one transaction: a run that is interrupted leaves none of them.

    Raises:
        SettingsError: the file is another database, or its folder isn't there.
        DatabaseError: the file can't be read or written.
    """
    from likewise.cli.demo_rows import documentation
    from likewise.sql.sqlite import Database

    try:
        path.touch()
    except OSError as refused:
        raise SettingsError(
            f"{path} can't be made: {refused.strerror}; choose another with --db", param="db"
        ) from refused
    database = Database(path)
    try:
        with database.read() as db:
            tables = {name for (name,) in db.execute("SELECT name FROM sqlite_schema")}
            if TABLE in tables:
                (count,) = next(iter(db.execute(f"SELECT count(*) FROM {TABLE}")))
                return int(count)
        if tables:
            raise SettingsError(
                f"{path} is another database: it has no table {TABLE}; give a new file with --db",
                param="db",
            )
        output.note("reading the documentation of Python and of the installed packages")
        return _fill(path, documentation(at_most=at_most))
    finally:
        database.close()


def _fill(path: Path, rows: Iterable[DocRow]) -> int:
    from likewise.sql.sqlite import Database, connect, errors_of

    with errors_of(path):
        db = connect(path)
        # With a write-ahead log, other programs read while we write and the other way round.
        db.pragma("journal_mode", "wal")
        db.close()
    database = Database(path)
    try:
        with database.write() as db:
            db.execute(_SCHEMA)
            values = [(row.place, row.module, row.name, row.kind, row.doc) for row in rows]
            db.executemany(_INSERT, values)
            return len(values)
    finally:
        database.close()


def _tell(running: launch.Running, path: Path, stopping: threading.Event) -> None:
    """Show how far the embedding is; when it is done, what to try."""
    (binding,) = running.bindings
    for model in running.models:
        info = model.facts()
        output.note(f"{model.name} runs on {info['engine']} in {info['precision']}")
    output.note(f"open {output.emphasis(running.url)} in a browser; Ctrl-C stops")
    if not _watch(binding, stopping):
        return
    output.say(_suggestions(running, path))


def _watch(binding: LiveBinding, stopping: threading.Event) -> bool:
    """Whether every row was embedded before the end of the program."""
    started, first = monotonic(), None
    said: str | None = None
    with output.bar("embedding") as show:
        while not stopping.is_set():
            state = binding.state()
            trouble = state.get("error")
            if trouble and trouble != said:
                output.warn(said := str(trouble))
            if "current" in state:
                first = state["current"] if first is None else first
                if _is_done(state):
                    break
                show(state["current"], state["rows"])
            stopping.wait(_POLL_SECONDS)
    if stopping.is_set():
        return False
    new, seconds = state["current"] - (first or 0), monotonic() - started
    what = f"embedded {new:,} rows in {seconds:.0f} s ({new / seconds:,.0f}/s)" if new else ""
    output.note(what or f"all {state['current']:,} rows are embedded already")
    if state["parked"]:
        output.warn(f"{state['parked']} rows couldn't be embedded: likewise bind status {BINDING}")
    return True


def _is_done(state: dict[str, Any]) -> bool:
    answered: int = state["current"] + state["parked"]
    return answered >= state["rows"] > 0 and not state["pending"]


def _suggestions(running: launch.Running, path: Path) -> str:
    """Commands that can be run as they are printed, from the folder of this one."""
    model = running.models[0].name
    file = str(path)
    search = f"{_own_command()} search {BINDING} 'how do I bake a cake'"
    if file != DEFAULT_FILE:
        search += f" --db {shlex.quote(file)}"
    update = (
        f"UPDATE {TABLE} SET doc = 'Bake a rhubarb cake: butter, sugar, flour, an hour.' "
        f"WHERE name = '{_some_name(path)}'"
    )
    script = (
        f"import sqlite3; d = sqlite3.connect({file!r}); d.execute({_quoted(update)}); d.commit()"
    )
    python = "python3" if shutil.which("python3") else shlex.quote(sys.executable)
    body = f'{{"model": "{model}", "input": "a vector is a property of a row"}}'
    return f"""
{output.emphasis("Search as you type")}
  {running.url}

{output.emphasis("Search from a shell")}
  {search}

{output.emphasis("Change a row from any SQLite client; within a second the same search finds it")}
  {python} -c {_quoted(script)}
  sqlite3 {shlex.quote(file)} {_quoted(update)}

{output.emphasis("Get vectors of your own texts, as from OpenAI")}
  curl {running.url}/v1/embeddings -H 'Content-Type: application/json' -d {shlex.quote(body)}
"""


def _some_name(path: Path) -> str:
    """A name in the table: the one that most people know, where it is there."""
    from likewise.sql.sqlite import Database

    database = Database(path)
    try:
        with database.read() as db:
            query = f"SELECT name FROM {TABLE} ORDER BY name = 'shutil.copy' DESC, id LIMIT 1"
            (name,) = next(iter(db.execute(query)))
            return str(name)
    finally:
        database.close()


def _quoted(text: str) -> str:
    """`text` in double quotes, for a shell or for Python: easier to read than shlex.quote's."""
    return '"' + re.sub(r'([\\"$`])', r"\\\1", text) + '"'


def _own_command() -> str:
    called = Path(sys.argv[0]).absolute()
    found = shutil.which("likewise")
    if not called.is_file() or (found and Path(found).resolve() == called.resolve()):
        return "likewise"
    if called.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m likewise"
    here = Path.cwd()
    return shlex.quote(str(called.relative_to(here) if called.is_relative_to(here) else called))
