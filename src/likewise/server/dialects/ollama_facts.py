"""What Ollama's clients ask about a model: from the running model, else from its folder."""

from __future__ import annotations

import functools
import hashlib
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from likewise.base.clock import wall
from likewise.base.errors import LikewiseError
from likewise.base.log import fields, logger
from likewise.models.about import about, parameters
from likewise.models.card import ModelCard, read_card
from likewise.models.locate import Located, finder
from likewise.models.overrides import Overrides
from likewise.models.weights import has_weights, open_weights
from likewise.server.described import cache_of, digest_of, stamp_of

if TYPE_CHECKING:
    from likewise.server.serving import Listed

_log = logger("server")

_QUANTISED = {"f32": "F32", "bf16": "BF16", "f16": "F16", "int8": "Q8_0"}
_CAPABILITIES = {"vectors": "embedding", "scores": "rerank", "tokens": "multivector"}
_POOLING = {"mean": 1, "cls": 2, "lasttoken": 3}
_RANK = 4
"""llama.cpp's number for the pooling of rerankers."""
_LAYOUT = {
    "block_count": ("num_hidden_layers", "n_layer", "n_layers"),
    "attention.head_count": ("num_attention_heads", "n_head", "n_heads"),
    "feed_forward_length": ("intermediate_size", "n_inner", "hidden_dim"),
}
_LICENCES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt", "LICENCE.md")
_HEXADECIMAL = re.compile(r"[0-9a-f]{12,}")
_FOREVER_S = (2**63 - 1) / 1e9
"""As far from now as Ollama says for models that stay."""


class Details(TypedDict):
    """What lists of models say of one."""

    parent_model: str
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class Tensor(TypedDict):
    """One tensor of a model's weights, as its file has it."""

    name: str
    type: str
    shape: list[int]


