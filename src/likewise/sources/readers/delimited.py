"""csv and tsv: a header, and an item a row."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from itertools import islice

from likewise.sources.readers.decode import Decoded, decode
from likewise.sources.readers.items import Notes, Reading, ReadOptions, unreadable
from likewise.sources.readers.rows import Rows

_DELIMITERS = ",;\t|"
_SNIFFED = 65536
_SNIFFED_ROWS = 50
_HEADER = re.compile(r"""[\r\n]*(?:[^"\r\n]+|"[^"]*"?)*""")
"""The first line that isn't empty; a line end between quotes doesn't end it."""


def read_csv(data: bytes, path: str, options: ReadOptions) -> Reading:
    """Fields between commas, semicolons, tabs or bars: the header shows which."""
    decoded = decode(data, path, options)
    delimiter = options.delimiter or _delimiter(decoded.text)
    return _Table(decoded, path, options, "csv", delimiter).reading()


def read_tsv(data: bytes, path: str, options: ReadOptions) -> Reading:
    """Fields between tabs."""
    return _Table(decode(data, path, options), path, options, "tsv", "\t").reading()


def _delimiter(text: str) -> str:
    """What separates the names in the header; where that could be several, what fits more rows.

    The header decides where it can, so that adding rows never changes how a file is read.
    """
    header = _HEADER.match(text)
    outside = "".join(header[0].split('"')[::2]) if header else ""
    found = [mark for mark in _DELIMITERS if mark in outside]
    if len(found) < 2:
        return found[0] if found else ","
    return max(found, key=lambda mark: _fit(text[:_SNIFFED], mark))


def _fit(text: str, delimiter: str) -> tuple[float, int]:
    """The share of the first rows that are as wide as the header, and that width."""
    lines = io.StringIO(text, newline="")
    rows = [row for row in islice(csv.reader(lines, delimiter=delimiter), _SNIFFED_ROWS) if row]
    width = len(rows[0])
    return sum(len(row) == width for row in rows) / len(rows), width


class _Table:
    """One file being read."""

    def __init__(
        self, decoded: Decoded, path: str, options: ReadOptions, kind: str, delimiter: str
    ) -> None:
        self.decoded = decoded
        self.path = path
        self.options = options
        self.kind = kind
        # The limit on a field is the process's, and lower than what a document in one may need.
        csv.field_size_limit(max(csv.field_size_limit(), options.max_bytes))
        lines = io.StringIO(decoded.text, newline="")
        self.rows = csv.reader(lines, delimiter=delimiter, strict=True)
        self.notes = Notes(decoded.notes)
        self.incomplete = decoded.incomplete
        self.left_out = 0
        text = decoded.text
        ends = text.count("\n") + text.count("\r") - text.count("\r\n")
        self.unended_line = None if text.endswith(("\n", "\r")) else ends + 1
        """The number of the last line, if it has no line end."""

    def reading(self) -> Reading:
        """The whole file."""
        columns = self._header()
        rows = Rows(self.path, self.options, empty_is_null=True)
        rows.check_keys(columns)
        items = rows.items(
            (number, dict(zip(columns, row, strict=True)))
            for number, row in self._records(len(columns))
        )
        return Reading(
            items,
            self.kind,
            tuple(dict.fromkeys((*columns, "text", "path"))),
            self.decoded.decoder,
            self.notes.all(),
            self.incomplete,
            self.left_out,
        )

    def _header(self) -> list[str]:
        try:
            fields = next((row for row in self.rows if row), None)
        except csv.Error as wrong:
            raise unreadable(
                self.path, f"has a header that can't be read ({wrong})", "mend its first line"
            ) from wrong
        if fields is None:
            raise unreadable(
                self.path, "has no header row: it is empty", "write the columns' names first"
            )
        names = [name.strip() or f"column_{at}" for at, name in enumerate(fields, 1)]
        doubles = sorted({name for name in names if names.count(name) > 1})
        if doubles:
            raise unreadable(
                self.path,
                f"has the column {', '.join(map(repr, doubles))} more than once",
                "give each column its own name",
            )
        unnamed = [at for at, name in enumerate(fields, 1) if not name.strip()]
        if unnamed:
            self.notes.add(f"columns without a name are called column_{unnamed[0]} and so on")
        return names

    def _records(self, width: int) -> Iterator[tuple[int, list[str]]]:
        """Rows as wide as the header, each with its first line's number; others are noted."""
        while True:
            number = self.rows.line_num + 1
            try:
                row = next(self.rows, None)
            except csv.Error as wrong:
                self._leave_out(number, str(wrong))
                continue
            if row is None:
                return
            if len(row) == width:
                yield number, row
            elif row:
                self._leave_out(number, f"{len(row)} fields where the header has {width}")

    def _leave_out(self, number: int, why: str) -> None:
        at_end = self.rows.line_num == self.unended_line
        if why == "unexpected end of data":
            why, at_end = "a quote is opened and not closed, to the end of the file", True
        self.incomplete = self.incomplete or at_end
        self.left_out += 1
        self.notes.add(f"line {number} is left out: {why}")
