"""Loggers of keys and values: `event key=value ...`, one line each."""

from __future__ import annotations

import logging


def logger(name: str) -> logging.Logger:
    """The logger `likewise.<name>`."""
    return logging.getLogger(f"likewise.{name}")


def fields(event: str, **values: object) -> str:
    """`event a=1 b='x y'`: one line, values with spaces quoted."""
    return " ".join([event, *(f"{key}={_shown(value)}" for key, value in values.items())])


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return repr(text) if not text or any(c.isspace() or c == "=" for c in text) else text
