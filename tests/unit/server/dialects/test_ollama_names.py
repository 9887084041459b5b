"""Which served model a client of Ollama means."""

import pytest

from likewise.base.errors import InputError, ModelNotFound
from likewise.server.dialects.ollama_names import fetchable, is_served, served_name
from tests.unit.server.fake_catalogue import FakeEntry, FakeListing

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
SERVED = FakeListing(
    FakeEntry(MINILM, aliases=("small", "mine:v2")),
    FakeEntry("Qwen/Qwen3-Embedding-0.6B"),
    FakeEntry("a/Twin"),
    FakeEntry("b/twin"),
)


@pytest.mark.parametrize(
    "asked",
    [
        MINILM,
        f"{MINILM}:latest",
        "all-MiniLM-L6-v2",
        "all-MiniLM-L6-v2:latest",
        "all-minilm-l6-v2:LATEST",
        "SENTENCE-TRANSFORMERS/ALL-MINILM-L6-V2",
        "small",
        "Small:latest",
        "mine:v2",
        "all-minilm",
        "all-minilm:latest",
        "All-MiniLM:22m",
        "all-minilm:l6-v2",
        f"hf.co/{MINILM}",
        f"huggingface.co/{MINILM}:latest",
        f"https://huggingface.co/{MINILM}",
        "library/all-minilm",
        "registry.ollama.ai/library/all-minilm:latest",
        "http://registry.ollama.ai/library/All-Minilm",
        " all-minilm ",
    ],
)
def test_names_that_find_it(asked: str) -> None:
    assert served_name(SERVED, asked) == MINILM
    assert is_served(SERVED, asked)


@pytest.mark.parametrize(
    "asked",
    [
        "",
        ":latest",
        "all-minilm:33m",  # another model
        "all-minilm:22m-q4_0",  # other numbers
        "qwen3-embedding",  # the 8B one
        "mine",
        "mine:latest",
        "TWIN",  # two of them
        "nomic-embed-text",
        f"{MINILM}:Q8_0",
    ],
)
def test_names_that_find_nothing(asked: str) -> None:
    with pytest.raises(ModelNotFound) as refused:
        served_name(SERVED, asked)
    assert str(refused.value).startswith(f"model '{asked}' not found")
    assert f"served: {MINILM}, " in str(refused.value)
    assert not is_served(SERVED, asked)


def test_a_tag_chooses_among_sizes() -> None:
    assert served_name(SERVED, "qwen3-embedding:0.6b") == "Qwen/Qwen3-Embedding-0.6B"


def test_names_that_differ_only_in_case_are_told_apart() -> None:
    assert served_name(SERVED, "Twin") == "a/Twin"
    assert served_name(SERVED, "b/TWIN") == "b/twin"


def test_a_served_name_goes_before_the_library() -> None:
    listing = FakeListing(FakeEntry(MINILM), FakeEntry("mine/x", aliases=("all-minilm",)))
    assert served_name(listing, "all-minilm") == "mine/x"
    assert served_name(listing, "all-minilm:latest") == "mine/x"


def test_the_nearest_name_is_said() -> None:
    with pytest.raises(ModelNotFound, match=r"\(did you mean 'all-MiniLM-L6-v2'\?\)"):
        served_name(SERVED, "all-MiniLM-L6-v3")


@pytest.mark.parametrize(
    ("asked", "hub"),
    [
        ("all-minilm", MINILM),
        ("bge-m3:567m", "BAAI/bge-m3"),
        ("org/name", "org/name"),
        ("org/name:latest", "org/name"),
        ("hf.co/org/name", "org/name"),
    ],
)
def test_what_is_fetched(asked: str, hub: str) -> None:
    assert fetchable(asked) == hub


@pytest.mark.parametrize(
    "asked",
    [
        "llama3",
        "",
        "/etc",
        "../x",
        "./a/b",
        "~/a",
        "a/../b",
        "a/b/c",
        "org/name:q4",
        "org/.x",
        "é/x",
    ],
)
def test_what_is_never_fetched(asked: str) -> None:
    with pytest.raises(InputError, match="can't be pulled"):
        fetchable(asked)
