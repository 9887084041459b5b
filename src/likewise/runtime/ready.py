"""From a card to an engine that is known to be right: built, checked, replaced if it isn't."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from likewise.base.errors import NotFinite
from likewise.base.log import fields, logger
from likewise.base.precision import profile_of
from likewise.models.digest import replace_json
from likewise.runtime import metrics, selfcheck
from likewise.runtime.selfcheck import THRESHOLDS, Probed, Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from likewise.base.precision import Precision
    from likewise.engines.batch import Engine
    from likewise.models.card import ModelCard
    from likewise.models.tokenize import Tokenizer

_log = logger("runtime")
Make = Callable[["Precision"], "Engine"]
"""An engine for one model, in the precision given."""


@dataclass(frozen=True, slots=True)
class Ready:
    """An engine that may be used, and how it was found to be right."""

    engine: Engine
    verdict: Verdict | None = None
    """How near the precision that was wanted came to float32; None: it is float32."""
    fallback: str | None = None
    """Why the engine runs in float32 although less was wanted."""

    def facts(self) -> dict[str, Any]:
        """For people, as `Service.info` shows them."""
        facts: dict[str, Any] = {"profile": profile_of(self.engine.precision)}
        if self.verdict is not None:
            facts["selfcheck_worst_cosine"] = self.verdict.worst_cosine
            facts["selfcheck_least_cosine"] = self.verdict.least
        if self.fallback is not None:
            facts["fallback"] = self.fallback
        return facts


def ready(
    card: ModelCard,
    tokenizer: Tokenizer,
    make: Make,
    *,
    precision: Precision,
    outputs: str,
    cache: Path | None,
) -> Ready:
    """An engine in `precision`, or in float32 where that doesn't give what float32 gives.

    `outputs` is the digest of all that decides what the model gives.

    What was found is remembered in the folder `cache`: the next start with the same weights,
    engine, machine and code builds one engine and computes nothing.

    Raises:
        NotFinite: even float32 gives NaN or Inf.
        ModelError, EngineError: as `make` raises them.
    """
    engine = make(precision)
    profile = profile_of(engine.precision)
    known = Remembered(cache / "selfchecks.json" if cache is not None else None)
    key = selfcheck.key(outputs, engine)
    worst = known.worst(key)
    full: Engine | None = None
    if worst is not None:
        verdict = Verdict(worst, THRESHOLDS[profile])
    elif profile == "exact":
        _require_finite(card, selfcheck.probe(card, tokenizer, engine.stream()), engine)
        verdict = Verdict(1.0, THRESHOLDS[profile])
    else:
        ours = selfcheck.probe(card, tokenizer, engine.stream())
        # One after the other: two engines at once would hold the weights twice.
        engine.close()
        full = make("exact")
        theirs = selfcheck.probe(card, tokenizer, full.stream())
        _require_finite(card, theirs, full)
        verdict = selfcheck.compare(ours, theirs, profile)
    if worst is None:
        known.remember(key, verdict.worst_cosine)
    if profile == "exact":
        return Ready(engine)
    metrics.SELFCHECK.labels(card.name, profile).set(verdict.worst_cosine)
    if verdict.is_good:
        if full is not None:
            full.close()
            engine = make(precision)
        return Ready(engine, verdict)
    engine.close()
    return _fallen_back(card, full or make("exact"), verdict, profile)


def _fallen_back(card: ModelCard, full: Engine, verdict: Verdict, wanted: str) -> Ready:
    why = (
        "gave NaN or Inf"
        if verdict.worst_cosine == -1
        else f"came only within cosine {verdict.worst_cosine:.6f} of f32 (least allowed: "
        f"{verdict.least})"
    )
    says = f"{wanted} {why}; running exact, in f32"
    _log.warning(fields("precision refused", model=card.name, why=says))
    return Ready(full, verdict, says)


def _require_finite(card: ModelCard, probed: Probed, engine: Engine) -> None:
    if probed.is_finite:
        return
    engine.close()
    raise NotFinite(
        f"{card.folder} gives NaN or Inf for plain texts even in f32: its weights are damaged, or "
        "its training diverged; use another copy or another model"
    )


class Remembered:
    """Verdicts kept in a JSON file; losing it costs only time."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def worst(self, key: str) -> float | None:
        """The worst agreement that was found for `key`, if it was ever looked for."""
        found = self._read().get(key)
        return float(found) if isinstance(found, int | float) else None

    def remember(self, key: str, worst: float) -> None:
        """Keep it; a folder that can't be written only makes the next start slower."""
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            replace_json(self._path, {**self._read(), key: worst})
        except OSError as broken:
            _log.info(fields("self-check not remembered", path=self._path, why=broken))

    def _read(self) -> dict[str, Any]:
        if self._path is None or not self._path.is_file():
            return {}
        try:
            known = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as broken:
            _log.info(fields("self-checks ignored", path=self._path, why=broken))
            return {}
        return known if isinstance(known, dict) else {}
