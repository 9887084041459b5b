"""PDF: the text of its pages, a blank line between them."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pypdf import PdfReader
from pypdf.errors import DependencyError, FileNotDecryptedError

from likewise.base.errors import FileUnreadable
from likewise.sources.readers.items import (
    DOCUMENT_COLUMNS,
    Notes,
    Reading,
    ReadOptions,
    document,
    unreadable,
)

_TAIL = 4096
_ADVICE = "open and save it with a PDF program, or exclude it by a pattern"
_DECRYPT = "save a copy without a password, or exclude it by a pattern"


def read(data: bytes, path: str, options: ReadOptions) -> Reading:
    """A PDF's text; pages that are pictures have none, which is noted."""
    del options
    if b"%PDF-" not in data[:1024]:
        raise unreadable(path, "isn't a PDF: it doesn't begin with %PDF-", _ADVICE)
    # pypdf mends a file that was cut short by leaving pages out.
    if b"%%EOF" not in data.rstrip(b"\0\r\n\t ")[-_TAIL:]:
        raise unreadable(path, "is cut short: it doesn't end with %%EOF", _ADVICE)
    notes = Notes()
    with _heard(notes):
        try:
            pages, title = _pages(data, path, notes)
        except (DependencyError, FileNotDecryptedError) as wrong:
            raise unreadable(path, f"is encrypted ({wrong})", _DECRYPT) from wrong
        except RecursionError as wrong:
            raise unreadable(path, "is nested too deeply to be read", _ADVICE) from wrong
        except FileUnreadable:
            raise
        except Exception as wrong:  # A damaged file makes pypdf raise anything.
            reason = f"is damaged ({type(wrong).__name__}: {wrong})"
            raise unreadable(path, reason, _ADVICE) from wrong
    empty = [str(number) for number, text in enumerate(pages, 1) if not text]
    if empty:
        shown = ", ".join(empty[:10]) + (", …" if len(empty) > 10 else "")
        notes.add(
            f"{len(empty)} of {len(pages)} pages have no text (page {shown}); pictures of text "
            "aren't read"
        )
    item = document(path, "pdf", "\n\n".join(text for text in pages if text), title)
    return Reading((item,), "pdf", DOCUMENT_COLUMNS, "", notes.all())


def _pages(data: bytes, path: str, notes: Notes) -> tuple[list[str], str | None]:
    with PdfReader(io.BytesIO(data)) as reader:
        if reader.is_encrypted and not reader.decrypt(""):
            raise unreadable(path, "is encrypted with a password", _DECRYPT)
        # A form feed separates pages for some writers; between and in pages it's a blank line.
        texts = [page.extract_text().replace("\f", "\n\n").strip() for page in reader.pages]
        if not texts:
            raise unreadable(path, "is damaged (no page was found)", _ADVICE)
        said = reader.root_object.get("/Pages", {}).get_object().get("/Count")
        if said != len(texts):
            notes.add(f"says that it has {said} pages; {len(texts)} were found")
        title = reader.metadata.title if reader.metadata else None
    return texts, title if isinstance(title, str) else None


@contextmanager
def _heard(notes: Notes) -> Iterator[None]:
    """What pypdf logs of this file becomes notes: it says there what it mended."""
    mine = threading.get_ident()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == mine and record.levelno >= logging.WARNING:
                notes.add(f"mended while reading: {record.getMessage()}")

    listener, log = Listener(), logging.getLogger("pypdf")
    log.addHandler(listener)
    try:
        yield
    finally:
        log.removeHandler(listener)
