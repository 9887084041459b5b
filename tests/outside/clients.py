"""The clients that are tried: which package each is, and the program that uses it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Client:
    """A client that somebody else wrote."""

    package: str
    """Its name in the registry."""
    program: str
    """The file in `programs/`; its ending says what runs it."""
    refuses: str = ""
    """Its error, where it takes no address of a server."""


CLIENTS = (
    Client("openai", "py-openai.py"),
    Client("ollama", "py-ollama.py"),
    Client("cohere", "py-cohere.py"),
    Client("voyageai", "py-voyageai.py"),
    Client("langchain-openai", "py-langchain-openai.py"),
    Client("langchain-ollama", "py-langchain-ollama.py"),
    Client("langchain-cohere", "py-langchain-cohere.py"),
    Client(
        "langchain-huggingface",
        "py-langchain-huggingface.py",
        refuses="`model` must be a HuggingFace repo ID, not a URL",
    ),
    Client("llama-index-embeddings-ollama", "py-llama-index-ollama.py"),
    Client("llama-index-embeddings-text-embeddings-inference", "py-llama-index-tei.py"),
    Client("haystack-ai", "py-haystack.py"),
    Client("chromadb", "py-chromadb.py"),
    Client("llm-ollama", "py-llm-ollama.py"),
    Client("txtai", "py-txtai.py"),
    Client("litellm", "py-litellm.py"),
    Client("pydantic-ai", "py-pydantic-ai.py"),
    Client("infinity_client", "py-infinity-client.py"),
    Client("openai", "npm-openai.mjs"),
    Client("ollama", "npm-ollama.mjs"),
    Client("cohere-ai", "npm-cohere.mjs"),
    Client("@huggingface/inference", "npm-huggingface.mjs"),
    Client("@langchain/openai", "npm-langchain-openai.mjs"),
    Client("@langchain/ollama", "npm-langchain-ollama.mjs"),
    Client("voyageai", "npm-voyageai.mjs"),
)
