"""`likewise serve`: embedding models over HTTP, and searches of the bindings in a database."""

from __future__ import annotations

from pathlib import Path

import click

from likewise.base.precision import Precision
from likewise.cli import launch, resolve
from likewise.cli.guarding import Guarding, guard_options
from likewise.cli.options import model_options
from likewise.cli.settings import DEFAULT_HOST, DEFAULT_PORT


@click.command()
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option("--host", default=DEFAULT_HOST, show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="Port to listen on; 0 takes a free one.",
)
@click.option(
    "--db",
    "databases",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Keep the bindings of this SQLite file in step, and serve searches of them.",
)
@click.option(
    "--allow-host",
    "allowed_hosts",
    multiple=True,
    metavar="NAME",
    help="One more name that requests may call this server by.",
)
@click.option(
    "--drain",
    "drain_s",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    metavar="SECONDS",
    help="Go on taking connections for so long after a signal to stop, while /ready says no.",
)
@guard_options
@model_options
def serve(
    models: tuple[str, ...],
    host: str,
    port: int,
    databases: tuple[Path, ...],
    allowed_hosts: tuple[str, ...],
    drain_s: float,
    guard: Guarding,
    precision: Precision | None,
    threads: int | None,
    engine: str | None,
    offline: bool | None,
) -> None:
    """Serve embedding models over HTTP.

    A MODEL is a folder, a name on the Hugging Face hub, or 'all-MiniLM-L6-v2', the default. It is
    served as OpenAI's /v1/embeddings.
    """
    launch.serve(
        launch.Launch(
            place=resolve.place(
                offline=offline, precision=precision, threads=threads, engine=engine
            ),
            models=models,
            databases=databases,
            host=host,
            port=port,
            allowed_hosts=allowed_hosts,
            guarding=guard,
            drain_s=drain_s,
            otlp_endpoint=resolve.otlp_endpoint(),
        )
    )
