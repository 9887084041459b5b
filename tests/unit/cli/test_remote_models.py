"""Remote models in commands, servers and programs: used where texts are, served nowhere."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest

import likewise
from likewise.base.errors import (
    EndpointKeyRefused,
    EndpointUnavailable,
    SettingsError,
)
from likewise.cli import catalogue
from likewise.cli.resolve import Keeping, Place, remote_key
from tests.binding_kit import fake_vector
from tests.remote_kit import Asked, Reply, Scripted, right, scripted
from tests.support import BUSY_MS, wait_until
from tests.unit.cli.test_commands import Run
from tests.unit.cli.test_commands import database as database
from tests.unit.cli.test_commands import model as model
from tests.unit.cli.test_commands import run as run
from tests.unit.cli.test_serving import Start
from tests.unit.cli.test_serving import start as start

pytestmark = pytest.mark.model

ADD = ("bind", "add", "pages", "--source", "sqlite:app.db", "--table", "pages", "--text", "{title}")
KEY = "a-key-of-the-endpoint"


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted() as made:
        yield made


def guarded(asked: Asked) -> Reply:
    is_let_in = asked.headers.get("authorization") == f"Bearer {KEY}"
    return right(asked) if is_let_in else Reply(401, {"error": {"message": "who are you?"}})


def test_embedding_a_file(run: Run, server: Scripted, tmp_path: Path) -> None:
    texts = [f"text {n}" for n in range(600)]
    (tmp_path / "in.txt").write_text("\n".join(texts), encoding="utf-8")
    code, _, noted = run(
        "embed", "in.txt", "-o", "out.npy", "-m", server.address, "--overflow", "refuse"
    )
    assert code == 0, noted
    found = np.load(tmp_path / "out.npy")
    assert np.array_equal(found, np.stack([fake_vector(text) for text in texts]))
    server.otherwise = lambda asked: Reply(400, {"error": {"message": "no such field"}})
    code, _, noted = run("embed", "in.txt", "-o", "other.npy", "-m", server.address)
    assert code != 0 and "no such field" in noted
    assert not (tmp_path / "other.npy").exists()


def test_binding_searching_and_moving(
    run: Run, server: Scripted, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.otherwise = guarded
    code, _, noted = run(*ADD, "--model", server.address)
    assert code != 0 and "LIKEWISE_REMOTE_KEY" in noted and "who are you?" in noted
    monkeypatch.setenv("LIKEWISE_REMOTE_KEY", KEY)
    code, said, noted = run(*ADD, "--model", server.address)
    assert code == 0, noted
    assert "3 rows, 3 current" in said
    code, said, _ = run("search", "pages", "Planets", "--db", "app.db", "-k", "1")
    assert code == 0 and "Planets" in said
    with scripted() as elsewhere:
        elsewhere.otherwise = guarded
        moved = f"{elsewhere.address}?timeout=20"
        asked = len(server.asked)
        assert run(*ADD, "--model", moved)[0] == 0
        assert run("search", "pages", "Cats", "--db", "app.db")[0] == 0
        assert len(server.asked) == asked and elsewhere.asked
        code, said, _ = run("bind", "status", "pages", "--db", "app.db", "--json")
        assert [one["model"] for one in json.loads(said)] == [moved]
    # What is in the way is the endpoint that is away, not a model that is being loaded.
    code, _, noted = run("search", "pages", "Cats", "--db", "app.db")
    assert code != 0 and elsewhere.address.partition("@")[2] in noted, noted
    assert "being loaded" not in noted
    # The key is in nothing that is stored.
    assert KEY.encode() not in database.read_bytes()


def test_what_is_only_for_models_that_run_here(run: Run, server: Scripted) -> None:
    for before, behind in (
        (["serve"], []),
        (["models", "show"], []),
        (["models", "check"], []),
        (["rerank"], ["a question", "a text"]),
    ):
        code, _, noted = run(*before, server.address, *behind)
        assert code != 0 and "is a remote model" in noted, before
    assert server.asked == []
    with pytest.raises(SettingsError, match="likewise.connect"):
        likewise.load(server.address)


def test_an_address_that_is_none(run: Run, database: Path) -> None:
    code, _, noted = run(*ADD, "--model", "openai:m@http://h/v1?dimension=3")
    assert code != 0 and "did you mean 'dimensions'" in noted


def test_bindings_share_an_endpoint_and_the_last_closes_it(
    tmp_path: Path, server: Scripted
) -> None:
    place = Place(cache=tmp_path, offline=True)
    with catalogue.opened(place, Keeping(is_lazy=True)) as models:
        for lazily in (server.address, "tei:http://h"):
            with pytest.raises(SettingsError, match="is a remote model"):
                models.serve(lazily)
        first = models.bound(server.address, "pages")
        second = models.bound(server.address, "notes")
        assert len(server.asked) == 2, "what it is, is asked each time"
        assert models.registry.models() == []
        models.unbound(server.address, "pages")
        assert np.array_equal(first.embed(["a"]), second.embed(["a"]))
        models.unbound(server.address, "notes")
        models.unbound(server.address, "never heard of")
        with pytest.raises(EndpointUnavailable, match="closed"):
            second.embed(["a"])
        third = models.bound(server.address, "pages")
        third.embed(["a"])
    with pytest.raises(EndpointUnavailable, match="closed"):
        third.embed(["a"])


def test_programs(server: Scripted, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.otherwise = guarded
    monkeypatch.setenv("LIKEWISE_REMOTE_KEY", KEY)
    remote = likewise.connect(server.address)
    assert np.array_equal(remote.embed(["a"])[0], fake_vector("a"))
    with likewise.bind(database, "pages", text="{title}", model=server.address) as pages:
        pages.sync()
        assert pages.search("Pasta", k=1)[0].row.values["title"] == "Pasta"
        pages.swap(f"{server.address}?normalise=1")
        assert pages.search("Pasta", k=1)[0].row.values["title"] == "Pasta"
        assert pages.model.space.normalised
    with likewise.open(database) as pages:
        pages.sync()
        assert pages.verify().is_clean
    with likewise.open(database, "pages", model=likewise.connect(f"{server.address}?normalise=1")):
        pass
    remote.close()
    monkeypatch.setenv("LIKEWISE_REMOTE_KEY", "another")
    with pytest.raises(EndpointKeyRefused):
        likewise.open(database)


def test_keys_come_from_the_environment_and_files(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n", encoding="utf-8")
    environment = {"LIKEWISE_REMOTE_KEY_FILE": str(file), "OPENAI_API_KEY": "theirs"}
    key = remote_key("LIKEWISE_REMOTE_KEY", environment)
    assert (key(), remote_key("OPENAI_API_KEY", environment)()) == (KEY, "theirs")
    file.write_text("the-new-one", encoding="utf-8")
    assert key() == "the-new-one"
    environment["LIKEWISE_REMOTE_KEY"] = "both"
    with pytest.raises(SettingsError, match="both set"):
        key()
    assert remote_key("LIKEWISE_REMOTE_KEY", {})() is None


def test_up_begins_while_the_endpoint_is_away(
    run: Run, start: Start, server: Scripted, database: Path, tmp_path: Path
) -> None:
    assert run(*ADD, "--model", server.address)[0] == 0
    (tmp_path / "likewise.toml").write_text(
        f"[server]\nport = 0\n[[binding]]\nname = 'pages'\nsource = 'sqlite:app.db'\n"
        f"table = 'pages'\ntext = '{{title}}'\nmodel = '{server.address}'\n",
        encoding="utf-8",
    )
    server.otherwise = lambda asked: Reply(503, {"error": "away"}, {"retry-after": "8"})
    running = start("up")
    health = running.ask("/health")
    assert health["status"] == "degraded" and "503: away" in json.dumps(health["troubles"])
    with pytest.raises(urllib.error.HTTPError) as refused:
        running.ask("/search?q=Cats")
    with refused.value as answer:
        assert answer.code == 503
        assert json.load(answer)["error"]["code"] == "endpoint_unavailable"
        assert int(answer.headers["retry-after"]) >= 1
    server.otherwise = right
    db = apsw.Connection(str(database))
    db.set_busy_timeout(BUSY_MS)
    db.execute("INSERT INTO pages (title) VALUES ('Rockets')")
    db.close()

    def best() -> Any:
        try:
            return running.ask("/search?q=Rockets&k=1")["results"][0]["row"]["title"]
        except urllib.error.HTTPError as not_yet:
            not_yet.close()
            return None

    wait_until(lambda: best() == "Rockets", 90, what="the endpoint's return")
    assert running.end() == 0
    assert "Traceback" not in running.said


def test_without_httpx_the_extra_is_named() -> None:
    code = (
        "import sys\n"
        "sys.modules['httpx'] = None\n"
        "import likewise\n"
        "from likewise.base.errors import MissingExtra\n"
        "try:\n"
        "    likewise.connect('tei:http://localhost:1')\n"
        "except MissingExtra as missing:\n"
        "    sys.exit('likewise[remote]' not in str(missing))\n"
        "sys.exit(2)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
