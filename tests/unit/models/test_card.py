"""What a model folder says is read in both formats, and what isn't known is refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from likewise.base.errors import InputError, ModelCorrupt, ModelNotFound, ModelUnsupported
from likewise.models.card import ModelCard, read_card
from likewise.models.overrides import Overrides
from likewise.models.parts import Dense, Normalise, Pooling
from tests.conformance.tiny import SMALL, write_bert, write_json

NEW = "sentence_transformers.sentence_transformer.modules.pooling.Pooling"
BASE = "sentence_transformers.base.modules"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good model folder, to be spoilt."""
    return write_bert(tmp_path / "model")


def modules(folder: Path, *kinds: str) -> None:
    """Write modules.json with these class paths."""
    entries = [
        {"idx": i, "path": f"{i}_{kind.rpartition('.')[2]}" if i else "", "type": kind}
        for i, kind in enumerate(kinds)
    ]
    write_json(folder / "modules.json", entries)


@pytest.mark.model
def test_the_default_model(model_folder: Path) -> None:
    card = read_card(model_folder, name="m")
    assert (card.name, card.architecture, card.dimensions) == ("m", "bert", 384)
    assert card.steps == (Pooling(("mean",)), Normalise())
    # tokenizer.json says 128, sentence_bert_config.json says 256; the latter rules.
    assert card.max_tokens == 256
    assert card.normalised and not card.lower_case and card.notes == ()


def test_the_format_since_5_4(folder: Path) -> None:
    modules(folder, f"{BASE}.transformer.Transformer", NEW, f"{BASE}.normalize.Normalize")
    (folder / "sentence_bert_config.json").unlink()
    write_json(folder / "sentence_bert_config.json", {"transformer_task": "feature-extraction"})
    write_json(folder / "tokenizer_config.json", {"model_max_length": 20})
    card = read_card(folder)
    assert card.steps == (Pooling(("mean",)), Normalise())
    assert card.max_tokens == 20


@pytest.mark.parametrize(
    ("flags", "modes"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, ("cls",)),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, ("cls", "mean")),
        ({"pooling_mode_max_tokens": True}, ("max",)),
        ({"pooling_mode_lasttoken": True}, ("lasttoken",)),
    ],
)
def test_the_classic_flags(folder: Path, flags: dict[str, bool], modes: tuple[str, ...]) -> None:
    write_json(folder / "1_Pooling/config.json", {"word_embedding_dimension": 32, **flags})
    card = read_card(folder)
    assert card.pooling.modes == modes and card.dimensions == 32 * len(modes)


def test_no_modules_means_mean_pooling_and_a_note(folder: Path) -> None:
    (folder / "modules.json").unlink()
    card = read_card(folder)
    assert card.steps == (Pooling(("mean",)),) and not card.normalised
    assert "no modules.json: mean pooling" in card.notes[0]


@pytest.mark.parametrize(
    ("config", "mode"),
    [
        ({"architectures": ["Qwen3ForCausalLM"]}, "lasttoken"),
        ({"architectures": ["BertForCausalLM", "Other"]}, "lasttoken"),
        ({"architectures": ["Other", "Qwen3ForCausalLM"]}, "mean"),
        ({"architectures": ["Qwen3ForCausalLM"], "is_causal": False}, "mean"),
        ({"architectures": ["BertModel"]}, "mean"),
        ({"architectures": None}, "mean"),
    ],
    ids=str,
)
def test_what_is_usual_without_modules(folder: Path, config: dict[str, Any], mode: str) -> None:
    (folder / "modules.json").unlink()
    write_json(folder / "config.json", {**SMALL, **config})
    card = read_card(folder)
    assert card.pooling.modes == (mode,)
    assert f"no modules.json: {mode} pooling, as sentence-transformers does" in card.notes[0]


@pytest.mark.parametrize("file", ["tokenizer_config.json", "chat_template.jinja"])
def test_a_chat_template_without_modules_is_refused(folder: Path, file: str) -> None:
    (folder / "modules.json").unlink()
    write_json(folder / file, {"chat_template": "{{ messages }}"})
    with pytest.raises(ModelUnsupported, match=f"{file} has a chat template.*--pooling"):
        read_card(folder)
    card = read_card(folder, overrides=Overrides(pooling=("cls",)))
    assert card.pooling.modes == ("cls",) and not card.notes


def test_settings_beside_no_modules_are_not_read_and_named(folder: Path) -> None:
    (folder / "modules.json").unlink()
    write_json(
        folder / "config_sentence_transformers.json",
        {"prompts": {"document": "d: "}, "default_prompt_name": "document", "truncate_dim": 8},
    )
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 9})
    card = read_card(folder)
    assert (card.prompt("document"), card.dimensions, card.max_tokens) == ("", 32, 64)
    assert any("config_sentence_transformers.json isn't read" in note for note in card.notes)


