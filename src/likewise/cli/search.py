"""`likewise search`: the rows of a binding nearest to a question."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from likewise.base.types import Freshness
from likewise.cli import here, output, resolve
from likewise.cli.bound import among
from likewise.cli.options import config_option, database_option, json_option, model_options

if TYPE_CHECKING:
    from likewise.base.bound import BindingRecord
    from likewise.base.precision import Precision

_SHOWN_CHARACTERS = 240


@click.command()
@click.argument("name")
@click.argument("query")
@click.option("-k", default=5, show_default=True, help="How many rows.")
@database_option
@config_option
@click.option(
    "--local", is_flag=True, help="Load the model here, even where a server could be asked."
)
@click.option("--url", metavar="URL", help="Ask a running server, such as http://127.0.0.1:7997.")
@click.option(
    "--freshness",
    type=click.Choice(get_args(Freshness)),
    default="any",
    show_default=True,
    help="Any vector there is; only those of rows' present texts (fresh); or wait until what is "
    "written by now is searchable.",
)
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0, 60),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="How long --freshness wait does so.",
)
@json_option
@model_options
def search(
    name: str,
    query: str,
    k: int,
    db: str | None,
    config_path: Path,
    local: bool,
    url: str | None,
    freshness: Freshness,
    wait_s: float,
    as_json: bool,
    precision: Precision | None,
    threads: int | None,
    engine: str | None,
    offline: bool | None,
) -> None:
    """Find the rows of the binding NAME nearest to QUERY.

    A server of yours that runs here and keeps that binding in step is asked, which saves loading
    the model; without one, the stored vectors are read from the database itself. Standard error
    says which server was asked. --url asks another one.
    """
    asked = {
        "binding": name,
        "q": query,
        "k": k,
        "freshness": freshness,
        "wait_ms": int(1000 * wait_s),
    }
    if url is not None:
        from likewise.cli import asking

        key, _ = resolve.given_keys().get("LIKEWISE_API_KEY", (None, False))
        answer = asking.search(url, asked, key=key)
    else:
        place = resolve.place(offline=offline, precision=precision, threads=threads, engine=engine)
        addresses = here.addresses(db, config_path)
        told = None
        if not (local or precision or threads or engine):
            told = _of_server(place, addresses, asked)
        if told is None:
            (record,) = among((name,), addresses)
            told = _answer(record, query, k, (freshness, wait_s), place)
        answer = told
    if as_json:
        output.json(answer)
    else:
        _show(answer["results"])


def _of_server(
    place: resolve.Place, addresses: list[str], asked: dict[str, Any]
) -> dict[str, Any] | None:
    """What a server says that runs here on one of these databases; None where none does."""
    from likewise.base.spec import without_password
    from likewise.cli import running

    record = running.found(place.cache, asked["binding"], set(map(without_password, addresses)))
    if record is None:
        return None
    key, _ = resolve.given_keys().get("LIKEWISE_API_KEY", (None, False))
    at = f"the server at {record.url} (process {record.pid})"
    try:
        answer = running.search(record, asked, key)
    except running.NotAnswered as why:
        output.note(f"{at} isn't asked: {why}; searching without it")
        return None
    output.note(f"asked {at}")
    return answer


def _answer(
    record: BindingRecord,
    query: str,
    k: int,
    fresh: tuple[Freshness, float],
    place: resolve.Place,
) -> dict[str, Any]:
    import contextlib

    from likewise.cli import loading
    from likewise.server.bindings import LiveBinding
    from likewise.server.search import answer_of

    with contextlib.closing(loading.Models(place)) as models:
        binding = LiveBinding(record, models.bound)
        try:
            binding.catch_up()
            freshness, wait_s = fresh
            results = binding.search(query, k, freshness=freshness, wait_s=wait_s)
            return answer_of(binding, query, k, freshness, results)
        finally:
            binding.stop()


def _show(results: list[dict[str, Any]]) -> None:
    if not results:
        output.say("nothing found")
    for at, result in enumerate(results, 1):
        # A document's key is its path and nothing: only rows of a file have a second part.
        key = ", ".join(str(part) for part in result["key"] if part != "")
        stale = "" if result["fresh"] else "  (changed since it was embedded)"
        place = output.faint(f"{result['table']} {key}{stale}".lstrip())
        output.say(f"{at}. {result['score']:.3f}  {place}")
        start, end = result["passage"]["start"], result["passage"]["end"]
        passage = " ".join(result["text"][start:end].split())
        if len(passage) > _SHOWN_CHARACTERS:
            passage = passage[: _SHOWN_CHARACTERS - 1] + "…"
        output.say(f"   {passage}")
