"""HTML: what a reader of the page sees, a line a block; scripts, styles and navigation dropped."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

from bs4 import BeautifulSoup
from bs4.element import CData, NavigableString, Tag
from bs4.exceptions import ParserRejectedMarkup

from likewise.sources.readers.decode import decode
from likewise.sources.readers.items import (
    DOCUMENT_COLUMNS,
    Reading,
    ReadOptions,
    document,
    unreadable,
)

_HEAD = 4096
_CHARSET = re.compile(rb"<meta[^>]*?charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
_XML = re.compile(rb"\A\s*<\?xml[^>]*?encoding\s*=\s*[\"']([\w.:-]+)[\"']")
_XML_HEAD = re.compile(r"\A\s*<\?xml[^>]*\?>")
_DROPPED = frozenset(
    "script style nav noscript template svg iframe object canvas title textarea".split()
)
_END_MAY_BE_LEFT_OUT = frozenset("p li dt dd tr td th option body html head".split())
"""The parser nests what follows these when they aren't closed, so they are never dropped."""
_PARAGRAPHS = frozenset(
    "p h1 h2 h3 h4 h5 h6 ul ol dl table pre blockquote section article figure form hr".split()
)
_LINES = frozenset(
    "address aside body caption center dd details dialog div dt fieldset figcaption footer"
    " header hgroup html legend li main menu option search select summary tbody tfoot thead"
    " tr".split()
)
_CELLS = frozenset(("td", "th"))
_BREAKS = ("", "\t", "\n", "\n\n")
_SPACES = re.compile(r"[ \t\n\r\f]+")


def read(data: bytes, path: str, options: ReadOptions) -> Reading:
    """A page; its title is that of `<title>`, or the first heading."""
    declared, note = _declared(data)
    decoded = decode(data, path, options, declared)
    # The declaration makes a warning in the parser, and line ends keep it from taking a text that
    # is as short as a file's name to be one.
    markup = _XML_HEAD.sub("", decoded.text, count=1) + "\n"
    try:
        soup = BeautifulSoup(markup, "html.parser")
    except (ParserRejectedMarkup, RecursionError) as wrong:
        raise unreadable(
            path, f"isn't HTML that can be read ({wrong})", "mend it, or exclude it by a pattern"
        ) from wrong
    item = document(path, "html", _text(soup), _title(soup))
    notes = (*note, *decoded.notes)
    return Reading((item,), "html", DOCUMENT_COLUMNS, decoded.decoder, notes, decoded.incomplete)


def _declared(data: bytes) -> tuple[str | None, tuple[str, ...]]:
    """The encoding that the page says it is in, as browsers take it; and a note if unknown."""
    head = data[:_HEAD]
    found = _CHARSET.search(head) or _XML.match(head)
    if found is None:
        return None, ()
    label = found[1].decode("ascii").lower()
    try:
        name = codecs.lookup(label).name
        b"".decode(name)
    except (LookupError, ValueError, UnicodeError):
        return None, (f"says it is {label!r}, an encoding that isn't known",)
    if name.startswith(("utf-16", "utf-32")):
        return "utf-8", ()  # It was read as ASCII just now, so it can't be.
    return ("cp1252" if name in ("iso8859-1", "ascii") else name), ()


def _title(soup: BeautifulSoup) -> str | None:
    for title in soup.find_all("title"):
        if title.find_parent("svg") is None and title.get_text().strip():
            return title.get_text()
    heading = soup.find(["h1", "h2", "h3"])
    return heading.get_text(" ") if heading else None


def _text(soup: BeautifulSoup) -> str:
    out: list[str] = []
    waiting = ""
    for kind, piece in _pieces(soup):
        if kind == "break":
            # Of breaks that meet, the widest counts: a cell's tab, a line, a blank line.
            waiting = max(waiting, piece, key=_BREAKS.index)
            continue
        shown = _SPACES.sub(" ", piece) if kind == "text" else piece
        if kind == "text" and (waiting or not out or out[-1].endswith((" ", "\n"))):
            shown = shown.removeprefix(" ")
        if shown:
            out += [waiting, shown] if out else [shown]
            waiting = ""
    kept: list[str] = []
    for line in "".join(out).split("\n"):
        line = line.rstrip(" \t\r")
        if line or (kept and kept[-1]):
            kept.append(line)
    return "\n".join(kept).strip("\n")


def _pieces(soup: BeautifulSoup) -> Iterator[tuple[str, str]]:
    """Texts and the breaks between them, in order; no recursion, as pages may be deep."""
    stack: list[tuple[object, bool]] = [(soup, False)]
    while stack:
        node, is_pre = stack.pop()
        if isinstance(node, str) and not isinstance(node, NavigableString):
            yield "break", node
        elif isinstance(node, NavigableString):
            if type(node) in (NavigableString, CData):
                yield ("pre" if is_pre else "text"), str(node)
        elif isinstance(node, Tag) and not _is_dropped(node):
            if node.name == "br":
                yield "pre", "\n"
                continue
            before, after = _breaks(node.name)
            yield "break", before
            stack.append((after, False))
            inside = is_pre or node.name in ("pre", "listing")
            stack.extend((child, inside) for child in reversed(node.contents))


def _is_dropped(node: Tag) -> bool:
    hidden = node.has_attr("hidden") and node.name not in _END_MAY_BE_LEFT_OUT
    return hidden or node.name in _DROPPED


def _breaks(name: str) -> tuple[str, str]:
    """What stands before and after an element."""
    if name in _PARAGRAPHS:
        return "\n\n", "\n\n"
    if name in _LINES:
        return "\n", "\n"
    return ("\t" if name in _CELLS else ""), ""
