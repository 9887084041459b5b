"""Texts out of files: each format, and each way a line can be wrong."""

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from likewise.base.errors import InputError, LikewiseError, SettingsError
from likewise.cli import text_input
from likewise.cli.text_input import Format


def read(raw: bytes, form: Format = "text", **options: str) -> list[str]:
    given: dict[str, str | None] = {"column": None, "field": None, "decoding": "strict"}
    return list(text_input.texts(io.BytesIO(raw), form, **(given | options)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("raw", "texts"),
    [
        (b"", []),
        (b"a", ["a"]),
        (b"a\nb\n", ["a", "b"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"a\n\nb", ["a", "", "b"]),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb", ["a", "\ufeffb"]),
        ("ü\u2028ß\n".encode(), ["ü\u2028ß"]),
    ],
)
def test_a_text_a_line(raw: bytes, texts: list[str]) -> None:
    assert read(raw) == texts


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r"))))
def test_lines_come_back_as_they_were(texts: list[str]) -> None:
    if texts and texts[0].startswith("\ufeff"):
        texts[0] = ""
    assert read("".join(f"{text}\n" for text in texts).encode()) == texts


def test_csv_columns() -> None:
    raw = b'id,body\n1,"two\nlines, ""quoted"""\n\n2,plain\n'
    assert read(raw, "csv", column="body") == ['two\nlines, "quoted"', "plain"]
    assert read(b"body\na\n", "csv") == ["a"]
    assert read(b"", "csv") == []
    assert read(b"b\n" + b"x" * 200_000, "csv") == ["x" * 200_000]


def test_json_fields() -> None:
    raw = b'{"text": "a", "body": "b"}\n\n"c"\n'
    assert read(raw, "jsonl") == ["a", "c"]
    assert read(raw.splitlines()[0], "jsonl", field="body") == ["b"]


@pytest.mark.parametrize(
    ("raw", "form", "options", "error", "words"),
    [
        (b"a\nb\xffc", "text", {}, InputError, "line 2 isn't valid UTF-8: byte 0xff at column 2"),
        (b"a\nb\xff", "csv", {}, InputError, "line 2 isn't valid UTF-8"),
        (b"a,b\n1,2", "csv", {}, SettingsError, "which column? Use --column with one of: a, b"),
        (b"body,b\n", "csv", {"column": "bodi"}, SettingsError, "did you mean 'body'"),
        (b"a,b\n1,2\n3", "csv", {"column": "b"}, InputError, "line 3 has 1 columns, too few"),
        (b'a\n"open', "csv", {}, InputError, "line 2 isn't valid CSV"),
        (b'"a"\n{', "jsonl", {}, InputError, "line 2 isn't valid JSON"),
        (b'{"txt": "a"}', "jsonl", {}, InputError, "no field 'text' (did you mean 'txt'?)"),
        (b'{"text": 3}', "jsonl", {}, InputError, "line 1: the field 'text' isn't a text"),
        (b"[1]", "jsonl", {}, InputError, "line 1 is neither a JSON object nor a string"),
        (b"a", "text", {"column": "x"}, SettingsError, "--column goes with CSV"),
        (b"a", "csv", {"field": "x"}, SettingsError, "--field goes with JSON lines"),
    ],
)
def test_what_is_wrong_is_said(
    raw: bytes, form: Format, options: dict[str, str], error: type[LikewiseError], words: str
) -> None:
    with pytest.raises(error) as refused:
        read(raw, form, **options)
    assert words in str(refused.value)


def test_bytes_can_be_replaced_when_asked() -> None:
    assert read(b"b\xffc", decoding="replace") == ["b\ufffdc"]


def test_the_suffix_says_the_format(tmp_path: Path) -> None:
    assert text_input.format_of("a.csv", None) == "csv"
    assert text_input.format_of("a.JSONL", None) == "jsonl"
    assert text_input.format_of("-", None) == "text"
    assert text_input.format_of("a.csv", "text") == "text"
    (tmp_path / "a").write_bytes(b"1\n2\n3")
    assert text_input.counted_lines(tmp_path / "a") == 2
