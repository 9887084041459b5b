"""What a model folder says about itself; what it asks for that we don't know is refused by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from likewise.base.errors import InputError, ModelCorrupt, ModelNotFound, ModelUnsupported
from likewise.models import parts
from likewise.models.heads import Head, MultiVector, read_heads
from likewise.models.lora import Adapter, read_adapter
from likewise.models.parts import Dense, Normalise, Pooling, Step, read_json
from likewise.models.reading import read_reading
from likewise.models.remote import computed_as
from likewise.models.static import STATIC, StaticParts, read_static
from likewise.models.vocabulary import tokenizer_folder

_MATRYOSHKA = ("matryoshka_dimensions", "matryoshka_dims", "truncate_dim")


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model as its folder describes it."""

    folder: Path
    name: str
    transformer: Path
    """The folder with config.json, the weights and the tokenizer; often `folder` itself."""
    architecture: str
    """`model_type` of config.json, or what the code that the model brings is known to compute."""
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
    any_width: bool = False
    """Whether it declares that it may be cut to any width."""
    notes: tuple[str, ...] = ()
    """What was decided where the folder says nothing."""
    heads: tuple[Head, ...] = ()
    """What the model gives beside vectors, or instead."""
    brings_code: bool = False
    """Whether config.json names code that comes with the model; it isn't run."""
    adapter: Adapter | None = None
    """Changes to the weights; then `base` has the weights and config.json, `transformer` the rest.
    """

    @property
    def base(self) -> Path:
        """The folder with config.json and the weights."""
        return self.transformer if self.adapter is None else self.adapter.base

    @property
    def tokenizer(self) -> Path:
        """The folder with the tokenizer."""
        return tokenizer_folder(self.transformer, self.base)

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

    @property
    def of_length_one(self) -> tuple[Literal["vectors", "tokens"], ...]:
        """Which outputs have rows of length 1."""
        found: list[Literal["vectors", "tokens"]] = ["vectors"] if self.normalised else []
        if any(isinstance(head, MultiVector) and head.normalise for head in self.heads):
            found.append("tokens")
        return tuple(found)

    def prompt(self, name: str | None) -> str:
        """The text that the model wants put before a `document`, a `query`, or what `name` says.

        With None, and for a document or query for which the folder has no prompt of just that name,
        it is the default one, if any. As in sentence-transformers, whose models have a prompt
        "document" that is empty unless they name one, "passage" and "corpus" aren't taken for it.

        Raises:
            InputError: the folder has no prompt of that name; those it has are named.
        """
        if name not in (None, "query", "document", *self.prompts):
            known = ", ".join(["query", "document", *self.prompts])
            raise InputError(
                f"{self.name} has no prompt called {name!r}; it has: {known}", param="prompt_name"
            )
        for each in (name, self.default_prompt_name):
            if each is not None and each in self.prompts:
                return self.prompts[each]
        return ""


def read_card(
    folder: Path, *, name: str | None = None, find: Callable[[str], Path] | None = None
) -> ModelCard:
    """The card of the model in `folder`; `find` gives the folder of the model an adapter is for.

    Raises:
        ModelNotFound: there is no model there.
        ModelUnsupported: it asks for a part that isn't computed here, or for remote code.
        ModelCorrupt: a file is damaged, or two contradict each other.
    """
    if not folder.is_dir():
        raise ModelNotFound(f"{folder} isn't a folder")
    if (table := read_static(folder)) is not None:
        return _static_card(folder, name, table)
    listed = parts.read_modules(folder)
    transformer = folder / listed[0].path
    adapter = read_adapter(transformer, find)
    base = transformer if adapter is None else adapter.base
    config = _read_config(base)
    known = computed_as(base, config)
    architecture = known or str(config["model_type"])
    settings = read_json(folder / "config_sentence_transformers.json", missing={})
    given = read_heads(folder, transformer, config, listed, settings)
    notes = list(given.notes)
    steps: tuple[Step, ...] = ()
    dimensions = 0
    if given.has_vectors:
        if not (folder / "modules.json").is_file():
            notes.append("no modules.json: mean pooling, as sentence-transformers does")
        steps, dimensions = parts.read_steps(folder, listed[1:], _width(config, transformer))
    reading = read_reading(transformer, config, architecture, pooled=given.has_vectors)
    matryoshka, any_width = _matryoshka(settings, config, dimensions)
    return ModelCard(
        folder=folder,
        name=name or folder.name,
        transformer=transformer,
        architecture=architecture,
        config=config,
        steps=steps,
        dimensions=dimensions,
        max_tokens=reading.max_tokens,
        lower_case=reading.lower_case,
        prompts=_prompts(settings, folder),
        default_prompt_name=settings.get("default_prompt_name"),
        matryoshka=matryoshka,
        any_width=any_width,
        notes=(*notes, *reading.notes),
        heads=given.heads,
        brings_code=known is not None,
        adapter=adapter,
    )


