"""Canonical text: what is embedded and hashed for a given string, the same on every machine."""

from __future__ import annotations

import hashlib
import re

_LINE_ENDS = re.compile(r"\r\n?")


def canonical(text: str) -> str:
    """`text` with line ends as `\\n`, surrounding white space cut, lone surrogates replaced.

    Nothing inside is changed otherwise (no Unicode normalisation: a model's own tokenizer decides
    that). Surrogates can't be encoded as UTF-8, so they become U+FFFD.
    """
    text = _LINE_ENDS.sub("\n", text).strip()
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace") if _broken(text) else text


def fingerprint(text: str) -> bytes:
    """sha256 (32 bytes) of a canonical text's UTF-8."""
    return hashlib.sha256(text.encode("utf-8")).digest()


def _broken(text: str) -> bool:
    return any("\ud800" <= c <= "\udfff" for c in text) if not text.isascii() else False
