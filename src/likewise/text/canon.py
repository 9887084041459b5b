"""Canonical text: what is embedded and hashed for a given string, the same on every machine."""

from __future__ import annotations

import hashlib
import re

_LINE_ENDS = re.compile(r"\r\n?")
_SURROGATES = re.compile("[\ud800-\udfff]")


def canonical(text: str) -> str:
    """`text` with line ends as LF, surrounding white space cut, lone surrogates as U+FFFD.

    Nothing else is changed (no Unicode normalisation: a model's own tokenizer decides that).
    Surrogates can't be written as UTF-8, so they could be neither hashed nor tokenised.
    """
    if "\r" in text:
        text = _LINE_ENDS.sub("\n", text)
    if not text.isascii():
        text = _SURROGATES.sub("\ufffd", text)
    return text.strip()


def fingerprint(text: str) -> bytes:
    """sha256 (32 bytes) of a canonical text's UTF-8."""
    return hashlib.sha256(text.encode("utf-8")).digest()
