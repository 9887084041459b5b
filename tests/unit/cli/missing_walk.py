"""Walks every way to a package of an extra while that package can't be imported, in one process.

Run as a program in a folder that `test_missing_extras.py` has filled. Writes one JSON object a
line: which package was out of reach, which way was gone, what came of it.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BLOCKED: set[str] = set()
REMOTE = "ollama:nomic-embed-text@http://127.0.0.1:9"
MODEL = "./tiny"
CHUNK = ("--chunk", "tokens:32/4")


class Block:
    """An import hook: what is in `BLOCKED` isn't installed."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Refuse, as where there is no such package."""
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def cli(*argv: str, **environment: str) -> Callable[[], tuple[int, str]]:
    """A command: its exit code, and all that it said."""

    def walk() -> tuple[int, str]:
        from likewise.cli import main

        out, err = io.StringIO(), io.StringIO()
        os.environ.update(environment)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = main.run(list(argv))
        finally:
            for name in environment:
                del os.environ[name]
        return code, out.getvalue() + err.getvalue()

    return walk


def api(program: Callable[[Any], object]) -> Callable[[], tuple[int, str]]:
    """A program that uses the package: 2 and the words of MissingExtra, which it must raise."""

    def walk() -> tuple[int, str]:
        import likewise
        from likewise.base.errors import MissingExtra

        try:
            program(likewise)
        except MissingExtra as missing:
            return 2, str(missing)
        except Exception as other:  # noqa: BLE001 - the test shows it
            return 1, repr(other)
        return 0, "nothing was raised"

    return walk


def http(model: str, engine: str | None = None) -> Callable[[], tuple[int, str]]:
    """A running server that is told to load a model: 2 where it answers 501."""

    def walk() -> tuple[int, str]:
        from starlette.testclient import TestClient

        from likewise.cli import catalogue, resolve
        from likewise.server.app import build

        asked = {"model": str(Path(model).resolve())} | ({"engine": engine} if engine else {})
        with catalogue.opened(resolve.place(), resolve.Keeping()) as models:
            models.start()
            app = build(models.registry)
            with TestClient(app, client=("127.0.0.1", 1)) as client:
                answer = client.post("/admin/models/load", json=asked)
        return (2 if answer.status_code == 501 else answer.status_code), answer.json()["error"][
            "message"
        ]

    return walk


def worker(database: str) -> Callable[[], tuple[int, str]]:
    """A binding that is worked on in threads, as a server does: 2 and its trouble."""

    def walk() -> tuple[int, str]:
        from likewise.cli import loading, resolve
        from likewise.server import databases
        from likewise.server.bindings import LiveBinding
        from tests.support import wait_until

        (record,) = databases.records(resolve.address(database, Path()))
        with contextlib.closing(loading.Models(resolve.place())) as models:
            live = LiveBinding(record, models.bound)
            live.start()
            try:
                return 2, str(wait_until(lambda: live.trouble, 60, what="trouble"))
            finally:
                live.stop()

    return walk


def add(source: str, *more: str) -> tuple[str, ...]:
    return (
        "bind",
        "add",
        "new",
        "--source",
        source,
        "--text",
        "{body}",
        "--model",
        MODEL,
        *CHUNK,
        *more,
    )


Way = tuple[str, str, str, Callable[[], tuple[int, str]]]
"""Package, extra, name of the way, what walks it."""
TABLE = ("--table", "t")
POSTGRES = "postgresql://127.0.0.1:9/app"


def at_endpoints(package: str) -> Iterator[Way]:
    """To models of other servers."""
    serve = ("serve", "--port", "0", "--db", "remote.db")
    for way, walk in {
        "bind add": cli(*add("sqlite:a.db", *TABLE), "--model", REMOTE),
        "embed": cli("embed", "in.txt", "--model", "tei:http://127.0.0.1:9"),
        "serve --db": cli(*serve),
        "search": cli("search", "far", "x", "--db", "remote.db"),
        "up": cli("up", "--port", "0", "--config", "remote.toml"),
        "bind swap": cli("bind", "swap", "near", "--db", "near.db", "--model", REMOTE),
        "connect": api(lambda lw: lw.connect(REMOTE)),
        "bind": api(lambda lw: lw.bind("a.db", "t", text="{body}", model=REMOTE)),
        "open": api(lambda lw: lw.open("remote.db")),
    }.items():
        yield package, "remote", way, walk


