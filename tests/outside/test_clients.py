"""Clients that others wrote against a running server: `make test-outside` runs this.

Each program in `programs/` prints what its client got; here it is compared with what
sentence-transformers computes. A run with REPORT=1 writes docs/compatibility.md.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.outside.clients import CLIENTS, Client
from tests.outside.report import Row, Rows
from tests.support import wait_until

REPO = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
OUTSIDE = REPO / (".venv-outside-newest" if os.environ.get("NEWEST") else ".venv-outside")
PYTHON = OUTSIDE / "bin" / "python"
NPM = OUTSIDE / "npm"
LONGEST_S = 300
LEAST_COSINE = 0.9999
"""The server computes in the fastest precision that the machine has."""

QUERY = "Where is my card?"
TEXTS = (
    "A cat sits on the mat.",
    QUERY,
    "Ça coûte où, señor?",
    "如何找到我的卡?",
    "“Quoted” — and a rocket 🚀",
    "def f(x): return x + 1",
)


@dataclass(frozen=True)
class Server:
    """A running server, and what it should answer."""

    url: str
    vectors: Any
    """float32 [texts, dimensions] by sentence-transformers, of length 1."""
    ranking: tuple[int, ...]


@pytest.fixture(scope="module")
def server(
    model_cache: Path, model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(model_folder), device="cpu")
    vectors = model.encode(list(TEXTS), normalize_embeddings=True)
    work = tmp_path_factory.mktemp("server")
    reranker = write_reranker(work / "reranker")
    log = work / "log"
    command = [sys.executable, "-m", "likewise", "serve", "all-MiniLM-L6-v2", str(reranker)]
    with log.open("wb") as written:
        process = subprocess.Popen(
            [*command, "--port", "0"],
            env={**os.environ, "LIKEWISE_HOME": str(model_cache), "LIKEWISE_OFFLINE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=written,
        )
    try:
        url = wait_until(lambda: _listening(process, log), 120, what="the server listens")
        asked = {"model": "reranker", "query": QUERY, "texts": TEXTS}
        ranks = (
            httpx.post(f"{url}/rerank", json=asked, trust_env=False, timeout=240)
            .raise_for_status()
            .json()
        )
        yield Server(url, vectors, tuple(each["index"] for each in ranks))
    finally:
        process.terminate()
        process.wait(60)


def write_reranker(folder: Path) -> Path:
    """A cross-encoder with random weights."""
    from tests.conformance import head_folders

    folder.mkdir()
    head_folders.write_tokenizer(folder)
    head_folders.write_transformer(folder, "bert", "SequenceClassification", num_labels=1)
    return folder


def _listening(process: subprocess.Popen[bytes], log: Path) -> str:
    said = log.read_text(encoding="utf-8")
    if process.poll() is not None:
        raise RuntimeError(f"the server ended:\n{said}")
    _, _, rest = said.partition("listening on ")
    return rest.split(" ", 1)[0] if " " in rest else ""


@pytest.fixture(scope="module")
def rows() -> Iterator[Rows]:
    """What was seen; written down at the end where that is asked for."""
    seen = Rows(HERE / "results.json", REPO / "docs" / "compatibility.md")
    yield seen
    if os.environ.get("REPORT"):
        seen.write()


def run(client: Client, server: Server) -> subprocess.CompletedProcess[str]:
    program = HERE / "programs" / client.program
    if program.suffix == ".mjs":
        # Node looks for packages beside the program.
        beside = NPM / "programs"
        shutil.copytree(program.parent, beside, dirs_exist_ok=True)
        command = ["node", str(beside / program.name)]
    else:
        command = [str(PYTHON), str(program)]
    environment = {
        **os.environ,
        "LIKEWISE_URL": server.url,
        "LIKEWISE_EMBEDDER": "all-minilm",
        "LIKEWISE_RERANKER": "reranker",
        "LIKEWISE_TEXTS": json.dumps(TEXTS),
        "LIKEWISE_QUERY": QUERY,
        "HF_HUB_OFFLINE": "1",
        "DO_NOT_TRACK": "1",
        "ANONYMIZED_TELEMETRY": "False",
        "HAYSTACK_TELEMETRY_ENABLED": "False",
        "NO_PROXY": "127.0.0.1",
    }
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=LONGEST_S, check=False
    )


def version_of(client: Client) -> str:
    if client.program.endswith(".mjs"):
        described = NPM / "node_modules" / client.package / "package.json"
        return str(json.loads(described.read_text(encoding="utf-8"))["version"])
    code = f"import importlib.metadata as m; print(m.version({client.package!r}))"
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.program)
def test_a_client_gets_what_it_asks_for(client: Client, server: Server, rows: Rows) -> None:
    if client.program.endswith(".mjs") and not (NPM / "node_modules").is_dir():
        pytest.skip("there is no Node.js here")
    done = run(client, server)
    kind = "npm" if client.program.endswith(".mjs") else "Python"
    row = Row(client.package, kind, version_of(client))
    if client.refuses:
        assert done.returncode != 0
        assert client.refuses in done.stderr
        rows.add(row.but(f"takes no address: {client.refuses}"))
        return
    got = [
        json.loads(line.removeprefix("RESULT "))
        for line in done.stdout.splitlines()
        if line.startswith("RESULT ")
    ]
    assert done.returncode == 0, f"after {[each['call'] for each in got]}:\n{done.stderr[-3000:]}"
    assert got
    for each in got:
        check(each, server)
    rows.add(row.worked([each["call"] for each in got]))


def check(got: dict[str, Any], server: Server) -> None:
    if "vectors" in got:
        found = np.asarray(got["vectors"], np.float64)
        assert found.shape == server.vectors.shape, got["call"]
        found /= np.linalg.norm(found, axis=1, keepdims=True)
        assert (found * server.vectors).sum(axis=1).min() > LEAST_COSINE, got["call"]
    elif "ranking" in got:
        assert tuple(got["ranking"]) == server.ranking, got["call"]
    else:
        assert got["value"] is True, got["call"]


def test_clients_of_the_jvm(rows: Rows) -> None:
    """langchain4j, Spring AI, openai-java and ollama4j come from a Maven repository."""
    if shutil.which("mvn") is None:
        pytest.skip("there is no Maven here")
    artifact = "com.openai:openai-java:2.0.0"
    command = ["mvn", "-q", "-B", "dependency:get", f"-Dartifact={artifact}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_S, check=False)
    if done.returncode:
        rows.add(Row("langchain4j, Spring AI, openai-java, ollama4j", "JVM", "").but("not tried"))
        pytest.skip(f"no Maven repository can be reached: {artifact} isn't to be had")
    pytest.fail("a Maven repository can be reached: write the programs of these clients")
