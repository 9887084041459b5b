"""Lengths of time as people and Go write them: `5m`, `1h30m`, `300ms`, `90`, `forever`."""

from __future__ import annotations

import math
import re

from likewise.base.errors import SettingsError

FOREVER = "forever"
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_NUMBER = re.compile(r"\d+(\.\d*)?|\.\d+")


def seconds(written: str | float, *, what: str) -> float:
    """Seconds that `written` stands for; `what` names it in errors.

    A number is seconds; a negative one and `forever` are infinity, as in Ollama.

    Raises:
        SettingsError: it is no length of time.
    """
    if isinstance(written, int | float) and not isinstance(written, bool):
        if math.isnan(written):
            raise _refused(written, what)
        return math.inf if written < 0 else float(written)
    text = str(written).strip()
    if text == FOREVER:
        return math.inf
    is_negative = text.startswith("-")
    text = text.removeprefix("-")
    if _NUMBER.fullmatch(text):
        found = float(text)
    else:
        parts = list(_PART.finditer(text))
        if not parts or "".join(part[0] for part in parts) != text:
            raise _refused(written, what)
        found = sum(float(part[1]) * _UNITS[part[2]] for part in parts)
    return math.inf if is_negative else found


def _refused(written: object, what: str) -> SettingsError:
    return SettingsError(
        f"{what} is {written!r}; write a length of time such as 5m, 1h30m, 90s, 0 or {FOREVER}",
        param=what,
    )
