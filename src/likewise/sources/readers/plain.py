"""Plain text and source code: the text as it is."""

from __future__ import annotations

import re

from likewise.sources.readers.decode import decode
from likewise.sources.readers.items import DOCUMENT_COLUMNS, Reading, ReadOptions, document

_SEARCHED = 4000
"""Characters in which a title is looked for."""
_UNDERLINED = re.compile(
    r"^(?:([=\-~^\"'#*+`:.])\1{2,}\n)?[ ]*(\S[^\n]*)\n([=\-~^\"'#*+`:.])\3{2,}[ ]*$", re.MULTILINE
)
_ORG = re.compile(r"^#\+title:[ \t]*(\S.*)$|^\*+[ \t]+(\S.*)$", re.IGNORECASE | re.MULTILINE)
_ADOC = re.compile(r"^=[ \t]+(\S.*)$", re.MULTILINE)


def read_text(data: bytes, path: str, options: ReadOptions) -> Reading:
    """A text; the title of reStructuredText, org and AsciiDoc is its first heading."""
    return _read(data, path, options, "text")


def read_code(data: bytes, path: str, options: ReadOptions) -> Reading:
    """Source code, configuration and data written as text: nothing is taken out."""
    return _read(data, path, options, "code")


def _read(data: bytes, path: str, options: ReadOptions, kind: str) -> Reading:
    decoded = decode(data, path, options)
    item = document(path, kind, decoded.text, _title(decoded.text, path))
    return Reading(
        (item,), kind, DOCUMENT_COLUMNS, decoded.decoder, decoded.notes, decoded.incomplete
    )


def _title(text: str, path: str) -> str | None:
    extension = path.rpartition(".")[2].lower()
    head = text[:_SEARCHED].replace("\r\n", "\n").replace("\r", "\n")
    if extension in ("rst", "rest"):
        found = _UNDERLINED.search(head)
        return found[2] if found else None
    if extension == "org":
        found = _ORG.search(head)
        return (found[1] or found[2]) if found else None
    if extension in ("adoc", "asciidoc"):
        found = _ADOC.search(head)
        return found[1] if found else None
    return None
