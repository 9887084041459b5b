"""Bindings and `likewise embed` at servers that others wrote: `make test-endpoints` runs this."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from likewise.base.errors import (
    EndpointKeyRefused,
    EngineError,
    InputEmpty,
    InputTooLong,
    InputUnreadable,
    ModelNotFound,
)
from likewise.binding.status import Status, status
from likewise.client.embedder import RemoteEmbedder
from likewise.client.names import connected
from likewise.runtime import service
from likewise.runtime.service import Service
from likewise.server import databases
from tests.binding_kit import App
from tests.endpoints.servers import KEY, KINDS, Kind, Server, Servers
from tests.remote_kit import keys
from tests.support import wait_until

LONGEST_CHARACTERS = 600
"""Of a text that every server reads whole."""
TOO_LONG = "The quick brown fox jumps over the lazy dog. " * 100
ODD = [
    "  \n ",
    "a\x00b\x01\x1b[31mred\x7f\u200b\ufeff\u202e",
    "\x00",
    "👩‍👩‍👧‍👦 𝔘𝔫𝔦 \U0010ffff \ufffe",
    "如何找到我的卡?",
    "Ça coûte où? İstanbul, ca cou\u0302te",
    "[CLS] hello [SEP] [MASK] [PAD]",
    '{"a": "\\u0000 \\"}',
]
"""Texts that are rarely sent."""


@pytest.fixture(scope="module")
def servers(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    made = Servers(model_folder, tmp_path_factory.mktemp("servers"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def here(model_folder: Path) -> Iterator[Service]:
    """The same model in this process, in float32."""
    loaded = service.load(model_folder, precision="exact")
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def texts(repo: Path) -> list[str]:
    """The sentences of our own documentation."""
    pages = "\n".join(page.read_text() for page in sorted((repo / "docs").glob("*.md")))
    lines = [" ".join(each.split()) for each in re.split(r"\n|(?<=[.:;]) ", pages)]
    return [line for line in dict.fromkeys(lines) if 20 < len(line) < LONGEST_CHARACTERS][:600]


@pytest.fixture(params=KINDS)
def name(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture
def kind(name: str) -> Kind:
    return KINDS[name]


@pytest.fixture
def server(name: str, kind: Kind, servers: Servers) -> Server:
    """Running, with what is behind it."""
    if kind.behind is not None:
        _ = servers[kind.behind]
    return servers[name]


@pytest.fixture
def address(kind: Kind, server: Server) -> str:
    return kind.address.format(server.url)


@pytest.fixture
def remote(address: str) -> Iterator[RemoteEmbedder]:
    made = reached(address)
    yield made
    made.close()


def reached(address: str, key: str = KEY) -> RemoteEmbedder:
    return connected(address, keys({"LIKEWISE_REMOTE_KEY": key}))


def cosines(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(wanted, axis=1)
    made: np.ndarray = (found * wanted).sum(axis=1) / lengths
    return made


def environment() -> Mapping[str, str]:
    return {**os.environ, "LIKEWISE_REMOTE_KEY": KEY}


def likewise(*arguments: str, cwd: Path) -> str:
    """What the command prints; it has to succeed."""
    command = [sys.executable, "-m", "likewise", *arguments]
    done = subprocess.run(command, env=environment(), cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_file_of_texts(
    address: str,
    kind: Kind,
    here: Service,
    texts: list[str],
    tmp_path: Path,
) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n")
    likewise("embed", "texts.txt", "-o", "made.npy", "--model", address, cwd=tmp_path)
    near = cosines(np.load(tmp_path / "made.npy"), here.embed(texts))
    # For docs/remote.md; -rP shows it.
    sys.stdout.write(f"{len(texts)} texts: cosine from {near.min():.7f}, mean {near.mean():.7f}\n")
    assert len(near) > 400
    assert near.min() > kind.least_cosine, texts[int(near.argmin())]


def test_odd_texts(remote: RemoteEmbedder, kind: Kind, here: Service) -> None:
    near = cosines(remote.embed(ODD), here.embed(ODD))
    assert near.min() > kind.least_cosine, ODD[int(near.argmin())]


def test_texts_that_cannot_be_sent(remote: RemoteEmbedder) -> None:
    with pytest.raises(InputEmpty):
        remote.embed(["a", ""])
    with pytest.raises(InputUnreadable):
        remote.embed(["a", "b \ud800"])


def test_a_text_that_is_too_long(remote: RemoteEmbedder, kind: Kind, here: Service) -> None:
    among = ["a cat", TOO_LONG, "a dog"]
    if kind.too_long == "cut":
        wanted = here.embed(among, overflow="cut")
        assert cosines(remote.embed(among), wanted).min() > kind.least_cosine
        return
    with pytest.raises(InputTooLong if kind.too_long == "refused" else EngineError) as refused:
        remote.embed(among)
    assert ("too large" in str(refused.value)) == (kind.too_long == "refused")
    assert len(remote.embed(["a cat", "a dog"])) == 2


def test_a_key_that_is_wrong(address: str, kind: Kind) -> None:
    if kind.key is None:
        reached(address, "another").close()
        return
    with pytest.raises(EndpointKeyRefused, match="LIKEWISE_REMOTE_KEY"):
        reached(address, "another")


def test_a_model_that_it_does_not_have(address: str, kind: Kind) -> None:
    other = address.replace("minilm@", "another@")
    if not kind.checks_names:
        reached(other).close()
        return
    with pytest.raises(ModelNotFound, match="it has: minilm"):
        reached(other)


class Bound:
    """A table that is bound by the command, and `likewise bind run` at work on it."""

    def __init__(self, folder: Path, address: str, texts: list[str]) -> None:
        self.folder = folder
        self.file = folder / "app.db"
        self.app = App(self.file, schema="CREATE TABLE docs (id INTEGER PRIMARY KEY, t TEXT)")
        self.write([("INSERT INTO docs (t) VALUES (?)", text) for text in texts])
        table = ("--source", f"sqlite:{self.file}", "--table", "docs", "--text", "{t}")
        likewise("bind", "add", "docs", *table, "--model", address, cwd=folder)
        self.record = databases.record(f"sqlite:{self.file}", "docs")
        self.source, self.table = databases.open_ends(self.record)
        self.log = folder / "run.log"

    @contextmanager
    def running(self) -> Iterator[None]:
        command = [sys.executable, "-m", "likewise", "--log-level", "info", "bind", "run", "docs"]
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                [*command, "--db", f"sqlite:{self.file}"],
                env=environment(),
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, self.log.read_text()

    def write(self, statements: list[tuple[str, str]]) -> None:
        self.app("BEGIN")
        for sql, value in statements:
            self.app(sql, [value])
        self.app("COMMIT")

    def change(self, mark: str) -> None:
        """What an application does in a while: rows are edited, added and deleted."""
        self.write(
            [
                ("UPDATE docs SET t = t || ? WHERE id % 3 = 0", f" {mark}"),
                ("DELETE FROM docs WHERE id % 7 = 0 AND t <> ?", mark),
                ("INSERT INTO docs (t) VALUES (?)", f"{mark}: a walrus plays the trombone"),
                *(("INSERT INTO docs (t) VALUES (?)", odd) for odd in ["", *ODD]),
                ("INSERT INTO docs (t) VALUES (?)", f"{mark} {TOO_LONG}"),
            ]
        )

    def status(self) -> Status:
        return status(self.source, self.table)

    def is_in_step(self) -> bool:
        now = self.status()
        return now.pending == 0 and now.current == now.rows

    def nearest(self, query: str) -> str:
        where = ("--db", f"sqlite:{self.file}", "--freshness", "wait")
        return likewise("search", "docs", query, *where, cwd=self.folder)

    def assert_right(self, here: Service, least: float) -> None:
        """No row is missing or parked, and each vector is that of the present text."""
        said = likewise("bind", "verify", "docs", "--db", f"sqlite:{self.file}", cwd=self.folder)
        counted = {name: int(count) for name, count in re.findall(r"^(\w+)\s+(\d+)$", said, re.M)}
        rows = {row.key: row.text for row in self.source.snapshot()}
        assert counted["rows"] == counted["current"] == len(rows)
        assert all(n == 0 for what, n in counted.items() if what not in ("rows", "current")), said
        stored = [
            (rows[key][chunk.start : chunk.end], vector)
            for block in self.table.scan()
            for key, chunk, vector in zip(block.keys, block.chunks, block.vectors, strict=True)
        ]
        assert len(stored) >= sum(1 for text in rows.values() if text)
        passages = [text for text, _ in stored]
        near = cosines(np.array([vector for _, vector in stored]), here.embed(passages))
        assert near.min() > least, passages[int(near.argmin())]

    def close(self) -> None:
        self.source.close()
        self.table.close()
        self.app.close()


@pytest.fixture
def bound(tmp_path: Path, address: str, texts: list[str]) -> Iterator[Bound]:
    made = Bound(tmp_path, address, texts)
    yield made
    made.close()


def test_a_binding_through_the_end_of_its_server(
    bound: Bound, kind: Kind, here: Service, server: Server
) -> None:
    with bound.running():
        bound.change("first")
        assert "walrus" in bound.nearest("a walrus plays music")
        wait_until(bound.is_in_step, 60)
        bound.assert_right(here, kind.least_cosine)
        server.kill()
        bound.change("second")
        wait_until(lambda: "can't be reached" in bound.log.read_text(), 60)
        now = bound.status()
        assert now.pending > 0 and now.parked == 0
        server.start()
        wait_until(bound.is_in_step, 120)
        assert "second: a walrus" in bound.nearest("second: a walrus plays the trombone")
    bound.assert_right(here, kind.least_cosine)


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.behind])
def test_a_binding_through_the_end_of_what_is_behind_a_proxy(
    bound: Bound, kind: Kind, here: Service, servers: Servers
) -> None:
    """The proxy goes on answering, with 500: no row is to blame."""
    behind = servers[str(kind.behind)]
    with bound.running():
        wait_until(lambda: "working on docs" in bound.log.read_text())
        bound.change("first")
        wait_until(bound.is_in_step, 60)
        behind.kill()
        bound.change("second")
        wait_until(lambda: bound.status().state == "failing", 60)
        assert "endpoint_unavailable" in (bound.status().error or "")
    with bound.running():
        wait_until(lambda: "no text is to blame" in bound.log.read_text(), 60)
        behind.start()
        wait_until(bound.is_in_step, 120)
    bound.assert_right(here, kind.least_cosine)
