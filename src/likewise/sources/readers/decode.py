"""Bytes into text: which encoding they are in, and what was replaced, never in silence."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

from likewise.sources.readers.items import ReadOptions, unreadable

_BOMS = (  # UTF-32 first: its little-endian mark begins with that of UTF-16.
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_REPLACEMENT = "\ufffd"


@dataclass(frozen=True, slots=True)
class Decoded:
    """A text and how it was got."""

    text: str
    decoder: str
    notes: tuple[str, ...] = ()
    incomplete: bool = False
    """The bytes end within a character."""


def decode(data: bytes, path: str, options: ReadOptions, declared: str | None = None) -> Decoded:
    """The text of `data`: by its mark, by `options.encoding`, by `declared`, else by looking.

    `declared` is what the file says of itself (`<meta charset>`). Without any of these it is
    UTF-8, or what comes closest: UTF-8 with damaged characters replaced where most of what isn't
    ASCII is right, else cp1252, else latin-1.

    Raises:
        FileUnreadable: it isn't text, or not of the encoding that its mark or the options say.
    """
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return _marked(data[len(mark) :], encoding, path)
    if options.encoding is not None:
        return _strictly(data, options.encoding, path)
    _refuse_nul(b"\0" in data, path)
    if declared is not None:
        try:
            return _noted(Decoded(data.decode(declared), declared))
        except UnicodeDecodeError as wrong:
            looked = _looked(data)
            note = f"says it is {declared}, and isn't at byte {wrong.start}"
            read = f"read as {looked.decoder}"
            return Decoded(
                looked.text, looked.decoder, (f"{note}; {read}", *looked.notes), looked.incomplete
            )
    return _looked(data)


def _marked(data: bytes, encoding: str, path: str) -> Decoded:
    if encoding == "utf-8":
        _refuse_nul(b"\0" in data, path)
        return _looked(data, is_utf8=True)
    width = 4 if "32" in encoding else 2
    whole = data[: len(data) - len(data) % width]
    try:
        text = whole.decode(encoding)
    except UnicodeDecodeError as wrong:
        raise unreadable(
            path, f"has the mark of {encoding} and isn't at byte {wrong.start}", "save it as UTF-8"
        ) from wrong
    _refuse_nul("\0" in text, path)
    if len(whole) < len(data):
        return _noted(Decoded(text, encoding, ("ends within a character, left out",), True))
    return _noted(Decoded(text, encoding))


def _strictly(data: bytes, encoding: str, path: str) -> Decoded:
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as wrong:
        raise unreadable(
            path,
            f"isn't {encoding} at byte {wrong.start}, as the option 'encoding' says",
            "save it in that encoding, or leave the option out",
        ) from wrong
    _refuse_nul("\0" in text, path)
    return _noted(Decoded(text, codecs.lookup(encoding).name))


def _looked(data: bytes, *, is_utf8: bool = False) -> Decoded:
    try:
        return _noted(Decoded(data.decode("utf-8"), "utf-8"))
    except UnicodeDecodeError as wrong:
        first = wrong
    if first.reason == "unexpected end of data" and (is_utf8 or not data[: first.start].isascii()):
        note = "ends within a character, left out"
        return _noted(Decoded(data[: first.start].decode("utf-8"), "utf-8", (note,), True))
    text = data.decode("utf-8", "replace")
    already = data.count(_REPLACEMENT.encode())
    bad = text.count(_REPLACEMENT) - already
    beyond_ascii = len(text) - len(text.encode("ascii", "ignore"))
    if is_utf8 or beyond_ascii - already - bad > bad:
        note = f"{bad} places aren't UTF-8, the first at byte {first.start}; U+FFFD stands there"
        return Decoded(text, "utf-8", (note,))
    note = f"isn't UTF-8 at byte {first.start}; read as "
    try:
        return _noted(Decoded(data.decode("cp1252"), "cp1252", (note + "cp1252",)))
    except UnicodeDecodeError:
        return _noted(Decoded(data.decode("latin-1"), "latin-1", (note + "latin-1",)))


def _noted(decoded: Decoded) -> Decoded:
    damaged = decoded.text.count(_REPLACEMENT)
    if not damaged:
        return decoded
    note = f"holds U+FFFD {damaged} times: characters that were lost before it came here"
    return Decoded(decoded.text, decoded.decoder, (*decoded.notes, note), decoded.incomplete)


def _refuse_nul(has_nul: bool, path: str) -> None:
    if has_nul:
        raise unreadable(
            path,
            "isn't text: it holds NUL bytes",
            "save it as UTF-8 (UTF-16 needs a byte order mark), or exclude it by a pattern",
        )
