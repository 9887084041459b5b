"""A command as on a machine of its own: away from the checkout, without variables of ours."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def environment(cache: Path | None = None) -> dict[str, str]:
    """The variables of a machine on which Likewise was never used."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "LIKEWISE"))}
    if cache is not None:
        env["LIKEWISE_HOME"] = str(cache)
    return env


def run(*command: str | Path, cwd: Path, cache: Path | None = None, fails: bool = False) -> str:
    """What a command says, away from the checkout; that it fails with, when it must."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment(cache),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode != 0) == fails, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stderr if fails else done.stdout
