"""Choices as data: a name maps to 'module:attribute', imported only when chosen."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from likewise.base.errors import LikewiseError, SettingsError
from likewise.base.extras import needed

_LONGEST_TYPO = 200


def nearest(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` when a known name is close, else an empty string."""
    if len(name) > _LONGEST_TYPO:
        # Comparing takes time with the square of the length, and names come from outside.
        return ""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def resolve(
    name: str,
    table: Mapping[str, str],
    *,
    what: str,
    extras: Mapping[str, str] | None = None,
    error: type[LikewiseError] = SettingsError,
) -> Any:
    """The object that `table[name]` points to.

    `extras` maps an entry to the extra that brings what it imports. A missing part is told from a
    broken one: only the ImportError of a package of an extra becomes `MissingExtra`.

    Raises:
        LikewiseError: of class `error`, `name` isn't in the table; the message lists what is.
        MissingExtra: its package isn't installed.
    """
    if name not in table:
        known = ", ".join(sorted(table))
        raise error(f"unknown {what} {name!r}{nearest(name, table)}; known: {known}")
    module_name, _, attribute = table[name].partition(":")
    with needed(f"{what} {name!r}", extra=(extras or {}).get(name)):
        module = importlib.import_module(module_name)
    return getattr(module, attribute)
