"""How near a model comes in each profile to float32, and to another program: a row for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from likewise.base.errors import InputError, ModelUnsupported
from likewise.base.precision import PROFILES, Profile
from likewise.engines.batch import PackedBatch
from likewise.runtime.selfcheck import PROBES, QUESTION, THRESHOLDS, agreement

if TYPE_CHECKING:
    import numpy.typing as npt

    from likewise.engines.batch import Output
    from likewise.runtime.service import Service

    Doubles = npt.NDArray[np.float64]

AGAINST: Mapping[Profile, float] = {**THRESHOLDS, "exact": 0.99999}
"""Least agreement with another program, by what we run in; it is taken to compute in float32."""

_WORDS = "the history of libraries begins with lists of what a temple owed and whom it fed".split()
_LENGTHS = (1, 3, 7, 15, 31, 63, 127, 255, 511, 1023)

Give = Callable[[Sequence[str]], "npt.NDArray[Any]"]
"""What a program makes of texts: a row for each."""


@dataclass(frozen=True, slots=True)
class Row:
    """One profile."""

    profile: Profile
    precision: str | None = None
    """The arithmetic it ran in; None where it can't run here."""
    worst: float | None = None
    """The least agreement with float32 over the texts."""
    mean: float | None = None
    against_worst: float | None = None
    """The least agreement with the other program."""
    against_mean: float | None = None
    problem: str | None = None
    """Why it isn't right, or why it can't run here."""

    @property
    def result(self) -> str:
        """`PASS`, `FAIL`, or `not here`."""
        if self.precision is None:
            return "not here"
        return "FAIL" if self.problem else "PASS"


def texts() -> list[str]:
    """The probe texts, and texts of growing length."""
    grown = [" ".join(_WORDS[place % len(_WORDS)] for place in range(n)) for n in _LENGTHS]
    return [*PROBES, *grown]


def parity(load: Callable[[Profile], Service], theirs: Give | None = None) -> list[Row]:
    """A row for each profile; `load` makes the model ready in one, `theirs` is the other program.

    Raises:
        ModelError, EngineError: the model can't be run at all, as `load` raises them; or what
            `theirs` gives isn't of one shape with it.
    """
    service = load("exact")
    try:
        read = _readable(service)
        reference = give(service)[1](read)
    finally:
        service.close()
    other = None if theirs is None else theirs(read)
    return [_row(load, profile, read, reference, other) for profile in PROFILES]


def give(service: Service) -> tuple[Output, Give]:
    """What `service` makes of texts, as rows, and what kind of thing that is."""
    gives = service.card.gives
    if "vectors" in gives:
        return "vectors", service.embed
    if "scores" in gives:

        def scores(given: Sequence[str]) -> Any:
            pairs = [(QUESTION, text) for text in given]
            return service.submit_pairs(pairs, raw=True).result().scores

        return "scores", scores
    if "tokens" in gives:
        return "tokens", lambda given: np.concatenate(service.embed_tokens(given))

    def sparse(given: Sequence[str]) -> Any:
        found = service.embed_sparse(given)
        rows = np.zeros((len(found), int(service.card.config["vocab_size"])), np.float32)
        for row, (ids, weights) in zip(rows, found, strict=True):
            row[ids] = weights
        return rows

    return "sparse", sparse


def _row(
    load: Callable[[Profile], Service],
    profile: Profile,
    read: list[str],
    reference: Any,
    other: Any,
) -> Row:
    try:
        service = load(profile)
    except ModelUnsupported as refused:
        return Row(profile, problem=str(refused))
    try:
        output, method = give(service)
        ours, info = method(read), service.info()
    finally:
        service.close()
    found = compared(output, ours, reference)
    row = Row(
        profile,
        str(info["precision"]),
        float(found.min()),
        float(found.mean()),
        problem=info.get("fallback") or _short(found, THRESHOLDS[profile], "f32"),
    )
    if other is None:
        return row
    against = compared(output, ours, other)
    return replace(
        row,
        against_worst=float(against.min()),
        against_mean=float(against.mean()),
        problem=row.problem or _short(against, AGAINST[profile], "theirs"),
    )


def _short(found: Doubles, least: float, whose: str) -> str | None:
    if found.min() >= least:
        return None
    return f"cosine {found.min():.6f} to {whose}, at least {least} is asked for"


def compared(output: Output, ours: Any, theirs: Any) -> Doubles:
    """Agreement as the self-check measures it.

    Raises:
        ModelUnsupported: the two aren't of one shape.
    """
    if np.shape(ours) != np.shape(theirs):
        raise ModelUnsupported(
            f"ours is {list(np.shape(ours))}, theirs {list(np.shape(theirs))}: they can't be "
            "compared"
        )
    batch = PackedBatch.of([[0]] * len(ours))
    return np.atleast_1d(agreement(output, np.asarray(ours), np.asarray(theirs), batch))


def _readable(service: Service) -> list[str]:
    """The texts without those that this model's tokenizer gives no tokens."""
    kept = []
    for text in texts():
        try:
            give(service)[1]([text])
        except InputError:
            continue
        kept.append(text)
    return kept
