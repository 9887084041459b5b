"""`likewise models`: what is here, what is known, and what one model is like."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import click

from likewise.base.precision import Precision
from likewise.cli import output, resolve, served
from likewise.cli.check import check
from likewise.cli.groups import Group
from likewise.cli.options import json_option, model_options


@click.group(cls=Group)
def models() -> None:
    """See which models are here; fetch, delete, load and unload them."""


models.add_command(check)
for _command in served.COMMANDS:
    models.add_command(_command)


@models.command("list")
@click.option("--check", is_flag=True, help="Read every file and compare it with its digest.")
@json_option
def list_(check: bool, as_json: bool) -> None:
    """List the models in the cache, and those known by a short name."""
    from likewise.models.known import KNOWN
    from likewise.models.locate import list_models

    place = resolve.place()
    here = list_models(place.cache, deep=check)
    if as_json:
        output.json([dataclasses.asdict(model) | {"folder": str(model.folder)} for model in here])
        return
    rows: list[dict[str, object]] = [
        {
            "model": model.name,
            "dimensions": model.dimensions,
            "size": _size(model.size_bytes),
            "from": f"{model.origin} {model.revision[:12]}",
            "licence": model.licence,
            "folder": str(model.folder),
        }
        for model in here
    ]
    got = {model.name for model in here}
    rows += [
        {"model": each.name, "from": "not fetched yet", "licence": each.licence}
        for each in KNOWN
        if each.name not in got
    ]
    output.table(rows, ("model", "dimensions", "size", "licence", "from", "folder"))
    for model in here:
        if model.problem:
            output.warn(model.problem)
    output.note(f"cache: {place.cache}")


@models.command()
@click.argument("model")
@click.option("--no-load", is_flag=True, help="Only what its files say; don't make it ready.")
@json_option
@model_options
def show(
    model: str,
    no_load: bool,
    as_json: bool,
    precision: Precision | None,
    threads: int | None,
    engine: str | None,
    offline: bool | None,
) -> None:
    """Show what MODEL is, where it lies, its size, licence and prompts, and how it is run."""
    import contextlib

    from likewise.cli import loading
    from likewise.models.about import about

    place = resolve.place(offline=offline, precision=precision, threads=threads, engine=engine)
    located = loading.find(model, place)
    overrides = place.overrides.of(located.name, model)
    facts = about(located, cache=place.cache, overrides=overrides)
    if not no_load:
        with contextlib.closing(loading.Models(place)) as loaded:
            facts |= loaded.get(model).info()
    if as_json:
        output.json(facts)
    else:
        output.pairs(_for_people(facts))


@models.command()
@click.argument("model")
@click.option("--revision", metavar="REV", help="Branch, tag or commit on the hub.")
@click.option("--offline", is_flag=True, default=None, help="Download nothing.")
def pull(model: str, revision: str | None, offline: bool | None) -> None:
    """Fetch MODEL if it isn't on this disk yet, and say where it lies."""
    from likewise.cli import catalogue, loading

    place = resolve.place(offline=offline)
    catalogue.tell_of_leftovers(place.cache)
    located = loading.find(model, place, revision=revision)
    output.say(str(located.folder))


@models.command()
@click.argument("model")
@click.option("--revision", metavar="REV", help="Only this one of several in the cache.")
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
def rm(model: str, revision: str | None, yes: bool) -> None:
    """Delete MODEL from the cache. A folder of your own is never touched."""
    from likewise.models.locate import cached_models, remove_models

    place = resolve.place()
    going = cached_models(model, cache=place.cache, revision=revision)
    for each in going:
        output.note(f"{each.name} {each.revision[:12]}: {_size(each.size_bytes)} in {each.folder}")
    if not yes:
        click.confirm("Delete this from the cache?", abort=True, err=True)
    remove_models(going, cache=place.cache)
    output.say(f"{_size(sum(each.size_bytes for each in going))} freed")


@models.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def convert(folder: Path) -> None:
    """Write the pickled weights in FOLDER as safetensors, beside them.

    The pickles are read as tables of numbers; nothing that they ask for is run.
    """
    from likewise.models.convert import convert as write

    written = write(folder)
    for path in written:
        output.say(str(path))
    if not written:
        output.note(f"{folder}: everything is written as safetensors already")


def _for_people(facts: Mapping[str, object]) -> dict[str, object]:
    """`facts` without what is empty, sizes readable, tables a line an entry."""
    shown: dict[str, object] = {}
    for name, value in facts.items():
        if name == "size_bytes" and isinstance(value, int):
            shown["size"] = _size(value)
        elif isinstance(value, Mapping):
            shown |= {f"{name}.{key}": repr(each) for key, each in value.items()}
        elif isinstance(value, list | tuple):
            if value:
                shown[name] = "; ".join(str(each) for each in value)
        elif value is not None:
            shown[name] = value
    return shown


def _size(count: int) -> str:
    return f"{count / 2**20:,.0f} MiB"
