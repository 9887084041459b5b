"""Ollama's command line, as its client speaks, against this server."""

import re
import threading
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from starlette.testclient import TestClient

from likewise.server.app import LOOPBACK_HOSTS, build
from likewise.server.dialects.ollama_names import AskedNames
from likewise.server.guard import Guard
from tests.support import joined
from tests.unit.server.dialects.ollama_cli import (
    Chatted,
    CommandLine,
    Embedded,
    Failed,
    Generated,
    Older,
    time_of,
)
from tests.unit.server.fake_catalogue import FakeCatalogue, FakeEntry
from tests.unit.server.fakes import by_hand
from tests.unit.server.test_access import ring

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
HERE = ("127.0.0.1", 50_000)


GIVES = {"gives": ["vectors"]}
"""What is known of a model that isn't loaded."""


def served() -> FakeCatalogue:
    return FakeCatalogue(FakeEntry(MINILM, more=GIVES))


def client_of(catalogue: FakeCatalogue, host: str = "127.0.0.1:7997") -> TestClient:
    app = build(catalogue, allowed_hosts=LOOPBACK_HOSTS)
    return TestClient(app, base_url="http://127.0.0.1:7997", client=HERE, headers={"host": host})


@pytest.fixture
def catalogue() -> FakeCatalogue:
    return served()


@pytest.fixture
def ollama(catalogue: FakeCatalogue) -> CommandLine:
    return CommandLine(client_of(catalogue))


# A variable that was meant for a server, in the environment of a client.
@pytest.mark.parametrize(
    "host", ["0.0.0.0:7997", ":7997", "[::]:7997", "host.docker.internal:7997"]
)
def test_hosts_of_clients(host: str) -> None:
    ollama = CommandLine(client_of(served(), host))
    assert ollama.version()
    assert ollama.list_models()
    assert ollama.run("all-minilm", "a")


def test_list_while_nothing_is_loaded(ollama: CommandLine) -> None:
    rows = ollama.list_models()
    assert [name for name, _, _ in rows] == [f"{MINILM}:latest", "all-minilm:latest"]
    assert all(re.fullmatch(r"[0-9a-f]{12}", digest) for _, digest, _ in rows)


def test_run_show_and_ps(ollama: CommandLine) -> None:
    assert ollama.ps() == []
    np.testing.assert_allclose(ollama.run("all-minilm", "abc de"), by_hand("abc de"), rtol=1e-6)
    # Programs look for the name that they used.
    assert [name for name, _ in ollama.ps()] == ["all-minilm:latest"]
    assert ollama.show("all-minilm").capabilities == ["embedding"]
    assert ollama.show("ALL-MINILM:latest", verbose=True).details.families
    with pytest.raises(Failed, match="model 'llama3' not found") as failed:
        ollama.show("llama3")
    assert failed.value.status == 404


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        (["all-minilm"], ["all-minilm:latest"]),
        (["ALL-MINILM"], ["all-minilm:latest"]),
        (["library/all-minilm:latest", " all-minilm"], ["all-minilm:latest"]),
        (["all-minilm:22m"], ["all-minilm:22m"]),
        (["mine", "all-minilm"], ["mine:latest", "all-minilm:latest"]),
        ([MINILM], [f"{MINILM}:latest"]),
        (["all-MiniLM-L6-v2"], ["all-MiniLM-L6-v2:latest"]),
        ([], [f"{MINILM}:latest", "mine:latest", "all-minilm:latest"]),
    ],
)
def test_ps_has_the_names_that_were_asked_for(asked: list[str], shown: list[str]) -> None:
    catalogue = FakeCatalogue(FakeEntry(MINILM, aliases=("mine",)))
    client = client_of(catalogue)
    for name in asked:
        path, field = ("/api/embed", "input") if len(name) % 2 else ("/api/embeddings", "prompt")
        assert client.post(path, json={"model": name, field: "a"}).status_code == 200
    if not asked:
        client.post("/v1/embeddings", json={"model": "mine", "input": "a"})
    ollama = CommandLine(client)
    assert [name for name, _ in ollama.ps()] == shown
    ollama.stop(MINILM)
    assert ollama.ps() == []
    # It begins anew with the next load.
    client.post("/api/embed", json={"model": "mine", "input": "a"})
    assert [name for name, _ in ollama.ps()] == ["mine:latest"]


def test_as_many_names_as_clients_make_up_take_no_memory() -> None:
    client = client_of(FakeCatalogue(FakeEntry(MINILM, aliases=[f"a{n}" for n in range(50)])))
    for number in range(50):
        client.post("/api/embed", json={"model": f"a{number}", "input": "a"})
    names = [name for name, _ in CommandLine(client).ps()]
    assert names == [f"a{number}:latest" for number in range(42, 50)]


def test_pull_rm_and_stop(ollama: CommandLine, catalogue: FakeCatalogue) -> None:
    assert [step.status for step in ollama.pull("all-minilm")][-1] == "success"
    steps = ollama.pull("nomic-embed-text")
    assert (steps[0].status, steps[-1].status) == ("pulling manifest", "success")
    assert list(catalogue.entries) == [MINILM, "nomic-ai/nomic-embed-text-v1.5"]
    catalogue.entries["nomic-ai/nomic-embed-text-v1.5"].more = GIVES
    ollama.run("nomic-embed-text", "a")
    assert ollama.stop("nomic-embed-text").done_reason == "unload"
    assert ollama.ps() == []
    ollama.run("nomic-embed-text", "a")
    ollama.rm("nomic-embed-text")
    assert list(catalogue.entries) == [MINILM]
    with pytest.raises(Failed, match="model 'nomic-embed-text' not found"):
        ollama.rm("nomic-embed-text")
    with pytest.raises(Failed, match="can't be pulled"):
        ollama.pull("llama3")
    with pytest.raises(Failed, match="not found"):
        ollama.stop("llama3")


