"""`likewise demo` as a newcomer meets it, on fewer rows: what it prints can be run."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from likewise.base.errors import DatabaseCorrupt, SettingsError
from likewise.cli.demo import ensure_rows
from tests.support import LIMIT, wait_until

BIN = Path(sys.executable).parent


class Demo:
    """A running demo and what it has said."""

    def __init__(self, folder: Path, cache: Path, rows: int) -> None:
        env = os.environ | {"LIKEWISE_HOME": str(cache), "LIKEWISE_OFFLINE": "1"}
        self.env = env | {"PATH": f"{BIN}:{env['PATH']}"}
        self.folder = folder
        # A shell that runs the tests in the background has SIGINT ignored for all below it, and
        # the demo would inherit that: it is started as a terminal starts it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self.process = subprocess.Popen(
            ["likewise", "demo", "--port", "0", "--rows", str(rows)],
            cwd=folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line

    def wait_for(self, pattern: str) -> str:
        """The first match in what it says, once it has said it."""

        def found() -> re.Match[str] | None:
            match = re.search(pattern, self.said, re.MULTILINE)
            assert match or self.process.poll() is None, self.said
            return match

        match = wait_until(found, what=f"{pattern!r} in the demo's output")
        assert match is not None
        return match.group(1)

    @property
    def url(self) -> str:
        return self.wait_for(r"open (http://\S+) in a browser")

    def get(self, path: str, **query: str) -> Any:
        url = f"{self.url}{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=LIMIT) as answer:
            return json.load(answer)

    def state(self) -> dict[str, Any]:
        (state,) = self.get("/bindings")["bindings"]
        assert isinstance(state, dict)
        return state

    def run(self, command: str) -> str:
        """What a printed command prints, run as a shell would in the same folder."""
        return subprocess.run(
            command, shell=True, cwd=self.folder, env=self.env, text=True, check=True,
            stdout=subprocess.PIPE, timeout=LIMIT,
        ).stdout  # fmt: skip

    def stop(self) -> int:
        """Ctrl-C; its exit code."""
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(LIMIT)
        self.close()
        return code

    def close(self) -> None:
        assert self.process.stdout is not None
        self._reader.join()
        self.process.stdout.close()


@contextlib.contextmanager
def running(folder: Path, cache: Path, rows: int) -> Iterator[Demo]:
    demo = Demo(folder, cache, rows)
    try:
        yield demo
    finally:
        demo.process.kill()
        demo.process.wait()
        demo.close()


def test_what_it_prints_can_be_run_and_a_second_start_embeds_nothing(
    tmp_path: Path, model_cache: Path, model_folder: Path
) -> None:
    with running(tmp_path, model_cache, rows=120) as demo:
        demo.wait_for(r"embedded (120) rows in")
        curl = demo.wait_for(r"^  (curl .*)$")
        update = demo.wait_for(r"^  (python3 -c .*)$")
        search = demo.wait_for(r"^  (likewise search .*)$")
        name = demo.wait_for(r"WHERE name = '(.*?)'")
        question = demo.wait_for(r"search docs '(.*)'")
        answer = json.loads(demo.run(curl))
        assert len(answer["data"][0]["embedding"]) == 384

        def first() -> str:
            result = demo.get("/search", q=question, k="1")["results"][0]
            return str(result["row"]["name"])

        assert first() != name
        demo.run(update)
        wait_until(lambda: first() == name, what="the changed row first among the results")
        assert name in demo.run(search)
        version = demo.state()["version"]
        assert demo.stop() == 0
        assert "stopped" in demo.said and "Traceback" not in demo.said
    with running(tmp_path, model_cache, rows=120) as demo:
        demo.wait_for(r"all (120) rows are embedded already")
        state = demo.state()
        assert (state["version"], state["current"], state["pending"]) == (version, 120, 0)
        assert first() == name
        assert demo.stop() == 0


def test_ctrl_c_while_embedding_keeps_what_is_done(
    tmp_path: Path, model_cache: Path, model_folder: Path
) -> None:
    with running(tmp_path, model_cache, rows=500) as demo:
        wait_until(lambda: demo.state()["current"], what="the first embedded rows")
        assert demo.stop() == 0
        assert "Traceback" not in demo.said
    with running(tmp_path, model_cache, rows=500) as demo:
        new = int(demo.wait_for(r"embedded ([\d,]+) rows in").replace(",", ""))
        assert 0 < new < 500
        state = demo.state()
        assert (state["current"], state["rows"], state["pending"]) == (500, 500, 0)
        assert demo.stop() == 0


def test_ctrl_c_while_reading_leaves_no_rows(tmp_path: Path, model_cache: Path) -> None:
    with running(tmp_path, model_cache, rows=50_000) as demo:
        demo.wait_for("(reading the documentation)")
        assert demo.stop() == 130
        assert "Traceback" not in demo.said
    with contextlib.closing(sqlite3.connect(tmp_path / "demo.db")) as db:
        assert db.execute("SELECT count(*) FROM sqlite_schema").fetchall() == [(0,)]
    assert ensure_rows(tmp_path / "demo.db", at_most=10) == 10


def test_rows_are_read_once(tmp_path: Path) -> None:
    path = tmp_path / "demo.db"
    assert ensure_rows(path, at_most=30) == 30
    assert ensure_rows(path, at_most=60) == 30


def test_a_file_that_isnt_the_demos_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(other)) as db:
        db.execute("CREATE TABLE mine (a)")
    with pytest.raises(SettingsError, match="another database"):
        ensure_rows(other, at_most=10)
    text = tmp_path / "text.db"
    text.write_text("not a database, but long enough to look at\n" * 100)
    with pytest.raises(DatabaseCorrupt, match=r"text\.db"):
        ensure_rows(text, at_most=10)
    with pytest.raises(SettingsError, match="can't be made"):
        ensure_rows(tmp_path / "no" / "folder.db", at_most=10)
