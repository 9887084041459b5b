"""The table of short names, the forms in which a name may be typed, and what a refusal advises."""

import re

import pytest

from likewise.models.short_names import (
    HUB,
    OLLAMA,
    OTHERS,
    advice,
    bare,
    full_name,
    hub_name,
    matched,
    ollama_name,
    same_weights,
    short_names,
    tagged,
)

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
BGE = "BAAI/bge-m3"


def test_the_table_is_well_formed() -> None:
    for base, tags in OLLAMA.items():
        assert base == base.lower()
        assert "latest" in tags
        for tag, hub in tags.items():
            assert tag == tag.lower()
            assert hub in HUB, hub
            assert hub_name(f"{base}:{tag}") == hub
            assert hub_name(str(ollama_name(hub))) == hub
    for hub in HUB:
        assert re.fullmatch(r"[\w-]+/[\w.-]+", hub)
        assert hub_name(hub) == hub
        assert hub_name(hub.upper()) == hub
    assert len({hub.lower() for hub in HUB}) == len(HUB)
    for other, hub in OTHERS.items():
        assert other == other.lower()
        assert hub_name(other) == hub
    assert hub_name("nothing") is None
    assert ollama_name("nothing/here") is None


def test_one_short_name_never_means_two_models() -> None:
    for hub in HUB:
        short = hub.rpartition("/")[2].lower()
        also = OLLAMA.get(short, {}).get("latest", hub)
        assert also == hub, f"{short} is {hub} on the hub and {also} in Ollama's library"
        assert hub_name(short) == hub
        assert short not in OTHERS
    assert len(set(short_names())) == len(short_names())


@pytest.mark.parametrize(
    ("asked", "plain"),
    [
        (" all-minilm\n", "all-minilm"),
        ("all-minilm:latest", "all-minilm"),
        ("all-minilm:LATEST", "all-minilm"),
        ("library/all-minilm", "all-minilm"),
        ("Library/all-minilm:22m", "all-minilm:22m"),
        ("registry.ollama.ai/library/all-minilm:latest", "all-minilm"),
        ("http://registry.ollama.ai/library/all-minilm", "all-minilm"),
        ("https://ollama.com/library/all-minilm", "all-minilm"),
        ("https://ollama.com/library/all-minilm/", "all-minilm"),
        ("localhost:5000/library/all-minilm", "all-minilm"),
        ("http://127.0.0.1:11434/library/all-minilm", "all-minilm"),
        ("mirror.example.com/library/all-minilm", "all-minilm"),
        ("ollama.com/jina/jina-embeddings-v2-base-en", "jina/jina-embeddings-v2-base-en"),
        ("hf.co/org/name", "org/name"),
        ("https://huggingface.co/org/name/", "org/name"),
        ("https://huggingface.co/org/name/tree/main", "org/name"),
        ("HTTPS://HuggingFace.co/org/name", "org/name"),
        # What may name something else stays as it is.
        ("example.com/org/name", "example.com/org/name"),
        ("http://example.com/name", "http://example.com/name"),
        ("all-minilm:22m-q4_0", "all-minilm:22m-q4_0"),
        ("library/a/b", "library/a/b"),
        ("org/name:Q8_0", "org/name:Q8_0"),
        (":latest", ":latest"),
        ("x:", "x:"),
        ("", ""),
    ],
)
def test_what_names_no_other_model_is_taken_away(asked: str, plain: str) -> None:
    assert bare(asked) == plain


@pytest.mark.parametrize(
    ("asked", "full"),
    [
        ("all-minilm", MINILM),
        ("ALL-MINILM:22M", MINILM),
        ("library/all-minilm:latest", MINILM),
        ("all-MiniLM-L6-v2", MINILM),
        ("all-minilm-l6-v2:latest", MINILM),
        ("chroma/all-minilm-l6-v2-f32", MINILM),
        ("bge-m3", BGE),
        ("baai/BGE-M3", BGE),
        ("https://huggingface.co/BAAI/bge-m3/tree/main", BGE),
        ("multilingual-e5-large", "intfloat/multilingual-e5-large"),
        ("org/unheard-of:latest", "org/unheard-of"),
        ("unheard-of", "unheard-of"),
    ],
)
def test_what_a_name_stands_for_when_nothing_is_here(asked: str, full: str) -> None:
    assert full_name(asked) == full


NAMES = {
    MINILM: MINILM,
    "all-MiniLM-L6-v2": MINILM,
    "mine:latest": BGE,
    "Big": BGE,
    "a/Twin": "a/Twin",
    "b/twin": "b/twin",
    "library/odd": "library/odd",
}


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("all-minilm", MINILM),
        (" sentence-transformers/ALL-minilm-l6-v2 ", MINILM),
        ("mine", BGE),  # an alias with a tag is found without it, as in Ollama
        ("big:latest", BGE),
        ("BGE-M3", None),  # nothing here is called so, and 'Big' may be anything
        ("A/twin", "a/Twin"),
        ("library/odd", "library/odd"),
        ("odd", "library/odd"),
        ("all-minilm:33m", None),
        ("all-minilm:22m-q4_0", None),
        ("", None),
        (" ", None),
    ],
)
def test_which_of_those_served_is_meant(asked: str, found: str | None) -> None:
    assert matched(asked, NAMES) == found


def test_what_fits_two_is_nothing() -> None:
    assert matched("TWIN", {"Twin": "a", "twin": "b"}) is None
    assert matched("Twin", {"Twin": "a", "twin": "b"}) == "a"


@pytest.mark.parametrize(
    ("asked", "hub"),
    [
        ("all-minilm:22m-q4_0", MINILM),
        ("all-minilm:33m-l12-v2-fp16", "sentence-transformers/all-MiniLM-L12-v2"),
        ("snowflake-arctic-embed:m-long-q8_0", "Snowflake/snowflake-arctic-embed-m-long"),
        ("qwen3-embedding:8b-q4_K_M", "Qwen/Qwen3-Embedding-8B"),
        ("bge-m3:fp16", BGE),
        ("nomic-embed-text-v1.5.Q8_0", "nomic-ai/nomic-embed-text-v1.5"),
        ("CompendiumLabs/bge-large-en-v1.5-gguf", "BAAI/bge-large-en-v1.5"),
        ("all-minilm:70b", None),
        ("llama3.2", None),
        ("", None),
    ],
)
def test_the_full_weights_of_a_quantised_form(asked: str, hub: str | None) -> None:
    assert same_weights(asked) == hub


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("nomic-embed-text", "likewise models pull nomic-ai/nomic-embed-text-v1.5"),
        ("bge-m3:q4_0", "a quantised form of BAAI/bge-m3"),
        ("text-embedding-3-small", "only OpenAI runs"),
        ("voyage-3-large", "only Voyage AI runs"),
        ("something-of-mine", ""),
    ],
)
def test_what_is_advised(asked: str, says: str) -> None:
    said = advice(asked)
    assert says in said
    assert bool(says) == bool(said)


def test_names_are_shown_with_a_tag() -> None:
    assert tagged(MINILM) == f"{MINILM}:latest"
    assert tagged("mine:v2") == "mine:v2"
    assert tagged("host:80/model") == "host:80/model:latest"


@pytest.mark.parametrize("piece", ["/", ".", ":latest", "a.", "library/", "-q4", "http://"])
def test_a_name_of_megabytes_is_no_work(piece: str) -> None:
    """Names come from outside: what is done with one doesn't grow with its length squared."""
    long = piece * (2_000_000 // len(piece))
    assert matched(long, NAMES) is None
    assert advice(long) == ""
