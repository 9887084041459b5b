"""Profiles, by which users say how exact a model runs, and the arithmetic that each stands for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, cast, get_args

from likewise.base.errors import ModelUnsupported
from likewise.base.names import nearest

Precision = Literal["auto", "exact", "fast", "small", "f32", "bf16"]
"""What may be asked for; `f32` and `bf16` mean `exact` and `fast`."""

Profile = Literal["exact", "fast", "small"]
"""`exact`: float32. `fast`: bf16 (or f16 on a GPU). `small`: int8 weights, dynamic activations."""

PROFILES: tuple[Profile, ...] = get_args(Profile)

_SYNONYMS: Mapping[str, Profile] = {"f32": "exact", "bf16": "fast"}
_RUNS: Mapping[str, Profile] = {"f32": "exact", "bf16": "fast", "f16": "fast", "int8": "small"}


def profile(asked: str) -> Literal["auto", "exact", "fast", "small"]:
    """The profile that `asked` means, or `auto`, which leaves the choice to the engine.

    Raises:
        ModelUnsupported: it is none of them; the message lists them.
    """
    meant = _SYNONYMS.get(asked, asked)
    if meant not in ("auto", *PROFILES):
        known = ("auto", *PROFILES)
        raise ModelUnsupported(
            f"precision {asked!r} isn't known{nearest(asked, known)}; known: {', '.join(known)}",
            param="precision",
        )
    return cast("Literal['auto', 'exact', 'fast', 'small']", meant)


def profile_of(arithmetic: str) -> Profile:
    """The profile that an engine computing in `arithmetic` runs: `f32`, `bf16`, `f16`, `int8`."""
    assert arithmetic in _RUNS, f"arithmetic {arithmetic!r} has no profile: this is a bug"
    return _RUNS[arithmetic]
