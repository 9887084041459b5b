"""What a folder gives beside pooled vectors, or instead: scores, sparse and multi-vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from likewise.base.errors import ModelCorrupt, ModelUnsupported
from likewise.models import multivector
from likewise.models.multivector import MultiVector, Projection
from likewise.models.parts import ACTIVATIONS, Module, read_json
from likewise.models.template import (
    Template,
    known_template,
    read_template,
    refuse_chat_template,
)
from likewise.vectors import activate

_CLASSIFIER = "ForSequenceClassification"
_ANSWERS = ("yes", "no")
_SPLADE_POOLING = ("max", "sum")
_SPLADE_ACTIVATIONS = ("relu", "log1p_relu")
_SAVE_ANEW = (
    "take it out of the tokenizer's files, or say what is meant with a modules.json, as "
    "sentence_transformers.CrossEncoder({!r}).save() writes it"
)
_M3_FILES = ("sparse_linear", "colbert_linear")


@dataclass(frozen=True, slots=True)
class Scores:
    """Two texts read together give a number for each label: cross-encoders, classifiers."""

    gives: ClassVar[str] = "scores"

    labels: tuple[str, ...]
    activation: str
    """What the last layer's numbers go through, such as `sigmoid`."""
    answers: tuple[int, ...] = ()
    """For a decoder that answers yes or no: the tokens whose logits after the last token are the
    score, the first one's less the second's. Empty: a classification head."""
    template: Template | None = None
    """The text that a pair is written into; None: the tokenizer joins the two."""
    prompt: str = ""
    """What goes before the query, or into the template as its instruction."""


@dataclass(frozen=True, slots=True)
class Sparse:
    """A weight for each token of the vocabulary, from a masked language model (SPLADE)."""

    gives: ClassVar[str] = "sparse"

    pooling: str
    """`max` or `sum` over a text's tokens."""
    activation: str
    """`relu`: log(1 + relu x); `log1p_relu`: log(1 + log(1 + relu x))."""


@dataclass(frozen=True, slots=True)
class Lexical:
    """A weight for each of the text's own tokens (BGE-M3), from one linear layer."""

    gives: ClassVar[str] = "sparse"

    file: Path
    """A safetensors file with `weight` [1, width] and `bias` [1]."""


Head = Scores | Sparse | Lexical | MultiVector


@dataclass(frozen=True, slots=True)
class Given:
    """What a folder gives."""

    heads: tuple[Head, ...] = ()
    has_vectors: bool = True
    notes: tuple[str, ...] = ()


def read_heads(
    folder: Path,
    transformer: Path,
    config: Mapping[str, Any],
    modules: Sequence[Module],
    settings: Mapping[str, Any],
) -> Given:
    """What the model in `folder` gives beside pooled vectors or instead of them.

    What marks each kind is written in the folder, never taken from its name: a module of
    modules.json, `architectures` of config.json, `model_type` of `settings` (the table in
    config_sentence_transformers.json), or a file that belongs to the kind alone.

    Raises:
        ModelUnsupported: it asks for a variant that isn't computed here.
        ModelCorrupt: a file is damaged, or two contradict each other.
    """
    kinds = [module.kind for module in modules]
    if "LogitScore" in kinds:
        return Given((_answers(folder, transformer, modules, settings),), has_vectors=False)
    if "SpladePooling" in kinds:
        return Given((_splade(folder, transformer, modules),), has_vectors=False)
    if multivector.is_one(config, modules, settings):
        found = multivector.read(folder, transformer, config, modules, settings)
        return Given((found,), has_vectors=False)
    architecture = next(iter(config.get("architectures") or ()), "")
    if architecture.endswith(_CLASSIFIER) and kinds == ["Transformer"]:
        if not (folder / "modules.json").is_file():
            # sentence-transformers reads its settings only beside modules.json.
            settings = {}
            refuse_chat_template(transformer, _SAVE_ANEW.format(str(folder)))
        return Given((_classifier(transformer, config, settings),), has_vectors=False)
    if not (folder / "modules.json").is_file():
        template = known_template(transformer, architecture)
        if template is not None:
            yes_no = tuple(_token(transformer, word) for word in _ANSWERS)
            head = Scores(("relevance",), "sigmoid", yes_no, template)
            return Given((head,), has_vectors=False)
    return _beside(transformer)


def _classifier(
    transformer: Path, config: Mapping[str, Any], settings: Mapping[str, Any]
) -> Scores:
    path = transformer / "config.json"
    named = config.get("id2label")
    if isinstance(named, dict) and named:
        try:
            labels = tuple(str(named[key]) for key in sorted(named, key=int))
        except (TypeError, ValueError) as wrong:
            raise ModelCorrupt(f"{path}: id2label isn't numbered: {wrong}") from wrong
    else:
        # transformers leaves its default, two labels, out of the file.
        labels = tuple(f"LABEL_{index}" for index in range(int(config.get("num_labels", 2))))
    template, prompt = _pair_text(transformer, settings)
    return Scores(labels, _activation(config, settings, len(labels), path), (), template, prompt)


