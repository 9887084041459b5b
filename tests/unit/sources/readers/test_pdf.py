"""PDF: pages, titles, and files that can't be read."""

import io
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdf import PdfReader, PdfWriter

from likewise.base.errors import FileUnreadable
from likewise.sources.readers.names import read
from tests.unit.sources.readers.pdfs import pdf

TWO = pdf(["Café au lait\nsecond line", "Page two"], title="A study")


def rewritten(data: bytes, *, password: str | None = None, owner: str | None = None) -> bytes:
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(data)))
    if password is not None:
        writer.encrypt(password, owner, algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


@pytest.mark.parametrize("data", [TWO, rewritten(TWO)], ids=["by hand", "by pypdf"])
def test_pages_are_joined_by_a_blank_line(data: bytes) -> None:
    reading = read(data, "d/a.pdf")
    (item,) = reading.items
    assert item.values == {
        "text": "Café au lait\nsecond line\n\nPage two",
        "path": "d/a.pdf",
        "name": "a.pdf",
        "title": "A study",
        "kind": "pdf",
    }
    assert (reading.notes, reading.decoder, reading.incomplete) == ((), "", False)


def test_without_a_title_it_is_the_name() -> None:
    assert read(pdf(["x"]), "d/a.b.pdf").items[0].values["title"] == "a.b"
    assert read(pdf(["x"], title=" "), "a.pdf").items[0].values["title"] == "a"


def test_pages_without_text_are_noted() -> None:
    reading = read(pdf(["one", "", "three", ""]), "a.pdf")
    assert reading.items[0].values["text"] == "one\n\nthree"
    assert reading.notes == ("2 of 4 pages have no text (page 2, 4); pictures of text aren't read",)


def test_a_password_is_refused_and_an_empty_one_is_not() -> None:
    with pytest.raises(FileUnreadable, match=r"a\.pdf: is encrypted with a password; save a copy"):
        read(rewritten(TWO, password="secret"), "a.pdf")
    reading = read(rewritten(TWO, password="", owner="secret"), "a.pdf")
    assert "Page two" in str(reading.items[0].values["text"])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "doesn't begin with %PDF-"),
        (b"<html>", "doesn't begin with %PDF-"),
        (TWO[: len(TWO) // 2], "cut short"),
        (b"%PDF-1.4\n%%EOF", "damaged"),
        (TWO.replace(b"/Kids", b"/Kits"), "damaged"),
    ],
)
def test_a_damaged_file_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(FileUnreadable, match=reason):
        read(data, "a.pdf")


def test_what_was_mended_is_noted_and_no_listener_stays() -> None:
    broken = TWO.replace(b"startxref\n", b"startxref\n9")
    reading = read(broken, "a.pdf")
    assert reading.items[0].values["title"] == "A study"
    assert any(note.startswith("mended while reading: ") for note in reading.notes)
    assert not logging.getLogger("pypdf").handlers


@settings(max_examples=40)
@given(at=st.integers(9, len(TWO) - 1), byte=st.integers(0, 255))
def test_a_byte_that_is_wrong_never_escapes_as_another_error(at: int, byte: int) -> None:
    try:
        read(TWO[:at] + bytes([byte]) + TWO[at + 1 :], "a.pdf")
    except FileUnreadable:
        pass
