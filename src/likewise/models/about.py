"""What can be told about a model without loading it: where it lies, how large, how it is used."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from likewise.models import shelf
from likewise.models.card import NOTHING_SAID, ModelCard, read_card
from likewise.models.locate import Located, finder
from likewise.models.overrides import Overrides
from likewise.models.parts import Dense, LayerNorm
from likewise.models.weights import has_weights, open_weights

_LICENCE = re.compile(r"^license:\s*[\"']?([^\s\"'#]+)", re.MULTILINE)
_README_HEAD = 20_000


def overridden(card: ModelCard) -> dict[str, Any]:
    """What the operator says of a model, as `override`; and how its vectors compare, if known."""
    found: dict[str, Any] = {"override": card.overrides.facts()} if card.overrides else {}
    return found | ({} if card.similarity is None else {"similarity": card.similarity})


def about(located: Located, *, cache: Path, overrides: Overrides = NOTHING_SAID) -> dict[str, Any]:
    """Facts about a model on this disk, by name; None for what isn't known.

    Raises:
        ModelUnsupported: it asks for a part that isn't computed here, or for remote code.
        ModelCorrupt: a file is damaged, or two contradict each other.
    """
    card = read_card(located.folder, name=located.name, find=finder(cache), overrides=overrides)
    return {
        "model": located.name,
        "folder": str(located.folder),
        "from": located.origin if located.revision is None else _origin(located, cache),
        "size_bytes": sum(p.stat().st_size for p in located.folder.rglob("*") if p.is_file()),
        "licence": _licence(located, cache),
        "architecture": card.architecture,
        "dimensions": card.dimensions or None,
        "also_cut_to": ["any width"] if card.any_width else list(card.matryoshka),
        "max_tokens": card.max_tokens,
        "prompts": dict(card.prompts),
        "default_prompt": card.default_prompt_name,
        "notes": list(card.notes),
        **overridden(card),
    }


def parameters(card: ModelCard) -> int | None:
    """How many numbers the model's weights are; None where it is only a graph.

    Raises:
        ModelCorrupt: a file is damaged.
    """
    if not has_weights(card.base):
        return None
    steps = [step.folder for step in card.steps if isinstance(step, Dense | LayerNorm)]
    count = 0
    for weights in map(open_weights, (card.base, *steps)):
        # Whole numbers, such as positions, are no parameters.
        floats = (name for name in weights.names if weights.integers(name) is None)
        count += sum(map(weights.size, floats))
    return count


def _record(located: Located, cache: Path) -> shelf.Record | None:
    for each in shelf.shelved(cache, located.name):
        if each.folder == located.folder:
            return each.record
    return None


def _origin(located: Located, cache: Path) -> str:
    record = _record(located, cache)
    return f"{record.origin if record else located.origin} {located.revision}"


def _licence(located: Located, cache: Path) -> str | None:
    """As the hub said when it was fetched, or as the folder's README says at its top."""
    record = _record(located, cache)
    if record is not None:
        return record.licence
    readme = located.folder / "README.md"
    if not readme.is_file():
        return None
    with readme.open(encoding="utf-8", errors="replace") as file:
        head = file.read(_README_HEAD)
    if not head.startswith("---"):
        return None
    found = _LICENCE.search(head.split("\n---", 1)[0])
    return found.group(1) if found else None
