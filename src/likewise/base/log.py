"""Loggers of keys and values: `event key=value ...`, one line each."""

from __future__ import annotations

import logging
import traceback


def logger(name: str) -> logging.Logger:
    """The logger `likewise.<name>`."""
    return logging.getLogger(f"likewise.{name}")


def fields(event: str, **values: object) -> str:
    """`event a=1 b='x y'`: one line, values with spaces quoted."""
    return " ".join([event, *(f"{key}={_shown(value)}" for key, value in values.items())])


def without_values(error: BaseException) -> str:
    """Where `error` came from and of what kind it and its causes are, without their messages.

    A message may repeat what a client sent, and texts and keys don't belong into logs.
    """
    parts: list[str] = []
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        kind = f"{type(at).__module__}.{type(at).__qualname__}"
        parts.append("".join([*traceback.format_tb(at.__traceback__), kind]))
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)
    return "\ncaused:\n".join(reversed(parts))


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return repr(text) if not text or any(c.isspace() or c == "=" for c in text) else text
