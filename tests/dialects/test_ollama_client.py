"""Ollama's own client against a real server with the real model."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import numpy as np
import ollama
import pytest

from likewise.runtime import service
from likewise.runtime.service import Service
from likewise.server.app import LOOPBACK_HOSTS, build
from likewise.server.listen import address_of, listen
from likewise.server.run import server
from tests.support import LIMIT
from tests.unit.server.dialects.ollama_cli import CommandLine
from tests.unit.server.fake_catalogue import FakeCatalogue

if TYPE_CHECKING:
    from likewise.base.types import Vectors

pytestmark = pytest.mark.model
NAME = "sentence-transformers/all-MiniLM-L6-v2"
# What people have in their configurations.
NAMES = ["all-minilm", "all-minilm:latest", "all-MiniLM-L6-v2:latest", NAME]


@pytest.fixture(scope="module")
def model(model_folder: Path) -> Iterator[Service]:
    loaded = service.load(model_folder, name=NAME, precision="f32")
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def address(model: Service) -> Iterator[str]:
    listener = listen("127.0.0.1", 0)
    running = server(build({NAME: model}, allowed_hosts=LOOPBACK_HOSTS))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
    thread.start()
    yield address_of(listener)
    running.should_exit = True
    thread.join()
    listener.close()


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[ollama.Client]:
    with ollama.Client(host=address) as client:
        yield client


def array(numbers: Sequence[float] | Sequence[Sequence[float]]) -> Vectors:
    return np.array(numbers, dtype=np.float32)


@pytest.mark.parametrize("name", NAMES)
def test_one_text(client: ollama.Client, model: Service, name: str) -> None:
    answer = client.embed(model=name, input="a cat")
    np.testing.assert_allclose(array(answer.embeddings), model.embed(["a cat"]), atol=1e-6)
    assert answer.model == name
    assert answer.prompt_eval_count == 4
    assert answer.total_duration is not None
    assert answer.load_duration is not None
    assert 0 < answer.load_duration < answer.total_duration


def test_many_texts(client: ollama.Client, model: Service) -> None:
    texts = ["a cat", "ein Hund", "🦊 le renard"] + [f"text {n} " * (n % 40) for n in range(400)]
    answer = client.embed(model="all-minilm", input=texts)
    got = array(answer.embeddings)
    np.testing.assert_allclose(got, model.embed(texts), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-5)


def test_no_text_loads_the_model(client: ollama.Client) -> None:
    nothing: str | list[str]
    for nothing in ("", []):
        answer = client.embed(model="all-minilm", input=nothing)
        assert answer.embeddings == []


def test_a_long_text_is_cut_or_refused(client: ollama.Client, address: str) -> None:
    long = "word " * 5_000
    answer = client.embed(model="all-minilm", input=["short", long])
    assert answer.prompt_eval_count == 3 + 256
    with pytest.raises(ollama.ResponseError) as refused:
        client.embed(model="all-minilm", input=["short", long], truncate=False)
    assert refused.value.status_code == 400
    assert "the input length exceeds the context length" in refused.value.error
    sent = {"model": "all-minilm", "input": ["short", long]}
    raw = httpx.post(f"{address}/api/embed", json=sent, timeout=LIMIT)
    assert raw.headers["x-likewise-truncated"] == "1"
    assert set(raw.json()) == {
        "model", "embeddings", "total_duration", "load_duration", "prompt_eval_count",
    }  # fmt: skip


def test_num_ctx_cuts_as_if_the_text_were_shorter(client: ollama.Client, model: Service) -> None:
    words = "one two three four five six seven eight".split()
    answer = client.embed(model="all-minilm", input=" ".join(words), options={"num_ctx": 6})
    assert answer.prompt_eval_count == 6
    alone = model.embed([" ".join(words[:4])])
    np.testing.assert_allclose(array(answer.embeddings), alone, atol=1e-5)
    options = ollama.Options(num_ctx=8192, num_thread=2, temperature=0.5)
    whole = client.embed(model="all-minilm", input=" ".join(words), options=options)
    assert whole.prompt_eval_count == 10


def test_dimensions(client: ollama.Client) -> None:
    for asked in (384, 5000, 0):
        answer = client.embed(model="all-minilm", input="a", dimensions=asked)
        assert len(answer.embeddings[0]) == 384
    with pytest.raises(ollama.ResponseError, match="384 dimensions, not 100") as refused:
        client.embed(model="all-minilm", input="a", dimensions=100)
    assert refused.value.status_code == 400


def test_keep_alive(client: ollama.Client) -> None:
    for stays in (0, 300, -1, "10m", "1h30m"):
        assert client.embed(model="all-minilm", input="a", keep_alive=stays).embeddings
    with pytest.raises(ollama.ResponseError, match="missing unit in duration") as refused:
        client.embed(model="all-minilm", input="a", keep_alive="-1")
    assert refused.value.status_code == 400


def test_the_older_call(client: ollama.Client, model: Service) -> None:
    answer = client.embeddings(model="all-minilm", prompt="a cat")
    np.testing.assert_allclose(array(answer.embedding), model.embed(["a cat"])[0], atol=1e-6)
    assert client.embeddings(model="all-minilm", prompt="").embedding == []


def test_an_unknown_model(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError) as unknown:
        client.embed(model="nomic-embed-text", input="a")
    assert unknown.value.status_code == 404
    assert 'model "nomic-embed-text" not found, try pulling it first' in unknown.value.error
    assert NAME in unknown.value.error


def test_list(client: ollama.Client, model: Service, model_folder: Path) -> None:
    found = client.list().models
    assert [one.model for one in found] == [f"{NAME}:latest", "all-minilm:latest"]
    for one in found:
        assert one.size == sum(p.stat().st_size for p in model_folder.rglob("*") if p.is_file())
        assert one.digest == model.space.weights
        assert one.modified_at is not None
        assert one.modified_at <= datetime.now(UTC)
        assert one.details is not None
        assert one.details.format == "safetensors"
        assert (one.details.family, one.details.families) == ("bert", ["bert"])
        assert one.details.parameter_size == "22.7M"
        assert one.details.quantization_level == "F32"


def test_show(client: ollama.Client) -> None:
    found = client.show("all-minilm")
    assert found.capabilities == ["embedding"]
    assert found.modelinfo is not None
    assert found.modelinfo["general.architecture"] == "bert"
    assert found.modelinfo["bert.context_length"] == 256
    assert found.modelinfo["bert.embedding_length"] == 384
    assert found.modelinfo["bert.pooling_type"] == 1
    assert found.modelinfo["general.parameter_count"] == 22_713_216
    assert found.modified_at is not None
    assert found.license == "apache-2.0"
    with pytest.raises(ollama.ResponseError) as unknown:
        client.show("llama3")
    assert unknown.value.status_code == 404


def test_ps(client: ollama.Client) -> None:
    client.embed(model="all-minilm", input="a")
    one = next(one for one in client.ps().models if one.name == "all-minilm:latest")
    assert one.model == one.name
    assert one.context_length == 256
    assert one.size is not None
    assert one.size > 80_000_000
    assert one.size_vram == 0
    assert one.digest is not None
    assert re.fullmatch(r"[0-9a-f]{64}", one.digest)
    assert one.expires_at is not None
    assert one.expires_at.year > 2200


def test_pull_and_delete(client: ollama.Client) -> None:
    assert client.pull("all-minilm").status == "success"
    said = [step.status for step in client.pull("all-minilm", stream=True)]
    assert said == ["pulling manifest", "success"]
    with pytest.raises(ollama.ResponseError, match="fixed list of models"):
        client.pull("nomic-embed-text")
    with pytest.raises(ollama.ResponseError, match="fixed list of models"):
        list(client.pull("nomic-embed-text", stream=True))
    with pytest.raises(ollama.ResponseError, match="fixed list of models"):
        client.delete("all-minilm")
    with pytest.raises(ollama.ResponseError) as unknown:
        client.delete("llama3")
    assert unknown.value.status_code == 404


class FromCache(FakeCatalogue):
    """Fetches as the command line does, and can't reach anything."""

    def __init__(self, cache: Path) -> None:
        super().__init__()
        self._cache = cache

    def fetch(self, name: str, *, progress: object) -> str:
        from likewise.models.locate import locate

        return locate(name, cache=self._cache, offline=True).name