def test_truncate_dim_is_the_width(folder: Path) -> None:
    write_json(folder / "config_sentence_transformers.json", {"truncate_dim": 16})
    card = read_card(folder)
    assert card.dimensions == 16 and "cut from 32 numbers to 16" in card.notes[0]
    assert read_card(folder, overrides=Overrides(truncate_dim=8)).dimensions == 8
    write_json(folder / "config_sentence_transformers.json", {"truncate_dim": 32})
    assert read_card(folder).dimensions == 32


def test_the_limit_is_capped_to_the_positions_and_said(folder: Path) -> None:
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 512})
    card = read_card(folder)
    assert card.max_tokens == 64 and "512 capped to the 64" in card.notes[0]


def test_no_limit_in_the_tokenizer_means_the_positions(folder: Path) -> None:
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": None})
    write_json(folder / "tokenizer_config.json", {"model_max_length": 1e30})
    assert read_card(folder).max_tokens == 64


def said(folder: Path, prompts: dict[str, str], default: str | None = None) -> ModelCard:
    """The card of `folder` with these prompts."""
    settings = {"prompts": prompts, "default_prompt_name": default}
    write_json(folder / "config_sentence_transformers.json", settings)
    return read_card(folder)


PASSAGES = {"query": "q: ", "passage": "p: ", "corpus": "c: ", "other": "o: "}


@pytest.mark.parametrize(
    ("prompts", "default", "plain", "query", "document"),
    [
        ({}, None, "", "", ""),
        # "passage" isn't taken for "document": in sentence-transformers that one is always there.
        (PASSAGES, None, "", "q: ", ""),
        (PASSAGES, "other", "o: ", "q: ", "o: "),
        (PASSAGES, "passage", "p: ", "q: ", "p: "),
        ({"query": "q: ", "document": "d: "}, None, "", "q: ", "d: "),
        ({"query": "q: ", "document": ""}, "query", "q: ", "q: ", ""),
        ({"topic": "t: "}, "topic", "t: ", "t: ", "t: "),
        ({}, "document", "", "", ""),
    ],
)
def test_prompts(
    folder: Path,
    prompts: dict[str, str],
    default: str | None,
    plain: str,
    query: str,
    document: str,
) -> None:
    card = said(folder, prompts, default)
    assert [card.prompt(each) for each in (None, "query", "document")] == [plain, query, document]


@pytest.mark.torch
@pytest.mark.parametrize(
    "prompts",
    [
        {},
        {"query": "w1 ", "passage": "w2 "},
        {"query": "w1 ", "document": "w3 ", "passage": "w2 "},
        {"corpus": "w4 "},
        {"document": None, "passage": "w2 "},
    ],
)
def test_prompts_are_those_of_sentence_transformers(folder: Path, prompts: dict[str, str]) -> None:
    from sentence_transformers import SentenceTransformer

    card = said(folder, prompts)
    theirs = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    asked: list[str | None] = []
    theirs.encode = lambda inputs, prompt_name=None, prompt=None, **how: asked.append(
        theirs._resolve_prompt(prompt, prompt_name)
    )
    theirs.encode(["a"])
    theirs.encode_query(["a"])
    theirs.encode_document(["a"])
    ours = [card.prompt(each) for each in (None, "query", "document")]
    assert ours == [each or "" for each in asked]


def test_prompts_that_documents_do_not_get_are_noted(folder: Path) -> None:
    assert not said(folder, {"query": "q: ", "document": "d: ", "passage": "p: "}).notes
    (note,) = said(folder, {"query": "q: ", "passage": "p: "}).notes
    assert "'passage'" in note and "documents" in note


def test_prompts_by_name(folder: Path) -> None:
    prompts = {"query": "query: ", "topic": "t: ", "none": None}
    write_json(folder / "config_sentence_transformers.json", {"prompts": prompts})
    card = read_card(folder)
    assert [card.prompt(name) for name in ("topic", "none", "document")] == ["t: ", "", ""]
    with pytest.raises(InputError, match="no prompt called 'other'; it has:.* query.* topic"):
        card.prompt("other")
    write_json(
        folder / "config_sentence_transformers.json",
        {"prompts": {}, "default_prompt_name": "document"},
    )
    assert read_card(folder).prompt("document") == ""


@pytest.mark.parametrize(
    ("file", "key", "value", "widths", "any_width"),
    [
        ("config.json", "matryoshka_dims", [8, 4], (4, 8), False),
        ("config_sentence_transformers.json", "matryoshka_dimensions", [8, 64], (8,), False),
        ("config.json", "truncate_dim", 16, (16,), False),
        ("config.json", "is_matryoshka", True, (), True),
        ("config.json", "is_matryoshka", "yes", (), False),
    ],
)
def test_every_way_to_declare_smaller_widths(
    folder: Path, file: str, key: str, value: Any, widths: tuple[int, ...], any_width: bool
) -> None:
    path = folder / file
    write_json(path, (json.loads(path.read_text()) if path.is_file() else {}) | {key: value})
    card = read_card(folder)
    assert (card.matryoshka, card.any_width) == (widths, any_width)


