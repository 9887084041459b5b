"""The command `likewise`: finds the subcommand, runs it, turns errors into words and exit codes."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from likewise.base.errors import LikewiseError
from likewise.base.extras import missing
from likewise.base.locks import set_lock_seconds
from likewise.base.names import nearest
from likewise.cli import output
from likewise.cli.groups import Group
from likewise.version import __version__

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("likewise.cli.demo:demo", "See it work: bind Python's documentation and search it."),
    "up": ("likewise.cli.up:up", "Serve what likewise.toml describes: models and bindings."),
    "serve": ("likewise.cli.serve:serve", "Serve embedding models over HTTP."),
    "embed": ("likewise.cli.embed:embed", "Turn a file of texts into a file of vectors."),
    "rerank": (
        "likewise.cli.rerank:rerank",
        "Put texts in order by how well they answer a question.",
    ),
    "bind": ("likewise.cli.bind:bind", "Keep a table's vectors in step with its rows."),
    "search": ("likewise.cli.search:search", "Find the rows of the binding NAME nearest to QUERY."),
    "keys": ("likewise.cli.keys:keys", "Make and revoke the keys that a server asks for."),
    "models": (
        "likewise.cli.models:models",
        "See which models are here; fetch, delete, load and unload them.",
    ),
    "doctor": (
        "likewise.cli.doctor:doctor",
        "Check this machine: processor, engine, model, database, port.",
    ),
}
"""Each command: where it is, imported only when it is chosen, and its line in the help."""

SHORT: dict[str, str] = {
    "list": "list",
    "show": "show",
    "pull": "pull",
    "rm": "rm",
    "ps": "ps",
    "stop": "unload",
}
"""Commands of `likewise models` that are found without it too, as in Ollama's command line."""

_BEFORE = ("--log-level", "--log-format")
"""Options of all commands, which stand before the command's name."""

EXIT_OK = 0
EXIT_BUG = 1
EXIT_REFUSED = 2
EXIT_FOUND_TROUBLE = 3
EXIT_INTERRUPTED = 130


class LazyGroup(Group):
    """A group whose commands are imported when they are run, not to list them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, in the order that a newcomer needs them."""
        return [*COMMANDS, *SHORT]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command called `cmd_name`."""
        if cmd_name in SHORT:
            models = self.get_command(ctx, "models")
            assert isinstance(models, click.Group), "it has the commands in SHORT"
            return models.get_command(ctx, SHORT[cmd_name])
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that `args` begin with; a mistyped one names the nearest."""
        name, known = args[0], self.list_commands(ctx)
        if name not in known and not name.startswith("-"):
            ctx.fail(f"No such command {name!r}{nearest(name, known)}. Known: {', '.join(known)}.")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in the help, from the table and without importing any command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])
        with formatter.section("Short for"):
            formatter.write_dl([(name, f"models {full}") for name, full in SHORT.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Begin with: likewise demo",
)
@click.version_option(__version__, prog_name="likewise", message="%(prog)s %(version)s")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="warning",
    show_default=True,
    help="What is logged to standard error.",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How it is written: json is one object a line, for programs.",
)
def cli(log_level: str, log_format: str) -> None:
    """Embeddings as a property of your data.

    Serve models, bind vectors to tables so that they follow every change, and search them, on
    your own machine.
    """
    from likewise.cli import resolve

    output.log_to_stderr(log_level, log_format)
    set_lock_seconds(resolve.lock_seconds())


def main(argv: list[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    sys.exit(run(argv))


def run(argv: list[str] | None = None) -> int:
    """Run the command line and give its exit code, one of those above."""
    try:
        code: Any = cli.main(argv, prog_name="likewise", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt) as ended:
        output.warn(_ended_by(ended))
        return EXIT_INTERRUPTED
    except click.ClickException as wrong:
        output.usage(wrong)
        if isinstance(wrong, click.NoSuchOption) and wrong.option_name in _BEFORE:
            output.note(f"It stands before the command: likewise {wrong.option_name} ...")
        return EXIT_REFUSED
    except LikewiseError as refused:
        output.fail(refused)
        return EXIT_REFUSED
    except BrokenPipeError:
        output.drop_stdout()
        return EXIT_OK
    except Exception as bug:  # noqa: BLE001 - the last resort: say that it is a bug, and show it
        absent = missing(bug, "this command") if isinstance(bug, ImportError) else None
        if absent is not None:
            output.fail(absent)
            return EXIT_REFUSED
        output.bug(bug)
        return EXIT_BUG
    return code if isinstance(code, int) else EXIT_OK


def _ended_by(ended: BaseException) -> str:
    """Ctrl-C, or the answer to a question that a command asks before it deletes something."""
    if isinstance(ended, KeyboardInterrupt) or isinstance(ended.__context__, KeyboardInterrupt):
        return "interrupted"
    if isinstance(ended.__context__, EOFError):
        return "nothing was changed: there is nobody to ask; --yes doesn't ask"
    return "nothing was changed"
