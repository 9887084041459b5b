"""Encodings: marks, UTF-8, what comes closest; nothing is replaced in silence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from likewise.base.errors import FileUnreadable, SettingsError
from likewise.sources.readers.decode import decode
from likewise.sources.readers.items import ReadOptions

PLAIN = ReadOptions()
MARKED = ["utf-8-sig", "utf-16", "utf-32"]
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0\ufffd\ufeff"))


@given(text=TEXTS)
def test_utf8_is_read_as_it_is(text: str) -> None:
    read = decode(text.encode(), "a.txt", PLAIN)
    assert (read.text, read.decoder, read.notes, read.incomplete) == (text, "utf-8", (), False)


@pytest.mark.parametrize("encoding", MARKED)
@given(text=TEXTS)
def test_a_mark_says_the_encoding(encoding: str, text: str) -> None:
    read = decode(text.encode(encoding), "a.txt", PLAIN)
    assert (read.text, read.notes) == (text, ())


@pytest.mark.parametrize("order", ["le", "be"])
@pytest.mark.parametrize("width", ["16", "32"])
def test_both_byte_orders(width: str, order: str) -> None:
    data = ("\ufeff" + "Zürich 🎈").encode(f"utf-{width}-{order}")
    read = decode(data, "a.txt", PLAIN)
    assert (read.text, read.decoder) == ("Zürich 🎈", f"utf-{width}-{order}")


def test_what_is_not_utf8_is_cp1252_and_said() -> None:
    read = decode("naïve café – “so”".encode("cp1252"), "a.txt", PLAIN)
    assert (read.text, read.decoder) == ("naïve café – “so”", "cp1252")
    assert read.notes == ("isn't UTF-8 at byte 2; read as cp1252",)
    assert not read.incomplete


def test_what_cp1252_has_not_is_latin1_and_said() -> None:
    read = decode(b"caf\xe9 \x81", "a.txt", PLAIN)
    assert (read.text, read.decoder) == ("café \x81", "latin-1")
    assert "latin-1" in read.notes[0]


def test_a_damaged_place_in_utf8_does_not_turn_all_of_it_into_cp1252() -> None:
    read = decode("Zürich, Genève, ".encode() + b"\xff Bern", "a.txt", PLAIN)
    assert (read.text, read.decoder) == ("Zürich, Genève, \ufffd Bern", "utf-8")
    assert read.notes == ("1 places aren't UTF-8, the first at byte 18; U+FFFD stands there",)


def test_utf8_that_ends_within_a_character_is_incomplete() -> None:
    read = decode("Zürich 🎈".encode()[:-1], "a.txt", PLAIN)
    assert (read.text, read.incomplete) == ("Zürich ", True)
    assert read.notes == ("ends within a character, left out",)
    # Nothing before says that it's UTF-8: é of cp1252 is as likely.
    assert decode(b"caf\xe9", "a.txt", PLAIN).text == "café"
    assert decode("\ufeffcaf".encode() + b"\xc3", "a.txt", PLAIN).incomplete


def test_utf16_that_ends_within_a_character_is_incomplete() -> None:
    read = decode("ab".encode("utf-16")[:-1], "a.txt", PLAIN)
    assert (read.text, read.incomplete) == ("a", True)


def test_characters_lost_before_are_noted() -> None:
    read = decode("a\ufffdb".encode(), "a.txt", PLAIN)
    assert read.notes == ("holds U+FFFD 1 times: characters that were lost before it came here",)


@pytest.mark.parametrize(
    "data",
    [b"a\0b", b"\x7fELF" + bytes(100), "ab".encode("utf-16-le"), "\ufeffa\0b".encode("utf-16-be")],
)
def test_nul_bytes_are_no_text(data: bytes) -> None:
    with pytest.raises(FileUnreadable, match="NUL") as refused:
        decode(data, "d/a.txt", PLAIN)
    assert refused.value.path == "d/a.txt"
    assert refused.value.reason == "isn't text: it holds NUL bytes"
    assert str(refused.value).startswith("d/a.txt: isn't text")


def test_a_mark_that_lies_is_refused() -> None:
    with pytest.raises(FileUnreadable, match="utf-16-le"):
        decode(b"\xff\xfe\x00\xd8a\x00", "a.txt", PLAIN)


def test_a_declared_option_holds() -> None:
    russian = "Привет".encode("cp1251")
    assert decode(russian, "a.txt", ReadOptions(encoding="cp1251")).text == "Привет"
    with pytest.raises(FileUnreadable, match="isn't utf-8 at byte 0, as the option"):
        decode(russian, "a.txt", ReadOptions(encoding="utf-8"))


def test_a_declaration_in_the_file_that_lies_is_noted() -> None:
    read = decode("Zürich".encode("cp1252"), "a.html", PLAIN, "utf-8")
    assert (read.text, read.decoder) == ("Zürich", "cp1252")
    assert read.notes[0] == "says it is utf-8, and isn't at byte 1; read as cp1252"


@given(data=st.binary())
def test_bytes_of_any_kind_are_read_or_refused(data: bytes) -> None:
    try:
        read = decode(data, "a.txt", PLAIN)
    except FileUnreadable:
        return
    assert read.notes or "\ufffd" not in read.text
    read.text.encode("utf-8")


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"encoding": "klingon"}, "encoding"),
        ({"delimiter": "ab"}, "delimiter"),
        ({"delimiter": '"'}, "delimiter"),
        ({"keys": ("a", "a")}, "keys"),
        ({"max_bytes": 0}, "max_bytes"),
    ],
)
def test_options_are_checked(options: dict[str, object], param: str) -> None:
    with pytest.raises(SettingsError) as refused:
        ReadOptions(**options)  # type: ignore[arg-type] # what is refused has any type
    assert refused.value.param == param
