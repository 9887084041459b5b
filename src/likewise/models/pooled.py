"""How a folder turns hidden states into vectors: its modules, or what is usual without them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from likewise.base.errors import ModelCorrupt, ModelUnsupported
from likewise.models import parts
from likewise.models.overrides import Overrides
from likewise.models.parts import Module, Normalise, Pooling, Step, Truncate
from likewise.models.template import refuse_chat_template

_KIND = "SentenceTransformer"
_CAUSAL = "ForCausalLM"
_NAME_IT = "name the pooling: --pooling lasttoken, or pooling in likewise.toml"
SETTINGS = "config_sentence_transformers.json"


@dataclass(frozen=True, slots=True)
class Pooled:
    """What happens to the hidden states, and the width of the vectors that come out."""

    steps: tuple[Step, ...]
    dimensions: int
    notes: tuple[str, ...] = ()


def read_pooled(
    folder: Path,
    transformer: Path,
    config: Mapping[str, Any],
    listed: Sequence[Module],
    overrides: Overrides,
) -> Pooled:
    """The steps after the transformer, whose config.json is `config`, in the model in `folder`.

    Raises:
        ModelUnsupported: a part, or the order of parts, isn't known here; or texts would go
            through a chat template.
        ModelCorrupt: a part's width isn't that of the part before it.
    """
    width = _width(config, transformer)
    if not (folder / "modules.json").is_file():
        return _usual(transformer, config, width, overrides)
    if not listed[1:] and overrides.pooling is None:
        raise ModelUnsupported(
            f"{folder / 'modules.json'} lists no Pooling, so that texts have no vectors; list one, "
            "or name it: --pooling, or pooling in likewise.toml"
        )
    modules = listed[1:] or [Module("Dropout", "")]
    steps, dimensions = parts.read_steps(folder, modules, width, overrides.pooling)
    return Pooled(steps, dimensions)


def cut_to(pooled: Pooled, width: int | None) -> Pooled:
    """`pooled` with its vectors cut to `width`, as sentence-transformers does for truncate_dim.

    It cuts last of all, and doesn't scale to length 1 again.
    """
    if width is None or width >= pooled.dimensions:
        return pooled
    note = f"truncate_dim {width}: vectors are cut from {pooled.dimensions} numbers to {width}"
    if isinstance(pooled.steps[-1], Normalise):
        note += ", and are shorter than 1, as in sentence-transformers"
    return replace(
        pooled,
        steps=(*pooled.steps, Truncate(pooled.dimensions, width)),
        dimensions=width,
        notes=(*pooled.notes, note),
    )


def truncate_dim(settings: Mapping[str, Any], folder: Path, overrides: Overrides) -> int | None:
    """The width that all vectors are cut to, by the operator or the folder's settings.

    Raises:
        ModelCorrupt: the folder's is no positive whole number.
    """
    written = settings.get("truncate_dim")
    if written is not None and (
        isinstance(written, bool) or not isinstance(written, int) or written < 1
    ):
        raise ModelCorrupt(
            f"{folder / SETTINGS}: truncate_dim must be a positive whole number, not {written!r}"
        )
    return written if overrides.truncate_dim is None else overrides.truncate_dim


def refuse_converted(settings: Mapping[str, Any], folder: Path) -> None:
    """Raise ModelUnsupported where sentence-transformers would leave modules.json aside.

    A folder that says to be of another kind of model gets modules of its choice there.
    """
    kind = settings.get("model_type", _KIND)
    if kind != _KIND:
        raise ModelUnsupported(
            f"{folder / SETTINGS}: model_type is {kind!r}, beside a modules.json with a Pooling; "
            "sentence-transformers would take other modules than those. To have them computed as "
            f"they are listed, write {_KIND!r}"
        )


def _usual(
    transformer: Path, config: Mapping[str, Any], width: int, overrides: Overrides
) -> Pooled:
    """sentence-transformers' own choice for a folder without modules.json."""
    if overrides.pooling is not None:
        modes, note = overrides.pooling, ""
    else:
        refuse_chat_template(
            transformer,
            "name the pooling, such as --pooling lasttoken, or pooling in likewise.toml",
        )
        first = next(iter(config.get("architectures") or ()), "")
        is_causal = first.endswith(_CAUSAL) and bool(config.get("is_causal", True))
        modes = ("lasttoken",) if is_causal else ("mean",)
        why = f"{first or 'no architecture'} isn't a causal language model"
        if first.endswith(_CAUSAL):
            why = f"{first} is a causal language model" if is_causal else "is_causal is false"
        note = f"no modules.json: {modes[0]} pooling, as sentence-transformers does ({why})"
    return Pooled((Pooling(modes),), width * len(modes), (note,) if note else ())


def _width(config: Mapping[str, Any], transformer: Path) -> int:
    for key in ("hidden_size", "dim", "d_model", "n_embd"):
        if isinstance(config.get(key), int):
            return int(config[key])
    raise ModelCorrupt(f"{transformer / 'config.json'} doesn't say its hidden_size")
