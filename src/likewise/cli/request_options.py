"""What holds for requests that don't say otherwise: its flags, and how they and the file agree."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from likewise.base.escapes import plain
from likewise.cli.settings import ServerSettings

if TYPE_CHECKING:
    from likewise.server.defaults import Defaults, TokenIds

F = TypeVar("F", bound=Callable[..., Any])

_UNSAID = ServerSettings()


@dataclass(frozen=True)
class Requests:
    """What flags say, None where they say nothing; or, `over` a file, what both say."""

    default_prompt: str | None = None
    default_prompt_name: str | None = None
    auto_truncate: bool | None = None
    token_ids: TokenIds | None = None

    def over(self, server: ServerSettings) -> Requests:
        """These, and what the file says where they say nothing; a flag's prompt ends the file's."""
        says_prompt = self.default_prompt is not None or self.default_prompt_name is not None
        prompts = self if says_prompt else server
        cuts = server.auto_truncate if self.auto_truncate is None else self.auto_truncate
        return Requests(
            prompts.default_prompt,
            prompts.default_prompt_name,
            cuts,
            self.token_ids or server.token_ids,
        )

    def defaults(self) -> Defaults:
        """As the server takes them.

        Raises:
            SettingsError: two prompts are given.
        """
        from likewise.server.defaults import Defaults

        said = self.over(_UNSAID)
        return Defaults(
            prompt=None if said.default_prompt is None else plain(said.default_prompt),
            prompt_name=said.default_prompt_name,
            truncate=bool(said.auto_truncate),
            token_ids=said.token_ids or _UNSAID.token_ids,
        )


def request_options(command: F) -> F:
    """Options about requests; the command gets what they say as `requests`."""

    @functools.wraps(command)
    def asking(
        *args: Any,
        default_prompt: str | None,
        default_prompt_name: str | None,
        auto_truncate: bool | None,
        token_ids: TokenIds | None,
        **options: Any,
    ) -> Any:
        said = Requests(default_prompt, default_prompt_name, auto_truncate, token_ids)
        return command(*args, requests=said, **options)

    wrapped: Any = asking
    for option in reversed(
        (
            click.option(
                "--default-prompt", metavar="TEXT",
                help="Put TEXT, in which \\n is a line end, before each text of a request that "
                "names no prompt.",
            ),
            click.option(
                "--default-prompt-name", metavar="NAME",
                help="The same, with the model's prompt of that name.",
            ),
            click.option(
                "--auto-truncate", type=bool, is_flag=False, flag_value=True, metavar="BOOLEAN",
                help="Cut texts that are too long where a request doesn't say; default: true.",
            ),
            click.option(
                "--token-ids", type=click.Choice(["warn", "refuse"]),
                help="What becomes of inputs that are token ids; default: warn.",
            ),
        )
    ):  # fmt: skip
        wrapped = option(wrapped)
    return cast("F", wrapped)
