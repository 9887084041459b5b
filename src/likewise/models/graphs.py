"""Ready-made graphs in a model folder: which file is the whole model in float32, by its name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from likewise.base.errors import ModelNotFound, ModelUnsupported

if TYPE_CHECKING:
    from likewise.models.card import ModelCard

# In order of preference. Names as sentence-transformers, optimum and transformers.js write them;
# every other name is a variant: another precision, or rewritten for one runtime.
_NAMES = (
    "openvino/openvino_model.xml",
    "openvino_model.xml",
    "onnx/model.onnx",
    "model.onnx",
)
_BESIDE = (".bin", "_data", ".data")
"""What the names of files with a graph's weights end in, after the graph's own."""


def graph_file(card: ModelCard) -> Path | None:
    """The graph of the model of `card` in float32; None if there is none of a known name."""
    for folder in dict.fromkeys((card.base, card.folder)):
        for name in _NAMES:
            if (folder / name).is_file():
                return folder / name
    return None


def require_graph(card: ModelCard) -> Path:
    """The graph of the model of `card` in float32.

    Raises:
        ModelUnsupported: there are only variants; they are named.
        ModelNotFound: there is no graph.
    """
    if found := graph_file(card):
        return found
    places = [card.folder, *(card.folder / name for name in ("onnx", "openvino"))]
    others = [
        str(path.relative_to(card.folder))
        for place in places
        for end in ("*.onnx", "*.xml")
        for path in sorted(place.glob(end))
    ]
    known = ", ".join(_NAMES)
    if others:
        raise ModelUnsupported(
            f"{card.folder} has only variants of a graph ({', '.join(others)}), whose numbers "
            f"differ from the model's; looked for: {known}"
        )
    raise ModelNotFound(f"{card.folder} has no graph; looked for: {known}")


def graph_files(graph: Path) -> tuple[Path, ...]:
    """`graph` and the files beside it that hold its weights, in order of name."""
    beside = [graph.with_suffix(".bin"), *(graph.with_name(graph.name + end) for end in _BESIDE)]
    return (graph, *sorted({path for path in beside if path.is_file()}))
