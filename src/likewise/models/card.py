"""What a model folder says about itself; what it asks for that we don't know is refused by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from likewise.base.errors import (
    InputError,
    ModelCorrupt,
    ModelNotFound,
    ModelUnsupported,
    SettingsError,
)
from likewise.models import parts
from likewise.models.heads import Head, MultiVector, read_heads
from likewise.models.lora import Adapter, read_adapter
from likewise.models.overrides import Overrides
from likewise.models.parts import Dense, Normalise, Pooling, Step, read_json
from likewise.models.pooled import (
    SETTINGS,
    Pooled,
    cut_to,
    read_pooled,
    refuse_converted,
    truncate_dim,
)
from likewise.models.reading import read_reading
from likewise.models.remote import computed_as
from likewise.models.static import STATIC, StaticParts, read_static
from likewise.models.vocabulary import tokenizer_folder

_FOR_DOCUMENTS = ("passage", "corpus")
_MATRYOSHKA = ("matryoshka_dimensions", "matryoshka_dims", "truncate_dim")
_UNLIKE_COSINE = ("dot", "euclidean", "manhattan")
NOTHING_SAID = Overrides()


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
    overrides: Overrides = Overrides()
    """What the operator says instead of the folder; the other fields have it already."""
    similarity: str | None = None
    """How vectors are to be compared, if that was said."""

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
    folder: Path,
    *,
    name: str | None = None,
    find: Callable[[str], Path] | None = None,
    overrides: Overrides = NOTHING_SAID,
) -> ModelCard:
    """The card of the model in `folder`; `find` gives the folder of the model an adapter is for.

    What `overrides` say counts instead of what the folder says.

    Raises:
        ModelNotFound: there is no model there.
        ModelUnsupported: it asks for a part that isn't computed here, or for remote code; or an
            override is about something that it doesn't have.
        ModelCorrupt: a file is damaged, or two contradict each other.
    """
    if not folder.is_dir():
        raise ModelNotFound(f"{folder} isn't a folder")
    if (table := read_static(folder)) is not None:
        return _static_card(folder, name, table, overrides)
    listed = parts.read_modules(folder)
    transformer = folder / listed[0].path
    adapter = read_adapter(transformer, find)
    base = transformer if adapter is None else adapter.base
    config = _read_config(base)
    known = computed_as(base, config)
    architecture = known or str(config["model_type"])
    settings = read_json(folder / SETTINGS, missing={})
    given = read_heads(folder, transformer, config, listed, settings)
    pooled = Pooled((), 0)
    is_bare = not (folder / "modules.json").is_file()
    if given.has_vectors:
        if not is_bare:
            refuse_converted(settings, folder)
        pooled = read_pooled(folder, transformer, config, listed, overrides)
    reading = read_reading(
        transformer,
        config,
        architecture,
        pooled=given.has_vectors,
        is_bare=is_bare,
        limit=overrides.max_length,
    )
    said = _said(folder, pooled, settings, config, overrides, is_bare=is_bare)
    return ModelCard(
        folder=folder,
        name=name or folder.name,
        transformer=transformer,
        architecture=architecture,
        config=config,
        steps=said.pooled.steps,
        dimensions=said.pooled.dimensions,
        max_tokens=reading.max_tokens,
        lower_case=reading.lower_case,
        prompts=said.prompts,
        default_prompt_name=said.default_prompt_name,
        matryoshka=said.matryoshka,
        any_width=said.any_width,
        notes=(*given.notes, *said.pooled.notes, *said.notes, *reading.notes),
        heads=given.heads,
        brings_code=known is not None,
        adapter=adapter,
        overrides=overrides,
        similarity=said.similarity,
    )


def _static_card(
    folder: Path, name: str | None, table: StaticParts, overrides: Overrides
) -> ModelCard:
    if overrides.pooling is not None:
        raise ModelUnsupported(
            f"{folder} is a table of token vectors, which are always averaged; it has no pooling "
            "to be set",
            param="pooling",
        )
    settings = read_json(folder / SETTINGS, missing={})
    config, max_tokens = dict(table.config), table.max_tokens
    if overrides.max_length is not None:
        config["max_length"] = max_tokens = overrides.max_length
    pooled = Pooled(table.steps, table.dimensions, table.notes)
    said = _said(folder, pooled, settings, {}, overrides)
    return ModelCard(
        folder=folder,
        name=name or folder.name,
        transformer=table.table,
        architecture=STATIC,
        config=config,
        steps=said.pooled.steps,
        dimensions=said.pooled.dimensions,
        max_tokens=max_tokens,
        lower_case=False,
        prompts=said.prompts,
        default_prompt_name=said.default_prompt_name,
        matryoshka=said.matryoshka,
        any_width=said.any_width,
        notes=(*said.pooled.notes, *said.notes),
        overrides=overrides,
        similarity=said.similarity,
    )


@dataclass(frozen=True, slots=True)
class _Said:
    """What config_sentence_transformers.json and the operator say."""

    pooled: Pooled
    prompts: Mapping[str, str]
    default_prompt_name: str | None
    matryoshka: tuple[int, ...]
    any_width: bool
    similarity: str | None
    notes: tuple[str, ...]


def _said(
    folder: Path,
    pooled: Pooled,
    settings: Mapping[str, Any],
    config: Mapping[str, Any],
    overrides: Overrides,
    *,
    is_bare: bool = False,
) -> _Said:
    notes: list[str] = []
    if is_bare and settings:
        # sentence-transformers reads this file only beside modules.json.
        notes.append(f"no modules.json: {SETTINGS} isn't read, as in sentence-transformers")
        settings = {}
    if pooled.steps:
        pooled = cut_to(pooled, truncate_dim(settings, folder, overrides))
    prompts = {**_prompts(settings, folder), **overrides.prompts}
    matryoshka, any_width = _matryoshka(settings, config, pooled.dimensions)
    if overrides.matryoshka == "any":
        matryoshka, any_width = (), True
    elif overrides.matryoshka is not None:
        matryoshka, any_width = _widths(overrides.matryoshka, pooled.dimensions), False
    similarity = overrides.similarity or settings.get("similarity_fn_name")
    if similarity in _UNLIKE_COSINE and pooled.steps:
        notes.append(f"similarity {similarity}: searches here compare by cosine all the same")
    default = _default_prompt(settings, prompts, folder, overrides)
    if default is None and "document" not in prompts:
        notes += [
            f"no prompt 'document': documents of bindings get none, although there is one called "
            f"{name!r}, as by sentence-transformers; name it 'document' to have it put before them"
            for name in _FOR_DOCUMENTS
            if prompts.get(name)
        ]
    return _Said(
        pooled,
        prompts,
        default,
        matryoshka,
        any_width,
        similarity if isinstance(similarity, str) else None,
        tuple(notes),
    )


def _default_prompt(
    settings: Mapping[str, Any], prompts: Mapping[str, str], folder: Path, overrides: Overrides
) -> str | None:
    known = (*prompts, "query", "document")
    if overrides.default_prompt_name is not None:
        name = overrides.default_prompt_name or None
        if name is not None and name not in known:
            raise SettingsError(
                f"default_prompt_name {name!r} isn't among the prompts of {folder}: "
                f"{', '.join(sorted(known))}",
                param="default_prompt_name",
            )
        return name
    default = settings.get("default_prompt_name")
    if default is not None and default not in known:
        raise ModelCorrupt(
            f"{folder / SETTINGS}: default_prompt_name {default!r} isn't among the prompts "
            f"{sorted(prompts)}"
        )
    return default


def _widths(given: tuple[int, ...], dimensions: int) -> tuple[int, ...]:
    over = [width for width in given if width > dimensions]
    if over:
        raise SettingsError(
            f"matryoshka width {over[0]} is more than the {dimensions} that the vectors have",
            param="matryoshka",
        )
    return tuple(sorted({width for width in given if width < dimensions}))


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


def _prompts(settings: Mapping[str, Any], folder: Path) -> dict[str, str]:
    prompts = settings.get("prompts") or {}
    texts = (str, type(None))
    if not isinstance(prompts, dict) or not all(isinstance(v, texts) for v in prompts.values()):
        raise ModelCorrupt(f"{folder / SETTINGS}: `prompts` isn't a table of texts")
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
