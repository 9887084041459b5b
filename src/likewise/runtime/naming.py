"""Which served model a name stands for: full names, aliases, and short names where one has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from likewise.base.errors import InputError, ModelNotFound
from likewise.base.names import nearest


def resolved(
    name: str | None, full_names: Sequence[str] | Mapping[str, Any], by_name: Mapping[str, str]
) -> str:
    """The full name that `name` stands for in `by_name`, the only one's when None.

    Raises:
        ModelNotFound: no such model is served; the message lists which are.
        InputError: None, and several are served.
    """
    served = ", ".join(full_names) or "none"
    if name is None:
        if len(full_names) != 1:
            raise InputError(f"'model' is missing; served: {served}", param="model")
        return next(iter(full_names))
    full = by_name.get(name)
    if full is None:
        raise ModelNotFound(
            f"the model {name!r} isn't served here{nearest(name, by_name)}; served: {served}",
            param="model",
        )
    return full


def with_short_names(names: Sequence[str] | Mapping[str, Any]) -> dict[str, str]:
    """Each name to itself, and its part after the last `/` to it where no other has the same."""
    by_name = {name: name for name in names}
    shorts = [name.rpartition("/")[2] for name in names]
    for full, short in zip(names, shorts, strict=True):
        if shorts.count(short) == 1:
            by_name.setdefault(short, full)
    return by_name
