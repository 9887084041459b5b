"""`likewise doctor`: looks at this machine, says plainly what is wrong and what to do."""

from __future__ import annotations

import functools
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from likewise.base.errors import AddressInUse, LikewiseError
from likewise.base.spec import without_password
from likewise.cli import output, resolve
from likewise.cli.options import config_option, json_option
from likewise.cli.settings import DEFAULT_HOST, DEFAULT_PORT
from likewise.version import __version__

if TYPE_CHECKING:
    from likewise.cli.resolve import Place
    from likewise.models.overrides import Overrides

_CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    what: str
    state: Literal["ok", "note", "wrong"]
    says: str
    """What was found, and for `wrong` what to do."""


@click.command()
@click.option("-m", "--model", metavar="MODEL", help="Check this one; default: all-MiniLM-L6-v2.")
@click.option("--db", metavar="ADDRESS", help="Check the bindings in this database too.")
@click.option("--port", type=click.IntRange(1, 65535), default=DEFAULT_PORT, show_default=True)
@click.option("--fetch", is_flag=True, help="Fetch the model if it isn't here.")
@config_option
@json_option
def doctor(
    model: str | None, db: str | None, port: int, fetch: bool, config_path: Path, as_json: bool
) -> int | None:
    """Check this machine: processor, engine, model, database, port.

    Exit code 3 when something is wrong.
    """
    from likewise.cli.main import EXIT_FOUND_TROUBLE

    findings = []
    for found in _look(model, db, port, fetch, config_path):
        findings.append(found)
        if not as_json:
            _show(found)
    wrong = sum(found.state == "wrong" for found in findings)
    if as_json:
        output.json([vars(found) for found in findings])
    else:
        output.say("all is well" if not wrong else f"{wrong} things are wrong")
    return EXIT_FOUND_TROUBLE if wrong else None


def _show(found: Finding) -> None:
    mark = {"ok": output.good("ok   "), "note": "note ", "wrong": output.bad("wrong")}[found.state]
    output.say(f"{mark}  {output.emphasis(found.what)}: {found.says}")


def _look(
    model: str | None, db: str | None, port: int, fetch: bool, config_path: Path
) -> Iterator[Finding]:
    yield Finding("likewise", "ok", f"{__version__} in {Path(__file__).parents[1]}")
    yield Finding("python", "ok", f"{platform.python_version()} at {sys.executable}")
    yield Finding("processor", "ok", _processor())
    yield from _guarded("settings", lambda: _settings(config_path))
    yield from _guarded("sqlite", _sqlite)
    place = resolve.place(offline=None if fetch else True)
    yield Finding("cache", "ok", str(place.cache))
    yield from _guarded("model", lambda: _model(model, place))
    yield from _engines(place)
    for address in _addresses(db, config_path):
        shown = without_password(address)
        yield from _guarded(f"database {shown}", functools.partial(_database, address))
    yield from _guarded(f"port {port}", lambda: _port(port))


def _guarded(what: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """What `look` finds; an error is a finding too."""
    try:
        yield from look()
    except LikewiseError as failed:
        yield Finding(what, "wrong", str(failed))


def _processor() -> str:
    from likewise.base.machine import cores, cpu_flags, cpu_name

    flags = cpu_flags()
    has = [flag for flag in _CPU_FLAGS if flag in flags]
    return f"{cpu_name()}, {cores()} cores for this process; {', '.join(has) or 'no AVX'}"


def _settings(config_path: Path) -> Iterator[Finding]:
    from likewise.cli import settings

    if not config_path.is_file():
        yield Finding("settings", "note", f"no {config_path} here; 'likewise up' needs one")
        return
    written = settings.read(config_path)
    names = ", ".join(spec.name for spec in resolve.specs(written, folder=config_path.parent))
    yield Finding("settings", "ok", f"{config_path}: bindings {names or 'none'}")


def _sqlite() -> Iterator[Finding]:
    import apsw
    import sqlite_vec

    yield Finding(
        "sqlite",
        "ok",
        f"{apsw.sqlite_lib_version()} (apsw {apsw.apsw_version()}), "
        f"sqlite-vec {sqlite_vec.__version__}",
    )


def _model(name: str | None, place: Place) -> Iterator[Finding]:
    import contextlib

    from likewise.cli import loading

    located = loading.find(name, place)
    yield Finding("model", "ok", f"{located.name} in {located.folder} ({located.origin})")
    with contextlib.closing(loading.Models(place)) as models:
        info = models.get(name).info()
        yield Finding(
            "engine",
            "ok",
            f"{info['engine']} ({info['engine_why']}) in {info['precision']} ({info['why']})",
        )


def _engines(place: Place) -> Iterator[Finding]:
    """Which engine each model in the cache would use, and why; read from its files alone."""
    from likewise.models.locate import list_models

    for model in list_models(place.cache):
        what = f"engine of {model.name}"
        overrides = place.overrides.of(model.name)
        yield from _guarded(what, functools.partial(_engine, what, model.folder, place, overrides))


def _engine(what: str, folder: Path, place: Place, overrides: Overrides) -> Iterator[Finding]:
    from likewise.engines.choose import choose
    from likewise.models.card import read_card

    choice = choose(read_card(folder, overrides=overrides), place.engine)
    said = f"{choice.engine}: {choice.why}"
    if choice.slow is not None:
        yield Finding(what, "note", f"{said}; the slow way: {choice.slow}")
    else:
        yield Finding(what, "ok", said)


def _addresses(db: str | None, config_path: Path) -> list[str]:
    from likewise.cli import here

    try:
        return here.addresses(db, config_path)
    except LikewiseError:
        return []


def _database(address: str) -> Iterator[Finding]:
    from likewise.binding.status import status
    from likewise.server.databases import ends, records

    there = records(address)
    if not there:
        yield Finding(
            f"database {without_password(address)}",
            "note",
            "it has no binding; see: likewise bind add",
        )
    for record in there:
        what = f"binding {record.spec.name}"
        with ends(record) as (rows, vectors):
            now = status(rows, vectors)
        said = f"{now.rows:,} rows, {now.current:,} current, {now.pending:,} pending"
        if now.error:
            yield Finding(what, "wrong", f"{said}; {now.error}")
        elif now.parked:
            yield Finding(
                what, "wrong", f"{said}; {output.counted(now.parked, 'row')} can't be embedded"
            )
        else:
            yield Finding(what, "ok", said)


def _port(port: int) -> Iterator[Finding]:
    from likewise.server.listen import listen

    try:
        listen(DEFAULT_HOST, port).close()
    except AddressInUse as taken:
        yield Finding(f"port {port}", "note", f"{taken} (fine if that is likewise itself)")
    else:
        yield Finding(f"port {port}", "ok", "free")
