"""jsonl (ndjson): an object a line, an item each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from likewise.sources.readers.decode import decode
from likewise.sources.readers.items import Notes, Reading, ReadOptions
from likewise.sources.readers.rows import Rows, json_text

_SHOWN = 60


def read(data: bytes, path: str, options: ReadOptions) -> Reading:
    """Objects; nested values become JSON, and columns that a row lacks are None.

    A last line that isn't whole and has no line end is still being written: it is left out.
    """
    decoded = decode(data, path, options)
    lines = _Lines(decoded.text, Notes(decoded.notes))
    rows = list(lines.rows(options.max_rows))
    columns = tuple(dict.fromkeys(name for _, values in rows for name in values))
    table = Rows(path, options)
    if rows:
        table.check_keys(columns)
    items = table.items(rows)
    for item in items:
        _fill(item.values, columns)
    return Reading(
        items,
        "jsonl",
        tuple(dict.fromkeys((*columns, "text", "path"))),
        decoded.decoder,
        lines.notes.all(),
        decoded.incomplete or lines.incomplete,
        lines.left_out,
    )


def _fill(values: Mapping[str, object], columns: tuple[str, ...]) -> None:
    if isinstance(values, dict) and len(values) < len(columns) + 2:
        for name in columns:
            values.setdefault(name, None)


class _Lines:
    """The lines of one file, and what was wrong with some."""

    def __init__(self, text: str, notes: Notes) -> None:
        self.text = text
        self.notes = notes
        self.incomplete = False
        self.left_out = 0

    def rows(self, most: int) -> Iterator[tuple[int, dict[str, object]]]:
        """Each object with its line's number; one more than `most` at most, to be refused."""
        # Only LF ends a line: JSON's strings may hold the others that Python knows.
        lines = self.text.split("\n")
        found = 0
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = _object(line)
            except (ValueError, RecursionError) as wrong:
                self._leave_out(number, str(wrong), is_last=number == len(lines))
                continue
            yield number, {name: _scalar(value) for name, value in row.items()}
            found += 1
            if found > most:
                return

    def _leave_out(self, number: int, why: str, *, is_last: bool) -> None:
        self.left_out += 1
        if is_last:
            self.incomplete = True
            self.notes.add(f"line {number} is left out until it is whole: it has no line end")
        else:
            self.notes.add(f"line {number} is left out: {why}")


def _object(line: str) -> dict[str, object]:
    value = json.loads(line, object_pairs_hook=_once, parse_constant=_refuse_constant)
    if not isinstance(value, dict):
        raise ValueError(f"it is {type(value).__name__} {line.strip()[:_SHOWN]}, not an object")
    if "\\u" in line:
        try:
            json_text(value).encode("utf-8")
        except UnicodeEncodeError as lone:
            raise ValueError("half of a surrogate pair stands alone in it") from lone
    return value


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("it has a name twice")
    return values


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} isn't JSON")


def _scalar(value: object) -> object:
    return json_text(value) if isinstance(value, dict | list) else value
