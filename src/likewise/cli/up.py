"""`likewise up`: everything that likewise.toml describes, in one process."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from likewise.base.precision import Precision
from likewise.cli import guarding, launch, overriding, reaching, resolve, settings
from likewise.cli.options import config_option, model_options


@click.command()
@config_option
@click.option("--host", help="Address to listen on, instead of the file's.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port, instead of the file's.")
@click.option(
    "--grpc-port",
    type=click.IntRange(0, 65535),
    help="Port of gRPC, instead of the file's.",
)
@reaching.reach_options
@guarding.guard_options
@model_options
def up(
    config_path: Path,
    host: str | None,
    port: int | None,
    grpc_port: int | None,
    guard: guarding.Guarding,
    reach: reaching.Reaching,
    precision: Precision | None,
    threads: int | None,
    engine: str | None,
    offline: bool | None,
) -> None:
    """Serve what likewise.toml describes: models and bindings.

    Bindings that aren't there yet are made; all are kept in step with their tables.
    """
    # Settings are read again by another thread, which doesn't know the command's flags.
    flags = overriding.given()

    def read() -> launch.Launch:
        written = settings.read(config_path)
        server = written.server
        named = {*server.models, *(each.model for each in written.binding)}
        overriding.require_one(len(named), others=server.models_dir is not None, flags=flags)
        return launch.Launch(
            place=resolve.place(
                written.model,
                offline=offline,
                precision=precision,
                threads=threads,
                engine=engine,
                overrides=overriding.table(written.models, config_path.parent, flags),
            ),
            models=server.models,
            specs=resolve.specs(written, folder=config_path.parent),
            host=host if host is not None else server.host,
            port=port if port is not None else server.port,
            grpc_port=grpc_port if grpc_port is not None else server.grpc_port,
            allowed_hosts=server.allowed_hosts,
            max_body_mib=server.max_body_mib,
            guarding=guarding.of_file(server, config_path.parent, guard),
            reaching=reaching.of_file(server, config_path.parent, reach),
            drain_s=server.drain_s,
            otlp_endpoint=resolve.otlp_endpoint(server),
            keeping=resolve.keeping(server, folder=config_path.parent),
        )

    launch.serve(dataclasses.replace(read(), again=read))
