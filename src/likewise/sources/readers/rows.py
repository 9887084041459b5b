"""Rows of a file into items: how a row is named, and the text that stands for it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from likewise.base.errors import FileUnreadable
from likewise.sources.readers.items import Item, ReadOptions, unreadable

_MOST_NAMED = 5
_HASH_LENGTH = 32

Values = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Rows:
    """Where rows come from, for messages."""

    path: str
    options: ReadOptions
    unit: str = "line"
    """What the numbers of rows count: lines or rows."""
    empty_is_null: bool = False
    """Whether "" in a key column stands for NULL, as in csv, which has no other way to say it."""

    def items(self, rows: Iterable[tuple[int, Values]]) -> tuple[Item, ...]:
        """An item for each (number, values), named by its keys or by what it holds.

        Raises:
            FileUnreadable: there are too many; a key is missing, NULL or not unique.
        """
        name = self._by_keys if self.options.keys else self._by_content
        items = []
        for item, values in name(self._counted(rows)):
            own = dict(values)
            if "text" not in own:
                own["text"] = as_lines(values)
            own.setdefault("path", self.path)
            items.append(Item(item, own))
        return tuple(items)

    def check_keys(self, columns: Iterable[str]) -> None:
        """Refuse a file that lacks a key column."""
        known = list(columns)
        missing = [key for key in self.options.keys if key not in known]
        if missing:
            raise unreadable(
                self.path,
                f"has no column {', '.join(map(repr, missing))} to name its rows by "
                f"(it has {', '.join(map(repr, known))})",
                "add the column, or bind again with another --key",
            )

    def _counted(self, rows: Iterable[tuple[int, Values]]) -> Iterable[tuple[int, Values]]:
        for count, row in enumerate(rows):
            if count >= self.options.max_rows:
                raise unreadable(
                    self.path,
                    f"has more than {self.options.max_rows:,} rows",
                    "split it, or raise 'max_rows'",
                )
            yield row

    def _by_content(self, rows: Iterable[tuple[int, Values]]) -> Iterable[tuple[str, Values]]:
        """Equal rows are told apart by their ordinal only, so that moving a row changes nothing."""
        seen: dict[str, int] = {}
        for _, values in rows:
            digest = hashlib.sha256(_canonical(values).encode("ascii")).hexdigest()[:_HASH_LENGTH]
            ordinal = seen.get(digest, 0)
            seen[digest] = ordinal + 1
            yield f"{digest}-{ordinal}", values

    def _by_keys(self, rows: Iterable[tuple[int, Values]]) -> Iterable[tuple[str, Values]]:
        first: dict[str, int] = {}
        nulls: list[int] = []
        doubles: list[str] = []
        for number, values in rows:
            parts = [values.get(key) for key in self.options.keys]
            if any(map(self._is_null, parts)):
                nulls.append(number)
                continue
            name = _key_name(parts)
            if name in first:
                doubles.append(f"{first[name]} and {number} ({_short(name)})")
                continue
            first[name] = number
            yield name, values
        if nulls:
            raise self._refused("without a value in a key column", list(map(str, nulls)))
        if doubles:
            raise self._refused("with the same key", doubles)

    def _refused(self, what: str, rows: list[str]) -> FileUnreadable:
        keys = ", ".join(map(repr, self.options.keys))
        more = f" and {len(rows) - _MOST_NAMED} more" if len(rows) > _MOST_NAMED else ""
        shown = ", ".join(rows[:_MOST_NAMED]) + more
        return unreadable(
            self.path,
            f"has {self.unit}s {what}: {shown} (keys: {keys})",
            "mend the rows, or bind again with another --key",
        )

    def _is_null(self, value: object) -> bool:
        if isinstance(value, float):
            return math.isnan(value)
        return value is None or (self.empty_is_null and value == "")


def as_lines(values: Values) -> str:
    """`column: value` lines of what isn't empty."""
    shown = ((name, shown_value(value)) for name, value in values.items())
    return "\n".join(f"{name}: {value}" for name, value in shown if value != "")


def shown_value(value: object) -> str:
    """A value as text: NULL is nothing, bytes are UTF-8."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)


def json_text(value: object) -> str:
    """A nested value as JSON, the same for equal values; what JSON hasn't becomes a string."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=_plain)


def _canonical(values: Values) -> str:
    # Values are scalars here (nested ones are JSON text already), so only bytes are an object.
    return json.dumps(values, sort_keys=True, separators=(",", ":"), default=_plain)


def _key_name(parts: list[object]) -> str:
    return json.dumps(parts, ensure_ascii=False, separators=(",", ":"), default=_plain)


def _plain(value: object) -> object:
    return {"bytes": value.hex()} if isinstance(value, bytes) else str(value)


def _short(name: str) -> str:
    return name if len(name) <= 80 else name[:80] + "…"