@pytest.mark.parametrize(
    ("architecture", "limit", "note"),
    [
        ("bert", 64, "500 capped to the 64 positions"),
        ("roberta", 61, "500 capped to the 61 positions"),
        ("mpnet", 62, "500 capped to the 62 positions"),
        ("nomic_bert", 500, "reads 500 tokens, more than the 64 positions"),
    ],
)
def test_positions_that_begin_after_the_padding(
    folder: Path, architecture: str, limit: int, note: str
) -> None:
    changes = {"model_type": architecture, "pad_token_id": 2}
    write_json(folder / "config.json", {**SMALL, **changes})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 500})
    card = read_card(folder)
    assert card.max_tokens == limit and note in card.notes[-1]


def test_matryoshka_widths(folder: Path) -> None:
    write_json(folder / "config.json", {**SMALL, "matryoshka_dimensions": [32, 16, 8]})
    assert read_card(folder).matryoshka == (8, 16)


def test_a_dense_layer(folder: Path) -> None:
    modules(folder, *(f"sentence_transformers.models.{k}" for k in ("Transformer", "Pooling")))
    listed = [
        {"path": "", "type": "sentence_transformers.models.Transformer"},
        {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"path": "2_Dense", "type": f"{BASE}.dense.Dense"},
    ]
    write_json(folder / "modules.json", listed)
    write_json(
        folder / "2_Dense/config.json", {"in_features": 32, "out_features": 8, "bias": False}
    )
    card = read_card(folder)
    assert card.steps[1] == Dense(folder / "2_Dense", 32, 8, False, "tanh")
    assert card.dimensions == 8


def change(file: str, value: Any) -> Any:
    """Write `value` into a file of the folder."""
    return lambda folder: write_json(folder / file, value)


def cut(file: str) -> Any:
    """Cut a file of the folder in the middle."""

    def spoil(folder: Path) -> None:
        path = folder / file
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return spoil


POOLING = "1_Pooling/config.json"
KINDS = [f"sentence_transformers.models.{kind}" for kind in ("Transformer", "Pooling")]
REFUSED = {
    "unknown pooling": (
        change(POOLING, {"pooling_mode": "median"}),
        ModelUnsupported,
        "'median'.*known: cls, max, mean, mean_sqrt_len_tokens, weightedmean, lasttoken",
    ),
    "no pooling": (change(POOLING, {"pooling_mode": []}), ModelUnsupported, "no kind"),
    "no module that pools": (
        lambda folder: modules(folder, KINDS[0]),
        ModelUnsupported,
        "lists no Pooling.*--pooling",
    ),
    "no width": (
        change("config_sentence_transformers.json", {"truncate_dim": 0}),
        ModelCorrupt,
        "truncate_dim must be a positive whole number, not 0",
    ),
    "pooling width": (
        change(POOLING, {"pooling_mode": "mean", "embedding_dimension": 31}),
        ModelCorrupt,
        "width 31, the model's are of 32",
    ),
    "unknown module": (
        lambda folder: modules(folder, *KINDS, "sentence_transformers.models.LSTM"),
        ModelUnsupported,
        "models.LSTM'.*known: Transformer",
    ),
    "someone's own module": (
        lambda folder: modules(folder, KINDS[0], "custom.Pooling"),
        ModelUnsupported,
        "'custom.Pooling'",
    ),
    "module outside": (
        change("modules.json", [{"type": KINDS[0], "path": "../other"}]),
        ModelCorrupt,
        "leads out of the folder",
    ),
    "pooling twice": (
        lambda folder: modules(folder, *KINDS, KINDS[1]),
        ModelUnsupported,
        "one Pooling must come first",
    ),
    "modules cut": (cut("modules.json"), ModelCorrupt, "can't be read as JSON"),
    "config cut": (cut("config.json"), ModelCorrupt, "can't be read as JSON"),
    "remote code": (
        change("config.json", {**SMALL, "auto_map": {"AutoModel": "modeling.Net"}}),
        ModelUnsupported,
        "AutoModel -> modeling.Net.*never runs",
    ),
    "no config": (lambda folder: (folder / "config.json").unlink(), ModelNotFound, "config.json"),
    "no pooling file": (
        lambda folder: shutil.rmtree(folder / "1_Pooling"),
        ModelCorrupt,
        "missing",
    ),
    "unknown default prompt": (
        change("config_sentence_transformers.json", {"default_prompt_name": "q"}),
        ModelCorrupt,
        "'q' isn't among",
    ),
    "limit": (
        change("sentence_bert_config.json", {"max_seq_length": "long"}),
        ModelCorrupt,
        "found 'long'",
    ),
}


@pytest.mark.parametrize(("spoil", "error", "says"), REFUSED.values(), ids=list(REFUSED))
def test_refused_by_name(folder: Path, spoil: Any, error: type[Exception], says: str) -> None:
    spoil(folder)
    with pytest.raises(error, match=says):
        read_card(folder)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="isn't a folder"):
        read_card(tmp_path / "none")
