"""Late-interaction models (ColBERT): how a folder says that every token gets a vector."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from likewise.base.errors import ModelCorrupt, ModelUnsupported
from likewise.models.parts import ACTIVATIONS, Module, read_json

_MODEL_TYPES = ("MultiVectorEncoder", "ColBERT")
_STANFORD = "HF_ColBERT"
_PYLATE_MARKS = ("query_prefix", "document_prefix")
_KINDS = ("Transformer", "Dense", "MultiVectorMask", "Normalize")
_PYLATE_QUERY_LENGTH = 32
_ON_TOKENS = (None, "token_embeddings")


@dataclass(frozen=True, slots=True)
class Projection:
    """A linear layer on every token."""

    source: Path | None
    """The module's folder, or a safetensors file; None: `linear.weight` beside the network's."""
    inputs: int = 0
    """0: whatever the network's width is."""
    outputs: int = 0
    """0: as many as the weight has rows."""
    bias: bool = False
    activation: str = "identity"
    residual: Literal["none", "same", "projected"] = "none"
    """What is added to the result: nothing, the input, or the input through `residual.weight`."""
    is_bare: bool = False
    """Its tensors are called `weight` and `bias` alone."""


@dataclass(frozen=True, slots=True)
class Expansion:
    """Queries are filled up with a token, usually [MASK]; its vectors take part in the score."""

    length: int
    """Tokens that a query has then."""
    is_limit: bool
    """Whether longer queries are cut to `length`."""
    is_attended: bool
    """Whether the query's own tokens look at those added."""
    token: str | None = None
    """None: the mask token, or else the end-of-sequence token."""


@dataclass(frozen=True, slots=True)
class MultiVector:
    """A vector for each token; texts are compared by MaxSim."""

    gives: ClassVar[str] = "tokens"

    projections: tuple[Projection, ...]
    normalise: bool
    skip_first: int = 0
    """First tokens of a text that get no vector."""
    query_marker: str = ""
    document_marker: str = ""
    """Text, usually one token, put before the prompt."""
    query_length: int | None = None
    document_length: int | None = None
    """Tokens read of a text where it is fewer than the model reads."""
    expansion: Expansion | None = None
    skiplist: tuple[str, ...] = ()
    """Tokens that get no vector, such as punctuation."""
    skips: tuple[str, ...] = ("document",)
    """The kinds of text to which `skiplist` applies."""

    def marker(self, kind: str) -> str:
        """What goes before a text of this kind."""
        return self.query_marker if kind == "query" else self.document_marker

    def length(self, kind: str) -> int | None:
        """Tokens read of a text of this kind; None: as many as the model reads."""
        if kind == "query" and self.expansion is not None:
            if self.expansion.is_limit:
                return self.expansion.length
            return None if self.query_length is None else max(self.query_length, self._floor)
        return self.query_length if kind == "query" else self.document_length

    @property
    def _floor(self) -> int:
        return 0 if self.expansion is None else self.expansion.length


def is_one(
    config: Mapping[str, Any], modules: Sequence[Module], settings: Mapping[str, Any]
) -> bool:
    """Whether the folder is marked as a multi-vector model, in one of the formats known."""
    return (
        settings.get("model_type") in _MODEL_TYPES
        or any(mark in settings for mark in _PYLATE_MARKS)
        or any(module.kind == "MultiVectorMask" for module in modules)
        or _STANFORD in (config.get("architectures") or ())
    )


def read(
    folder: Path,
    transformer: Path,
    config: Mapping[str, Any],
    modules: Sequence[Module],
    settings: Mapping[str, Any],
) -> MultiVector:
    """The head of a multi-vector model.

    Three formats: sentence-transformers' own (>= 6), PyLate's (`query_prefix` and others in
    config_sentence_transformers.json), Stanford's (`HF_ColBERT`, artifact.metadata).

    Raises:
        ModelUnsupported: it asks for a part that isn't computed here.
        ModelCorrupt: a file is damaged.
    """
    strange = [module.kind for module in modules if module.kind not in _KINDS]
    if strange:
        raise ModelUnsupported(
            f"{folder / 'modules.json'}: {', '.join(strange)} in a multi-vector model isn't "
            f"computed here; known: {', '.join(_KINDS)}"
        )
    if _STANFORD in (config.get("architectures") or ()) and len(modules) == 1:
        return _stanford(folder)
    projections = tuple(
        _projection(folder / module.path) for module in modules if module.kind == "Dense"
    )
    own = read_json(transformer / "sentence_bert_config.json", missing={})
    mask = next((module for module in modules if module.kind == "MultiVectorMask"), None)
    if mask is None and settings.get("model_type") != "MultiVectorEncoder":
        return _pylate(projections, own, settings, folder)
    masked = {} if mask is None else read_json(folder / mask.path / "config.json", missing={})
    if masked.get("keep_only_token_ids"):
        raise ModelUnsupported(f"{folder}: MultiVectorMask by keep_only_token_ids isn't computed")
    tasks = masked.get("skiplist_tasks") or ["document"]
    return MultiVector(
        projections,
        any(module.kind == "Normalize" for module in modules),
        query_marker=str(settings.get("query_prefix") or ""),
        document_marker=str(settings.get("document_prefix") or ""),
        query_length=own.get("query_length", settings.get("query_length")),
        document_length=own.get("document_length", settings.get("document_length")),
        expansion=_expansion(own.get("query_expansion"), folder),
        skiplist=tuple(masked.get("skiplist_words") or ()),
        skips=(tasks,) if isinstance(tasks, str) else tuple(tasks),
    )


