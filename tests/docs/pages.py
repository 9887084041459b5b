"""Makes docs/cli.md and docs/settings.md from the code: run `python -m tests.docs.pages`."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from likewise.cli import other_servers, resolve, settings
from likewise.cli.main import (
    COMMANDS,
    EXIT_BUG,
    EXIT_FOUND_TROUBLE,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_REFUSED,
    cli,
)

DOCS = Path(__file__).resolve().parents[2] / "docs"
WIDTH = 100

EXIT_CODES = {
    EXIT_OK: "done; for servers: stopped by Ctrl-C or SIGTERM, everything accepted was answered",
    EXIT_BUG: "a bug in Likewise; the traceback is shown",
    EXIT_REFUSED: "refused: a wrong option, a missing model, a locked database, a taken port…; "
    "one message says what, where and what to do",
    EXIT_FOUND_TROUBLE: "`doctor`, or `bind verify --no-repair`, found something wrong",
    EXIT_INTERRUPTED: "interrupted by Ctrl-C before it was done",
}

EXAMPLE = r"""[server]
port = 7997

[[binding]]
name = "pages"
source = "sqlite:app.db"
table = "pages"
text = "{title}\n{body}"
"""

COMPLETION = """## Completion

A shell completes commands and options once it has read what `likewise` writes for it. Put its line
into its start file:

```sh
eval "$(_LIKEWISE_COMPLETE=bash_source likewise)"   # bash 4.4 or newer: ~/.bashrc
eval "$(_LIKEWISE_COMPLETE=zsh_source likewise)"    # zsh: ~/.zshrc, after compinit
_LIKEWISE_COMPLETE=fish_source likewise | source    # fish: ~/.config/fish/config.fish
```

That runs `likewise` each time a shell starts; to save that, write its output to a file once and
read the file. `likewise` must be on the `PATH`: an alias isn't completed.
"""


def commands() -> Iterator[tuple[str, click.Command, click.Context]]:
    """Every command with its full name, `likewise` first."""
    context = click.Context(
        cli,
        info_name="likewise",
        max_content_width=WIDTH,
        terminal_width=WIDTH,
        help_option_names=cli.context_settings["help_option_names"],
    )
    yield "likewise", cli, context
    for name in COMMANDS:
        yield from _below(name, cli, context)


def _below(
    name: str, group: click.Group, above: click.Context
) -> Iterator[tuple[str, click.Command, click.Context]]:
    command = group.get_command(above, name)
    assert command is not None, name
    context = click.Context(
        command, above, info_name=name, max_content_width=WIDTH, terminal_width=WIDTH
    )
    yield context.command_path, command, context
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            yield from _below(each, command, context)


def cli_page() -> str:
    """docs/cli.md."""
    parts = [
        "# The command line\n",
        "This page is made from `--help` by `python -m tests.docs.pages`.\n",
        "## Exit codes\n",
        "| code | means |\n|---|---|",
        *(f"| {code} | {text} |" for code, text in EXIT_CODES.items()),
        "\nResults go to standard output; progress, notes, warnings and errors go to standard "
        "error.\n",
        COMPLETION,
    ]
    for path, command, context in commands():
        parts.append(f"## {path}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(parts)


def settings_page() -> str:
    """docs/settings.md."""
    parts = [
        "# Settings\n",
        "This page is made from the code by `python -m tests.docs.pages`.\n",
        "`likewise up` reads `likewise.toml`. The shortest useful one:\n",
        f"```toml\n{EXAMPLE}```\n",
        "A key that isn't known is an error that names the nearest known one. A flag goes before "
        "the file, and the file before the environment. Paths in the file are relative to the "
        "file.\n",
    ]
    titles = {
        "server": "[server]",
        "model": "[model]",
        "models": '[models."NAME"]',
        "binding": "[[binding]]",
    }
    for section, shape in settings.SECTIONS.items():
        parts.append(f"## `{titles[section]}`\n\n| key | default | means |\n|---|---|---|")
        parts += [f"| `{name}` | {default} | {doc} |" for name, default, doc in _fields(shape)]
        parts.append("")
    parts.append("## Environment\n\n| variable | means |\n|---|---|")
    parts += [f"| `{name}` | {text} |" for name, text in resolve.ENVIRONMENT.items()]
    return "\n".join(parts) + "\n"


def _fields(shape: type[msgspec.Struct]) -> Iterator[tuple[str, str, str]]:
    docs = _docs_of(shape)
    for field in msgspec.structs.fields(shape):
        default = field.default
        if field.default_factory is not msgspec.NODEFAULT:
            default = field.default_factory()
        required = default is msgspec.NODEFAULT
        yield field.name, "required" if required else _shown(default), docs[field.name]


def _shown(value: object) -> str:
    if value is None:
        return "not set"
    return "`[]`" if value == () else f"`{msgspec.json.encode(value).decode()}`"


def _docs_of(shape: type[msgspec.Struct]) -> dict[str, str]:
    """The sentence below each field."""
    (tree,) = ast.parse(inspect.getsource(shape)).body
    assert isinstance(tree, ast.ClassDef)
    docs = {}
    for field, below in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
            assert isinstance(field.target, ast.Name)
            assert isinstance(below.value, ast.Constant)
            docs[field.target.id] = " ".join(str(below.value.value).split()).replace("\n", "\\n")
    return docs


PAGES = {
    "cli.md": cli_page,
    "settings.md": settings_page,
    "coming-from.md": other_servers.page,
}


def write() -> None:
    """Write every page."""
    for name, make in PAGES.items():
        (DOCS / name).write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    write()
