"""Loggers of keys and values, and how a record becomes one line: as text, or as JSON."""

from __future__ import annotations

import json
import logging
from contextvars import ContextVar
from datetime import UTC, datetime

REQUEST_ID: ContextVar[str | None] = ContextVar("likewise_request_id", default=None)
"""The request that is being answered; every line that is logged meanwhile has it."""

_OWN = ("ts", "level", "logger", "message", "request_id", "exception")


class Event(str):
    """`event a=1 b='x y'` as text, with its values beside it for those who write JSON."""

    __slots__ = ("name", "values")

    name: str
    values: dict[str, object]


def logger(name: str) -> logging.Logger:
    """The logger `likewise.<name>`."""
    return logging.getLogger(f"likewise.{name}")


def fields(event: str, **values: object) -> Event:
    """`event a=1 b='x y'`: one line, values with spaces or control characters quoted."""
    made = Event(" ".join([event, *(f"{key}={_shown(value)}" for key, value in values.items())]))
    made.name, made.values = event, values
    return made


class TextFormatter(logging.Formatter):
    """One line a record; of what came from outside, no character can begin another line."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line, with the request that it belongs to."""
        line = _printable(super().formatMessage(record))
        request = REQUEST_ID.get()
        return line if request is None else f"{line} request_id={_shown(request)}"

    def formatException(self, ei: object) -> str:
        """A traceback; each line is marked, so that none can be taken for a record."""
        lines = super().formatException(ei).splitlines()  # type: ignore[arg-type]
        return "\n".join(f"  | {_printable(line)}" for line in lines)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: when, how grave, who, what, and the values as keys of their own."""

    def format(self, record: logging.LogRecord) -> str:
        """The object; a value whose key is one of ours has an underscore behind it."""
        event = record.msg if isinstance(record.msg, Event) else None
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {
            "ts": at.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": event.name if event is not None else record.getMessage(),
        }
        if (request := REQUEST_ID.get()) is not None:
            line["request_id"] = request
        for key, value in (event.values if event is not None else {}).items():
            line[f"{key}_" if key in _OWN else key] = _plain(value)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _plain(value: object) -> object:
    """`value` as JSON has it: NaN and infinities are none of its numbers."""
    if isinstance(value, float):
        return value if abs(value) < float("inf") else str(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value)


class Wordless(Exception):
    """An error as the log has it: what kind it was, and not what it said."""


def without_words(error: BaseException) -> Wordless:
    """What to log of an error that nobody expected, and of its causes: kinds and tracebacks.

    A message may repeat what a client sent, and texts and keys don't belong into logs.
    """
    shown = Wordless(f"{type(error).__module__}.{type(error).__qualname__}")
    shown.__suppress_context__ = True
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None:
        shown.__cause__ = without_words(before)
    return shown.with_traceback(error.__traceback__)


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    is_plain = text.isprintable() and not any(c in text for c in " ='\"")
    return text if text and is_plain else repr(text)


def _printable(text: str) -> str:
    """`text` with control characters and line ends as escapes."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )
