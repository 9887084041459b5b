"""Answers that aren't a success: which of our errors each is, and so what is done about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from likewise.base.errors import (
    EndpointError,
    EndpointKeyRefused,
    EndpointRefused,
    EndpointUnavailable,
    EngineError,
    InputTooLong,
    ModelNotFound,
)
from likewise.client.pace import retry_after_s

if TYPE_CHECKING:
    from likewise.base.errors import LikewiseError

MOST_WORDS = 300
"""Characters of an endpoint's own words that are shown."""
_LOOKED_AT = 4096
"""Characters of what an endpoint says that are looked at."""
_DEPTH = 6
"""Levels of an answer in which words are looked for."""
_LATER = frozenset({408, 425, 429, 502, 503, 504, 520, 521, 522, 523, 524, 529})
"""What passes by itself, with those of a proxy (Cloudflare's 52x) and of overloaded services."""
_OF_A_TEXT = frozenset({400, 413, 422})
_FAILED = 424
"""How Text Embeddings Inference says that its backend failed."""
_TOO_LONG = (
    "maximum context length",
    "exceeds the context length",
    "must have less than",
    "input_too_long",
    "context_length_exceeded",
    "input is too long",
    "too many tokens",
    # llama.cpp's, with 400 or 500.
    "is too large to process",
    "max context size",
    "available context size",
)
_NOT_FOUND = ("invalid model name passed in",)
"""How LiteLLM says with 400 that it has no such model."""
_KEY_REFUSED = ("no connected db",)
"""How LiteLLM answers 400 to a key that isn't its own, where no database has more of them."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    where: str
    """The URL that was asked."""
    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


def failure(
    answer: Answer, *, key: str | None, variable: str, has_texts: bool, now: float
) -> LikewiseError:
    """The error that `answer` is; `has_texts` says whether texts were sent.

    In the endpoint's own words `key` is left out, should it be there. `variable` is where the key
    comes from; `now`, in seconds since 1970, is for dates in headers.
    """
    words = words_of(answer.body, key)
    said = f"{answer.where} answers {answer.status}{': ' if words else ''}{words}"
    status = answer.status
    if status in (401, 403) or (status == 400 and _has(words, _KEY_REFUSED)):
        known = "it doesn't let in the key in" if key else "it wants a key, and there is none in"
        return EndpointKeyRefused(f"{said}; {known} {variable}")
    if status == 404 or (status == 400 and _has(words, _NOT_FOUND)):
        return ModelNotFound(said, param="model")
    if status in _LATER:
        return EndpointUnavailable(said, retry_after_s=retry_after_s(answer.headers, now))
    if 300 <= status < 400:
        to = shown(answer.headers.get("location", "elsewhere"), key)
        return EndpointError(
            f"{said}: it sends us to {to}; no key is taken there unasked: give "
            "that address if it is right"
        )
    if has_texts and _is_too_long(answer, words):
        return InputTooLong(said)
    if status >= 500 or status == _FAILED:
        return EngineError(said)
    if has_texts and status in _OF_A_TEXT:
        return EndpointRefused(said)
    return EndpointError(said)


def _is_too_long(answer: Answer, words: str) -> bool:
    """Whether a text is longer than the model reads; it is said in many ways, one of them ours."""
    ours = answer.headers.get("x-likewise-error")
    return answer.status == 413 or ours == InputTooLong.code or _has(words, _TOO_LONG)


def _has(words: str, phrases: tuple[str, ...]) -> bool:
    return any(each in words.lower() for each in phrases)


def words_of(body: bytes, key: str | None) -> str:
    """What the endpoint says in its own words, on one line; empty when it says nothing readable."""
    try:
        text = _message(orjson.loads(body), _DEPTH)
    except orjson.JSONDecodeError:
        text = (
            "" if body.lstrip().startswith(b"<") else body[:_LOOKED_AT].decode("utf-8", "replace")
        )
    return shown(text, key)


def shown(text: str, key: str | None) -> str:
    """What an endpoint says, on one line, not too long, and without `key`."""
    text = text[:_LOOKED_AT]
    if key:
        text = text.replace(key, "(the key)")
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= MOST_WORDS else f"{line[:MOST_WORDS]}…"


def _message(told: Any, depth: int) -> str:
    """Where the usual shapes have it: OpenAI's, TEI's, Ollama's, FastAPI's."""
    if isinstance(told, str):
        return told
    if depth == 0:
        return ""
    if isinstance(told, list):
        return "; ".join(filter(None, (_message(each, depth - 1) for each in told[:3])))
    if not isinstance(told, dict):
        return ""
    inner = next((told[k] for k in ("error", "message", "detail", "msg") if told.get(k)), "")
    code = told.get("code")
    said = _message(inner, depth - 1)
    # LiteLLM's is the status once more.
    is_telling = isinstance(code, str) and not code.isdigit() and code not in said
    return f"{said} ({code})" if said and is_telling else said
