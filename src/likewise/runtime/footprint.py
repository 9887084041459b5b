"""How much memory a model's weights take as they are run: counted from its files, not measured.

Growth of the process would count the arenas of other requests and miss pages that were there
already; this number is the same before and after loading, which a budget needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from likewise.models.graphs import graph_file, graph_files
from likewise.models.parts import Dense, LayerNorm
from likewise.models.weights import has_weights, open_file, weight_files

if TYPE_CHECKING:
    from pathlib import Path

    from likewise.models.card import ModelCard

_BYTES = {"f32": 4, "exact": 4, "auto": 4, "bf16": 2, "f16": 2, "fast": 2, "int8": 1, "small": 1}
"""Bytes of a number by arithmetic or profile. `auto` may be float32, and is checked with it."""


def weights_bytes(card: ModelCard, precision: str) -> int:
    """Bytes of the model's weights when it runs in `precision`, a profile or an arithmetic.

    Raises:
        ModelError: there are no weights, or they can't be read.
    """
    graph = None if has_weights(card.base) else graph_file(card)
    if graph is not None:
        # It is run as it is written.
        return sum(path.stat().st_size for path in graph_files(graph))
    files = [*weight_files(card.base)]
    for step in card.steps:
        if isinstance(step, Dense | LayerNorm):
            files += weight_files(step.folder)
    return _BYTES[precision] * sum(_numbers(path) for path in files)


def _numbers(path: Path) -> int:
    weights = open_file(path)
    return sum(weights.size(name) for name in weights.names)
