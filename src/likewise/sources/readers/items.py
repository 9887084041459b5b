"""What a reader is asked and what it gives: items of a file, and what had to be noted."""

from __future__ import annotations

import codecs
import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from likewise.base.errors import FileUnreadable, SettingsError

MAX_BYTES = 64 * 1024 * 1024
MAX_ROWS = 1_000_000
_MOST_NOTES = 20


@dataclass(frozen=True, slots=True)
class Item:
    """A document, or one row of a file of rows."""

    item: str
    """The row's name within its file; "" for a document."""
    values: Mapping[str, object]
    """Columns for the template."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one file says, as it was read."""

    items: tuple[Item, ...]
    kind: str
    """Which reader read it: a name of `readers.names.READERS`."""
    columns: tuple[str, ...]
    """Every column that an item of it has, in order of appearance."""
    decoder: str = ""
    """Python's name of the encoding; "" where a format isn't text."""
    notes: tuple[str, ...] = ()
    """What a user should hear of: replaced characters, lines left out, pages without text."""
    incomplete: bool = False
    """It ends within a line, row or character, as a file does that is still being written."""
    left_out: int = 0
    """Rows that are in the file and not in `items`; `notes` says why."""


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How files are read where the files themselves don't say.

    Raises:
        SettingsError: an option can't be used.
    """

    keys: tuple[str, ...] = ()
    """Columns that name a row of a csv, jsonl or parquet file; without any its content does."""
    encoding: str | None = None
    """What text files are written in, where they have no byte order mark."""
    delimiter: str | None = None
    """What stands between the fields of csv files; None finds it in the header."""
    max_bytes: int = MAX_BYTES
    max_rows: int = MAX_ROWS

    def __post_init__(self) -> None:
        if self.encoding is not None:
            try:
                codecs.lookup(self.encoding)
            except (LookupError, ValueError) as unknown:
                raise SettingsError(
                    f"unknown encoding {self.encoding!r}; write for example 'utf-8' or 'cp1252'",
                    param="encoding",
                ) from unknown
        if self.delimiter is not None and (
            len(self.delimiter) != 1 or self.delimiter in '"\r\n' or self.delimiter.isalnum()
        ):
            raise SettingsError(
                f"delimiter {self.delimiter!r} must be one character such as ',' or ';'",
                param="delimiter",
            )
        if len(set(self.keys)) != len(self.keys):
            raise SettingsError(f"keys {list(self.keys)} name a column twice", param="keys")
        for name in ("max_bytes", "max_rows"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1", param=name)


Reader = Callable[[bytes, str, ReadOptions], Reading]
"""Reads a file's bytes; the path is relative to the bound folder, with `/`."""


def unreadable(path: str, reason: str, advice: str) -> FileUnreadable:
    """The error for a file that can't be read, saying what to do."""
    return FileUnreadable(f"{path}: {reason}; {advice}", path=path, reason=reason)


def too_large(path: str, size: int, max_bytes: int) -> FileUnreadable:
    """The error for a file of more bytes than are read."""
    return unreadable(
        path,
        f"has {size:,} bytes, more than the {max_bytes:,} that are read",
        "split it, or exclude it by a pattern",
    )


def document(path: str, kind: str, text: str, title: str | None) -> Item:
    """The one item of a file that is a document."""
    name = posixpath.basename(path)
    stem = posixpath.splitext(name)[0]
    shown = " ".join((title or "").split()) or stem
    return Item("", {"text": text, "path": path, "name": name, "title": shown, "kind": kind})


DOCUMENT_COLUMNS = ("text", "path", "name", "title", "kind")


class Notes:
    """Notes in order, of which only so many are kept; how many more there were is said."""

    def __init__(self, notes: tuple[str, ...] = ()) -> None:
        self._notes = list(notes)
        self._more = 0

    def add(self, note: str) -> None:
        """Keep `note`, or count it."""
        if len(self._notes) < _MOST_NOTES:
            self._notes.append(note)
        else:
            self._more += 1

    def all(self) -> tuple[str, ...]:
        """Those kept, and a last one that counts the others."""
        more = (f"and {self._more} more of this kind",) if self._more else ()
        return (*self._notes, *more)
