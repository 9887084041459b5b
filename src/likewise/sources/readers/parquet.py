"""Parquet: an item a row, read in batches."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from likewise.base.errors import FileUnreadable
from likewise.sources.readers.items import Reading, ReadOptions, unreadable
from likewise.sources.readers.rows import Rows, json_text

_BATCH = 256
_UNPACKED = 16
"""How many times as large as a file may be its rows may be together."""
_ADVICE = "write it again, or exclude it by a pattern"


def read(data: bytes, path: str, options: ReadOptions) -> Reading:
    """Rows; nested values become JSON, times ISO 8601, decimals digits, durations a count."""
    try:
        with pq.ParquetFile(pa.BufferReader(data)) as file:
            columns = list(file.schema_arrow.names)
            doubles = sorted({name for name in columns if columns.count(name) > 1})
            if doubles:
                raise unreadable(
                    path,
                    f"has the column {', '.join(map(repr, doubles))} more than once",
                    "give each column its own name",
                )
            table = Rows(path, options, unit="row")
            table.check_keys(columns)
            items = table.items(enumerate(_rows(file, path, options), 1))
    except FileUnreadable:
        raise
    except (pa.ArrowException, OSError, ValueError, OverflowError) as wrong:
        raise unreadable(path, f"can't be read as Parquet ({wrong})", _ADVICE) from wrong
    return Reading(items, "parquet", tuple(dict.fromkeys((*columns, "text", "path"))))


def _rows(file: pq.ParquetFile, path: str, options: ReadOptions) -> Iterator[dict[str, object]]:
    most, size = options.max_bytes * _UNPACKED, 0
    for batch in file.iter_batches(batch_size=_BATCH):
        columns = [_plain(column) for column in batch.columns]
        size += sum(column.nbytes for column in columns)
        if size > most:
            raise unreadable(
                path,
                f"unpacks to more than {most:,} bytes",
                "split it, or exclude it by a pattern",
            )
        names = batch.schema.names
        for values in zip(*map(_values, columns), strict=True):
            yield dict(zip(names, values, strict=True))


def _plain(column: pa.Array) -> pa.Array:
    # A dictionary counts its values once, and becomes as many of Python's as there are rows.
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _values(column: pa.Array) -> list[object]:
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_time(kind) or pa.types.is_date(kind):
        return _times(column)
    if pa.types.is_duration(kind):
        column = column.cast(pa.int64())
    if pa.types.is_nested(kind):
        return [None if value is None else json_text(_json(value)) for value in column.to_pylist()]
    return [_scalar(value) for value in column.to_pylist()]


def _times(column: pa.Array) -> list[object]:
    """ISO 8601, by Arrow: Python's own times have no nanoseconds."""
    zone = getattr(column.type, "tz", None)
    if zone is not None:
        # The moment, in UTC: the zone is only how the writer would show it.
        column = column.cast(pa.timestamp(column.type.unit))
    shown = [None if text is None else text.replace(" ", "T") for text in _texts(column)]
    return [text + "Z" if text and zone is not None else text for text in shown]


def _texts(column: pa.Array) -> list[str | None]:
    texts: list[str | None] = column.cast(pa.string()).to_pylist()
    return texts


def _scalar(value: object) -> object:
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    return str(value)


def _json(value: object) -> object:
    """A nested value of Python's as JSON has it: maps come as lists of pairs."""
    if isinstance(value, dict):
        return {str(name): _json(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_json(each) for each in value]
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    try:
        json.dumps(value)
    except TypeError:
        return str(value)
    return value
