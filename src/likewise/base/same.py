"""Whether a binding that is there is the one that is asked for."""

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


def require_same(there: BindingRecord, spec: BindingSpec, space: Space) -> None:
    """Raise unless `there` was made for `spec` and `space`.

    Raises:
        BindingExists: it has another definition; each field that differs is named.
        SpaceMismatch: it has the same definition for another model or setting.
    """
    old, new = dataclasses.asdict(there.spec), dataclasses.asdict(spec)
    differing = [
        f"{name}: {old[name]!r} there, {new[name]!r} here"
        for name in old
        if name not in _LABELS and old[name] != new[name]
    ]
    if differing:
        raise BindingExists(
            f"binding {spec.name} is already there with another definition "
            f"({'; '.join(differing)}). Choose another name, or drop it first with "
            f"'likewise bind drop {spec.name}'."
        )
    there.space.require(space, where=f"binding {spec.name}")
