"""The one table of short names, and what a name that somebody typed may stand for.

Everything that takes a model's name goes through here: the command line, settings, bindings and
every dialect of the server.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from likewise.base.names import nearest

_MINILM_6 = "sentence-transformers/all-MiniLM-L6-v2"
_MINILM_12 = "sentence-transformers/all-MiniLM-L12-v2"
_PARAPHRASE = "sentence-transformers/paraphrase-multilingual-mpnet-base-v2"
_ARCTIC = "Snowflake/snowflake-arctic-embed"
_QWEN = "Qwen/Qwen3-Embedding"
_GRANITE = "ibm-granite/granite-embedding"

OLLAMA: Mapping[str, Mapping[str, str]] = {
    "all-minilm": {
        "latest": _MINILM_6,
        "22m": _MINILM_6,
        "l6-v2": _MINILM_6,
        "33m": _MINILM_12,
        "l12-v2": _MINILM_12,
    },
    "bge-large": {"latest": "BAAI/bge-large-en-v1.5", "335m": "BAAI/bge-large-en-v1.5"},
    "bge-m3": {"latest": "BAAI/bge-m3", "567m": "BAAI/bge-m3"},
    "embeddinggemma": {
        "latest": "google/embeddinggemma-300m",
        "300m": "google/embeddinggemma-300m",
    },
    "granite-embedding": {
        "latest": f"{_GRANITE}-30m-english",
        "30m": f"{_GRANITE}-30m-english",
        "278m": f"{_GRANITE}-278m-multilingual",
    },
    "mxbai-embed-large": {
        "latest": "mixedbread-ai/mxbai-embed-large-v1",
        "v1": "mixedbread-ai/mxbai-embed-large-v1",
        "335m": "mixedbread-ai/mxbai-embed-large-v1",
    },
    "nomic-embed-text": {
        "latest": "nomic-ai/nomic-embed-text-v1.5",
        "v1.5": "nomic-ai/nomic-embed-text-v1.5",
        "137m-v1.5": "nomic-ai/nomic-embed-text-v1.5",
    },
    "nomic-embed-text-v2-moe": {"latest": "nomic-ai/nomic-embed-text-v2-moe"},
    "paraphrase-multilingual": {"latest": _PARAPHRASE, "278m": _PARAPHRASE},
    "qwen3-embedding": {
        "latest": f"{_QWEN}-8B",
        "0.6b": f"{_QWEN}-0.6B",
        "4b": f"{_QWEN}-4B",
        "8b": f"{_QWEN}-8B",
    },
    "snowflake-arctic-embed": {
        "latest": f"{_ARCTIC}-l",
        "22m": f"{_ARCTIC}-xs",
        "33m": f"{_ARCTIC}-s",
        "110m": f"{_ARCTIC}-m",
        "137m": f"{_ARCTIC}-m-long",
        "335m": f"{_ARCTIC}-l",
        "xs": f"{_ARCTIC}-xs",
        "s": f"{_ARCTIC}-s",
        "m": f"{_ARCTIC}-m",
        "m-long": f"{_ARCTIC}-m-long",
        "l": f"{_ARCTIC}-l",
    },
    "snowflake-arctic-embed2": {
        "latest": f"{_ARCTIC}-l-v2.0",
        "568m": f"{_ARCTIC}-l-v2.0",
    },
}
"""Ollama's name, its tags, and what the same weights are called on the Hugging Face hub.