def at_postgres() -> Iterator[Way]:
    """To rows and vectors in Postgres."""
    for way, walk in {
        "bind add": cli(*add(POSTGRES, *TABLE)),
        "--store": cli(*add("sqlite:a.db", *TABLE), "--store", POSTGRES),
        "bind status": cli("bind", "status", "--db", POSTGRES),
        "search": cli("search", "a", "b", "--db", POSTGRES),
        "serve --db": cli("serve", "--port", "0", "--db", POSTGRES),
        "up": cli("up", "--port", "0", "--config", "postgres.toml"),
        "open": api(lambda lw: lw.open(POSTGRES)),
        "bind": api(
            lambda lw: lw.bind(POSTGRES, "t", text="{body}", model=MODEL, chunk="tokens:32/4")
        ),
    }.items():
        yield "psycopg", "postgres", way, walk


def at_duckdb(package: str) -> Iterator[Way]:
    """To rows and vectors in DuckDB."""
    for way, walk in {
        "bind add": cli(*add("duckdb:a.duckdb", *TABLE)),
        "--store": cli(*add("sqlite:a.db", *TABLE), "--store", "duckdb:v.ddb"),
        "bind status": cli("bind", "status", "--db", "a.duckdb"),
        "serve --db": cli("serve", "--port", "0", "--db", "a.duckdb"),
        "open": api(lambda lw: lw.open("a.duckdb")),
    }.items():
        yield package, "duckdb", way, walk


def at_files(package: str, kind: str) -> Iterator[Way]:
    """To what files of a kind say."""
    there = ("--store", f"sqlite:new-{kind}.db", "--glob", f"*.{kind}")
    for way, walk in {
        "bind add": cli(*add("files:folder", *there, "--text", "{text}")),
        "worker": worker(f"{kind}.db"),
        "bind verify": cli("bind", "verify", "f", "--db", f"{kind}.db"),
    }.items():
        yield package, "files", f"{way} {kind}", walk


def at_engines(package: str, engine: str, extra: str) -> Iterator[Way]:
    """To a model that an engine of an extra is to compute."""
    named = ("--engine", engine)
    for way, walk in {
        "embed": cli("embed", "in.txt", "-m", MODEL, *named),
        "serve": cli("serve", MODEL, "--port", "0", *named),
        "show": cli("models", "show", MODEL, *named),
        "variable": cli("embed", "in.txt", "-m", MODEL, LIKEWISE_ENGINE=engine),
        "load": api(lambda lw: lw.load(MODEL, engine=engine)),
        "HTTP": http(MODEL, engine),
    }.items():
        yield package, extra, f"{way} {engine}", walk


def others() -> Iterator[Way]:
    """What one command or setting asks for."""
    yield "pyarrow", "parquet", "embed", cli("embed", "in.txt", "-m", MODEL, "-o", "v.parquet")
    yield "jinja2", "rerank", "rerank", cli("rerank", "./chat", "q", "a", "b")
    yield "jinja2", "rerank", "serve", cli("serve", "./chat", "--port", "0")
    yield "jinja2", "rerank", "HTTP", http("./chat")
    at = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    yield "opentelemetry", "otel", "serve", cli("serve", MODEL, "--port", "0", **at)
    yield "opentelemetry", "otel", "up", cli("up", "--port", "0", "--config", "otel.toml")
    check = ("models", "check", MODEL, "--against")
    yield "sentence_transformers", "", "check", cli(*check, "sentence-transformers")
    yield "model2vec", "", "check", cli(*check, "model2vec")
    for package in ("torch", "transformers"):
        yield package, "torch-any", "unwritten", cli("embed", "in.txt", "-m", "./albert")
        yield package, "torch-any", "unwritten over HTTP", http("./albert")


def ways() -> Iterator[Way]:
    """All of them, so that a package is imported after all ways to it were walked without it."""
    for package in ("grpc", "google", "grpc_health", "grpc_reflection"):
        walk = cli("serve", MODEL, "--port", "0", "--grpc-port", "0")
        yield package, "grpc", "serve --grpc-port", walk
    yield from at_endpoints("httpcore")
    yield from at_endpoints("httpx")
    yield from at_postgres()
    yield from at_duckdb("duckdb")
    yield from at_duckdb("pyarrow")
    yield from at_files("bs4", "html")
    yield from at_files("pypdf", "pdf")
    yield from at_files("pyarrow", "parquet")
    yield from others()
    yield from at_engines("torch", "torch", "torch")
    yield from at_engines("torch", "torch_any", "torch-any")
    yield from at_engines("transformers", "torch_any", "torch-any")


def main() -> None:
    """Walk them all."""
    threads: list[str] = []
    threading.excepthook = lambda ended: threads.append(repr(ended.exc_value))
    for package, extra, way, walk in ways():
        BLOCKED.clear()
        BLOCKED.add(package)
        code, said = walk()
        found = {"package": package, "extra": extra, "way": way, "code": code, "said": said}
        sys.stdout.write(json.dumps(found | {"threads": threads}) + "\n")
        threads.clear()


if __name__ == "__main__":
    sys.meta_path.insert(0, Block())
    main()