def test_a_wrong_key_is_named(tmp_path: Path) -> None:
    """Go's client prints `status` alone, and without it that something went wrong."""
    app = build(served(), guard=Guard(keys=ring(tmp_path / "keys.jsonl")))
    client = TestClient(app, client=HERE)
    with pytest.raises(Failed, match="this server wants a key"):
        CommandLine(client)._send("GET", "/api/tags")
    client.headers["authorization"] = "Bearer lw_wrong"
    for path in ("/api/embed", "/api/show", "/api/nothing"):
        with pytest.raises(Failed, match="the key isn't known here"):
            CommandLine(client)._send("POST", path, {"model": "x"})
        answer = client.post(path, json={})
        assert answer.json()["error"] == answer.json()["status"]
    # Nowhere else: a text there would be one field too many.
    assert "status" not in client.post("/v1/embeddings", json={}).json()


UNLOADING = [
    ("/api/generate", {"keep_alive": 0}, Generated),
    ("/api/generate", {"keep_alive": "0s", "prompt": "", "stream": False}, Generated),
    ("/api/generate", {"keep_alive": 0.4, "prompt": None, "raw": True, "foo": [1]}, Generated),
    ("/api/chat", {"keep_alive": 0, "messages": []}, Chatted),
    ("/api/chat", {"keep_alive": "0", "messages": None, "tools": [], "think": False}, Chatted),
    ("/api/chat", {"KEEP_ALIVE": 0}, Chatted),
]


@pytest.mark.parametrize(("path", "asked", "into"), UNLOADING)
def test_unloading(
    catalogue: FakeCatalogue, path: str, asked: dict[str, Any], into: type[Generated | Chatted]
) -> None:
    client = client_of(catalogue)
    client.post("/api/embed", json={"model": "all-minilm", "input": "a"})
    assert catalogue.entries[MINILM].state == "loaded"
    for _ in range(2):
        answer = client.post(path, json={"model": "all-minilm", **asked})
        assert answer.status_code == 200, answer.text
        found = msgspec.json.decode(answer.content, type=into)
        assert (found.model, found.done, found.done_reason) == ("all-minilm", True, "unload")
        assert time_of(found.created_at).tzinfo is not None
        assert catalogue.entries[MINILM].state == "unloaded"
    # The second time there was nothing to unload, and nothing was loaded for it.
    assert [stays for _, stays in catalogue.leased] == [None, 0]


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
def test_nothing_is_generated(catalogue: FakeCatalogue, path: str) -> None:
    client = client_of(catalogue)
    texts: dict[str, Any] = {"prompt": "hi"}
    if path == "/api/chat":
        texts = {"messages": [{"role": "user", "content": "hi"}]}
    for asked in ({}, texts, texts | {"keep_alive": 0}, {"keep_alive": "5m"}, {"keep_alive": -1}):
        answer = client.post(path, json={"model": "all-minilm", **asked})
        assert answer.status_code == 400
        what = path.rpartition("/")[2]
        assert answer.json()["error"].startswith(f'"all-minilm" does not support {what}')
    answer = client.post(path, json={"model": "nope", "keep_alive": 0})
    assert answer.status_code == 404
    assert answer.json()["error"].startswith("model 'nope' not found")
    assert client.post(path, json={"model": "all-minilm", "keep_alive": "x"}).status_code == 400
    empty = client.post(path, content=b"")
    assert (empty.status_code, empty.json()) == (400, {"error": "missing request body"})
    assert not catalogue.leased


def test_answers_have_the_clients_types_and_no_others(catalogue: FakeCatalogue) -> None:
    client = client_of(catalogue)
    long = "one two three four five six seven eight nine"
    for given in ("a", ["a", ""], [long, "b"], "", None):
        answer = client.post("/api/embed", json={"model": "all-minilm", "input": given})
        msgspec.json.decode(answer.content, type=Embedded)
    for text in ("a", ""):
        answer = client.post("/api/embeddings", json={"model": "all-minilm", "prompt": text})
        msgspec.json.decode(answer.content, type=Older)
    assert b"null" not in b"".join(
        client.get(path).content for path in ("/api/tags", "/api/ps", "/api/version", "/api/status")
    )
    shown = client.post("/api/show", json={"model": "all-minilm"})
    assert b"null" not in shown.content


def test_names_are_noted_from_several_threads() -> None:
    asked = AskedNames()
    failed: list[BaseException] = []

    def ask(who: int) -> None:
        try:
            for number in range(2_000):
                asked.add(MINILM, f"n{who}-{number % 20}", ())
                asked.of(MINILM)
                if number % 50 == 0:
                    asked.forget(MINILM)
        except BaseException as failure:  # noqa: BLE001 - the test tells of it
            failed.append(failure)

    threads = [threading.Thread(target=ask, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        joined(thread)
    assert failed == []
    assert len(asked.of(MINILM)) <= 8
