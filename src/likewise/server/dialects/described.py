"""What is told of a model in lists: by itself where it is loaded, else as its folder says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from likewise.base.errors import LikewiseError
from likewise.models.card import read_card
from likewise.models.heads import Scores
from likewise.models.locate import finder
from likewise.models.overrides import Overrides

if TYPE_CHECKING:
    from likewise.server.catalogue import Listed


def described(one: Listed) -> Mapping[str, Any]:
    """Its facts, with `gives`, `dimensions`, `max_tokens` and `labels` whether it is loaded or not.

    Reads files: not for the event loop. Of a model that isn't on this disk, or is damaged, there
    is no more than that it is served.
    """
    facts = one.facts()
    if "gives" in facts:
        return facts
    located = one.located()
    if located is None:
        return facts
    try:
        card = read_card(
            located.folder,
            name=one.name,
            find=finder(located.folder),
            overrides=Overrides.of_facts(facts.get("override") or {}),
        )
    except LikewiseError:
        return facts
    found: dict[str, Any] = {"gives": list(card.gives), "max_tokens": card.max_tokens}
    if "vectors" in card.gives:
        found["dimensions"] = card.dimensions
    for head in card.heads:
        if isinstance(head, Scores):
            found["labels"] = list(head.labels)
    return {**found, **facts}