class Told:
    """What is known of a model that is served, loaded or not. Reads files: not for the event loop.

    Of a model that isn't loaded, and whose folder is damaged or isn't known, there is little.
    """

    def __init__(self, one: Listed) -> None:
        self.name = one.name
        self.aliases = tuple(one.aliases)
        self.is_loaded = one.state == "loaded"
        self.facts: Mapping[str, Any] = one.facts()
        self.card: ModelCard | None = None
        self.about: Mapping[str, Any] = {}
        self.parameters: int | None = None
        written = self.facts.get("folder")
        found = one.located() if written is None else None
        folder = found.folder if found is not None else Path(written) if written else None
        self.folder = folder if folder is not None and folder.is_dir() else None
        if self.folder is not None:
            self._read(self.folder)

    def _read(self, folder: Path) -> None:
        cache = cache_of(folder)
        revision = None if cache is None else folder.name
        located = Located(folder, self.name, "folder" if cache is None else "cache", revision)
        overrides = Overrides.of_facts(self.facts.get("override") or {})
        try:
            card = read_card(
                folder, name=self.name, find=finder(cache or folder), overrides=overrides
            )
            self.about = about(located, cache=cache or folder, overrides=overrides)
            self.parameters = parameters(card)
            self.card = card
        except LikewiseError as wrong:
            # Who asks for vectors is told; a list of models goes on without.
            _log.info(fields("model not described", model=self.name, error=wrong))

    @property
    def family(self) -> str:
        """Its architecture."""
        return "unknown" if self.card is None else self.card.architecture

    @property
    def context_length(self) -> int | None:
        """Tokens read of one text."""
        return self.facts.get("max_tokens") or self.about.get("max_tokens")

    @property
    def embedding_length(self) -> int | None:
        """Numbers in a vector; None where there are none."""
        return self.facts.get("dimensions") or self.about.get("dimensions")

    @property
    def capabilities(self) -> list[str]:
        """`embedding`, and what Ollama has no name for."""
        gives = self.facts.get("gives") or (() if self.card is None else self.card.gives)
        if not gives and self.embedding_length:
            gives = ("vectors",)
        return [_CAPABILITIES.get(one, one) for one in gives]

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return int(self.about.get("size_bytes", 0))

    @property
    def resident(self) -> int:
        """Bytes in memory, as far as that is known; else those on disk."""
        return int(self.facts.get("resident_bytes") or self.size)

    @property
    def digest(self) -> str:
        """What names its weights: 64 hexadecimal digits; of its name where they can't be read.

        Ollama's command line ends in a panic where there are fewer than 12.
        """
        found = str(self.facts.get("weights") or "")
        if not found and self.folder is not None and self.card is not None:
            found = digest_of(self.card, self.stamp)
        if not _HEXADECIMAL.fullmatch(found):
            found = hashlib.sha256(self.name.encode()).hexdigest()
        return found

    @functools.cached_property
    def stamp(self) -> float:
        """When a file of it was last changed, in seconds since 1970; 0 where none is known."""
        return 0.0 if self.folder is None else stamp_of(self.folder)

    @property
    def modified_at(self) -> str:
        """The same, as RFC 3339."""
        return rfc3339(self.stamp)

    @property
    def expires_at(self) -> str:
        """When it is unloaded if nobody asks, as RFC 3339; three hundred years away for never."""
        at = float(self.facts.get("expires_at") or math.inf)
        return rfc3339(at if math.isfinite(at) else wall() + _FOREVER_S)

    def details(self) -> Details:
        """What lists of models say of it."""
        return {
            "parent_model": "",
            "format": self._format(),
            "family": self.family,
            "families": [self.family],
            "parameter_size": "" if self.parameters is None else short_number(self.parameters),
            "quantization_level": _QUANTISED.get(str(self.facts.get("precision")), "unknown"),
        }

    def _format(self) -> str:
        is_graph = self.card is not None and self.parameters is None
        return "graph" if is_graph else "safetensors"

    def model_info(self) -> dict[str, Any]:
        """Facts by the names that GGUF files have for them."""
        family = self.family
        config: Mapping[str, Any] = {} if self.card is None else self.card.config
        found: dict[str, Any] = {
            "general.architecture": family,
            "general.basename": self.name.rpartition("/")[2],
            "general.parameter_count": self.parameters,
            f"{family}.context_length": self.context_length,
            f"{family}.embedding_length": self.embedding_length,
            f"{family}.pooling_type": self._pooling(),
        }
        for name, keys in _LAYOUT.items():
            found[f"{family}.{name}"] = next((config[key] for key in keys if key in config), None)
        return {name: value for name, value in found.items() if value is not None}

    def _pooling(self) -> int | None:
        """llama.cpp's number of the pooling; None of one that it hasn't."""
        if self.card is None:
            return None
        if self.card.steps:
            return _POOLING.get("+".join(self.card.pooling.modes))
        return _RANK if "scores" in self.card.gives else 0

    def tensors(self) -> list[Tensor]:
        """What its file of weights holds; empty where it is only a graph, or damaged."""
        if self.card is None or not has_weights(self.card.base):
            return []
        try:
            weights = open_weights(self.card.base)
        except LikewiseError:
            return []
        return [
            {
                "name": name,
                "type": weights.dtype(name) or "unknown",
                "shape": list(weights.shape(name) or ()),
            }
            for name in weights.names
        ]

    def licence(self) -> str:
        """The text of its licence, else the licence's name; empty where the folder says neither."""
        if self.folder is not None:
            for name in _LICENCES:
                if (path := self.folder / name).is_file():
                    return path.read_text(encoding="utf-8", errors="replace")
        return str(self.about.get("licence") or "")


def rfc3339(seconds: float) -> str:
    """A moment, given in seconds since 1970, as Ollama's clients read it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def short_number(count: int) -> str:
    """`count` as people say it: 22.7M, 568M, 7.6B."""
    for unit, size in (("B", 1_000_000_000), ("M", 1_000_000), ("K", 1_000)):
        if count >= size:
            return f"{count / size:.1f}".removesuffix(".0") + unit
    return str(count)
