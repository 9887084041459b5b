"""`likewise serve`: embedding models over HTTP, and searches of the bindings in a database."""

from __future__ import annotations

from pathlib import Path

import click

from likewise.base.durations import FOREVER, seconds
from likewise.base.errors import SettingsError
from likewise.base.precision import Precision
from likewise.cli import launch, overriding, resolve
from likewise.cli.guarding import Guarding, guard_options
from likewise.cli.options import model_options
from likewise.cli.reaching import Reaching, reach_options
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
    "--grpc-port",
    type=click.IntRange(0, 65535),
    help="Serve Text Embeddings Inference's gRPC interface on this port too; 0 takes a free one.",
)
@click.option(
    "--db",
    "databases",
    multiple=True,
    metavar="ADDRESS",
    help="Keep the bindings in this database in step, and serve searches of them: a SQLite "
    "file, or postgresql://...",
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
@click.option("--lazy", is_flag=True, help="Load each MODEL at its first use, not at the start.")
@click.option(
    "--keep-alive",
    default=FOREVER,
    show_default=True,
    metavar="TIME",
    help="How long a model stays in memory when nobody asks for it: 5m, 1h30m, 0, forever.",
)
@click.option(
    "--memory-budget",
    type=click.IntRange(1),
    metavar="MIB",
    help="MiB that the weights of all loaded models may take; default: no limit.",
)
@click.option(
    "--models-dir",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Serve the models in this folder, as they come, change and go.",
)
@click.option(
    "--alias",
    "aliases",
    multiple=True,
    metavar="NAME=MODEL",
    help="One more name for a model.",
)
@click.option(
    "--default-model",
    metavar="NAME",
    help="The model of requests that name none, where several can do what is asked.",
)
@reach_options
@guard_options
@model_options
def serve(
    models: tuple[str, ...],
    host: str,
    port: int,
    grpc_port: int | None,
    databases: tuple[str, ...],
    allowed_hosts: tuple[str, ...],
    drain_s: float,
    lazy: bool,
    keep_alive: str,
    memory_budget: int | None,
    models_dir: Path | None,
    aliases: tuple[str, ...],
    default_model: str | None,
    guard: Guarding,
    reach: Reaching,
    precision: Precision | None,
    threads: int | None,
    engine: str | None,
    offline: bool | None,
) -> None:
    """Serve embedding models over HTTP.

    A MODEL is a folder, a name on the Hugging Face hub, or a short name such as 'all-minilm', the
    default; NAME=MODEL calls it NAME. It is served as OpenAI's /v1/embeddings.
    """
    overriding.require_one(len(models), others=models_dir is not None)
    launch.serve(
        launch.Launch(
            place=resolve.place(
                offline=offline, precision=precision, threads=threads, engine=engine
            ),
            models=models,
            databases=tuple(resolve.address(each, Path()) for each in databases),
            host=host,
            port=port,
            grpc_port=grpc_port,
            allowed_hosts=allowed_hosts,
            guarding=guard,
            reaching=reach,
            drain_s=drain_s,
            otlp_endpoint=resolve.otlp_endpoint(),
            keeping=resolve.Keeping(
                is_lazy=lazy,
                keep_alive_s=seconds(keep_alive, what="--keep-alive"),
                memory_budget=None if memory_budget is None else memory_budget * 2**20,
                models_dir=models_dir,
                aliases=tuple(_alias(each) for each in aliases),
                default_model=default_model,
            ),
        )
    )


def _alias(written: str) -> tuple[str, str]:
    alias, _, model = written.partition("=")
    if not alias or not model:
        raise SettingsError(f"--alias is {written!r}; write NAME=MODEL", param="alias")
    return alias, model
