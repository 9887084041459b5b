"""`serve` and `up` as processes: ports, signals, bindings, and searches that follow a change."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from likewise.base.errors import SettingsError
from likewise.cli.guarding import Guarding, guard_of
from likewise.server.listen import listen
from likewise.server.run import GRACE_S
from tests.conformance.tiny import write_bert
from tests.support import BUSY_MS, LIMIT, wait_until

pytestmark = pytest.mark.model

Start = Callable[..., "Process"]


class Process:
    """A running `likewise`, and the address it said it listens on."""

    def __init__(self, folder: Path, environment: dict[str, str], *argv: str) -> None:
        self.log = folder / "stderr.txt"
        with self.log.open("wb") as log:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "likewise", *argv],
                cwd=folder,
                env=os.environ | environment,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def url(self) -> str:
        def found() -> re.Match[str] | None:
            assert self.popen.poll() is None, self.said
            return re.search(r"listening on (http://\S+)", self.said)

        match = wait_until(found, what="the server's address")
        assert match is not None
        return match[1]

    def ask(self, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(self.url() + path, data, timeout=LIMIT) as answer:
            return json.load(answer)

    def is_ready(self) -> bool:
        try:
            return bool(self.ask("/ready")["ready"])
        except urllib.error.HTTPError as not_yet:
            with not_yet:
                return False

    def end(self, number: int = signal.SIGTERM) -> int:
        self.popen.send_signal(number)
        return self.popen.wait(LIMIT)


@pytest.fixture
def start(tmp_path: Path, model_cache: Path, model_folder: Path) -> Iterator[Start]:
    begun: list[Process] = []

    def start(*argv: str, home: Path = model_cache) -> Process:
        environment = {"LIKEWISE_HOME": str(home), "LIKEWISE_OFFLINE": "1"}
        begun.append(Process(tmp_path, environment, *argv))
        return begun[-1]

    yield start
    for each in begun:
        if each.popen.poll() is None:
            each.popen.kill()
        each.popen.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(start: Start, number: int) -> None:
    server = start("serve", "--port", "0")
    answer = server.ask("/v1/embeddings", {"input": "a"})
    assert len(answer["data"][0]["embedding"]) == 384
    assert server.end(number) == 0
    assert "Traceback" not in server.said


def test_what_was_accepted_is_answered_after_the_signal(start: Start) -> None:
    server = start("serve", "--port", "0")
    url = server.url()
    answers: list[Any] = []

    def ask() -> None:
        answers.append(server.ask("/v1/embeddings", {"input": ["word " * 200] * 40}))

    asking = threading.Thread(target=ask)
    asking.start()

    def running() -> bool:
        with urllib.request.urlopen(f"{url}/metrics", timeout=LIMIT) as answer:
            # The other one is this request for the metrics.
            return b"likewise_http_requests_running 2.0" in answer.read()

    wait_until(running, what="the request's arrival")
    assert server.end() == 0
    asking.join()
    assert len(answers[0]["data"]) == 40


def test_a_taken_port_is_said_before_anything_is_loaded(start: Start) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        # A model that isn't there would be the error, were it looked for first.
        server = start("serve", "no-such-model", "--port", str(port))
        assert server.popen.wait(LIMIT) == 2
        assert f"port {port} on 127.0.0.1 is taken" in server.said
        assert "no-such-model" not in server.said


def test_grpc_is_served_on_a_port_of_its_own_and_a_taken_one_is_said(start: Start) -> None:
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    server = start("serve", "--port", "0", "--grpc-port", "0")
    server.url()
    found = re.search(r"gRPC on (127\.0\.0\.1:\d+)", server.said)
    assert found
    with grpc.insecure_channel(found[1]) as channel:
        health = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service="tei.v1.Embed"), timeout=60, wait_for_ready=True
        )
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        port = found[1].rpartition(":")[2]
        second = start("serve", "no-such-model", "--port", "0", "--grpc-port", port)
        assert second.popen.wait(60) == 2
        assert f"port {port} on 127.0.0.1 is taken" in second.said
    assert server.end() == 0


@pytest.mark.parametrize(
    ("host", "is_open"),
    [("127.0.0.1", False), ("::1", False), ("localhost", False), ("0.0.0.0", True), ("pc", True)],
)
def test_an_address_open_to_others_wants_keys_or_a_word(
    host: str, is_open: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    if is_open:
        with pytest.raises(SettingsError, match="may be reached from other machines.*--no-auth"):
            guard_of(Guarding(), host)
    else:
        guard_of(Guarding(), host)
    guard_of(Guarding(insecure=True), host)
    assert ("nothing here asks who they are" in capsys.readouterr().err) == is_open


def test_what_cant_be_served_ends_with_one_message(start: Start, tmp_path: Path) -> None:
    apsw.Connection(str(tmp_path / "empty.db")).execute("CREATE TABLE t (a)")
    for argv, words in (
        (("serve", "no-such-model"), "no model called 'no-such-model'"),
        (("serve", "--db", "none.db"), "none.db: no such database file"),
        (("serve", "--db", "empty.db"), "empty.db has no binding; make one with 'likewise bind"),
        (("up",), "likewise.toml: no such file"),
    ):
        server = start(*argv, "--port", "0")
        assert server.popen.wait(LIMIT) == 2
        assert words in server.said
        assert server.said.count("\n") == 1


def test_up_makes_follows_and_serves_what_the_file_says(start: Start, tmp_path: Path) -> None:
    db = apsw.Connection(str(tmp_path / "app.db"))
    db.set_busy_timeout(BUSY_MS)
    db.execute("CREATE TABLE pages (id INTEGER PRIMARY KEY, title TEXT, body TEXT)")
    db.execute("INSERT INTO pages (title, body) VALUES ('Cats', 'They purr.'), ('Pasta', 'Boil.')")
    (tmp_path / "likewise.toml").write_text(
        "[server]\nport = 0\n[model]\nprecision = 'f32'\n[[binding]]\nname = 'pages'\n"
        "source = 'sqlite:app.db'\ntable = 'pages'\ntext = '{title}: {body}'\n",
        encoding="utf-8",
    )
    server = start("up")

    wait_until(server.is_ready)

    def state() -> dict[str, Any]:
        (found,) = server.ask("/bindings")["bindings"]
        assert isinstance(found, dict)
        return found

    wait_until(lambda: state()["current"] == 2)

    def best(q: str) -> dict[str, Any]:
        answer = server.ask("/search", {"q": q, "k": 1})
        assert answer["results"], "the index hasn't followed yet"
        return dict(answer["results"][0])

    wait_until(lambda: best("a kitten")["key"] == [1])
    db.execute("UPDATE pages SET body = 'A rocket flies to the moon.' WHERE id = 2")
    wait_until(lambda: best("space travel")["key"] == [2], what="the change")
    found = best("space travel")
    assert found["fresh"]
    assert found["row"] == {"id": 2, "title": "Pasta", "body": "A rocket flies to the moon."}
    assert found["table"] == "pages"
    assert found["score"] > 0.3
    assert server.ask("/search?q=space+travel&k=1")["results"][0]["key"] == [2]
    assert state()["lag_seconds"] == 0.0

    asked = [sys.executable, "-m", "likewise", "search", "pages", "space", "--url", server.url()]
    said = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    assert "A rocket flies" in said

    for path, status, code in (
        ("/search?q=", 400, "invalid_input"),
        ("/search?q=a&k=0", 400, "invalid_input"),
        ("/search?q=a&k=x", 400, "invalid_input"),
        ("/search?q=a&limit=3", 400, "invalid_input"),
        ("/search", 400, "invalid_input"),
        ("/search?q=a&binding=page", 404, "binding_not_found"),
    ):
        with pytest.raises(urllib.error.HTTPError) as refused:
            server.ask(path)
        with refused.value as answer:
            assert (answer.code, json.load(answer)["error"]["code"]) == (status, code), path

    db.execute("ALTER TABLE pages RENAME COLUMN body TO text")
    wait_until(lambda: server.ask("/health")["status"] == "degraded", what="the drift")
    assert "pages" in server.ask("/health")["troubles"]
    db.execute("ALTER TABLE pages RENAME COLUMN text TO body")
    wait_until(lambda: server.ask("/health")["status"] == "ok", what="the end of the drift")

    db.close()
    assert server.end() == 0
    assert "Traceback" not in server.said


def test_settings_that_ask_for_other_vectors_are_said_and_swapped_while_it_serves(
    start: Start, tmp_path: Path, model_cache: Path
) -> None:
    db = apsw.Connection(str(tmp_path / "app.db"))
    db.set_busy_timeout(BUSY_MS)  # a worker may be writing
    db.execute("CREATE TABLE pages (id INTEGER PRIMARY KEY, title TEXT, body TEXT)")
    db.execute("INSERT INTO pages (title, body) VALUES ('Cats', 'They purr.'), ('Pasta', 'Boil.')")
    settings = (
        "[server]\nport = 0\n[[binding]]\nname = 'pages'\n"
        "source = 'sqlite:app.db'\ntable = 'pages'\ntext = '{}'\n"
    )
    config = tmp_path / "likewise.toml"
    config.write_text(settings.replace("{}", "{title}: {body}"), encoding="utf-8")
    server = start("up")
    wait_until(server.is_ready)
    wait_until(lambda: server.ask("/bindings")["bindings"][0]["current"] == 2)
    assert server.ask("/health")["status"] == "ok"
    assert server.end() == 0

    config.write_text(settings.replace("{}", "{title}"), encoding="utf-8")
    server = start("up")
    wait_until(server.is_ready)
    health = server.ask("/health")
    command = "likewise bind swap pages --text '{title}'"
    assert (health["status"], command in health["troubles"]["pages"]) == ("degraded", True)
    assert "warning: binding pages: the settings ask for another model" in server.said
    # As it is, it answers and follows.
    found = server.ask("/search", {"q": "a kitten", "k": 1})["results"][0]
    assert (found["key"], found["text"]) == ([1], "Cats: They purr.")
    db.execute("UPDATE pages SET title = 'Rockets' WHERE id = 2")
    best = {"q": "space travel", "k": 1}
    wait_until(lambda: server.ask("/search", best)["results"][0]["text"] == "Rockets: Boil.")

    at = {"LIKEWISE_HOME": str(model_cache), "LIKEWISE_OFFLINE": "1"}
    argv = [sys.executable, "-m", *command.replace("'", "").split()]
    subprocess.run(argv, cwd=tmp_path, env=os.environ | at, check=True, capture_output=True)
    wait_until(lambda: server.ask("/search", best)["results"][0]["text"] == "Rockets")
    wait_until(lambda: server.ask("/health")["status"] == "ok")
    assert server.ask("/bindings")["bindings"][0]["generation"] == 2
    db.close()
    assert server.end() == 0
    assert "Traceback" not in server.said
    # Other things that differ can't be swapped, and nothing is served in their place.
    config.write_text(
        settings.replace("{}", "{title}").replace("table = 'pages'", "table = 'other'"),
        encoding="utf-8",
    )
    db = apsw.Connection(str(tmp_path / "app.db"))
    db.execute("CREATE TABLE other (id INTEGER PRIMARY KEY, title TEXT)")
    db.close()
    server = start("up")
    assert server.popen.wait(LIMIT) == 2
    assert "already there with another definition (table: 'pages' there" in server.said


def run(*argv: str, expect: int = 0, key: str = "") -> str:
    """What another `likewise` says, on both its outputs."""
    command = [sys.executable, "-m", "likewise", *argv]
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env=os.environ | {"LIKEWISE_ADMIN_KEY": key},
    )
    assert done.returncode == expect, done.stdout
    return done.stdout


def test_models_come_and_go_while_it_runs(start: Start, tmp_path: Path) -> None:
    write_bert(tmp_path / "models" / "tiny")
    write_bert(tmp_path / "other", pooling="cls")
    server = start(
        "serve", "--lazy", "--port", "0", "all-MiniLM-L6-v2", "--models-dir", "models",
        "--alias", "text-embedding-3-small=all-MiniLM-L6-v2", "--memory-budget", "200",
    )  # fmt: skip
    at = ("--url", server.url())
    assert "(unloaded)" in server.said
    assert "text-embedding-3-small" in run("models", "ps", *at)
    asked = {"input": "a", "model": "text-embedding-3-small"}
    assert len(server.ask("/v1/embeddings", asked)["data"][0]["embedding"]) == 384
    said = run("models", "reload", "all-MiniLM-L6-v2", *at)
    assert "is reloaded, generation 2" in said
    said = run("models", "load", f"{tmp_path}/other", "--alias", "o", "--keep-alive", "5m", *at)
    assert "other is loaded" in said
    assert len(server.ask("/v1/embeddings", {"input": "w1", "model": "o"})["data"]) == 1
    assert len(server.ask("/v1/embeddings", {"input": "w1", "model": "tiny"})["data"]) == 1
    listed = json.loads(run("models", "ps", "--json", *at))["models"]
    assert [each["state"] for each in listed] == ["loaded"] * 3
    assert "is unloaded" in run("models", "unload", "o", *at)
    assert "wasn't loaded" in run("models", "unload", "o", *at)
    assert "small stands for other" in run("models", "alias", "small=o", *at)
    assert "no alias any more" in run("models", "alias", "small", *at)
    assert "isn't served here" in run("models", "reload", "none", *at, expect=2)
    write_bert(tmp_path / "models" / "late")

    def there() -> bool:
        return any(each["id"] == "late" for each in server.ask("/v1/models")["data"])

    wait_until(there, what="the model that came later")
    assert server.end() == 0
    assert "Traceback" not in server.said


def test_a_signal_while_a_model_is_loaded(start: Start) -> None:
    server = start("serve", "--lazy", "--port", "0")
    answers: list[Any] = []
    asked = {"input": "a"}
    server.url()
    asking = threading.Thread(target=lambda: answers.append(server.ask("/v1/embeddings", asked)))
    asking.start()
    wait_until(lambda: server.ask("/admin/models")["models"][0]["state"] != "unloaded")
    assert server.end() == 0
    asking.join()
    assert len(answers[0]["data"]) == 1
    assert "Traceback" not in server.said


def test_a_signal_during_the_start_leaves_nothing_behind(start: Start, tmp_path: Path) -> None:
    from shutil import copytree

    home = tmp_path / "home"
    copytree(write_bert(tmp_path / "tiny"), tmp_path / "big")
    with (tmp_path / "big" / "filling").open("wb") as file:
        file.truncate(1 << 31)
    server = start("serve", "big", "--port", "0", home=home)
    wait_until(lambda: list(home.glob(".loading-*")), what="the copy")
    assert server.end() == 130
    assert list(home.glob(".loading-*")) == []
    assert "interrupted" in server.said
    assert "Traceback" not in server.said


def test_the_default_model_and_what_cant_be_one(start: Start, tmp_path: Path) -> None:
    write_bert(tmp_path / "one")
    write_bert(tmp_path / "two")
    head = "[server]\nport = 0\nmodels = ['./one', './two']\nload = 'first-use'\n"
    config = tmp_path / "likewise.toml"
    for more, words in (
        ("default_model = 'three'", "server.default_model: the model 'three' isn't served"),
        ("aliases = {x = 'three'}", "server.aliases: the model 'three' isn't served"),
        ("models_dir = 'none'", "none isn't a folder"),
        ("keep_alive = 'soon'", "server.keep_alive is 'soon'"),
        ("memory_budget_mib = 0", "server.memory_budget_mib must be at least 1"),
        ("load = 'later'", "server.load"),
    ):
        config.write_text(head.replace("load = 'first-use'\n", "") + more, encoding="utf-8")
        server = start("up")
        assert server.popen.wait(LIMIT) == 2, server.said
        assert words in server.said
    config.write_text(head + "default_model = 'two'\naliases = {x = 'one'}", encoding="utf-8")
    server = start("up")
    assert server.ask("/v1/embeddings", {"input": "w1"})["model"] == "two"
    assert server.ask("/v1/embeddings", {"input": "w1", "model": "x"})["model"] == "one"
    assert server.end() == 0


def test_a_bound_model_is_reloaded_under_its_binding(start: Start, tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "tiny", max_position_embeddings=256)
    db = apsw.Connection(str(tmp_path / "app.db"))
    db.set_busy_timeout(BUSY_MS)
    db.execute("CREATE TABLE pages (id INTEGER PRIMARY KEY, body TEXT)")
    db.execute("INSERT INTO pages (body) VALUES ('w1 w2')")
    (tmp_path / "likewise.toml").write_text(
        "[server]\nport = 0\nkeep_alive = '0'\n[[binding]]\nname = 'pages'\nmodel = './tiny'\n"
        "source = 'sqlite:app.db'\ntable = 'pages'\ntext = '{body}'\n",
        encoding="utf-8",
    )
    server = start("up")

    def current() -> int:
        count: int = server.ask("/bindings")["bindings"][0]["current"]
        return count

    wait_until(lambda: current() == 1)
    at = ("--url", server.url())
    assert "is reloaded" in run("models", "reload", "tiny", *at)
    db.execute("INSERT INTO pages (body) VALUES ('w3 w4')")
    wait_until(lambda: current() == 2, what="the row after the reload")
    write_bert(folder, pooling="cls", max_position_embeddings=256)
    said = run("models", "reload", "tiny", *at, expect=2)
    assert "the binding pages holds its vectors" in said
    assert "pinned by the binding pages" in run("models", "unload", "tiny", *at, expect=2)
    assert server.ask("/search", {"q": "w1 w2", "k": 1})["results"][0]["key"] == [1]
    db.close()
    assert server.end() == 0
    assert "Traceback" not in server.said


def test_asking_a_server_that_isnt_there(start: Start) -> None:
    for url, words in (
        ("http://127.0.0.1:9", "nothing answers at http://127.0.0.1:9"),
        ("127.0.0.1:9", "--url must begin with http:// or https://"),
    ):
        process = start("search", "pages", "x", "--url", url)
        assert process.popen.wait(LIMIT) == 2
        assert words in process.said


def test_readiness_goes_down_first_and_what_was_accepted_is_answered(start: Start) -> None:
    server = start("--log-level", "info", "--log-format", "json", "serve", "--port", "0",
                   "--drain", "3")  # fmt: skip
    assert server.ask("/ready")["ready"]
    answers: list[Any] = []

    def ask() -> None:
        answers.append(server.ask("/v1/embeddings", {"input": ["word " * 200] * 60}))

    asking = [threading.Thread(target=ask) for _ in range(3)]
    for thread in asking:
        thread.start()
    url = server.url()

    def running() -> bool:
        with urllib.request.urlopen(f"{url}/metrics", timeout=LIMIT) as answer:
            return b"likewise_http_requests_running 4.0" in answer.read()

    wait_until(running, what="the requests' arrival")
    server.popen.send_signal(signal.SIGTERM)

    def refused() -> bool:
        with pytest.raises(urllib.error.HTTPError) as not_ready:
            server.ask("/ready")
        with not_ready.value as answer:
            return answer.code == 503 and json.load(answer)["draining"] is True

    wait_until(refused, what="the end of readiness")
    # It still answers who didn't hear of it yet.
    assert len(server.ask("/v1/embeddings", {"input": "a"})["data"]) == 1
    for thread in asking:
        thread.join()
    assert [len(answer["data"]) for answer in answers] == [60] * 3
    assert server.popen.wait(LIMIT) == 0
    # Every line is a record, those for people too.
    records = [json.loads(line) for line in server.said.splitlines()]
    assert {"cli", "server.access"} <= {r["logger"].removeprefix("likewise.") for r in records}
    done = [r for r in records if r["message"] == "request" and r["route"] == "/v1/embeddings"]
    assert [r["status"] for r in done] == [200] * 4
    assert all(r["request_id"] for r in done)


def test_a_second_signal_ends_at_once(start: Start) -> None:
    server = start("serve", "--port", "0", "--drain", "600")
    url = server.url()
    asking = threading.Thread(target=_hang, args=(url,), daemon=True)
    asking.start()

    def running() -> bool:
        with urllib.request.urlopen(f"{url}/metrics", timeout=LIMIT) as answer:
            return b"likewise_http_requests_running 2.0" in answer.read()

    wait_until(running, what="the request's arrival")
    server.popen.send_signal(signal.SIGTERM)
    wait_until(lambda: _status(f"{url}/ready") == 503, what="the end of readiness")
    server.popen.send_signal(signal.SIGTERM)
    # Less than a request may take after a signal.
    assert server.popen.wait(0.9 * GRACE_S) == 0


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=LIMIT) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code


def _hang(url: str) -> None:
    """Begin a request that is never sent to its end."""
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"
        )
        connection.recv(1)
