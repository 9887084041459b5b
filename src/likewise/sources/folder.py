"""The rows of a folder's files: each file read whole, its items as rows, the last ones kept."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from likewise.base.errors import FileUnreadable
from likewise.base.types import Key, Row
from likewise.sources.readers.items import (
    DOCUMENT_COLUMNS,
    Item,
    Reading,
    ReadOptions,
    unreadable,
)
from likewise.sources.readers.names import kind_of, read
from likewise.sources.whole import Torn, read_whole
from likewise.text.canon import canonical, fingerprint
from likewise.text.template import Template

if TYPE_CHECKING:
    from likewise.sources.stats import Stat

ROW_KINDS = frozenset(("csv", "tsv", "jsonl", "parquet"))
_KEPT_FILES = 8


@dataclass(frozen=True, slots=True)
class FileRows:
    """What a file holds, as it was read."""

    stat: Stat | None
    """None where even that couldn't be had."""
    sha256: bytes
    rows: dict[Key, Row]
    notes: tuple[str, ...] = ()
    is_partial: bool = False
    """Whether rows of it may be missing: it is being written, or some couldn't be read."""

    @property
    def is_unreadable(self) -> bool:
        """Whether all that could be read of it is an error."""
        return any(row.error for row in self.rows.values())


class Folder:
    """Reads files below `root` as rows of (path, item). Safe to use from several threads."""

    def __init__(self, root: str, template: Template, keys: tuple[str, ...]) -> None:
        self._root = root
        self._template = template
        self._options = ReadOptions(keys=keys)
        self.wants_rows = not set(template.columns) <= set(DOCUMENT_COLUMNS)
        """Whether the template names columns that only files of rows have."""
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, bytes], FileRows] = OrderedDict()

    def is_wanted(self, path: str) -> bool:
        """Whether a file of this name can hold what the template names."""
        return not self.wants_rows or kind_of(path) in ROW_KINDS

    def read(self, path: str, on_disk: str) -> FileRows | Torn:
        """The rows of the file at `path`, or a row that says why they can't be read.

        A file that can't be read has one row, with `error`; what was stored of it goes.
        """
        try:
            found = read_whole(self._root, on_disk, self._options.max_bytes)
        except FileUnreadable as wrong:
            return FileRows(None, b"", dict([_failed(path, wrong, b"")]))
        if isinstance(found, Torn):
            return found
        data, stat = found
        digest = hashlib.sha256(data).digest()
        with self._lock:
            kept = self._kept.get((path, digest))
        if kept is not None:
            return dataclasses.replace(kept, stat=stat)
        parsed = self._parsed(path, data, digest, stat)
        with self._lock:
            self._kept[path, digest] = parsed
            while len(self._kept) > _KEPT_FILES:
                self._kept.popitem(last=False)
        return parsed

    def _parsed(self, path: str, data: bytes, digest: bytes, stat: Stat) -> FileRows:
        try:
            reading = read(data, path, self._options)
            self._require_columns(path, reading)
        except FileUnreadable as wrong:
            return FileRows(stat, digest, dict([_failed(path, wrong, digest)]))
        rows = dict(self._row(path, item, digest) for item in reading.items)
        is_partial = reading.incomplete or reading.left_out > 0
        return FileRows(stat, digest, rows, reading.notes, is_partial)

    def _require_columns(self, path: str, reading: Reading) -> None:
        if not reading.items:
            return
        there = reading.items[0].values
        missing = [name for name in self._template.columns if name not in there]
        if missing:
            raise unreadable(
                path,
                f"has no column {', '.join(map(repr, missing))} "
                f"(it has {', '.join(map(repr, there))})",
                "change the template, or exclude it by a pattern",
            )

    def _row(self, path: str, item: Item, digest: bytes) -> tuple[Key, Row]:
        key = (path, item.item)
        text = canonical(self._template.render(item.values))
        return key, Row(key, text, dict(item.values), fingerprint(text), mark=digest)


def _failed(path: str, wrong: FileUnreadable, digest: bytes) -> tuple[Key, Row]:
    error = f"{wrong.code}: {wrong}"
    mark = hashlib.sha256(b"unreadable\0" + digest + error.encode("utf-8", "replace")).digest()
    return (path, ""), Row((path, ""), "", {"path": path}, mark, error, digest)