@pytest.mark.parametrize("streams", [True, False])
def test_pulling_without_a_network_says_why(tmp_path: Path, streams: bool) -> None:
    listener = listen("127.0.0.1", 0)
    running = server(build(FromCache(tmp_path), allowed_hosts=LOOPBACK_HOSTS))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        with (
            ollama.Client(host=address_of(listener)) as client,
            pytest.raises(ollama.ResponseError, match="the network: not tried") as refused,
        ):
            list(client.pull("nomic-embed-text", stream=streams))
        assert refused.value.status_code == 404
        assert "nomic-ai/nomic-embed-text-v1.5" in refused.value.error
    finally:
        running.should_exit = True
        thread.join()
        listener.close()


def test_the_asynchronous_client(address: str, model: Service) -> None:
    async def talk() -> None:
        async with ollama.AsyncClient(host=address) as client:
            answers = await asyncio.gather(
                *(client.embed(model="all-minilm", input=f"text {n}") for n in range(20))
            )
            alone = model.embed([f"text {n}" for n in range(20)])
            for answer, vector in zip(answers, alone, strict=True):
                np.testing.assert_allclose(array(answer.embeddings[0]), vector, atol=1e-5)
            assert len((await client.list()).models) == 2
            assert "all-minilm:latest" in [one.name for one in (await client.ps()).models]
            steps = [step.status async for step in await client.pull("all-minilm", stream=True)]
            assert steps[-1] == "success"
            with pytest.raises(ollama.ResponseError):
                await client.show("llama3")

    asyncio.run(talk())


