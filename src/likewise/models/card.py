"""What a model folder says about itself; what it asks for that we don't know is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from likewise.base.errors import ModelCorrupt, ModelNotFound, ModelUnsupported
from likewise.models import parts
from likewise.models.heads import Head, read_heads
from likewise.models.parts import Dense, Normalise, Pooling, Step, read_json

# Written by sentence-transformers up to 5.3; the prefix named the architecture in its first years.
_LENGTH_FILES = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
_DOCUMENT_PROMPTS = ("document", "passage", "corpus")
_NO_LIMIT = 1_000_000
"""Tokenizer files write 1e30 for "no limit"; anything this large means that."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model as its folder describes it."""

    folder: Path
    name: str
    transformer: Path
    """The folder with config.json, the weights and the tokenizer; often `folder` itself."""
    architecture: str
    """`model_type` of config.json."""
    config: Mapping[str, Any]
    """config.json."""
    steps: tuple[Step, ...]
    """What happens to the hidden states, in order; the first is a `Pooling`. Empty: no vectors."""
    dimensions: int
    """Numbers in a vector; 0 where there are none."""
    max_tokens: int
    """Tokens read of one text, special ones included."""
    lower_case: bool
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None
    matryoshka: tuple[int, ...] = ()
    """Smaller widths the model was trained to be cut to."""
    notes: tuple[str, ...] = ()
    """What was decided where the folder says nothing."""
    heads: tuple[Head, ...] = ()
    """What the model gives beside vectors, or instead."""

    @property
    def gives(self) -> tuple[str, ...]:
        """What the model gives, such as `vectors`, `scores`, `sparse`, `tokens`."""
        own = ("vectors",) if self.steps else ()
        return (*own, *(head.gives for head in self.heads))

    @property
    def pooling(self) -> Pooling:
        """The first step; only of a model that gives vectors."""
        first = self.steps[0]
        assert isinstance(first, Pooling), "a card without pooling: this is a bug"
        return first

    @property
    def normalised(self) -> bool:
        """Whether the vectors have length 1."""
        return bool(self.steps) and isinstance(self.steps[-1], Normalise)

    def prompt(self, kind: str) -> str:
        """The text that the model wants put before a `document` or a `query`."""
        names = ("query",) if kind == "query" else _DOCUMENT_PROMPTS
        for name in (*names, self.default_prompt_name):
            if name is not None and name in self.prompts:
                return self.prompts[name]
        return ""


def read_card(folder: Path, *, name: str | None = None) -> ModelCard:
    """The card of the model in `folder`.

    Raises:
        ModelNotFound: there is no model there.
        ModelUnsupported: it asks for a part that isn't computed here, or for remote code.
        ModelCorrupt: a file is damaged, or two contradict each other.
    """
    if not folder.is_dir():
        raise ModelNotFound(f"{folder} isn't a folder")
    listed = parts.read_modules(folder)
    transformer = folder / listed[0].path
    config = _read_config(transformer)
    settings = read_json(folder / "config_sentence_transformers.json", missing={})
    given = read_heads(folder, transformer, config, listed, settings)
    notes = list(given.notes)
    steps: tuple[Step, ...] = ()
    dimensions = 0
    if given.has_vectors:
        if not (folder / "modules.json").is_file():
            notes.append("no modules.json: mean pooling, as sentence-transformers does")
        steps, dimensions = parts.read_steps(folder, listed[1:], _width(config, transformer))
    max_tokens, lower_case, note = _read_length(transformer, config)
    return ModelCard(
        folder=folder,
        name=name or folder.name,
        transformer=transformer,
        architecture=str(config["model_type"]),
        config=config,
        steps=steps,
        dimensions=dimensions,
        max_tokens=max_tokens,
        lower_case=lower_case,
        prompts=_prompts(settings, folder),
        default_prompt_name=settings.get("default_prompt_name"),
        matryoshka=_matryoshka(settings, config, dimensions),
        notes=(*notes, *note),
        heads=given.heads,
    )


def _read_config(transformer: Path) -> dict[str, Any]:
    path = transformer / "config.json"
    if not path.is_file():
        raise ModelNotFound(f"{transformer} has no config.json: it isn't a model folder")
    config = read_json(path)
    tokenizer = read_json(transformer / "tokenizer_config.json", missing={})
    asked = {**config.get("auto_map", {}), **tokenizer.get("auto_map", {})}
    if asked:
        wanted = ", ".join(f"{key} -> {value}" for key, value in sorted(asked.items()))
        raise ModelUnsupported(
            f"{transformer} asks to run code that comes with the model (auto_map: {wanted}); "
            "Likewise never runs a model's code"
        )
    if not isinstance(config.get("model_type"), str):
        raise ModelCorrupt(f"{path} doesn't say its model_type")
    return config


def _width(config: Mapping[str, Any], transformer: Path) -> int:
    for key in ("hidden_size", "dim", "d_model", "n_embd"):
        if isinstance(config.get(key), int):
            return int(config[key])
    raise ModelCorrupt(f"{transformer / 'config.json'} doesn't say its hidden_size")


def _read_length(transformer: Path, config: Mapping[str, Any]) -> tuple[int, bool, tuple[str, ...]]:
    """Tokens read of a text, whether to lower-case it, and a note if the limit had to be capped."""
    written: dict[str, Any] = {}
    for file in _LENGTH_FILES:
        if (transformer / file).is_file():
            written = read_json(transformer / file)
            break
    tokenizer = read_json(transformer / "tokenizer_config.json", missing={})
    positions = config.get("max_position_embeddings")
    limits = [tokenizer.get("model_max_length"), positions]
    wanted = written.get("max_seq_length")
    if wanted is None:
        known = [int(n) for n in limits if isinstance(n, int | float) and n < _NO_LIMIT]
        wanted = min(known, default=None)
    if not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < 1:
        raise ModelCorrupt(
            f"{transformer} doesn't say how many tokens the model reads (max_seq_length, "
            f"model_max_length or max_position_embeddings); found {wanted!r}"
        )
    lower_case = bool(written.get("do_lower_case", False))
    if isinstance(positions, int) and wanted > positions:
        note = f"max_seq_length {wanted} capped to the {positions} positions the model has"
        return positions, lower_case, (note,)
    return wanted, lower_case, ()


def _prompts(settings: Mapping[str, Any], folder: Path) -> dict[str, str]:
    prompts = settings.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(isinstance(v, str) for v in prompts.values()):
        raise ModelCorrupt(f"{folder}: `prompts` isn't a table of texts")
    default = settings.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise ModelCorrupt(
            f"{folder}: default_prompt_name {default!r} isn't among the prompts {sorted(prompts)}"
        )
    return prompts


def _matryoshka(
    settings: Mapping[str, Any], config: Mapping[str, Any], dimensions: int
) -> tuple[int, ...]:
    declared = settings.get("matryoshka_dimensions") or config.get("matryoshka_dimensions") or ()
    return tuple(sorted({int(n) for n in declared if 0 < int(n) < dimensions}))


__all__ = ["Dense", "ModelCard", "Normalise", "Pooling", "Step", "read_card"]
