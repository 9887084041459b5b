"""Texts out of a file or standard input: one a line, a CSV column, or a field of JSON lines."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from likewise.base.errors import InputError, SettingsError
from likewise.base.names import nearest

if TYPE_CHECKING:
    from typing import BinaryIO

Format = Literal["text", "csv", "jsonl"]
Decoding = Literal["strict", "replace"]

SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".txt": "text",
    ".md": "text",
}
_BOM = b"\xef\xbb\xbf"
_LONGEST_CSV_FIELD = 2**31 - 1


def format_of(path: str, asked: Format | None) -> Format:
    """The format asked for, else that of the file's suffix, else text."""
    return asked or SUFFIXES.get(Path(path).suffix.lower(), "text")


def texts(
    stream: BinaryIO, form: Format, *, column: str | None, field: str | None, decoding: Decoding
) -> Iterator[str]:
    """The texts in `stream`, in order.

    Args:
        stream: bytes, UTF-8.
        form: how texts lie in it.
        column: the CSV column; the only one when None.
        field: the field of JSON lines; `text` when None.
        decoding: whether bytes that aren't UTF-8 are an error or become U+FFFD.

    Raises:
        InputError: a line isn't what it must be; the message has its number.
        SettingsError: an option that doesn't go with the format.
    """
    if column is not None and form != "csv":
        raise SettingsError("--column goes with CSV input (--format csv)", param="column")
    if field is not None and form != "jsonl":
        raise SettingsError("--field goes with JSON lines (--format jsonl)", param="field")
    lines = _lines(stream, decoding)
    if form == "csv":
        return _csv_column(lines, column)
    if form == "jsonl":
        return _json_field(lines, field or "text")
    return (line.removesuffix("\n").removesuffix("\r") for line in lines)


def _lines(stream: BinaryIO, decoding: Decoding) -> Iterator[str]:
    for number, raw in enumerate(stream, 1):
        line = raw.removeprefix(_BOM) if number == 1 else raw
        try:
            yield line.decode("utf-8", decoding)
        except UnicodeDecodeError as wrong:
            raise InputError(
                f"line {number} isn't valid UTF-8: byte 0x{line[wrong.start]:02x} at column "
                f"{wrong.start + 1}; convert the file, or use --errors replace"
            ) from wrong


def _csv_column(lines: Iterable[str], column: str | None) -> Iterator[str]:
    csv.field_size_limit(_LONGEST_CSV_FIELD)
    reader = csv.reader(lines, strict=True)
    try:
        header = next(reader, None)
        if header is None:
            return
        at = _column_at(header, column)
        for row in reader:
            if not row:
                continue
            if at >= len(row):
                raise InputError(
                    f"line {reader.line_num} has {len(row)} columns, too few for {header[at]!r}"
                )
            yield row[at]
    except csv.Error as wrong:
        raise InputError(f"line {reader.line_num} isn't valid CSV: {wrong}") from wrong


def _column_at(header: list[str], column: str | None) -> int:
    shown = ", ".join(header)
    if column is None:
        if len(header) == 1:
            return 0
        raise SettingsError(f"which column? Use --column with one of: {shown}", param="column")
    if column not in header:
        raise SettingsError(
            f"no column {column!r}{nearest(column, header)}; there are: {shown}", param="column"
        )
    return header.index(column)


def _json_field(lines: Iterable[str], field: str) -> Iterator[str]:
    import orjson

    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError as wrong:
            raise InputError(f"line {number} isn't valid JSON: {wrong}") from wrong
        yield _field_of(record, field, number)


def _field_of(record: object, field: str, number: int) -> str:
    if isinstance(record, str):
        return record
    if not isinstance(record, dict):
        raise InputError(f"line {number} is neither a JSON object nor a string")
    if field not in record:
        shown = ", ".join(map(str, record)) or "none"
        raise InputError(
            f"line {number} has no field {field!r}{nearest(field, record)}; it has: {shown}",
            param="field",
        )
    value = record[field]
    if not isinstance(value, str):
        raise InputError(f"line {number}: the field {field!r} isn't a text", param="field")
    return value


def counted_lines(path: Path) -> int:
    """How many lines the file has: the total of a progress bar."""
    with path.open("rb") as stream:
        read: Callable[[], bytes] = lambda: stream.read(2**20)  # noqa: E731 - shorter than a def
        return sum(block.count(b"\n") for block in iter(read, b""))
