"""What Ollama's clients call models, and which of the models served here they mean."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from likewise.base.errors import InputError, ModelNotFound
from likewise.base.names import nearest

if TYPE_CHECKING:
    from likewise.server.serving import Catalogue

_MINILM_6 = "sentence-transformers/all-MiniLM-L6-v2"
_MINILM_12 = "sentence-transformers/all-MiniLM-L12-v2"
_PARAPHRASE = "sentence-transformers/paraphrase-multilingual-mpnet-base-v2"
_ARCTIC = "Snowflake/snowflake-arctic-embed"
_QWEN = "Qwen/Qwen3-Embedding"
_GRANITE = "ibm-granite/granite-embedding"

KNOWN: Mapping[str, Mapping[str, str]] = {
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
    },
    "snowflake-arctic-embed2": {
        "latest": f"{_ARCTIC}-l-v2.0",
        "568m": f"{_ARCTIC}-l-v2.0",
    },
}
"""Ollama's name, its tags, and what the same weights are called on the Hugging Face hub.

Tags of quantised weights aren't here: those are other numbers.
"""

_HUB = re.compile(r"(?:https?://)?(?:hf\.co|huggingface\.co)/", re.IGNORECASE)
_LATEST = re.compile(r":latest$", re.IGNORECASE)
_ON_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def hub_name(name: str) -> str | None:
    """What the model that Ollama calls `name` is called on the hub; None when it isn't known."""
    base, _, tag = name.lower().partition(":")
    return KNOWN.get(base, {}).get(tag or "latest")


def ollama_name(hub: str) -> str | None:
    """What Ollama calls the model that is `hub` on the hub, with its tag; None if it doesn't."""
    for base, tags in KNOWN.items():
        for tag, named in tags.items():
            if named == hub:
                return f"{base}:{tag}"
    return None


def tagged(name: str) -> str:
    """`name` as Ollama shows names: with a tag."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def served_name(catalogue: Catalogue, asked: str | None) -> str:
    """The full name of the served model that a client of Ollama means by `asked`.

    As it is written; else without `:latest` or `hf.co/`, in any case of letters; else by what the
    hub calls the model of that name in Ollama's library. None is the only one served.

    Raises:
        ModelNotFound: none of these is served; the message lists what is.
        InputError: None, and several are served.
    """
    if asked is None:
        return catalogue.resolve(None)
    for name in _meanings(asked):
        found = _resolved(catalogue, name) or _in_any_case(catalogue, name)
        if found is not None:
            return found
    names = [one.name for one in catalogue.models()]
    near = nearest(asked, [*names, *(name.rpartition("/")[2] for name in names)])
    raise ModelNotFound(
        f'model "{asked}" not found, try pulling it first{near}; '
        f"served: {', '.join(names) or 'none'}",
        param="model",
    )


def is_served(catalogue: Catalogue, asked: str) -> bool:
    """Whether `served_name` finds a model."""
    try:
        served_name(catalogue, asked)
    except ModelNotFound:
        return False
    return True


def fetchable(asked: str) -> str:
    """What `asked` is called on the hub, for fetching it; never a path.

    Raises:
        InputError: it is no name on the hub, and none that is known of Ollama's library.
    """
    for name in _meanings(asked):
        if _ON_HUB.fullmatch(name):
            return name
    raise InputError(
        f'"{asked}" can\'t be pulled: it is neither a name on the Hugging Face hub (org/name) nor '
        f"one of Ollama's library that is known here{nearest(asked, KNOWN)}; known: "
        f"{', '.join(KNOWN)}",
        param="model",
    )


def _meanings(asked: str) -> Iterator[str]:
    yield asked
    bare = _LATEST.sub("", _HUB.sub("", asked, count=1))
    if bare != asked:
        yield bare
    hub = hub_name(bare)
    if hub is not None:
        yield hub


def _resolved(catalogue: Catalogue, name: str) -> str | None:
    try:
        return catalogue.resolve(name)
    except ModelNotFound:
        return None


def _in_any_case(catalogue: Catalogue, name: str) -> str | None:
    """The one model that answers to `name` but for the case of letters."""
    wanted = name.lower()
    found = {
        one.name
        for one in catalogue.models()
        for each in (one.name, one.name.rpartition("/")[2], *one.aliases)
        if each.lower() == wanted
    }
    return found.pop() if len(found) == 1 else None
