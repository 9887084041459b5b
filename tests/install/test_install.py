"""What a user gets: the wheel, installed with no extras into an empty environment, works."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from tests.install.machine import run

# One worker has the group, so that the environment is made once.
pytestmark = [
    pytest.mark.install,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("install"),
]


def test_the_wheel_holds_types_and_page(wheel: Path, repo: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    package = repo / "src" / "likewise"
    expected = {
        f"likewise/{path.relative_to(package).as_posix()}"
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "likewise/py.typed" in expected
    assert any(name.startswith("likewise/server/console/") for name in expected)
    assert expected <= names
    assert not {name for name in names if name.startswith(("tests/", "bench/"))}


def test_nothing_heavy_comes_along(installed: Path, tmp_path: Path) -> None:
    listed = run(installed / "python", "-m", "pip", "list", "--format=json", cwd=tmp_path)
    names = {each["name"].lower().replace("_", "-") for each in json.loads(listed)}
    assert "likewise" in names
    assert names.isdisjoint({"torch", "transformers", "pandas", "onnxruntime", "pytest", "scipy"})
    run(installed / "python", "-m", "pip", "check", cwd=tmp_path)


def test_help_and_doctor(installed: Path, tmp_path: Path, model_cache: Path) -> None:
    assert "demo" in run(installed / "likewise", "--help", cwd=tmp_path)
    assert (
        "openvino" in run(installed / "likewise", "doctor", cwd=tmp_path, cache=model_cache).lower()
    )


WANTED = {
    "likewise.server.grpc.": ("grpc", "grpc_health", "grpc_reflection", "google"),
    "likewise.client.": ("httpcore", "httpx"),
    "likewise.sql.duckdb": ("duckdb", "pyarrow"),
    "likewise.sources.duckdb": ("duckdb", "pyarrow"),
    "likewise.stores.duckdb": ("duckdb", "pyarrow"),
    "likewise.engines.torch_": ("torch", "transformers"),
    "likewise.sources.readers.": ("bs4", "pypdf", "pyarrow"),
}
"""Modules of one technology each, which are only imported by those who have the extra for it."""


def test_every_module_imports(installed: Path, tmp_path: Path) -> None:
    """Whatever a module imports is a declared dependency, or of the extra that it is there for."""
    code = (
        "import importlib, pkgutil, likewise\n"
        f"wanted = {WANTED!r}\n"
        "for found in pkgutil.walk_packages(likewise.__path__, 'likewise.'):\n"
        "    try:\n"
        "        importlib.import_module(found.name)\n"
        "    except ImportError as missing:\n"
        "        while missing.__cause__: missing = missing.__cause__\n"
        "        extra = [each for each in wanted if found.name.startswith(each)]\n"
        "        if not extra or missing.name not in wanted[extra[0]]: raise\n"
        "print('all')"
    )
    assert run(installed / "python", "-c", code, cwd=tmp_path) == "all\n"


def test_the_engine_that_isnt_installed_says_what_to_install(
    installed: Path, tmp_path: Path, model_folder: Path, model_cache: Path
) -> None:
    (tmp_path / "in.txt").write_text("a text\n")
    said = run(
        installed / "likewise", "embed", "in.txt", "--model", model_folder, "--engine", "torch",
        cwd=tmp_path, cache=model_cache, fails=True,
    )  # fmt: skip
    assert "pip install 'likewise[torch]'" in said


def test_it_embeds(installed: Path, tmp_path: Path, model_folder: Path, model_cache: Path) -> None:
    (tmp_path / "in.txt").write_text("a vector is a property of a row\n")
    out = run(
        installed / "likewise", "embed", "in.txt", "--model", model_folder,
        cwd=tmp_path, cache=model_cache,
    )  # fmt: skip
    (line,) = out.splitlines()
    vector = next(value for value in json.loads(line).values() if isinstance(value, list))
    assert len(vector) == 384
    assert abs(sum(x * x for x in vector) - 1) < 1e-3
