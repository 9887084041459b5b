"""The import contracts are kept, and they would notice if they weren't."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter on a copy of the package in `folder`."""
    tool = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [str(tool), "--config", str(folder / "pyproject.toml"), "--no-cache"],
        cwd=folder / "src",
        env={"PYTHONPATH": str(folder / "src"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(REPO / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPO / "pyproject.toml", tmp_path)
    return tmp_path


def test_contracts_are_kept(copy: Path) -> None:
    done = lint_imports(copy)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("base/space.py", "import likewise.server"),
        ("text/chunk.py", "def f() -> None:\n    import likewise.binding.worker"),
        ("binding/plan.py", "import likewise.stores.sqlite"),
        ("binding/plan.py", "import likewise.client.names"),
        ("client/pace.py", "import likewise.stores.memory"),
        ("client/pace.py", "import httpx"),
        ("client/endpoint.py", "import starlette"),
        ("vectors/norm.py", "import torch"),
        ("engines/spread.py", "import torch"),
        ("runtime/pack.py", "import starlette"),
        ("stores/memory.py", "import likewise.stores.sqlite"),
    ],
)
def test_a_planted_violation_is_caught(copy: Path, file: str, line: str) -> None:
    path = copy / "src" / "likewise" / file
    path.write_text(path.read_text(encoding="utf-8") + f"\n{line}\n", encoding="utf-8")
    assert lint_imports(copy).returncode != 0