Tags of quantised weights aren't here: those are other numbers.
"""

HUB: tuple[str, ...] = (
    _MINILM_6,
    _MINILM_12,
    _PARAPHRASE,
    "sentence-transformers/all-distilroberta-v1",
    "sentence-transformers/all-mpnet-base-v2",
    "sentence-transformers/all-roberta-large-v1",
    "sentence-transformers/distiluse-base-multilingual-cased-v2",
    "sentence-transformers/LaBSE",
    "sentence-transformers/multi-qa-MiniLM-L6-cos-v1",
    "sentence-transformers/multi-qa-mpnet-base-cos-v1",
    "sentence-transformers/multi-qa-mpnet-base-dot-v1",
    "sentence-transformers/paraphrase-MiniLM-L3-v2",
    "sentence-transformers/paraphrase-MiniLM-L6-v2",
    "sentence-transformers/paraphrase-mpnet-base-v2",
    "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2",
    "sentence-transformers/static-retrieval-mrl-en-v1",
    "sentence-transformers/static-similarity-mrl-multilingual-v1",
    "Alibaba-NLP/gte-base-en-v1.5",
    "Alibaba-NLP/gte-large-en-v1.5",
    "Alibaba-NLP/gte-modernbert-base",
    "Alibaba-NLP/gte-multilingual-base",
    "Alibaba-NLP/gte-multilingual-reranker-base",
    "Alibaba-NLP/gte-reranker-modernbert-base",
    "Alibaba-NLP/gte-Qwen2-1.5B-instruct",
    "Alibaba-NLP/gte-Qwen2-7B-instruct",
    "BAAI/bge-base-en-v1.5",
    "BAAI/bge-large-en-v1.5",
    "BAAI/bge-m3",
    "BAAI/bge-small-en-v1.5",
    "BAAI/bge-base-zh-v1.5",
    "BAAI/bge-large-zh-v1.5",
    "BAAI/bge-small-zh-v1.5",
    "BAAI/bge-reranker-base",
    "BAAI/bge-reranker-large",
    "BAAI/bge-reranker-v2-m3",
    "answerdotai/answerai-colbert-small-v1",
    "colbert-ir/colbertv2.0",
    "cross-encoder/ms-marco-MiniLM-L6-v2",
    "cross-encoder/ms-marco-MiniLM-L12-v2",
    "google/embeddinggemma-300m",
    f"{_GRANITE}-30m-english",
    f"{_GRANITE}-125m-english",
    f"{_GRANITE}-107m-multilingual",
    f"{_GRANITE}-278m-multilingual",
    "intfloat/e5-base-v2",
    "intfloat/e5-large-v2",
    "intfloat/e5-small-v2",
    "intfloat/e5-mistral-7b-instruct",
    "intfloat/multilingual-e5-base",
    "intfloat/multilingual-e5-large",
    "intfloat/multilingual-e5-large-instruct",
    "intfloat/multilingual-e5-small",
    "jinaai/jina-colbert-v2",
    "jinaai/jina-embeddings-v2-base-code",
    "jinaai/jina-embeddings-v2-base-en",
    "jinaai/jina-embeddings-v2-small-en",
    "jinaai/jina-embeddings-v3",
    "jinaai/jina-reranker-v2-base-multilingual",
    "lightonai/GTE-ModernColBERT-v1",
    "minishlab/potion-base-2M",
    "minishlab/potion-base-4M",
    "minishlab/potion-base-8M",
    "minishlab/potion-base-32M",
    "minishlab/potion-multilingual-128M",
    "minishlab/potion-retrieval-32M",
    "mixedbread-ai/mxbai-embed-large-v1",
    "mixedbread-ai/mxbai-rerank-base-v1",
    "mixedbread-ai/mxbai-rerank-large-v1",
    "mixedbread-ai/mxbai-rerank-xsmall-v1",
    "nomic-ai/modernbert-embed-base",
    "nomic-ai/nomic-embed-text-v1",
    "nomic-ai/nomic-embed-text-v1.5",
    "nomic-ai/nomic-embed-text-v2-moe",
    "opensearch-project/opensearch-neural-sparse-encoding-v2-distill",
    "prithivida/Splade_PP_en_v1",
    "Qwen/Qwen3-Embedding-0.6B",
    "Qwen/Qwen3-Embedding-4B",
    "Qwen/Qwen3-Embedding-8B",
    "Qwen/Qwen3-Reranker-0.6B",
    "Qwen/Qwen3-Reranker-4B",
    "Qwen/Qwen3-Reranker-8B",
    f"{_ARCTIC}-xs",
    f"{_ARCTIC}-s",
    f"{_ARCTIC}-m",
    f"{_ARCTIC}-m-long",
    f"{_ARCTIC}-l",
    f"{_ARCTIC}-m-v1.5",
    f"{_ARCTIC}-m-v2.0",
    f"{_ARCTIC}-l-v2.0",
    "thenlper/gte-base",
    "thenlper/gte-large",
    "thenlper/gte-small",
)
"""Well-known models of the Hugging Face hub: the part after the `/` stands for the whole."""

OTHERS: Mapping[str, str] = {
    "all-mpnet-base": "sentence-transformers/all-mpnet-base-v2",
    "chroma/all-minilm-l6-v2-f32": _MINILM_6,
    "cross-encoder/ms-marco-minilm-l-6-v2": "cross-encoder/ms-marco-MiniLM-L6-v2",
    "cross-encoder/ms-marco-minilm-l-12-v2": "cross-encoder/ms-marco-MiniLM-L12-v2",
    "ms-marco-minilm-l-6-v2": "cross-encoder/ms-marco-MiniLM-L6-v2",
    "ms-marco-minilm-l-12-v2": "cross-encoder/ms-marco-MiniLM-L12-v2",
    "jina/jina-embeddings-v2-base-en": "jinaai/jina-embeddings-v2-base-en",
    "jina/jina-embeddings-v2-small-en": "jinaai/jina-embeddings-v2-small-en",
}
"""What else the same weights are called: former names on the hub, copies in Ollama's library."""

HOSTED: Mapping[str, str] = {
    "text-embedding-": "OpenAI",
    "embed-english-": "Cohere",
    "embed-multilingual-": "Cohere",
    "embed-v4": "Cohere",
    "rerank-english-": "Cohere",
    "rerank-multilingual-": "Cohere",
    "rerank-v3": "Cohere",
    "voyage-": "Voyage AI",
    "gemini-embedding": "Google",
    "mistral-embed": "Mistral AI",
    "codestral-embed": "Mistral AI",
}
"""How names begin of models that only their makers run."""

