"""The README's blocks, run from top to bottom as they stand, in a clone and an empty environment.

What needs a server or a download that a test machine hasn't got is in a table; its commands are
read by the real command line all the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from likewise.cli.main import cli
from tests.install.machine import environment
from tests.support import free_port, wait_until

pytestmark = [
    pytest.mark.install,
    pytest.mark.model,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("install"),
]

README = Path(__file__).resolve().parents[2] / "README.md"
_BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.M | re.S)
ELSEWHERE = {
    "make demo": "it installs and serves until it is stopped; its target is looked for",
    "make test": "it runs this",
    "python3 -m venv .venv": "the environment is there: the wheel is in it",
    "likewise bind add docs --source postgresql": "a Postgres that has the table",
    "likewise bind add bodies": "an Ollama",
    "likewise rerank": "a download from the hub",
    "pip install '.[postgres,remote]'": "only the two commands above want it",
}
"""Lines that aren't run, by how they begin, and what they would need."""
PORT = "7997"


def blocks() -> list[tuple[str, str]]:
    """Kind and text of each block, in order."""
    return _BLOCK.findall(README.read_text(encoding="utf-8"))


def commands(block: str) -> Iterator[str]:
    """Each command of a shell block: lines that go on, and documents behind `<<'END'`, as one."""
    lines = iter(block.splitlines())
    for line in lines:
        whole = line
        while whole.endswith("\\"):
            whole = f"{whole[:-1]} {next(lines).strip()}"
        if whole.endswith("<<'END'"):
            for more in lines:
                whole += f"\n{more}"
                if more == "END":
                    break
        if whole.strip() and not whole.startswith("#"):
            yield " ".join(whole.split()) if "\n" not in whole else whole


def parsed(argv: list[str]) -> None:
    """Have the command line read `argv`, down to the command that would run; it isn't run."""
    context: click.Context = cli.make_context("likewise", list(argv[1:]), resilient_parsing=False)
    command: click.Command = cli
    while isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        name, found, rest = command.resolve_command(context, rest)
        assert name is not None and found is not None
        command, context = found, found.make_context(name, rest, parent=context)


class Shell:
    """A shell of the reader's: commands run in one folder, servers beside it."""

    def __init__(self, folder: Path, bin_folder: Path, cache: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.env = environment(cache) | {"LIKEWISE_OFFLINE": "1"}
        self.env["PATH"] = f"{bin_folder}{os.pathsep}{self.env['PATH']}"
        self.server: subprocess.Popen[bytes] | None = None

    def run(self, command: str) -> str:
        """What a command says, which must end well."""
        done = subprocess.run(
            ["bash", "-e", "-c", command.replace(PORT, str(self.port))],
            cwd=self.folder, env=self.env, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def serve(self, command: str) -> None:
        """A command that stays, once it says that it listens; the one before is ended."""
        self.end()
        log = self.folder / "server.log"
        with log.open("wb") as out:
            self.server = subprocess.Popen(
                [*shlex.split(command, comments=True), "--port", str(self.port)],
                cwd=self.folder, env=self.env, stdout=out, stderr=out,
            )  # fmt: skip
        server = self.server

        def is_up() -> bool:
            assert server.poll() is None, log.read_text(encoding="utf-8")
            return "listening on" in log.read_text(encoding="utf-8")

        wait_until(is_up, 120, what="the server")

    def end(self) -> None:
        """End the server as Ctrl-C does."""
        if self.server is not None:
            self.server.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.server.wait(60)
            self.server.kill()
            assert self.server.wait() == 0
            self.server = None


@pytest.fixture
def shell(installed: Path, folder: Path, model_folder: Path, model_cache: Path) -> Iterator[Shell]:
    shell = Shell(folder, installed, model_cache)
    yield shell
    shell.end()


def test_the_blocks_run_in_order_as_they_stand(shell: Shell) -> None:
    said: list[tuple[str, str]] = []
    for kind, block in blocks():
        if kind == "python":
            # The reader installs OpenAI's client; the environment of the tests has it.
            python = sys.executable if "openai" in block else "python"
            program = shell.folder / "snippet.py"
            program.write_text(block.replace(PORT, str(shell.port)), encoding="utf-8")
            said.append((block, shell.run(f"{shlex.quote(python)} {program}")))
            continue
        for command in commands(block):
            if any(command.startswith(start) for start in ELSEWHERE):
                continue
            if command.startswith("likewise serve"):
                shell.serve(command)
            else:
                said.append((command, shell.run(command)))

    found = [text for command, text in said if command.startswith("likewise search")]
    assert len(found) == 2 and all("1. " in each and "notes 1" in each for each in found)
    (snippet,) = [text for block, text in said if "likewise.bind(" in block]
    assert snippet.splitlines()[0].endswith("Sourdough")
    (vectors,) = [text for command, text in said if command.startswith("curl")]
    assert '"embedding"' in vectors
    assert len((shell.folder / "vectors.jsonl").read_text().splitlines()) == 2
    again = shell.run("likewise search notes bread --db notes.db --json 2>/dev/null")
    (text,) = [each["text"] for each in json.loads(again)["results"] if each["key"] == [1]]
    # What was embedded: the template that the shell was given, with a line end in it.
    assert text == "Sourdough\nFeed the starter the evening before; bake it hot, in a closed pot."
    shell.run("likewise bind status pages --db vectors.db | grep -q ' 1 *1 *0 '")


def test_every_command_of_the_readme_is_one() -> None:
    met = set()
    for kind, block in blocks():
        if kind == "python":
            compile(block, "README.md", "exec")
            continue
        for command in commands(block):
            met |= {start for start in ELSEWHERE if command.startswith(start)}
            if command.startswith("likewise "):
                argv = shlex.split(command.partition(" > ")[0], comments=True)
                parsed(argv)
    assert met == set(ELSEWHERE), "each line of the table is in the README"


def test_a_command_that_is_none_is_seen() -> None:
    with pytest.raises(click.UsageError, match="--tabel"):
        parsed(["likewise", "bind", "add", "x", "--tabel", "t"])
    with pytest.raises(click.UsageError, match="serv"):
        parsed(["likewise", "serv"])


def test_extras_are_named_before_the_commands_that_need_them() -> None:
    order = [command for kind, block in blocks() if kind == "sh" for command in commands(block)]
    for extra, need in {
        "files": "--source files:",
        "duckdb": "--source duckdb:",
        "postgres": "--source postgresql:",
        "remote": "--model ollama:",
    }.items():
        installs = [
            at for at, each in enumerate(order) if "pip install '" in each and extra in each
        ]
        uses = [at for at, each in enumerate(order) if need in each]
        assert uses and installs and installs[0] < uses[0], extra


def test_the_targets_of_make_are_there(folder: Path) -> None:
    for target in ("demo", "test"):
        subprocess.run(["make", "-n", target], cwd=folder, check=True, capture_output=True)