def test_the_command_line(address: str, model: Service) -> None:
    """What `list`, `show`, `run`, `ps`, `pull` and `stop` send; see `ollama_cli`."""
    with httpx.Client(base_url=address, timeout=LIMIT) as client:
        ollama = CommandLine(client)
        assert [name for name, _, size in ollama.list_models() if size > 80_000_000] == [
            f"{NAME}:latest", "all-minilm:latest",
        ]  # fmt: skip
        shown = ollama.show("all-minilm", verbose=True)
        assert (shown.details.family, shown.capabilities) == ("bert", ["embedding"])
        assert {"F32"} <= {one.type for one in shown.tensors}
        vector = ollama.run("all-minilm", "a cat")
        np.testing.assert_allclose(array([vector]), model.embed(["a cat"]), atol=1e-6)
        assert "all-minilm:latest" in [name for name, _ in ollama.ps()]
        assert ollama.pull("all-minilm")[-1].status == "success"
        assert ollama.stop("all-minilm").done_reason == "unload"


@pytest.mark.parametrize("host", ["0.0.0.0:{port}", ":{port}"])
def test_hosts_that_were_meant_for_a_server(address: str, host: str) -> None:
    """OLLAMA_HOST of the server, in the environment of a client."""
    with ollama.Client(host=host.format(port=address.rpartition(":")[2])) as client:
        assert len(client.embed(model="all-minilm", input="a").embeddings[0]) == 384


def test_what_langchain_sends(address: str) -> None:
    """Every option, null where it isn't set."""
    unset = ["mirostat", "mirostat_eta", "mirostat_tau", "num_ctx", "num_gpu", "num_thread"]
    unset += ["repeat_last_n", "repeat_penalty", "temperature", "stop", "tfs_z", "top_k", "top_p"]
    sent = {"model": "all-minilm", "input": ["a"], "options": dict.fromkeys(unset)}
    answer = httpx.post(f"{address}/api/embed", content=json.dumps(sent), timeout=LIMIT)
    assert len(answer.json()["embeddings"][0]) == 384
