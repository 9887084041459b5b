"""What is told of a model in lists: by itself where it is loaded, else as its folder says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likewise.base.errors import LikewiseError
from likewise.base.log import fields, logger
from likewise.models import shelf
from likewise.models.card import ModelCard, read_card
from likewise.models.digest import weights_digest
from likewise.models.heads import Scores
from likewise.models.locate import finder
from likewise.models.overrides import Overrides

if TYPE_CHECKING:
    from likewise.models.locate import Located
    from likewise.server.catalogue import Listed

_log = logger("server")


_DIGESTS: dict[tuple[Path, str, float, str], str] = {}
_MOST_DIGESTS = 256


def cache_of(folder: Path) -> Path | None:
    """The model cache that `folder` lies in; None for a folder of the user's own."""
    return folder.parents[2] if (folder / shelf.RECORD).is_file() else None


def stamp_of(folder: Path) -> float:
    """When a file in `folder` was last changed, in seconds since 1970; 0 where there is none."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return max((path.stat().st_mtime for path in files), default=0.0)


def digest_of(card: ModelCard, stamp: float) -> str:
    """What names its weights; empty where they can't be read.

    They are read once as long as no file of the folder changes, which `stamp` tells.
    """
    key = (card.folder, card.name, stamp, repr(card.overrides))
    if key not in _DIGESTS:
        try:
            digest = weights_digest(card, cache=cache_of(card.folder))
        except LikewiseError as wrong:
            # Who asks for vectors is told; a list of models goes on without.
            _log.info(fields("model without a digest", model=card.name, error=wrong))
            return ""
        if len(_DIGESTS) >= _MOST_DIGESTS:
            _DIGESTS.clear()
        _DIGESTS[key] = digest
    return _DIGESTS[key]


def described(one: Listed) -> Mapping[str, Any]:
    """Its facts, with `gives`, `dimensions`, `max_tokens` and `labels` whether it is loaded or not.

    Of one that isn't loaded, `folder` is where it would be loaded from now.

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
        card = _card(one, located, facts)
    except LikewiseError:
        return facts
    found: dict[str, Any] = {
        "gives": list(card.gives),
        "max_tokens": card.max_tokens,
        "folder": str(located.folder),
    }
    if "vectors" in card.gives:
        found["dimensions"] = card.dimensions
    for head in card.heads:
        if isinstance(head, Scores):
            found["labels"] = list(head.labels)
    return {**found, **facts}


def with_weights(one: Listed) -> Mapping[str, Any]:
    """The same, with the digest of the weights; reads them where nobody has yet."""
    facts = described(one)
    located = one.located() if "weights" not in facts else None
    if located is None:
        return facts
    try:
        card = _card(one, located, facts)
    except LikewiseError:
        return facts
    if "vectors" not in card.gives:
        return facts
    digest = digest_of(card, stamp_of(located.folder))
    return {**facts, "weights": digest} if digest else facts


def _card(one: Listed, located: Located, facts: Mapping[str, Any]) -> ModelCard:
    return read_card(
        located.folder,
        name=one.name,
        find=finder(cache_of(located.folder) or located.folder),
        overrides=Overrides.of_facts(facts.get("override") or {}),
    )
