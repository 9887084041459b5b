"""`likewise bind`: make, check and drop bindings; further commands are in files of their own."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from likewise.base.chunking import DEFAULT_CHUNK, METAVAR, WAYS
from likewise.base.spec import DEFAULT_MODEL, DTYPES, BindingSpec, without_password
from likewise.cli import bind_status, bind_swap, bind_work, output, overriding, resolve
from likewise.cli.bound import one
from likewise.cli.groups import Group
from likewise.cli.options import config_option, database_option, json_option, model_options

if TYPE_CHECKING:
    from likewise.base.bound import BindingRecord, BoundSource, BoundTable
    from likewise.base.precision import Precision


@click.group(cls=Group)
def bind() -> None:
    """Keep a table's vectors in step with its rows."""


@bind.command()
@click.argument("name")
@click.option(
    "--source",
    required=True,
    metavar="ADDRESS",
    help="Where the rows are: sqlite:PATH, duckdb:PATH, postgresql://... or files:FOLDER.",
)
@click.option("--table", default="", help="The table or view whose rows are embedded.")
@click.option("--query", default="", metavar="SELECT", help="A query in place of a table.")
@click.option(
    "--glob", default="", metavar="PATTERNS", help="Which files, such as '**/*.md, !drafts/'."
)
@click.option(
    "--store",
    default="",
    metavar="ADDRESS",
    help="Where vectors are kept: sqlite:PATH, duckdb:PATH or postgresql://... Default: the "
    "source's own database.",
)
@click.option(
    "--text",
    required=True,
    metavar="TEMPLATE",
    help="The text that stands for a row, such as '{title}\\n{body}': \\n is a line end, \\t a "
    "tab, \\\\ a backslash, {{ a brace.",
)
@click.option(
    "--key",
    multiple=True,
    metavar="COLUMN",
    help="A column that names a row for good; repeat it for several. Default: the primary key.",
)
@click.option("-m", "--model", default=DEFAULT_MODEL, show_default=True, metavar="MODEL")
@click.option(
    "--chunk",
    default=DEFAULT_CHUNK,
    show_default=True,
    metavar=METAVAR,
    help=f"How long texts are cut into passages, counted in tokens. WAY: {', '.join(WAYS)}.",
)
@click.option(
    "--dtype",
    type=click.Choice(DTYPES),
    default=DTYPES[0],
    show_default=True,
    help="As what numbers vectors are kept; float16 in Postgres only (halfvec).",
)
@click.option(
    "--wait/--no-wait",
    default=True,
    show_default=True,
    help="Embed what is there before returning, or leave it to the next 'likewise up'.",
)
@model_options
def add(
    name: str,
    source: str,
    table: str,
    query: str,
    glob: str,
    store: str,
    text: str,
    key: tuple[str, ...],
    model: str,
    chunk: str,
    dtype: str,
    wait: bool,
    precision: Precision | None,
    threads: int | None,
    engine: str | None,
    offline: bool | None,
) -> None:
    """Bind a table: from now on its vectors follow its rows.

    Triggers in the table's own database log every change, in the transaction that makes it. The
    programs that write to it need nothing of Likewise.
    """
    from likewise.base.same import escapes_notice, keeps_escapes
    from likewise.cli import launch, loading
    from likewise.server.databases import ends

    spec = BindingSpec(
        name,
        resolve.source(source, Path()),
        table,
        text,
        key,
        model,
        chunk,
        store=resolve.source(store, Path()),
        dtype=dtype,
        query=query,
        glob=glob,
    ).as_typed()
    place = resolve.place(offline=offline, precision=precision, threads=threads, engine=engine)
    with contextlib.closing(loading.Models(place)) as models:
        record = launch.make_binding(spec, models.bound(spec.model))
        if keeps_escapes(record, spec):
            output.warn(f"binding {name}: {escapes_notice(record)}")
        with ends(record) as (rows, vectors):
            rows.attach()
            if wait:
                _drain(record, rows, vectors, models)
            _report(rows, vectors)
    if overriding.given():
        output.note(
            "its vectors depend on what the flags say of the model: every later command needs it "
            f'too; write it into likewise.toml, table [models."{spec.model}"]'
        )
    output.note(f"serve it with: likewise serve --db {without_password(spec.store_address)}")


def _drain(record: BindingRecord, rows: BoundSource, vectors: BoundTable, models: Any) -> None:
    from likewise.binding.canary import require_same_model
    from likewise.binding.worker import Worker
    from likewise.server.bindings import splitter

    service = models.bound(record.spec.model)
    split = splitter(service, record.spec)
    worker = Worker(rows, vectors, service, split)
    with (
        contextlib.closing(worker),
        output.bar(f"embedding {record.spec.name}", total=rows.count()) as show,
    ):
        require_same_model(vectors, service)
        worker.drain(lambda status: show(status.rows - status.pending, status.rows))


@bind.command()
@click.argument("name")
@click.option(
    "--repair/--no-repair",
    default=True,
    show_default=True,
    help="Queue what differs for embedding again, or only say it.",
)
@database_option
@config_option
@json_option
def verify(name: str, repair: bool, db: str | None, config_path: Path, as_json: bool) -> int | None:
    """Compare every row with its vectors, whatever the log says, and repair what differs.

    With --no-repair, a difference makes the exit code 3.
    """
    from likewise.binding.reconcile import verify as audit_of
    from likewise.cli.main import EXIT_FOUND_TROUBLE
    from likewise.server.databases import ends

    record = one(name, db, config_path)
    with ends(record) as (rows, vectors):
        audit = audit_of(rows, vectors, repair=repair)
    if as_json:
        output.json(dataclasses.asdict(audit) | {"is_clean": audit.is_clean})
    else:
        found = dataclasses.asdict(audit)
        details = found.pop("details")
        output.pairs(found)
        for line in details:
            output.note(line)
    if audit.repaired and not as_json:
        output.note("queued for embedding again; a running server does it now, or: likewise up")
    return EXIT_FOUND_TROUBLE if not audit.is_clean and not repair else None


@bind.command()
@click.argument("name")
@database_option
@config_option
@click.option("--yes", is_flag=True, help="Don't ask.")
@click.option(
    "--force", is_flag=True, help="Drop log and vectors even if the source can't be reached."
)
def drop(name: str, db: str | None, config_path: Path, yes: bool, force: bool) -> None:
    """Remove a binding: its triggers, log and vectors. The rows themselves are left as they are.

    All its generations go. When the source can't be reached, nothing is dropped unless --force says
    so; what then stays in the source is named.
    """
    from likewise.server.databases import drop as drop_binding

    record = one(name, db, config_path)
    if not yes:
        click.confirm(f"Drop the binding {name!r} and its vectors?", abort=True, err=True)
    left = drop_binding(record.spec.store_address, name, force=force)
    if left is not None:
        output.warn(f"left behind: {left}")
    output.note(f"binding {name} dropped")


def _report(rows: BoundSource, vectors: BoundTable) -> None:
    from likewise.binding.status import status as status_of

    now = status_of(rows, vectors)
    output.say(f"{now.name}: {now.rows:,} rows, {now.current:,} current, {now.pending:,} pending")
    if now.parked:
        parked = output.counted(now.parked, "row")
        output.warn(f"{parked} can't be embedded; see: likewise bind parked {now.name}")


for command in (*bind_status.COMMANDS, *bind_swap.COMMANDS, *bind_work.COMMANDS):
    bind.add_command(command)
