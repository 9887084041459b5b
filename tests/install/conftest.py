"""What is installed once for all these tests: the wheel, in an environment of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.install.machine import run


@pytest.fixture(scope="session")
def wheel(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, by way of the source distribution: that it is complete is part of the test."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", out, repo, cwd=out)
    (made,) = out.glob("*.whl")
    return made


@pytest.fixture(scope="session")
def folder(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a clone of the repository would hold, and nothing that was made in it."""
    made = tmp_path_factory.mktemp("clone")
    listed = run("git", "ls-files", "-z", "-co", "--exclude-standard", cwd=repo)
    for name in listed.split("\0"):
        if name and (repo / name).is_file():
            (made / name).parent.mkdir(parents=True, exist_ok=True)
            (made / name).write_bytes((repo / name).read_bytes())
    return made


@pytest.fixture(scope="session")
def installed(wheel: Path, folder: Path) -> Path:
    """The `bin` folder of the clone's environment, with the wheel and its dependencies."""
    run(sys.executable, "-m", "venv", ".venv", cwd=folder)
    python = folder / ".venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", wheel, cwd=folder)
    return folder / ".venv" / "bin"
