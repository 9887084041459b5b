"""`likewise search` asks the server that runs here, and nobody who only listens there; SIGHUP."""

from __future__ import annotations

import json
import os
import signal
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from likewise.cli import running
from likewise.cli.running import Followed, NotAnswered, Record
from likewise.server.proof import CHALLENGE, PROOF, proof
from tests.support import free_port, wait_until
from tests.unit.cli.test_commands import Run, bound
from tests.unit.cli.test_commands import database as database
from tests.unit.cli.test_commands import run as run
from tests.unit.cli.test_serving import Start
from tests.unit.cli.test_serving import start as start

DOCS = Followed("docs", "sqlite:/a.db")


class Listener(socketserver.ThreadingTCPServer):
    """A program that answers 200 to everything, with the proof of `secret` or none."""

    allow_reuse_address = True
    daemon_threads = True
    secret: str | None = None
    answer: dict[str, Any]
    status = 200

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, bytes]] = []
        self.answer = {"results": []}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.reply({"status": "ok"}, 200)

            def do_POST(self) -> None:
                self.reply(outer.answer, outer.status)

            def reply(self, value: object, status: int) -> None:
                length = int(self.headers.get("content-length", 0))
                sent = self.rfile.read(length)
                outer.seen.append((self.path, str(self.headers), sent))
                body = json.dumps(value).encode()
                self.send_response(status)
                if outer.secret is not None:
                    self.send_header(PROOF, proof(outer.secret, self.headers.get(CHALLENGE, "")))
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def record(self) -> Record:
        return Record(f"http://127.0.0.1:{self.server_address[1]}", os.getpid(), "s" * 64, (DOCS,))


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def test_a_stranger_gets_neither_key_nor_question(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    for secret in (None, "another"):
        listener.secret = secret
        with pytest.raises(NotAnswered, match="another program listens there"):
            running.search(listener.record, {"q": "the question"}, "the-key-of-mine")
    assert [path for path, _, _ in listener.seen] == ["/health", "/health"]
    assert "the-key" not in str(listener.seen) and "question" not in str(listener.seen)


def test_the_one_that_shows_the_secret_gets_them(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    listener.secret = listener.record.secret
    assert running.search(listener.record, {"q": "x"}, "the-key") == {"results": []}
    path, headers, sent = listener.seen[-1]
    assert (path, json.loads(sent)) == ("/search", {"q": "x"})
    assert "authorization: Bearer the-key" in headers
    assert listener.record.secret not in str(listener.seen)
    listener.status, listener.answer = 401, {"error": {"message": "a key is wanted"}}
    with pytest.raises(NotAnswered, match="a key is wanted"):
        running.search(listener.record, {"q": "x"}, None)


def test_where_nobody_listens() -> None:
    record = Record(f"http://127.0.0.1:{free_port()}", os.getpid(), "s", (DOCS,))
    with pytest.raises(NotAnswered, match="doesn't answer"):
        running.search(record, {}, "key")


def test_what_is_written_down_is_private_and_taken_away(tmp_path: Path) -> None:
    databases = {DOCS.database}
    with running.written_down(tmp_path, "http://0.0.0.0:7997", [DOCS]) as secret:
        (path,) = (tmp_path / "run").iterdir()
        assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
        there = running.found(tmp_path, "docs", databases)
        assert there == Record("http://127.0.0.1:7997", os.getpid(), secret, (DOCS,))
        assert running.found(tmp_path, "other", databases) is None
        assert running.found(tmp_path, "docs", {"sqlite:/b.db"}) is None
        path.chmod(0o644)
        assert running.found(tmp_path, "docs", databases) is None
    assert list((tmp_path / "run").iterdir()) == []
    for url, bindings in (("https://127.0.0.1:1", [DOCS]), ("http://127.0.0.1:1", [])):
        with running.written_down(tmp_path, url, bindings):
            assert list((tmp_path / "run").iterdir()) == []
    (tmp_path / "blocked").write_text("no folder")
    with running.written_down(tmp_path / "blocked", "http://127.0.0.1:1", [DOCS]):
        assert running.found(tmp_path / "blocked", "docs", databases) is None


def test_what_a_killed_server_left_is_taken_away(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    ended = child.pid
    with running.written_down(tmp_path, "http://127.0.0.1:1", [DOCS]):
        (path,) = (tmp_path / "run").iterdir()
        left = path.with_name(f"{ended}.json")
        left.write_bytes(path.read_bytes().replace(str(os.getpid()).encode(), str(ended).encode()))
        left.chmod(0o600)
    (tmp_path / "run" / "torn.json").write_bytes(b"{")
    assert running.found(tmp_path, "docs", {DOCS.database}) is None
    assert not left.exists()


@pytest.mark.model
def test_a_search_asks_the_server_and_settings_are_read_again(
    run: Run, start: Start, database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "likewise.toml"
    written = (
        "[server]\nport = 0\nkeep_alive = '1h'\nmax_batch_inputs = 7\n"
        "[server.aliases]\nmini = 'all-MiniLM-L6-v2'\n"
        "[[binding]]\nname = 'pages'\nsource = 'sqlite:app.db'\ntable = 'pages'\n"
        "text = '{title}: {body}'\n"
    )
    config.write_text(written)
    server = start("up")
    wait_until(server.is_ready, 60)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("LIKEWISE_API_KEY", "lw_a-key-that-nobody-wants")
    asked = f"asked the server at {server.url()} (process {server.popen.pid})"
    code, said, noted = run("search", "pages", "a kitten", "-k", "1")
    assert (code, asked in noted, "They purr" in said) == (0, True, True), noted
    monkeypatch.delenv("http_proxy")

    def hang_up(words: str) -> None:
        before = server.said
        server.popen.send_signal(signal.SIGHUP)
        wait_until(lambda: words in server.said[len(before) :], what=words)

    config.write_text(
        written.replace("mini =", "little =")
        .replace("port = 0", "port = 1\ncors_origins = ['https://app.example']")
        .replace("max_batch_inputs = 7", "max_batch_inputs = 1")
        .replace("'1h'", "'2h'")
    )
    hang_up("SIGHUP: needs a restart: port\n")
    for name in ("aliases", "keep_alive", "cors_origins", "max_batch_inputs"):
        assert name in server.said.partition("changed: ")[2].partition("\n")[0]
    assert len(server.ask("/v1/embeddings", {"model": "little", "input": ["a"]})["data"]) == 1
    for body in ({"model": "little", "input": ["a", "b"]}, {"model": "mini", "input": ["a"]}):
        with pytest.raises(OSError, match="HTTP Error 4"):
            server.ask("/v1/embeddings", body)
    config.write_text("[server]\nport = 'no\n")
    hang_up("settings stay as they were: likewise.toml: ")
    assert len(server.ask("/v1/embeddings", {"model": "little", "input": ["a"]})["data"]) == 1

    # What a server left that was killed misleads nobody.
    server.end(signal.SIGKILL)
    config.unlink()
    code, said, noted = run("search", "pages", "a kitten", "-k", "1")
    assert (code, "asked" in noted, "They purr" in said) == (0, False, True), noted
    assert bound(run)[0] == 0