def _static_card(folder: Path, name: str | None, table: StaticParts) -> ModelCard:
    settings = read_json(folder / "config_sentence_transformers.json", missing={})
    matryoshka, any_width = _matryoshka(settings, {}, table.dimensions)
    return ModelCard(
        folder=folder,
        name=name or folder.name,
        transformer=table.table,
        architecture=STATIC,
        config=table.config,
        steps=table.steps,
        dimensions=table.dimensions,
        max_tokens=table.max_tokens,
        lower_case=False,
        prompts=_prompts(settings, folder),
        default_prompt_name=settings.get("default_prompt_name"),
        matryoshka=matryoshka,
        any_width=any_width,
    )


def _read_config(transformer: Path) -> dict[str, Any]:
    path = transformer / "config.json"
    if not path.is_file():
        raise ModelNotFound(f"{transformer} has no config.json: it isn't a model folder")
    config = read_json(path)
    if not isinstance(config.get("model_type"), str):
        raise ModelCorrupt(f"{path} doesn't say its model_type")
    named = config.get("architectures")
    if named is not None and not (
        isinstance(named, list) and all(isinstance(each, str) for each in named)
    ):
        raise ModelCorrupt(f"{path}: architectures is {named!r}, not a list of names")
    quantised = config.get("quantization_config")
    if quantised:
        how = quantised.get("quant_method", "?") if isinstance(quantised, dict) else quantised
        raise ModelUnsupported(
            f"{path}: the weights are quantised ({how}), which isn't read here; take the model "
            "in f32, f16 or bf16 and choose the precision when it is loaded"
        )
    return config


def _width(config: Mapping[str, Any], transformer: Path) -> int:
    for key in ("hidden_size", "dim", "d_model", "n_embd"):
        if isinstance(config.get(key), int):
            return int(config[key])
    raise ModelCorrupt(f"{transformer / 'config.json'} doesn't say its hidden_size")


def _prompts(settings: Mapping[str, Any], folder: Path) -> dict[str, str]:
    where = folder / "config_sentence_transformers.json"
    prompts = settings.get("prompts") or {}
    texts = (str, type(None))
    if not isinstance(prompts, dict) or not all(isinstance(v, texts) for v in prompts.values()):
        raise ModelCorrupt(f"{where}: `prompts` isn't a table of texts")
    default = settings.get("default_prompt_name")
    if default is not None and default not in (*prompts, "query", "document"):
        raise ModelCorrupt(
            f"{where}: default_prompt_name {default!r} isn't among the prompts {sorted(prompts)}"
        )
    return {name: text or "" for name, text in prompts.items()}


def _matryoshka(
    settings: Mapping[str, Any], config: Mapping[str, Any], dimensions: int
) -> tuple[tuple[int, ...], bool]:
    """Widths the model may be cut to, and whether that is any; from every key in use for it."""
    widths: set[int] = set()
    for source in (settings, config):
        for key in _MATRYOSHKA:
            declared = source.get(key)
            each = declared if isinstance(declared, list) else [declared]
            numbers = (n for n in each if isinstance(n, int) and not isinstance(n, bool))
            widths |= {n for n in numbers if 0 < n < dimensions}
    any_width = any(source.get("is_matryoshka") is True for source in (settings, config))
    return tuple(sorted(widths)), any_width and not widths


__all__ = ["Dense", "ModelCard", "Normalise", "Pooling", "Step", "read_card"]