def _answers(
    folder: Path, transformer: Path, modules: Sequence[Module], settings: Mapping[str, Any]
) -> Scores:
    _require_order(folder, modules, "LogitScore")
    path = folder / modules[-1].path / "config.json"
    written = read_json(path)
    answers = [written.get("true_token_id"), written.get("false_token_id")]
    if answers[1] is None:
        del answers[1]
    if not all(isinstance(token, int) and token >= 0 for token in answers):
        raise ModelCorrupt(f"{path}: true_token_id and false_token_id must be token ids: {answers}")
    if written.get("module_input_name", "causal_logits") != "causal_logits":
        raise ModelUnsupported(
            f"{path}: a LogitScore on {written['module_input_name']!r} isn't computed here; "
            "known: causal_logits"
        )
    template, prompt = _pair_text(transformer, settings)
    activation = _activation({}, settings, 1, folder / "config_sentence_transformers.json")
    tokens = tuple(token for token in answers if token is not None)
    return Scores(("relevance",), activation, tokens, template, prompt)


def _pair_text(transformer: Path, settings: Mapping[str, Any]) -> tuple[Template | None, str]:
    """How a pair is written, and the prompt it gets unless the caller says another."""
    template = read_template(transformer)
    prompts, name = settings.get("prompts") or {}, settings.get("default_prompt_name")
    return template, str(prompts.get(name, "")) if name is not None else ""


def _activation(
    config: Mapping[str, Any], settings: Mapping[str, Any], labels: int, path: Path
) -> str:
    """As sentence-transformers' CrossEncoder finds it."""
    written = settings.get("activation_fn")
    ours = config.get("sentence_transformers")
    if written is None and isinstance(ours, dict):
        written = ours.get("activation_fn")
    if written is None:
        written = config.get("sbert_ce_default_activation_function")
    if written is None:
        return "sigmoid" if labels == 1 else "identity"
    name = ACTIVATIONS.get(str(written), "")
    if name not in activate.ACTIVATIONS:
        raise ModelUnsupported(
            f"{path}: activation {written!r} of the scores isn't computed here; "
            f"known: {', '.join(activate.ACTIVATIONS)}"
        )
    return name


def _splade(folder: Path, transformer: Path, modules: Sequence[Module]) -> Sparse:
    _require_order(folder, modules, "SpladePooling")
    task = read_json(transformer / "sentence_bert_config.json", missing={}).get("transformer_task")
    if modules[0].kind == "Transformer" and task != "fill-mask":
        raise ModelUnsupported(
            f"{folder / 'modules.json'}: SpladePooling on a Transformer whose transformer_task is "
            f"{task!r}; it is computed on fill-mask alone"
        )
    path = folder / modules[1].path / "config.json"
    written = read_json(path)
    pooling = written.get("pooling_strategy", "max")
    activation = written.get("activation_function", "relu")
    if pooling not in _SPLADE_POOLING or activation not in _SPLADE_ACTIVATIONS:
        raise ModelUnsupported(
            f"{path}: SpladePooling by {pooling!r} of {activation!r} isn't computed here; known: "
            f"{', '.join(_SPLADE_POOLING)} of {', '.join(_SPLADE_ACTIVATIONS)}"
        )
    return Sparse(pooling, activation)


def _beside(transformer: Path) -> Given:
    """The two layers that BGE-M3 brings along with its dense vectors."""
    heads: list[Head] = []
    notes = []
    for stem in _M3_FILES:
        file = transformer / f"{stem}.safetensors"
        if file.is_file():
            heads.append(Lexical(file) if stem == "sparse_linear" else _m3_tokens(file))
        elif (transformer / f"{stem}.pt").is_file():
            notes.append(
                f"{stem}.pt is a pickle, which is never read: without what it gives until it is "
                f"converted (likewise models convert {transformer})"
            )
    return Given(tuple(heads), True, tuple(notes))


def _m3_tokens(file: Path) -> MultiVector:
    # Every token but the first gets a vector (FlagEmbedding, BGEM3ForInference).
    return MultiVector((Projection(file, bias=True, is_bare=True),), True, skip_first=1)


def _require_order(folder: Path, modules: Sequence[Module], last: str) -> None:
    kinds = [module.kind for module in modules]
    if len(kinds) == 2 and kinds[0] in ("Transformer", "MLMTransformer") and kinds[1] == last:
        return
    raise ModelUnsupported(
        f"{folder / 'modules.json'}: {' -> '.join(kinds)} isn't computed here; {last} must follow "
        "the transformer, and nothing else"
    )


def _token(transformer: Path, word: str) -> int:
    vocabulary = read_json(transformer / "tokenizer.json").get("model", {}).get("vocab", {})
    if not isinstance(vocabulary, dict) or not isinstance(vocabulary.get(word), int):
        raise ModelCorrupt(f"{transformer / 'tokenizer.json'} has no token {word!r}")
    return int(vocabulary[word])


__all__ = ["Given", "Head", "Lexical", "MultiVector", "Scores", "Sparse", "read_heads"]
