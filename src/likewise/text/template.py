"""Templates: a row's columns into the one text that stands for it."""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass, field

from likewise.base.errors import SettingsError

_SHORTEST = 40


@dataclass(frozen=True, slots=True)
class Template:
    r"""`{title}\n{body}`: each `{column}` is replaced by the row's value; `{{` is a brace.

    NULL becomes nothing, a number its shortest form, bytes their UTF-8 (U+FFFD where they aren't).

    Raises:
        SettingsError: unbalanced braces, no column, or more than a column's name inside them.
    """

    pattern: str
    _parts: tuple[tuple[str, str | None], ...] = field(init=False, repr=False, compare=False)
    """Each literal, and the column whose value follows it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "_parts", self._parsed())
        if not self.columns:
            raise SettingsError(
                f"template {self._short()!r} names no column; write for example '{{title}}'",
                param="text",
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """Column names in order of first use."""
        return tuple(dict.fromkeys(name for _, name in self._parts if name is not None))

    def render(self, values: Mapping[str, object]) -> str:
        """The text for one row; `values` holds at least `columns`.

        Raises:
            KeyError: a column isn't in `values` (a bug in the caller: sources check columns first).
        """
        return "".join(
            literal + ("" if name is None else _shown(values[name]))
            for literal, name in self._parts
        )

    def _parsed(self) -> tuple[tuple[str, str | None], ...]:
        try:
            parsed = list(string.Formatter().parse(self.pattern))
        except ValueError as wrong:
            raise SettingsError(
                f"template {self._short()!r}: {wrong}; write a literal brace twice", param="text"
            ) from wrong
        for _, name, format_spec, conversion in parsed:
            if name is not None and (not name or format_spec or conversion):
                raise SettingsError(
                    f"template {self._short()!r}: inside braces only a column's name may stand",
                    param="text",
                )
        return tuple((literal, name) for literal, name, _, _ in parsed)

    def _short(self) -> str:
        return self.pattern if len(self.pattern) <= _SHORTEST else self.pattern[:_SHORTEST] + "…"


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)
