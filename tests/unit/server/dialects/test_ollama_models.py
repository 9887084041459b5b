"""What Ollama's clients are told of models: tags, show, ps and version."""

import hashlib
import json
import re
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from likewise.models import shelf
from likewise.models.card import ModelCard
from likewise.models.digest import weights_digest
from likewise.server import described
from likewise.server.app import build
from likewise.server.dialects.ollama_facts import short_number
from likewise.version import __version__
from tests.unit.server.fake_catalogue import FakeEntry, FakeListing
from tests.unit.server.fakes import DIMENSIONS, MAX_TOKENS

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
WIDTH, WORDS = 4, 6

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes folders that can be described; nothing loads them, so that the weights are a table."""

    def made(name: str, *, pooling: str = "mean", **config: Any) -> Path:
        folder = tmp_path / name
        (folder / "1_Pooling").mkdir(parents=True)
        write(folder / "config.json", {
            "model_type": "bert", "hidden_size": WIDTH, "num_hidden_layers": 2,
            "num_attention_heads": 2, "intermediate_size": 8, "max_position_embeddings": 32,
            "vocab_size": WORDS, **config,
        })  # fmt: skip
        kinds = {"0": "Transformer", "1": "Pooling"}
        write(folder / "modules.json", [
            {"idx": int(at), "name": at, "path": "" if at == "0" else "1_Pooling",
             "type": f"sentence_transformers.models.{kind}"} for at, kind in kinds.items()
        ])  # fmt: skip
        modes = {f"pooling_mode_{pooling}": True}
        write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": WIDTH, **modes})
        write(folder / "sentence_bert_config.json", {"max_seq_length": 16})
        words = {"type": "WordLevel", "vocab": {"[UNK]": 0}, "unk_token": "[UNK]"}
        write(folder / "tokenizer.json", {"version": "1.0", "model": words})
        safetensors(folder / "model.safetensors")
        return folder

    return made


def write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def safetensors(path: Path) -> None:
    numbers, whole = WORDS * WIDTH * 4, 32 * 8
    head = json.dumps({
        "embeddings.word_embeddings.weight": {
            "dtype": "F32", "shape": [WORDS, WIDTH], "data_offsets": [0, numbers]
        },
        "embeddings.position_ids": {
            "dtype": "I64", "shape": [1, 32], "data_offsets": [numbers, numbers + whole]
        },
    }).encode()  # fmt: skip
    path.write_bytes(struct.pack("<Q", len(head)) + head + bytes(numbers + whole))


def client_of(*entries: FakeEntry) -> TestClient:
    return TestClient(build(FakeListing(*entries)))


def tags(*entries: FakeEntry) -> list[dict[str, Any]]:
    answer = client_of(*entries).get("/api/tags")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["models"]
    return found


def show(entry: FakeEntry, **body: object) -> dict[str, Any]:
    answer = client_of(entry).post("/api/show", json=body or {"model": entry.name})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_tags_of_a_folder_that_is_not_loaded(make: Make) -> None:
    folder = make("model")
    (tag,) = tags(FakeEntry("mine", more={"folder": str(folder)}))
    assert tag["name"] == tag["model"] == "mine:latest"
    assert tag["size"] == sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    assert re.fullmatch(r"[0-9a-f]{64}", tag["digest"])
    changed = datetime.fromisoformat(tag["modified_at"])
    assert changed.tzinfo is not None
    assert datetime.now(UTC) - changed < timedelta(hours=1)
    # Ollama's own fields and no other: typed clients take none that they don't know.
    assert set(tag) == {"name", "model", "modified_at", "size", "digest", "details"}
    assert tag["details"] == {
        "parent_model": "",
        "format": "safetensors",
        "family": "bert",
        "families": ["bert"],
        "parameter_size": str(WORDS * WIDTH),
        "quantization_level": "unknown",
    }


@pytest.mark.parametrize(
    ("precision", "level"), [("f32", "F32"), ("bf16", "BF16"), ("f16", "F16"), ("int8", "Q8_0")]
)
def test_tags_of_a_loaded_model(make: Make, precision: str, level: str) -> None:
    more = {"folder": str(make("m")), "precision": precision, "weights": "ab" * 32}
    (tag,) = tags(FakeEntry("mine", state="loaded", more=more))
    assert tag["details"]["quantization_level"] == level
    assert tag["digest"] == "ab" * 32
    # What the running model says goes before its folder.
    info = show(FakeEntry("mine", state="loaded", more=more))["model_info"]
    assert info["bert.context_length"] == MAX_TOKENS
    assert info["bert.embedding_length"] == DIMENSIONS


def test_the_digest_is_read_once_and_follows_the_weights(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    folder = make("model")
    reads: list[str] = []

    def counted(card: ModelCard, *, cache: Path | None = None) -> str:
        reads.append(card.name)
        return weights_digest(card, cache=cache)

    monkeypatch.setattr(described, "weights_digest", counted)
    entry = FakeEntry("mine", more={"folder": str(folder)})
    first, again = tags(entry)[0]["digest"], tags(entry)[0]["digest"]
    assert first == again
    assert len(reads) == 1
    weights = folder / "model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-300] ^= 1  # before the whole numbers at the end
    weights.write_bytes(raw)
    later = weights.stat().st_mtime + 5
    os.utime(weights, (later, later))
    changed = tags(entry)[0]["digest"]
    assert changed != first
    assert re.fullmatch(r"[0-9a-f]{64}", changed)


def test_the_newest_comes_first_and_other_names_are_listed(make: Make) -> None:
    import os

    old, new = make("old"), make("new")
    for path in old.rglob("*"):
        os.utime(path, (1_600_000_000, 1_600_000_000))
    found = tags(
        FakeEntry("a/old", more={"folder": str(old)}),
        FakeEntry(MINILM, aliases=("small", "small:v2"), more={"folder": str(new)}),
    )
    assert [tag["name"] for tag in found] == [
        f"{MINILM}:latest",
        "small:latest",
        "small:v2",
        "all-minilm:latest",
        "a/old:latest",
    ]
    assert len({tag["digest"] for tag in found[:4]}) == 1
    assert found[-1]["modified_at"].startswith("2020-09-13T12:26:40")
    # Each of them finds the model.
    for tag in found[:4]:
        listing = FakeListing(FakeEntry(MINILM, aliases=("small", "small:v2")))
        with TestClient(build(listing)) as client:
            assert client.post("/api/embed", json={"model": tag["name"]}).status_code == 200


@pytest.mark.parametrize("broken", ["gone", "unreadable", "weights", "unsaid"])
def test_a_damaged_folder_is_listed_with_what_is_known(make: Make, broken: str) -> None:
    folder = make("model")
    more = {"folder": str(folder)}
    if broken == "gone":
        more["folder"] += "-gone"
    elif broken == "unreadable":
        (folder / "config.json").write_text("{", encoding="utf-8")
    elif broken == "weights":
        (folder / "model.safetensors").write_bytes(b"short")
    else:
        more = {}
    (tag,) = tags(FakeEntry("mine", more=more))
    assert tag["name"] == "mine:latest"
    # Ollama's command line takes the first twelve digits, and ends in a panic where there are none.
    assert tag["digest"] == hashlib.sha256(b"mine").hexdigest()
    assert tag["details"]["parameter_size"] == ""
    assert show(FakeEntry("mine", more=more))["tensors"] == []


def test_show(make: Make) -> None:
    folder = make("model", pooling="cls_token")
    (folder / "LICENSE").write_text("Do as you like.\n", encoding="utf-8")
    found = show(FakeEntry("org/mine", more={"folder": str(folder)}))
    assert found["license"] == "Do as you like.\n"
    assert found["capabilities"] == ["embedding"]
    assert found["details"]["family"] == "bert"
    assert found["modelfile"] == "FROM org/mine\n"
    assert found["parameters"].split() == ["num_ctx", "16"]
    assert found["template"] == "{{ .Prompt }}"
    assert found["tensors"] == [
        {"name": "embeddings.word_embeddings.weight", "type": "F32", "shape": [WORDS, WIDTH]},
        {"name": "embeddings.position_ids", "type": "I64", "shape": [1, 32]},
    ]
    assert found["model_info"] == {
        "general.architecture": "bert",
        "general.basename": "mine",
        "general.parameter_count": WORDS * WIDTH,
        "bert.context_length": 16,
        "bert.embedding_length": WIDTH,
        "bert.pooling_type": 2,
        "bert.block_count": 2,
        "bert.attention.head_count": 2,
        "bert.feed_forward_length": 8,
    }
    datetime.fromisoformat(found["modified_at"])


def test_show_takes_the_older_field_and_other_spellings() -> None:
    entry = FakeEntry(MINILM, state="loaded")
    bodies: tuple[dict[str, object], ...] = (
        {"name": MINILM},
        {"model": "all-minilm", "verbose": True},
        {"model": "ALL-minilm-l6-v2:latest", "name": ""},
    )
    for body in bodies:
        found = show(entry, **body)
        assert found["model_info"]["unknown.embedding_length"] == DIMENSIONS
        assert found["capabilities"] == ["embedding"]
        assert "license" not in found


def test_a_pooling_that_llama_cpp_has_no_number_for(make: Make) -> None:
    folder = make("model", pooling="max_tokens")
    found = show(FakeEntry("mine", more={"folder": str(folder)}))
    assert "bert.pooling_type" not in found["model_info"]


def test_a_reranker_says_so(make: Make) -> None:
    folder = make("model", architectures=["BertForSequenceClassification"], num_labels=1)
    (folder / "modules.json").unlink()
    found = show(FakeEntry("mine", more={"folder": str(folder)}))
    assert found["capabilities"] == ["rerank"]
    assert found["model_info"]["bert.pooling_type"] == 4
    assert "bert.embedding_length" not in found["model_info"]


def test_the_licence_is_at_least_named(make: Make) -> None:
    folder = make("model")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n", encoding="utf-8")
    assert show(FakeEntry("mine", more={"folder": str(folder)}))["license"] == "mit"


def test_a_model_in_the_cache(make: Make, tmp_path: Path) -> None:
    """Its record says the licence, and the digests of its files are remembered beside it."""
    filled = make("filled")
    kept = shelf.put(
        tmp_path / "cache", filled, name="org/mine", origin="hub", revision="abc", asked=None,
        licence="apache-2.0",
    )  # fmt: skip
    entry = FakeEntry("org/mine", more={"folder": str(kept.folder)})
    assert show(entry)["license"] == "apache-2.0"
    digest = tags(entry)[0]["digest"]
    assert re.fullmatch(r"[0-9a-f]{64}", digest)
    assert (tmp_path / "cache" / "digests.json").is_file()


def test_show_of_nothing() -> None:
    with client_of(FakeEntry("mine")) as client:
        answer = client.post("/api/show", json={"model": "llama3"})
        assert answer.status_code == 404
        assert answer.json()["error"].startswith("model 'llama3' not found")
        answer = client.post("/api/show", json={"modle": "x"})
        assert answer.headers["x-likewise-ignored"] == "modle"
        assert "did you mean 'model'" in answer.headers["x-likewise-warning"]


def test_ps_lists_what_is_loaded(make: Make) -> None:
    entries = (
        FakeEntry("off"),
        FakeEntry("on", state="loaded", more={"folder": str(make("on"))}),
        FakeEntry("big", state="loaded", more={"resident_bytes": 7_000, "expires_at": 1.8e9}),
        FakeEntry("stays", state="loaded", more={"expires_at": float("inf"), "vram_bytes": 5}),
    )
    found = client_of(*entries).get("/api/ps").json()["models"]
    assert [one["name"] for one in found] == ["on:latest", "big:latest", "stays:latest"]
    on, big, stays = found
    assert set(on) == {
        "name", "model", "size", "digest", "details", "expires_at", "size_vram", "context_length",
    }  # fmt: skip
    assert on["size"] > 100
    assert (on["size_vram"], on["context_length"]) == (0, MAX_TOKENS)
    assert big["size"] == 7_000
    assert datetime.fromisoformat(big["expires_at"]).timestamp() == 1.8e9
    for one in (on, stays):
        assert datetime.fromisoformat(one["expires_at"]).year > 2200
    assert stays["size_vram"] == 5


def test_version_and_liveness() -> None:
    with client_of(FakeEntry("mine")) as client:
        answer = client.get("/api/version")
        assert answer.json() == {"version": "0.33.0"}
        assert answer.headers["x-likewise-version"] == __version__
        assert client.get("/api/status").json() == {"cloud": {"disabled": True, "source": "none"}}
        for path in ("/api/version", "/"):
            answer = client.head(path)
            assert (answer.status_code, answer.content) == (200, b"")
        for headers in ({}, {"accept": "*/*"}, {"accept": "application/json"}):
            answer = client.get("/", headers=headers)
            assert answer.text == "Ollama is running"
            assert answer.headers["content-type"] == "text/plain; charset=utf-8"
            assert "accept" in answer.headers["vary"].lower()
        answer = client.get("/", headers={"accept": "text/html,application/xml;q=0.9,*/*;q=0.8"})
        assert answer.headers["content-type"].startswith("text/html")
        assert "accept" in answer.headers["vary"].lower()


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (999, "999"),
        (1_500, "1.5K"),
        (22_713_216, "22.7M"),
        (568_000_000, "568M"),
        (7_615_616_512, "7.6B"),
    ],
)
def test_numbers_as_people_say_them(count: int, said: str) -> None:
    assert short_number(count) == said
