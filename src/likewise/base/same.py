"""Whether a binding that is there is the one that is asked for, and what a swap may change."""

from __future__ import annotations

import dataclasses
import shlex
from typing import TYPE_CHECKING

from likewise.base.errors import BindingExists
from likewise.base.escapes import has_escapes, meant, typed
from likewise.base.spec import without_password

if TYPE_CHECKING:
    from likewise.base.bound import BindingRecord
    from likewise.base.space import Space
    from likewise.base.spec import BindingSpec

_LABELS = frozenset({"source", "store", "model", "wake", "every"})
"""The addresses may be spelt otherwise, a model's space says what it is, the rest can change."""
_SWAPPABLE = ("chunk", "text", "dtype")


def require_same(there: BindingRecord, spec: BindingSpec, space: Space) -> None:
    """Raise unless `there` was made for `spec` and `space`.

    A text that was typed in the same way before escapes were read is the same: `there` keeps it.

    Raises:
        BindingExists: it has another definition; each field that differs is named.
        SpaceMismatch: it has the same definition for another model or setting.
    """
    differing = _differing(there, spec)
    if keeps_escapes(there, spec):
        differing = [each for each in differing if each[0] != "text"]
    if not differing:
        there.space.require(space, where=f"binding {spec.name}")
        return
    what = "; ".join(f"{name}: {old!r} there, {new!r} here" for name, old, new in differing)
    if {name for name, _, _ in differing} <= set(_SWAPPABLE):
        advice = f"Change it without a pause with: {swap_command(there, spec, space)}"
    else:
        advice = f"Choose another name, or drop it first with 'likewise bind drop {spec.name}'."
    raise BindingExists(
        f"binding {spec.name} is already there with another definition ({what}). {advice}"
    )


def swap_needed(there: BindingRecord, spec: BindingSpec, space: Space) -> str | None:
    """The command that makes `there` what `spec` and `space` ask for; None when it is.

    Raises:
        BindingExists: more differs than a swap can change.
    """
    if any(name not in _SWAPPABLE for name, _, _ in _differing(there, spec)):
        require_same(there, spec, space)
    if not _differing(there, spec) and there.space.fingerprint == space.fingerprint:
        return None
    return swap_command(there, spec, space)


def swap_command(there: BindingRecord, spec: BindingSpec, space: Space) -> str:
    """What to type so that the binding becomes what `spec` and `space` ask for."""
    options = {name: str(new) for name, _, new in _differing(there, spec)}
    if "text" in options:
        options["text"] = typed(options["text"])
    if there.space.stored_as("", "").fingerprint != space.stored_as("", "").fingerprint:
        options = {"model": spec.model, **options}
    return _command(there, options)


def keeps_escapes(there: BindingRecord, spec: BindingSpec) -> bool:
    r"""Whether `there` has the text of `spec` as it was typed, from before `\n` was read."""
    return there.spec.text != spec.text and meant(there.spec.text) == spec.text


def escapes_notice(there: BindingRecord) -> str | None:
    r"""What is to be said of a stored text with a literal `\n`, and how it is changed; or None."""
    text = there.spec.text
    if not has_escapes(text):
        return None
    found = ", ".join(name for name in (r"\n", r"\t", "\\\\") if name in text)
    command = _command(there, {"text": typed(meant(text))})
    return (
        f"its text has {found} letter for letter, not as a line end, a tab or a single backslash, "
        f"and its vectors are made of that. If it isn't meant so, change it with: {command}"
    )


def _command(there: BindingRecord, options: dict[str, str]) -> str:
    shown = "".join(f" --{name} {shlex.quote(value)}" for name, value in options.items())
    at = shlex.quote(without_password(there.spec.store_address))
    return f"likewise bind swap {there.spec.name}{shown} --db {at}"


def _differing(there: BindingRecord, spec: BindingSpec) -> list[tuple[str, object, object]]:
    old, new = dataclasses.asdict(there.spec), dataclasses.asdict(spec)
    return [
        (name, old[name], new[name])
        for name in old
        if name not in _LABELS and _plain(name, old[name]) != _plain(name, new[name])
    ]


def _plain(name: str, value: object) -> object:
    """`value` without what makes no difference in that field: spaces, a last semicolon."""
    if name == "glob":
        return [part.strip() for part in str(value).split(",") if part.strip()]
    if name == "query":
        return str(value).strip().removesuffix(";").rstrip()
    return value
