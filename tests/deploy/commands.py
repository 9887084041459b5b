"""A command line as a deployment writes it, parsed by the real command, without running it."""

from __future__ import annotations

from collections.abc import Sequence

import click

from likewise.cli.main import cli


def parsed(argv: Sequence[str]) -> dict[str, object]:
    """The values that `likewise ARGV` would run with; fails as the command would."""
    return _parsed(cli, "likewise", list(argv), None)


def _parsed(
    command: click.Command, name: str, argv: list[str], above: click.Context | None
) -> dict[str, object]:
    if not isinstance(command, click.Group):
        return dict(command.make_context(name, argv, parent=above).params) | {"command": name}
    names = command.list_commands(click.Context(command))
    at = next(at for at, word in enumerate(argv) if word in names)
    context = command.make_context(name, argv[: at + 1], parent=above)
    below = command.get_command(context, argv[at])
    assert below is not None
    return dict(context.params) | _parsed(below, argv[at], argv[at + 1 :], context)
