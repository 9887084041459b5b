"""Commands that have commands: alone they print their help."""

from __future__ import annotations

from typing import Any

import click

from likewise.cli import output


class Group(click.Group):
    """A group that is asked for nothing prints its help and ends well, as with `--help`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"invoke_without_command": True, **options})

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was named; without one, say which there are."""
        done = super().invoke(ctx)
        if ctx.invoked_subcommand is None:
            output.say(ctx.get_help())
        return done
