"""Markdown: the text as it is, without its front matter; the title from that or a heading."""

from __future__ import annotations

import re
import tomllib

from likewise.sources.readers.decode import decode
from likewise.sources.readers.items import DOCUMENT_COLUMNS, Reading, ReadOptions, document

_YAML = re.compile(r"\A---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_TOML = re.compile(r"\A\+\+\+[ \t]*\n(.*?)^\+\+\+[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_YAML_LINE = re.compile(r"[ \t]*$|[ \t]*#|[ \t]+\S|-[ \t]|[\w\"'][^:\n]*:(?:[ \t]|$)|[\]}]")
_YAML_FIRST = re.compile(r"(?:#.*\n)*[\w\"'][^:\n]*:(?:[ \t]|$)", re.MULTILINE)
_YAML_TITLE = re.compile(r"^title:[ \t]+(.*?)[ \t]*$", re.MULTILINE | re.IGNORECASE)
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r" {0,3}#{1,6}[ \t]+(.*?)(?:[ \t]+#+)?[ \t]*$")
_UNDERLINE = re.compile(r" {0,3}(?:=+|-+)[ \t]*$")
_STARTS_OTHERWISE = re.compile(r"\s|[-*+>|#]|\d+[.)][ \t]")


def read(data: bytes, path: str, options: ReadOptions) -> Reading:
    """A Markdown file."""
    decoded = decode(data, path, options)
    title, body = _front_matter(decoded.text)
    item = document(path, "markdown", body, title or _first_heading(body))
    return Reading(
        (item,), "markdown", DOCUMENT_COLUMNS, decoded.decoder, decoded.notes, decoded.incomplete
    )


def _front_matter(text: str) -> tuple[str | None, str]:
    """The title in the front matter, and the text below it.

    A text may begin with a rule (`---`) too: only what reads as front matter is taken out.
    """
    if not text.startswith(("---", "+++")):
        return None, text
    lines = text.replace("\r\n", "\n")
    if found := _TOML.match(lines):
        try:
            title = tomllib.loads(found[1]).get("title")
        except tomllib.TOMLDecodeError:
            return None, text
        return title if isinstance(title, str) else None, lines[found.end() :]
    found = _YAML.match(lines)
    if found is None or not _is_yaml(found[1]):
        return None, text
    return _yaml_title(found[1]), lines[found.end() :]


def _is_yaml(block: str) -> bool:
    if not block.strip():
        return True
    return bool(_YAML_FIRST.match(block)) and all(map(_YAML_LINE.match, block.splitlines()))


def _yaml_title(block: str) -> str | None:
    found = _YAML_TITLE.search(block)
    if not found:
        return None
    value = found[1]
    if len(value) > 1 and value[0] == value[-1] == '"':
        return value[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    if len(value) > 1 and value[0] == value[-1] == "'":
        return value[1:-1].replace("''", "'")
    value = re.sub(r"[ \t]+#.*$", "", value)
    # A value over several lines, an alias or a list isn't taken apart; a heading serves.
    return None if value[:1] in ("|", ">", "&", "*", "[", "{", "!", "#") else value


def _first_heading(text: str) -> str | None:
    """The first heading outside of code."""
    fence = ""
    above = ""
    for line in text.splitlines():
        marks = _FENCE.match(line)
        if fence:
            if marks and marks[1].startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
            continue
        if marks:
            fence, above = marks[1], ""
            continue
        if found := _HEADING.match(line):
            if found[1].strip("# "):
                return found[1]
        elif above and _UNDERLINE.match(line):
            return above
        above = "" if not line.strip() or _STARTS_OTHERWISE.match(line) else line
    return None
