"""Options that several commands share, so that they are spelt and explained once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from likewise.base.precision import Precision
from likewise.cli.overriding import override_options
from likewise.cli.settings import FILE_NAME
from likewise.engines.names import AUTO, ENGINES

F = TypeVar("F", bound=Callable[..., Any])


def model_options(command: F) -> F:
    """`--precision`, `--threads`, `--engine`, `--offline`: how models are found and run.

    With `--pooling` and others that say what the model's files don't.
    """
    for option in reversed(
        (
            click.option(
                "--precision",
                type=click.Choice(get_args(Precision)),
                metavar="PROFILE",
                help="exact (float32), fast (bf16), small (int8 weights), or auto, the default: "
                "fast where the CPU has bf16, else exact.",
            ),
            click.option(
                "--threads", type=click.IntRange(1), help="Threads that compute; default: all."
            ),
            engine_option,
            click.option("--offline", is_flag=True, default=None, help="Download nothing."),
        )
    ):
        command = option(command)
    return override_options(command)


def engine_option(command: F) -> F:
    """`--engine ENGINE`: what computes."""
    return click.option(
        "--engine",
        type=click.Choice((AUTO, *ENGINES)),
        metavar="ENGINE",
        help=f"What computes: {', '.join(ENGINES)}; default: auto, the fastest that works.",
    )(command)


def database_option(command: F) -> F:
    """`--db ADDRESS`: the database that holds the binding."""
    return click.option(
        "--db",
        metavar="ADDRESS",
        help="The database with the vectors: a SQLite file, or postgresql://... "
        "Default: those of likewise.toml here, or the only file here that has bindings.",
    )(command)


def json_option(command: F) -> F:
    """`--json`: an answer for programs."""
    return click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")(command)


def config_option(command: F) -> F:
    """`--config FILE`: another file than likewise.toml here."""
    return click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path),
        default=FILE_NAME,
        show_default=True,
        metavar="FILE",
        help="The settings.",
    )(command)