_LONGEST = 500
"""Characters of a name that are looked at: names come from outside."""
_IN_HUB = {name.rpartition("/")[2].lower(): name for name in HUB}
_IN_ANY_CASE = {name.lower(): name for name in HUB}
_URL = re.compile(r"\Ahttps?://", re.IGNORECASE)
_HOSTS = re.compile(
    r"\A(?:www\.)?(?:hf\.co|huggingface\.co|hf-mirror\.com|ollama\.(?:com|ai)"
    r"|registry\.ollama\.(?:com|ai))/",
    re.IGNORECASE,
)
_MIRROR = re.compile(r"\A(?:localhost|[\w-]+(?:\.[\w-]+)+|[\w.-]+:\d+)/(?=library/)", re.IGNORECASE)
_LIBRARY = re.compile(r"\Alibrary/(?=[^/]+\Z)", re.IGNORECASE)
_PAGE = re.compile(r"(?:/tree/main)?/{0,2}\Z")
_LATEST = re.compile(r"(?<=.):latest\Z", re.IGNORECASE)
_QUANTISED = re.compile(r"(?:^|[-_.])(?:i?q\d\w*|b?fp?(?:16|32)|int8|mxfp4)\Z")


def bare(asked: str) -> str:
    """`asked` without what names no other model: blanks, a host, `library/` and `:latest`."""
    name = asked.strip()
    if len(name) > _LONGEST:
        return name
    without_scheme = _URL.sub("", name)
    if _HOSTS.match(without_scheme):
        name = _PAGE.sub("", _HOSTS.sub("", without_scheme))
    elif _MIRROR.match(without_scheme):
        name = _MIRROR.sub("", without_scheme)
    return _LATEST.sub("", _LIBRARY.sub("", name))


def hub_name(asked: str) -> str | None:
    """What the model called `asked` is called on the hub, by the table; None if it isn't there."""
    name = bare(asked).lower()
    base, colon, tag = name.partition(":")
    if colon:
        return OLLAMA.get(base, {}).get(tag)
    return (
        OLLAMA.get(base, {}).get("latest")
        or _IN_HUB.get(name)
        or _IN_ANY_CASE.get(name)
        or OTHERS.get(name)
    )


def full_name(asked: str) -> str:
    """What `asked` stands for when nothing of that very name is here: by the table, or itself."""
    return hub_name(asked) or bare(asked)


def ollama_name(hub: str) -> str | None:
    """What Ollama calls the model that is `hub` on the hub, with its tag; None if it doesn't."""
    for base, tags in OLLAMA.items():
        for tag, named in tags.items():
            if named == hub:
                return f"{base}:{tag}"
    return None


def tagged(name: str) -> str:
    """`name` as Ollama shows names: with a tag."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def matched(asked: str, names: Mapping[str, str]) -> str | None:
    """What `asked` stands for among `names`, each with what it is a name of; None for nothing.

    As it is written; else without what `bare` takes away and in any case of letters, where only
    one fits; else, in the same way, by what the table says the hub calls it.
    """
    if asked in names:
        return names[asked]
    for meant in (bare(asked), hub_name(asked)):
        if meant:
            wanted = meant.lower()
            found = {full for name, full in names.items() if bare(name).lower() == wanted}
            if len(found) == 1:
                return found.pop()
    return None


def same_weights(asked: str) -> str | None:
    """What the hub calls the full weights of `asked`, be it a quantised form of them.

    For advice only: numbers of quantised weights are others. None when it isn't known.
    """
    exact = hub_name(asked)
    if exact is not None:
        return exact
    base, _, tag = bare(asked).lower()[:_LONGEST].partition(":")
    tags = OLLAMA.get(base)
    if tags is None:
        plain = re.sub(r"[-_.]gguf\Z", "", base.rpartition("/")[2])
        plain = _QUANTISED.sub("", plain)
        return hub_name(plain) if plain and plain != base else None
    fitting = [known for known in tags if tag == known or tag.startswith(f"{known}-")]
    if fitting:
        return tags[max(fitting, key=len)]
    return tags["latest"] if _QUANTISED.fullmatch(tag) else None


def advice(asked: str, verb: str = "pull") -> str:
    """What somebody may type in place of `asked`, which wasn't found: a clause, or nothing.

    `verb` is what `likewise models` is to do: `pull` fetches, `load` has a server serve it.
    """
    exact = hub_name(asked)
    if exact is not None:
        return f" (it is {exact} on the Hugging Face hub: likewise models {verb} {exact})"
    full = same_weights(asked)
    if full is not None:
        return f" (a quantised form of {full}; for the full weights: likewise models {verb} {full})"
    name = bare(asked).lower()
    for beginning, maker in HOSTED.items():
        if name.startswith(beginning):
            return (
                f" (a model that only {maker} runs; choose one of the Hugging Face hub, and let it "
                f"answer to this name with --alias {bare(asked)}=MODEL)"
            )
    return ""


def advice_or_nearest(asked: str, served: Iterable[str], verb: str = "pull") -> str:
    """`advice`, else the nearest of `served`, else the nearest in the table."""
    said = advice(asked, verb) or nearest(asked, served)
    return said or nearest(bare(asked), short_names())


def short_names() -> tuple[str, ...]:
    """Every short name in the table, without tags."""
    return tuple(dict.fromkeys((*OLLAMA, *(name.rpartition("/")[2] for name in HUB))))
