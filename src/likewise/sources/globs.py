"""Patterns for paths: `*.md`, `notes/**/*.txt`, `drafts/`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

from likewise.base.errors import SettingsError

Matches = Callable[[str], object]
"""Whether a relative path, in NFC and with `/`, matches: something truthy if so."""


def matcher(patterns: Sequence[str]) -> Matches:
    """What matches any of `patterns`, in upper or lower case.

    A pattern without `/` is for names at any depth; one with `/` is for whole paths from the root.
    `*` and `?` stop at `/`, `**` doesn't; `[abc]` and `[!abc]` stand for one character. A folder's
    name without such signs, or with `/` or `/**` behind it, stands for all that is in it.

    Raises:
        SettingsError: a pattern is empty, or leads out of the folder.
    """
    if not patterns:
        return lambda path: False
    parts = "|".join(f"(?:{_regex(pattern)})" for pattern in patterns)
    return re.compile(parts, re.IGNORECASE | re.DOTALL).fullmatch


def _regex(pattern: str) -> str:
    text = unicodedata.normalize("NFC", pattern)
    anchored = text.startswith("/")
    is_folder = text.endswith(("/", "/**"))
    text = text.removeprefix("./").strip("/")
    while text.endswith("/**"):
        text, anchored = text[:-3], True
    if not text or ".." in text.split("/") or "\0" in text:
        raise SettingsError(
            f"pattern {pattern!r} names nothing in the folder; write for example '*.md' or "
            "'notes/**'",
            param="patterns",
        )
    anywhere = "" if anchored or "/" in text else "(?:.*/)?"
    is_folder = is_folder or not any(sign in text.rpartition("/")[2] for sign in "*?[")
    return anywhere + "".join(_pieces(text)) + ("(?:/.*)?" if is_folder else "")


def _pieces(text: str) -> list[str]:
    out, at = [], 0
    while at < len(text):
        if text.startswith("**/", at) and (at == 0 or text[at - 1] == "/"):
            out.append("(?:.*/)?")
            at += 3
        elif text.startswith("**", at):
            out.append(".*")
            at += 2
        elif text[at] == "*":
            out.append("[^/]*")
            at += 1
        elif text[at] == "?":
            out.append("[^/]")
            at += 1
        elif text[at] == "[" and (end := text.find("]", at + 2)) > 0:
            out.append(_set(text[at + 1 : end]))
            at = end + 1
        else:
            out.append(re.escape(text[at]))
            at += 1
    return out


def _set(inside: str) -> str:
    negated = inside[0] in "!^"
    body = re.sub(r"([\\\[\]^&~|])", r"\\\1", inside[1:] if negated else inside)
    if not body or re.search(r"(.)-(.)", body) and any(a > b for a, b in _ranges(body)):
        return re.escape(f"[{inside}]")
    return f"(?!/)[{'^' if negated else ''}{body}]"


def _ranges(body: str) -> list[tuple[str, str]]:
    return re.findall(r"(.)-(.)", body)
