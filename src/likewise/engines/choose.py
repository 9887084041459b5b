"""Which engine a model gets on this machine, and why; decided from files, importing no engine."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likewise.base.errors import MissingExtra, ModelUnsupported
from likewise.base.extras import install, is_installed
from likewise.base.names import nearest
from likewise.engines.names import AUTO, ENGINES, PACKED
from likewise.models.graphs import graph_file
from likewise.models.static import STATIC
from likewise.models.weights import has_weights
from likewise.nets.names import NETS

if TYPE_CHECKING:
    from likewise.models.card import ModelCard

_GPU_DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""What drivers of NVIDIA and AMD put there, and WSL for either."""


@dataclass(frozen=True, slots=True)
class Choice:
    """An engine for a model."""

    engine: str
    """Its name in `engines.names`."""
    why: str
    slow: str | None = None
    """Why it is the slow way; None where it isn't."""

    def facts(self) -> dict[str, Any]:
        """For people, as `Service.info` shows them."""
        facts: dict[str, Any] = {"engine_why": self.why, "slow": self.slow is not None}
        if self.slow is not None:
            facts["slow_because"] = self.slow
        return facts


def choose(card: ModelCard, asked: str = AUTO) -> Choice:
    """The engine for `card`: the one `asked` for, or with `auto` the fastest that computes it.

    Raises:
        ModelUnsupported: none does, or there is no engine called `asked`.
        MissingExtra: one would, and a package that it needs isn't installed; it is named.
    """
    choice = _choice(card, asked)
    # A ready-made graph may give a classifier's scores; the engine looks, and refuses the rest.
    if card.heads and choice.engine not in (*PACKED, "onnx_file"):
        raise ModelUnsupported(
            f"{card.folder} gives {', '.join(card.gives)}: that is computed for architectures "
            f"written here, by the engines {' and '.join(PACKED)}; {choice.engine} ({choice.why}) "
            f"computes vectors alone. Written here: {', '.join(sorted(NETS))}",
            param="engine",
        )
    return choice


def _choice(card: ModelCard, asked: str) -> Choice:
    if asked != AUTO:
        if asked not in ENGINES:
            known = (AUTO, *ENGINES)
            raise ModelUnsupported(
                f"unknown engine {asked!r}{nearest(asked, known)}; known: {', '.join(known)}",
                param="engine",
            )
        return Choice(asked, "asked for", _slow(asked, card))
    if card.architecture == STATIC:
        return Choice("static", "a table of token vectors: numpy needs no more")
    if not has_weights(card.base) and (graph := graph_file(card)):
        return Choice("onnx_file", f"the folder ships only {graph.name}", _slow("onnx_file", card))
    if card.architecture in NETS:
        if _has_gpu() and is_installed("torch"):
            return Choice("torch", f"{card.architecture} is written here, and a GPU is there")
        return Choice("openvino", f"{card.architecture} is written here; this CPU computes it")
    return _any(card)


def _any(card: ModelCard) -> Choice:
    """For an architecture that isn't written here."""
    unwritten = f"{card.architecture} isn't written here"
    if "torch_any" in ENGINES and is_installed("transformers") and is_installed("torch"):
        return Choice(
            "torch_any", f"{unwritten}; transformers computes it", _slow("torch_any", card)
        )
    if graph := graph_file(card):
        why = f"{unwritten}; the folder ships {graph.name}"
        return Choice("onnx_file", why, _slow("onnx_file", card))
    if "torch_any" not in ENGINES:
        raise ModelUnsupported(
            f"{card.folder}: architecture {card.architecture!r} isn't computed here; known: "
            f"{', '.join(sorted(NETS))}",
        )
    raise MissingExtra(
        f"{card.folder}: architecture {card.architecture!r} isn't written here (known: "
        f"{', '.join(sorted(NETS))}); transformers may compute it with torch, the slow way: "
        f"{install('likewise[torch-any]')}"
    )


def _slow(engine: str, card: ModelCard) -> str | None:
    if engine == "onnx_file":
        graph = graph_file(card)
        name = graph.name if graph else "a graph"
        return f"{name} computes padding too, and in f32: a model with weights is faster"
    if engine == "torch_any":
        return "transformers computes padding too; architectures written here are faster"
    return None


def _has_gpu() -> bool:
    """Whether a driver says so: asking torch would take seconds, which CPU users don't owe."""
    return sys.platform != "darwin" and any(Path(device).exists() for device in _GPU_DEVICES)
