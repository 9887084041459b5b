"""A package of an extra that isn't there: which package, which extra, the command; no traceback."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import threading
import tomllib
from contextlib import closing
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import apsw
import pytest

from likewise.base import extras
from likewise.base.errors import MissingExtra
from likewise.base.space import Space
from likewise.base.spec import BindingSpec
from likewise.cli import launch, main
from likewise.runtime import service
from likewise.server import databases
from tests.conformance.head_folders import write_modules
from tests.conformance.tiny import write_bert, write_cross_encoder, write_json
from tests.unit.cli import missing_walk

REPO = Path(__file__).resolve().parents[3]
WAYS = [(package, extra, way) for package, extra, way, _ in missing_walk.ways()]


def bound(folder: Path, space: Space, name: str, store: str, **what: Any) -> None:
    spec = BindingSpec(name=name, chunk="tokens:32/4", store=f"sqlite:{folder / store}", **what)
    databases.create(spec, space.with_chunker(spec.chunk))


def fill(folder: Path) -> None:
    """Models, databases, settings and texts for the walk."""
    write_bert(folder / "tiny")
    with closing(service.load(folder / "tiny")) as tiny:
        space = tiny.space
    write_bert(folder / "albert", model_type="albert")
    chat = write_cross_encoder(folder / "chat")
    base = "sentence_transformers.base.modules"
    write_modules(chat, (f"{base}.transformer.Transformer", "", None))
    write_json(chat / "sentence_bert_config.json", {"modality_config": {"message": {}}})
    (chat / "chat_template.jinja").write_text("{{ messages[0].content }}{{ messages[1].content }}")
    (folder / "in.txt").write_text("a text\n")
    (folder / "a.duckdb").write_bytes(b"")
    db = apsw.Connection(str(folder / "a.db"))
    db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, body TEXT)")
    db.execute("INSERT INTO t (body) VALUES ('w1')")
    db.close()
    source = {"text": "{body}", "source": f"sqlite:{folder / 'a.db'}", "table": "t"}
    bound(folder, space, "far", "remote.db", **source, model=missing_walk.REMOTE)
    bound(folder, space, "near", "near.db", **source, model=str(folder / "tiny"))
    (folder / "folder").mkdir()
    for kind in ("html", "pdf", "parquet"):
        (folder / "folder" / f"a.{kind}").write_bytes(b"w1")
        bound(
            folder, space, "f", f"{kind}.db",
            source=f"files:{folder / 'folder'}", table="", glob=f"*.{kind}", text="{text}",
            model=str(folder / "tiny"),
        )  # fmt: skip
    table = "[[binding]]\nname = 'new'\ntable = 't'\ntext = '{body}'\nchunk = 'tokens:32/4'\n"
    (folder / "remote.toml").write_text(
        f"{table}source = 'sqlite:a.db'\nmodel = '{missing_walk.REMOTE}'\n"
    )
    (folder / "postgres.toml").write_text(
        f"{table}source = 'postgresql://127.0.0.1:9/app'\nmodel = '{folder / 'tiny'}'\n"
    )
    (folder / "otel.toml").write_text("[server]\notlp_endpoint = 'http://127.0.0.1:9'\n")


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str, str], Any]:
    folder = tmp_path_factory.mktemp("walk")
    fill(folder)
    done = subprocess.run(
        [sys.executable, missing_walk.__file__],
        cwd=folder,
        env=os.environ
        | {"PYTHONPATH": str(REPO), "LIKEWISE_HOME": str(folder), "LIKEWISE_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = map(json.loads, done.stdout.splitlines())
    return {(line["package"], line["extra"], line["way"]): line for line in lines}


@pytest.mark.parametrize(("package", "extra", "way"), WAYS, ids=["-".join(w) for w in WAYS])
def test_no_way_to_a_missing_package_ends_in_a_traceback(
    walked: dict[tuple[str, str, str], Any], package: str, extra: str, way: str
) -> None:
    line = walked[package, extra, way]
    said = line["said"]
    assert line["code"] == 2, said
    assert "Traceback" not in said and "bug" not in said, said
    assert package.replace("_", "-") in said.replace("_", "-")
    what = f"'likewise[{extra}]'" if extra else package.replace("_", "-")
    assert f"{sys.executable} -m pip install {what}" in said
    assert not line["threads"]


def test_every_package_of_the_table_is_walked() -> None:
    walked = {package for package, _, _ in WAYS}
    # Without watchfiles folders are looked at from time to time; requests comes with OpenTelemetry.
    assert walked == {*extras.EXTRAS, *extras.OTHERS} - {"watchfiles", "requests"}


def imported() -> dict[str, set[str]]:
    """The packages that are imported anywhere in the source, and where."""
    found: dict[str, set[str]] = {}
    for path in (REPO / "src" / "likewise").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names = [node.module]
            for name in names:
                found.setdefault(name.partition(".")[0], set()).add(path.name)
    return found


def test_every_import_is_the_packages_own_or_of_an_extra_in_the_table() -> None:
    project = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    core = {re.split(r"[^\w-]", each)[0].replace("-", "_") for each in project["dependencies"]}
    theirs = {*extras.EXTRAS, *extras.OTHERS, *extras.OPTIONAL}
    assert not core & theirs
    found = imported()
    others = set(found) - set(sys.stdlib_module_names) - {"likewise"}
    assert others - core == theirs, "the table in base/extras.py is what the source imports"
    assert core <= others | {"uvloop"}, "uvloop is imported by uvicorn"


DISTRIBUTIONS = {
    "bs4": "beautifulsoup4",
    "grpc": "grpcio",
    "grpc_health": "grpcio-health-checking",
    "grpc_reflection": "grpcio-reflection",
    "opentelemetry": "opentelemetry-sdk",
}
IN_TURN = {
    "google": ("protobuf", "grpcio-health-checking"),
    "httpcore": ("httpcore", "httpx"),
    "requests": ("requests", "opentelemetry-exporter-otlp-proto-http"),
}
"""Packages that come with one that the extra lists."""


@pytest.mark.parametrize("package", extras.EXTRAS)
def test_the_extra_brings_the_package(package: str) -> None:
    project = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = project["optional-dependencies"][extras.EXTRAS[package]]
    brought = {re.split(r"[^\w-]", each)[0] for each in listed}
    if package in IN_TURN:
        name, by = IN_TURN[package]
        assert by in brought
        assert any(each.startswith(name) for each in requires(by) or ())
        return
    assert DISTRIBUTIONS.get(package, package) in brought


def test_what_a_package_needs_in_turn_counts_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pypdf.py").write_text("import a_package_of_pypdf\n")
    (tmp_path / "duckdb.py").write_text("raise ImportError('its library is missing')\n")
    (tmp_path / "ours.py").write_text("import a_typing_error\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("pypdf", "duckdb"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(MissingExtra, match=r"a_package_of_pypdf.*isn't installed.*\[files\]"):
        with extras.needed("reading"):
            import pypdf  # noqa: F401 - it fails
    with pytest.raises(MissingExtra, match=r"duckdb.*its library is missing.*\[duckdb\]"):
        with extras.needed("the store"):
            import duckdb  # noqa: F401 - it fails
    with pytest.raises(ModuleNotFoundError) as caught, extras.needed("us", extra="files"):
        import ours  # type: ignore[import-not-found]  # noqa: F401 - it fails
    assert not isinstance(caught.value, MissingExtra)


def test_where_there_is_no_pip_another_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/a folder/bin/python")
    assert extras.install("likewise[otel]").startswith("'/a folder/bin/python' -m pip install ")
    monkeypatch.setattr(extras, "is_installed", lambda package: False)
    command = "uv pip install --python '/a folder/bin/python' 'likewise[otel]'"
    assert extras.install("likewise[otel]") == command


def test_a_start_that_fails_ends_what_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A thread that still imports while the interpreter ends shows a traceback."""
    ended: list[str] = []
    join = threading.Thread.join

    def noted(thread: threading.Thread, timeout: float | None = None) -> None:
        join(thread, timeout)
        ended.append(thread.name)

    def absent(endpoint: str | None, cleanup: object) -> None:
        raise MissingExtra("opentelemetry isn't installed")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(threading.Thread, "join", noted)
    monkeypatch.setattr(launch, "_tracer", absent)
    assert main.run(["serve", "--port", "0"]) == main.EXIT_REFUSED
    assert "opentelemetry" in capfd.readouterr().err
    assert "import-server" in ended
