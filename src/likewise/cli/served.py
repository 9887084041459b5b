"""`likewise models load`, `unload`, `reload`, `alias` and `ps`: the models of a running server."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from likewise.base.precision import Precision
from likewise.cli import asking, output, resolve
from likewise.cli.options import config_option, engine_option, json_option
from likewise.models.own import split_name

F = TypeVar("F", bound=Callable[..., Any])
_AT = "/admin/models"


def server_options(command: F) -> F:
    """`--url`, `--key-file`, `--config`: which server, and with what right."""
    for option in (
        config_option,
        click.option(
            "--key-file",
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="A file with an admin key; default: LIKEWISE_ADMIN_KEY.",
        ),
        click.option(
            "--url", metavar="URL", help="The server; default: that of likewise.toml, or port 7997."
        ),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("model")
@click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    metavar="PROFILE",
    help="exact, fast, small or auto; default: the server's.",
)
@engine_option
@click.option("--keep-alive", metavar="TIME", help="How long it stays when nobody asks: 5m, 0, …")
@click.option("--alias", "aliases", multiple=True, metavar="NAME", help="One more name for it.")
@json_option
@server_options
def load(
    model: str,
    precision: Precision | None,
    engine: str | None,
    keep_alive: str | None,
    aliases: tuple[str, ...],
    as_json: bool,
    **server: Any,
) -> None:
    """Have a running server load MODEL: one that it serves, a name on the hub, or a folder.

    A path to a folder begins with '/', '.' or '~', and must lead there on the server's machine.

    Interrupting this stops the waiting, not the load.
    """
    asked = {
        "model": _sent(model),
        "precision": precision,
        "engine": engine,
        "keep_alive": keep_alive,
        "aliases": list(aliases),
    }
    asked = {name: value for name, value in asked.items() if value not in (None, [])}
    output.note(f"loading {model}")
    told = _ask("/load", asked, server, has="state")
    _tell(told, as_json, f"{told['model']} is {told['state']} ({told['seconds']:.1f} s)")


@click.command()
@click.argument("model")
@json_option
@server_options
def unload(model: str, as_json: bool, **server: Any) -> None:
    """Have a running server unload MODEL, once no request uses it; its next one loads it again."""
    told = _ask("/unload", {"model": _sent(model)}, server, has="was_loaded")
    how = "is unloaded" if told["was_loaded"] else "wasn't loaded"
    _tell(told, as_json, f"{told['model']} {how}")


@click.command()
@click.argument("model")
@json_option
@server_options
def reload(model: str, as_json: bool, **server: Any) -> None:
    """Have a running server load MODEL anew from its files; no request fails meanwhile."""
    output.note(f"reloading {model}")
    told = _ask("/reload", {"model": _sent(model)}, server, has="generation")
    if note := told.get("note"):
        output.warn(str(note))
    words = f"{told['model']} is reloaded, generation {told['generation']}"
    _tell(told, as_json, f"{words} ({told['seconds']:.1f} s)")


@click.command()
@click.argument("name")
@click.argument("model", required=False)
@server_options
def alias(name: str, model: str | None, **server: Any) -> None:
    """Let NAME stand for MODEL in a running server; without MODEL, for nothing any more.

    NAME=MODEL may be written too, as in `likewise serve --alias`.
    """
    if model is None and "=" in name:
        name, _, model = name.partition("=")
    told = _ask("/alias", {"alias": name, "model": model and _sent(model)}, server, has="alias")
    full = told["model"]
    output.say(f"{name} stands for {full}" if full else f"{name} is no alias any more")


@click.command()
@json_option
@server_options
def ps(as_json: bool, **server: Any) -> None:
    """List the models of a running server: which are loaded, and until when."""
    told = _ask("", None, server, has="models")
    if as_json:
        output.json(told)
        return
    columns = (
        "model", "state", "weights", "engine", "precision", "size", "stays", "in use", "aliases",
        "folder",
    )  # fmt: skip
    output.table([_row(each) for each in told["models"]], columns, empty="no models")
    for each in told["models"]:
        if each.get("error"):
            output.warn(f"{each['model']}: {each['error']}")
    for folder, trouble in told["troubles"].items():
        output.warn(f"{folder}: {trouble}")


def _sent(model: str) -> str:
    """A path as it leads there from anywhere; the server has another working directory."""
    called, source = split_name(model)
    if not source.startswith((".", "/", "~")):
        return model
    # Links stay as they are: the model is called by them, and they may lead elsewhere later.
    path = os.path.abspath(Path(source).expanduser())
    return path if called is None else f"{called}={path}"


COMMANDS = (load, unload, reload, alias, ps)


def _ask(
    path: str, asked: dict[str, Any] | None, server: Mapping[str, Any], *, has: str
) -> dict[str, Any]:
    """What the server says; a load may take as long as it takes."""
    url = resolve.server_url(server["url"], server["config_path"])
    key = resolve.admin_key(server["key_file"])
    return asking.ask(url, _AT + path, asked, has=has, key=key, timeout_s=None)


def _tell(told: Mapping[str, Any], as_json: bool, words: str) -> None:
    if as_json:
        output.json(told)
    else:
        output.say(words)


def _row(model: Mapping[str, Any]) -> dict[str, object]:
    size = model.get("resident_bytes")
    return {
        "model": model["model"],
        "state": model["state"],
        "weights": str(model.get("weights") or "")[:12] or None,
        "engine": model.get("engine"),
        "precision": model.get("precision"),
        "size": None if size is None else f"{size / 2**20:,.0f} MiB",
        "stays": _stays(model) if model["state"] == "loaded" else None,
        "in use": model.get("holders"),
        "aliases": ", ".join(model["aliases"]) or None,
        "folder": model.get("folder"),
    }


def _stays(model: Mapping[str, Any]) -> str:
    left = model["expires_in_s"]
    if left is None:
        return "pinned" if model["pinned"] else "forever"
    return f"{left:,.0f} s more"