def _pylate(
    projections: tuple[Projection, ...],
    own: Mapping[str, Any],
    settings: Mapping[str, Any],
    folder: Path,
) -> MultiVector:
    """PyLate up to 3: masking and normalising were in its code, and are in no file."""
    query_length = settings.get("query_length") or own.get("query_length")
    expansion: Expansion | None = None
    if "query_expansion" in settings:
        expansion = _expansion(settings["query_expansion"], folder)
    elif settings.get("do_query_expansion") is not False:
        attended = settings.get(
            "attend_to_expansion_tokens", settings.get("attend_to_mask_tokens", False)
        )
        expansion = Expansion(int(query_length or _PYLATE_QUERY_LENGTH), True, bool(attended))
        query_length = None
    words = settings.get("skiplist_words")
    return MultiVector(
        projections,
        True,
        query_marker=str(settings.get("query_prefix") or ""),
        document_marker=str(settings.get("document_prefix") or ""),
        query_length=query_length,
        document_length=settings.get("document_length") or own.get("document_length"),
        expansion=expansion,
        skiplist=tuple(string.punctuation if words is None else words),
    )


def _stanford(folder: Path) -> MultiVector:
    """Stanford's ColBERT: the projection lies beside the network, the settings in one file."""
    written = read_json(folder / "artifact.metadata", missing={})
    punctuation = string.punctuation if written.get("mask_punctuation", True) else ""
    return MultiVector(
        (Projection(None, outputs=int(written.get("dim") or 0)),),
        True,
        query_marker=(written.get("query_token_id") or "[unused0]") + " ",
        document_marker=(written.get("doc_token_id") or "[unused1]") + " ",
        document_length=written.get("doc_maxlen"),
        expansion=Expansion(
            int(written.get("query_maxlen") or _PYLATE_QUERY_LENGTH),
            True,
            bool(written.get("attend_to_mask_tokens")),
        ),
        skiplist=tuple(punctuation),
    )


def _expansion(written: Any, folder: Path) -> Expansion | None:
    if written is None:
        return None
    if not isinstance(written, dict) or written.get("strategy") not in ("fixed", "min"):
        raise ModelUnsupported(
            f"{folder}: query_expansion {written!r} isn't computed here; its strategy must be "
            "fixed or min"
        )
    length = written.get("length")
    if not isinstance(length, int) or length < 1:
        raise ModelCorrupt(f"{folder}: query_expansion doesn't say its length: {written!r}")
    is_limit = written["strategy"] == "fixed"
    return Expansion(length, is_limit, bool(written.get("attend")), written.get("token"))


def _projection(folder: Path) -> Projection:
    path = folder / "config.json"
    config = read_json(path)
    inputs, outputs = config.get("in_features"), config.get("out_features")
    if not isinstance(inputs, int) or not isinstance(outputs, int) or min(inputs, outputs) < 1:
        raise ModelCorrupt(f"{path} doesn't say its in_features and out_features")
    activation = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    if activation not in ACTIVATIONS:
        raise ModelUnsupported(
            f"{path}: activation {activation!r} isn't computed here; "
            f"known: {', '.join(ACTIVATIONS)}"
        )
    sides = [config.get(f"module_{side}_name") for side in ("input", "output")]
    if any(side not in _ON_TOKENS for side in sides):
        raise ModelUnsupported(
            f"{path}: a Dense on {sides} in a multi-vector model isn't computed here; known: "
            "token_embeddings"
        )
    residual: Literal["none", "same", "projected"] = "none"
    if config.get("use_residual"):
        residual = "same" if inputs == outputs else "projected"
    bias = bool(config.get("bias", True))
    return Projection(folder, inputs, outputs, bias, ACTIVATIONS[activation], residual)
