"""Addresses of remote models: `openai:MODEL@https://host/v1?dimensions=256` and its kind."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from likewise.base.errors import SettingsError
from likewise.base.names import nearest

OPENAI_URL = "https://api.openai.com/v1"
OLLAMA_URL = "http://localhost:11434"
FORMS: Mapping[str, str] = {
    "openai": "openai:MODEL@https://HOST/v1",
    "tei": "tei:http://HOST:PORT",
    "ollama": "ollama:MODEL@http://HOST:11434",
}
"""The kinds of endpoints, each with how its address is written."""
DEFAULT_URLS: Mapping[str, str] = {"openai": OPENAI_URL, "ollama": OLLAMA_URL}
DEFAULT_TIMEOUT_S = 30.0
LONGEST = 4000
_AT_URL = re.compile(r"@(?=https?://)")
_USER = re.compile(r"//.*@", re.DOTALL)
_TRUE, _FALSE = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class Address:
    """A remote model and how it is asked; `str()` gives what `parse` reads as the same."""

    kind: str
    """`openai`, `tei` or `ollama`."""
    model: str
    """As the endpoint calls it; empty for `tei`, which serves one."""
    url: str
    """Without a slash at its end."""
    dimensions: int | None = None
    """Numbers in a vector that are asked for; what the model gives when None."""
    max_tokens: int | None = None
    """Tokens that the model reads of a text; what the endpoint says when None."""
    batch: int | None = None
    """Most texts in a request; what the endpoint says, or as is usual, when None."""
    timeout: float = DEFAULT_TIMEOUT_S
    """Seconds within which an answer must be here."""
    rpm: int | None = None
    """Most requests a minute; no limit of ours when None."""
    tpm: int | None = None
    """Most tokens a minute, as they are estimated; no limit of ours when None."""
    query_prompt: str = ""
    """Text put before a query."""
    document_prompt: str = ""
    """Text put before a document."""
    normalise: bool = False
    """Whether vectors are made length 1 here."""

    @property
    def key_variable(self) -> str:
        """The environment variable with the key for it.

        A key of OpenAI's goes to OpenAI alone, whatever an address asks for.
        """
        parts = urlsplit(self.url)
        is_theirs = (parts.scheme, parts.hostname) == ("https", "api.openai.com")
        return "OPENAI_API_KEY" if is_theirs else "LIKEWISE_REMOTE_KEY"

    def __str__(self) -> str:
        given = {
            name: _written(value)
            for name in OPTIONS
            if (value := getattr(self, name)) != _DEFAULTS[name]
        }
        query = f"?{urlencode(given, quote_via=quote)}" if given else ""
        at = f"{self.model}@" if self.model else ""
        return f"{self.kind}:{at}{self.url}{query}"


def _written(value: object) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _whole(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < 1:
        raise ValueError("a whole number from 1")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.001 <= value <= 3600:
        raise ValueError("seconds, from 0.001 to 3600")
    # As it is written again, so that both are one address.
    return float(f"{value:g}")


def _truth(text: str) -> bool:
    if text.lower() not in _TRUE | _FALSE:
        raise ValueError("1 or 0")
    return text.lower() in _TRUE


OPTIONS: Mapping[str, Callable[[str], Any]] = {
    "dimensions": _whole,
    "max_tokens": _whole,
    "batch": _whole,
    "timeout": _seconds,
    "rpm": _whole,
    "tpm": _whole,
    "query_prompt": str,
    "document_prompt": str,
    "normalise": _truth,
}
"""What may stand behind the `?`, and how it is read."""
_DEFAULTS = {each.name: each.default for each in dataclasses.fields(Address)}


def parse(text: str) -> Address:
    """The remote model at the address `text`.

    Raises:
        SettingsError: it isn't one, an option isn't known, or there is a secret in it. What is
            secret isn't repeated.
    """
    if len(text) > LONGEST:
        raise SettingsError(f"an address of a remote model has at most {LONGEST} characters")
    if "@" in text.rpartition("//")[2].partition("?")[2]:
        raise SettingsError(
            "a remote model's address: an '@' behind the '?' is written %40; a name or password "
            "of an endpoint belongs in the environment, as LIKEWISE_REMOTE_KEY",
            param="model",
        )
    head, _, query = text.partition("?")
    kind, colon, rest = head.partition(":")
    if not colon or kind not in FORMS:
        raise _wrong(head, f"write one of {', '.join(FORMS.values())}")
    model, url = _parted(kind, rest, head)
    if not (rest.isprintable() and " " not in rest):
        raise _wrong(head, "there is white space or a control character in it")
    return Address(kind, model, _checked(url, head), **_options(query, head))


def _parted(kind: str, rest: str, head: str) -> tuple[str, str]:
    """The model's name and the URL."""
    if kind == "tei":
        if not rest.startswith(("http://", "https://")):
            raise _wrong(head, f"such a server has one model: write {FORMS['tei']}")
        return "", rest
    model, *urls = _AT_URL.split(rest, maxsplit=1)
    if not model or model.startswith(("http://", "https://")):
        raise _wrong(head, f"which model? Write {FORMS[kind]}")
    return model, urls[0] if urls else DEFAULT_URLS[kind]


def _checked(url: str, head: str) -> str:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise _wrong(head, "its URL isn't one") from None
    if "@" in parts.netloc:
        raise _wrong(
            head,
            "a name or password stands in it, and addresses are stored and shown; give a key in "
            "the environment, as LIKEWISE_REMOTE_KEY",
        )
    if not parts.hostname or parts.fragment:
        raise _wrong(head, "its URL needs a host, and nothing after a '#'")
    return url.rstrip("/")


def _options(query: str, head: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in OPTIONS:
            # Only a name that is meant for one of ours is repeated: it may be a key.
            hint = nearest(name, OPTIONS)
            what = f"option {name!r} isn't known{hint}" if hint else "an option isn't known"
            raise _wrong(head, f"{what}; there are {', '.join(OPTIONS)}")
        if name in found:
            raise _wrong(head, f"{name} is there twice")
        try:
            found[name] = OPTIONS[name](value)
        except ValueError as why:
            raise _wrong(head, f"{name} must be {why}") from None
    return found


def _wrong(head: str, why: str) -> SettingsError:
    shown = _USER.sub("//...@", head)
    return SettingsError(f"remote model {shown!r}: {why} (docs/remote.md)", param="model")
