"""Whether a binding that is there is the one that is asked for, and what a swap may change."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from likewise.base.errors import BindingExists

if TYPE_CHECKING:
    from likewise.base.bound import BindingRecord
    from likewise.base.space import Space
    from likewise.base.spec import BindingSpec

_LABELS = frozenset({"source", "store", "model", "wake", "every"})
"""The addresses may be spelt otherwise, a model's space says what it is, the rest can change."""
_SWAPPABLE = ("chunk", "text", "dtype")


def require_same(there: BindingRecord, spec: BindingSpec, space: Space) -> None:
    """Raise unless `there` was made for `spec` and `space`.

    Raises:
        BindingExists: it has another definition; each field that differs is named.
        SpaceMismatch: it has the same definition for another model or setting.
    """
    differing = _differing(there, spec)
    if not differing:
        there.space.require(space, where=f"binding {spec.name}")
        return
    what = "; ".join(f"{name}: {old!r} there, {new!r} here" for name, old, new in differing)
    if {name for name, _, _ in differing} <= set(_SWAPPABLE):
        advice = f"Change it without a pause with '{swap_command(there, spec, space)}'."
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
    options = "".join(f" --{name} {new!r}" for name, _, new in _differing(there, spec))
    alike = there.space.stored_as("", "").fingerprint == space.stored_as("", "").fingerprint
    model = "" if alike else f" --model {spec.model}"
    return f"likewise bind swap {spec.name}{model}{options}"


def _differing(there: BindingRecord, spec: BindingSpec) -> list[tuple[str, object, object]]:
    old, new = dataclasses.asdict(there.spec), dataclasses.asdict(spec)
    return [
        (name, old[name], new[name])
        for name in old
        if name not in _LABELS and old[name] != new[name]
    ]
