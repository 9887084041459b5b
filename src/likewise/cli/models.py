"""`likewise models`: what is here, what is known, and what one model is like."""

from __future__ import annotations

import dataclasses

import click

from likewise.cli import output, resolve
from likewise.cli.options import json_option, model_options
from likewise.cli.settings import Precision


@click.group()
def models() -> None:
    """See which models are here."""


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
            "size": f"{model.size_bytes / 2**20:,.0f} MiB",
            "from": f"{model.origin} {model.revision[:12]}",
            "licence": model.licence,
        }
        for model in here
    ]
    got = {model.name for model in here}
    rows += [
        {"model": each.name, "from": "not fetched yet", "licence": each.licence}
        for each in KNOWN
        if each.name not in got
    ]
    output.table(rows, ("model", "dimensions", "size", "licence", "from"))
    for model in here:
        if model.problem:
            output.warn(model.problem)
    output.note(f"cache: {place.cache}")


@models.command()
@click.argument("model")
@json_option
@model_options
def show(
    model: str,
    as_json: bool,
    precision: Precision | None,
    threads: int | None,
    offline: bool | None,
) -> None:
    """Load MODEL and show what it is and how it is run."""
    import contextlib

    from likewise.cli import loading

    place = resolve.place(offline=offline, precision=precision, threads=threads)
    with contextlib.closing(loading.Models(place)) as loaded:
        info = dict(loaded.get(model).info())
    if as_json:
        output.json(info)
    else:
        output.pairs(info)


@models.command()
@click.argument("model")
@click.option("--offline", is_flag=True, default=None, help="Download nothing.")
def fetch(model: str, offline: bool | None) -> None:
    """Make sure that MODEL is on this disk, and say where."""
    from likewise.cli import loading

    located = loading.find(model, resolve.place(offline=offline))
    output.say(str(located.folder))
