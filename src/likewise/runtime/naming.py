"""Which served model a name stands for: full names, aliases, short names, the table's names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from likewise.base.errors import InputError, ModelNotFound
from likewise.models.short_names import advice_or_nearest, matched, ollama_name


def resolved(
    name: str | None, full_names: Sequence[str] | Mapping[str, Any], by_name: Mapping[str, str]
) -> str:
    """The full name that `name` stands for in `by_name`, the only one's when None.

    `models.short_names.matched` says which forms of a name find it.

    Raises:
        ModelNotFound: no such model is served; the message lists which are.
        InputError: None, and several are served.
    """
    served = ", ".join(full_names) or "none"
    if name is None:
        if len(full_names) != 1:
            raise InputError(f"'model' is missing; served: {served}", param="model")
        return next(iter(full_names))
    full = matched(name, by_name)
    if full is None:
        # A path on this machine is nobody's business who doesn't know it.
        shown = [known for known in by_name if not known.startswith(("/", ".", "~"))]
        several = [known for known in full_names if known.rpartition("/")[2] == name]
        if len(several) > 1:
            advice = f" (several end so: {', '.join(several)})"
        else:
            advice = advice_or_nearest(name, shown, "load")
        raise ModelNotFound(
            f"the model {name!r} isn't served here{advice}; served: {served}",
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


def client_names(name: str, aliases: Sequence[str]) -> list[str]:
    """The names under which clients look for a model in a list: full, aliases, Ollama's."""
    own = ollama_name(name)
    return list(dict.fromkeys((name, *aliases, *(() if own is None else (own,)))))
