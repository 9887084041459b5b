"""What an operator says about a model where its files don't, or say otherwise."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from likewise.base.errors import SettingsError
from likewise.base.names import nearest
from likewise.models.own import split_name
from likewise.models.parts import POOLINGS
from likewise.models.short_names import full_name

SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")
"""How two vectors may be compared, as sentence-transformers names it."""
_NUMBERS = ("max_length", "truncate_dim", "matryoshka")


@dataclass(frozen=True, slots=True)
class Overrides:
    """A field that isn't None counts instead of what the model's files say.

    Raises:
        SettingsError: a value makes no sense, whatever the model is.
    """

    pooling: tuple[str, ...] | None = None
    """Modes of the pooling, such as `mean`; the results of several lie side by side."""
    prompts: Mapping[str, str] = field(default_factory=dict)
    """Prompts by name: added to the folder's, or instead of those of the same name."""
    default_prompt_name: str | None = None
    """The name of the prompt for texts that ask for none; empty: there is no such prompt."""
    max_length: int | None = None
    """Tokens read of one text, special ones included."""
    matryoshka: tuple[int, ...] | Literal["any"] | None = None
    """Smaller widths that the model was trained to be cut to."""
    truncate_dim: int | None = None
    """The width that all vectors are cut to; they aren't scaled to length 1 again."""
    similarity: str | None = None
    """How vectors are to be compared. It is shown to clients, and changes no vector."""

    def __post_init__(self) -> None:
        for mode in self.pooling or ():
            _require_known("pooling", mode, POOLINGS)
        if self.pooling is not None and len(set(self.pooling)) < max(1, len(self.pooling)):
            raise SettingsError(
                f"pooling {'+'.join(self.pooling)!r} must name each mode once", param="pooling"
            )
        if self.similarity is not None:
            _require_known("similarity", self.similarity, SIMILARITIES)
        for name in _NUMBERS:
            given = getattr(self, name)
            numbers = given if isinstance(given, tuple) else (given,)
            if numbers == () or any(isinstance(n, int) and n < 1 for n in numbers):
                raise SettingsError(f"{name} must be at least 1", param=name)

    def __bool__(self) -> bool:
        return self != Overrides()

    def facts(self) -> dict[str, Any]:
        """The fields that are set, by name, as JSON has them."""
        found = {name: value for name, value in dataclasses.asdict(self).items() if value}
        if self.default_prompt_name is not None:
            found["default_prompt_name"] = self.default_prompt_name
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in found.items()
        }

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> Overrides:
        """What `facts` gave."""
        said: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in facts.items()
        }
        return cls(**said)

    def over(self, others: Overrides) -> Overrides:
        """These, and of `others` what these leave open; prompts are joined by their names."""
        names = [each.name for each in dataclasses.fields(self)]
        mine = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        mine["prompts"] = {**others.prompts, **self.prompts}
        return dataclasses.replace(others, **mine)


@dataclass(frozen=True, slots=True)
class OverrideTable:
    """Overrides of several models."""

    by_name: Mapping[str, Overrides] = field(default_factory=dict)
    """By the names that users have for them: of the hub, short ones, or whole paths."""
    everywhere: Overrides = Overrides()
    """Those of every model; they go before the others."""

    def of(self, name: str, source: str = "") -> Overrides:
        """Those of the model called `name`, which was asked for as `source`, a name or a path."""
        source = split_name(source)[1]
        wanted = {name, source, full_name(name), full_name(source) if source else name}
        if source.startswith((".", "/", "~")) or (source and Path(source).is_dir()):
            wanted.add(str(Path(source).expanduser().resolve()))
        found = self.everywhere
        for each, overrides in self.by_name.items():
            if each in wanted or full_name(each) in wanted:
                found = found.over(overrides)
        return found


def _require_known(what: str, given: str, known: tuple[str, ...]) -> None:
    if given not in known:
        raise SettingsError(
            f"{what} {given!r} isn't known{nearest(given, known)}; known: {', '.join(known)}",
            param=what,
        )
