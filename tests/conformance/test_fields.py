"""Every field that the libraries read from a folder's files: the table in docs/models.md is true.

Each row has a try here, and each try a row: followed as the library follows it (and to be seen in
the numbers), without effect there and here, or refused by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from likewise.base.errors import ModelError
from likewise.models.card import read_card
from likewise.models.digest import weights_digest
from likewise.models.tokenize import Tokenizer
from tests.conformance.folders import OLD, ours, theirs, worst, write_folder

ST = "config_sentence_transformers.json"
BERT = "sentence_bert_config.json"
POOL = "1_Pooling/config.json"
DENSE = "2_Dense/config.json"
NORM = "3_LayerNorm/config.json"
UNIT = "4_Normalize/config.json"
DROP = "5_Dropout/config.json"
CONFIG = "config.json"
TOKENS = "tokenizer_config.json"
TEXTS = ["w1 W2 [MASK] w3", " ".join(f"w{n}" for n in range(50)), "w7", "wé9 w4 w5"]
ALL_OFF = {
    f"pooling_mode_{mode}": False
    for mode in (
        "cls_token max_tokens mean_tokens mean_sqrt_len_tokens weightedmean_tokens lasttoken"
    ).split()
}


@dataclass(frozen=True)
class Row:
    """What is written in place of the plain folder's, and what must come of it."""

    changes: Any
    """Keys and values that are added, or a function that changes the object in the file."""
    kind: str = "followed"
    prompt: str = ""
    beside: tuple[tuple[str, Any], ...] = ()
    """Changes of other files that the field needs."""
    drops: str = ""
    """A tensor that the module in `file`'s folder doesn't have then."""


def legacy(flag: str) -> Row:
    """One of the older flags of a Pooling, with all others off."""
    return Row(lambda _: {"word_embedding_dimension": 32, **ALL_OFF, flag: True})


def modules(**changes: Any) -> Callable[[Any], Any]:
    """Changes of the last entry of modules.json."""
    return lambda listed: [*listed[:-1], {**listed[-1], **changes}]


def tokenizer(**changes: Any) -> Callable[[Any], Any]:
    """Changes of tokenizer.json."""
    return lambda written: {**written, **changes}


NO_LIMIT: tuple[str, Any] = (BERT, lambda _: {})
SHORT: tuple[str, Any] = (BERT, {"max_seq_length": 9})
KLASS = {"tokenizer_class": "BertTokenizer"}
LEFT = {"direction": "Left", "max_length": 7, "strategy": "LongestFirst", "stride": 2}
PAD = {
    "strategy": {"Fixed": 9},
    "direction": "Left",
    "pad_to_multiple_of": 8,
    "pad_id": 0,
    "pad_type_id": 0,
    "pad_token": "[PAD]",
}

ROWS: dict[tuple[str, str], Row] = {
    ("modules.json", "type"): Row(modules(type=f"{OLD}.CNN"), "refused"),
    ("modules.json", "path"): Row(modules(path="../x"), "refused"),
    ("modules.json", "kwargs"): Row(modules(kwargs=["task"]), "refused"),
    ("modules.json", "idx"): Row(modules(idx=99), "ignored"),
    ("modules.json", "name"): Row(modules(name="other"), "ignored"),
    (ST, "prompts"): Row({"prompts": {"d": "w9 "}, "default_prompt_name": "d"}, prompt="w9 "),
    (ST, "default_prompt_name"): Row(
        {"default_prompt_name": "e", "prompts": {"d": "w9 ", "e": "w8 w7 "}}, prompt="w8 w7 "
    ),
    (ST, "truncate_dim"): Row({"truncate_dim": 8}),
    (ST, "similarity_fn_name"): Row({"similarity_fn_name": "dot"}, "ignored"),
    (ST, "model_type"): Row({"model_type": "SparseEncoder"}, "refused"),
    (ST, "__version__"): Row({"__version__": {"sentence_transformers": "1.0"}}, "ignored"),
    (ST, "requirements"): Row({"requirements": {"numpy": ">=1"}}, "ignored"),
    (BERT, "max_seq_length"): Row({"max_seq_length": 9}),
    (BERT, "do_lower_case"): Row({"do_lower_case": True}),
    (BERT, "tokenizer_name_or_path"): Row({"tokenizer_name_or_path": "x/y"}, "refused"),
    (BERT, "model_args, model_kwargs"): Row({"model_args": {"rotary_kwargs": 1}}, "refused"),
    (BERT, "tokenizer_args, processor_kwargs"): Row(
        {"processor_kwargs": {"add_prefix_space": True}}, "refused"
    ),
    (BERT, "config_args, config_kwargs"): Row({"config_kwargs": {"hidden_act": "relu"}}, "refused"),
    (BERT, "processing_kwargs"): Row({"processing_kwargs": {"text": {"max_length": 6}}}),
    (BERT, "transformer_task"): Row({"transformer_task": "text-generation"}, "refused"),
    (BERT, "modality_config"): Row({"modality_config": {"message": {}}}, "refused"),
    (BERT, "module_output_name"): Row({"module_output_name": "sentence_embedding"}, "refused"),
    (BERT, "unpad_inputs"): Row({"unpad_inputs": False}, "ignored"),
    (BERT, "query_length"): Row({"query_length": 4}, "refused"),
    (BERT, "document_length"): Row({"document_length": 4}, "refused"),
    (BERT, "query_expansion"): Row({"query_expansion": {"length": 4}}, "refused"),
    (POOL, "pooling_mode"): Row({"pooling_mode": "cls"}),
    (POOL, "pooling_mode_cls_token"): legacy("pooling_mode_cls_token"),
    (POOL, "pooling_mode_max_tokens"): legacy("pooling_mode_max_tokens"),
    (POOL, "pooling_mode_mean_tokens"): Row(
        lambda _: {"word_embedding_dimension": 32, **ALL_OFF}, "ignored"
    ),
    (POOL, "pooling_mode_mean_sqrt_len_tokens"): legacy("pooling_mode_mean_sqrt_len_tokens"),
    (POOL, "pooling_mode_weightedmean_tokens"): legacy("pooling_mode_weightedmean_tokens"),
    (POOL, "pooling_mode_lasttoken"): legacy("pooling_mode_lasttoken"),
    (POOL, "include_prompt"): Row(
        {"include_prompt": False},
        prompt="w9 w8 ",
        beside=((ST, {"prompts": {"d": "w9 w8 "}, "default_prompt_name": "d"}),),
    ),
    (POOL, "embedding_dimension"): Row({"embedding_dimension": 31}, "refused"),
    (POOL, "word_embedding_dimension"): Row(
        lambda _: {"word_embedding_dimension": 31, "pooling_mode": "mean"}, "refused"
    ),
    (DENSE, "in_features"): Row({"in_features": 31}, "refused"),
    (DENSE, "out_features"): Row({"out_features": 0}, "refused"),
    (DENSE, "bias"): Row({"bias": False}, drops="linear.bias"),
    (DENSE, "activation_function"): Row({"activation_function": "torch.nn.ReLU"}),
    (DENSE, "use_residual"): Row({"use_residual": True}),
    (DENSE, "module_input_name"): Row({"module_input_name": "token_embeddings"}, "refused"),
    (DENSE, "module_output_name"): Row({"module_output_name": "x"}, "refused"),
    (NORM, "dimension"): Row({"dimension": 31}, "refused"),
    (UNIT, "module_input_name"): Row({"module_input_name": "token_embeddings"}, "refused"),
    (UNIT, "module_output_name"): Row({"module_output_name": "x"}, "refused"),
    (DROP, "dropout"): Row({"dropout": 0.9}, "ignored"),
    (CONFIG, "auto_map"): Row({"auto_map": {"AutoModel": "m.Net"}}, "refused"),
    (CONFIG, "quantization_config"): Row({"quantization_config": {"bits": 4}}, "refused"),
    (CONFIG, "hidden_act"): Row({"hidden_act": "gelu_new"}),
    (CONFIG, "layer_norm_eps"): Row({"layer_norm_eps": 0.1}),
    (CONFIG, "num_attention_heads"): Row({"num_attention_heads": 2}),
    (CONFIG, "num_hidden_layers"): Row({"num_hidden_layers": 1}),
    (CONFIG, "position_embedding_type"): Row({"position_embedding_type": "relative"}, "refused"),
    (CONFIG, "is_decoder"): Row({"is_decoder": True}, "refused"),
    (CONFIG, "add_cross_attention"): Row({"add_cross_attention": True}, "refused"),
    (CONFIG, "tokenizer_class"): Row(
        {"tokenizer_class": "XLNetTokenizer"},
        "refused",
        beside=((TOKENS, {"tokenizer_class": None}),),
    ),
    (CONFIG, "architectures"): Row({"architectures": ["BertForMaskedLM"]}, "ignored"),
    (CONFIG, "tie_word_embeddings"): Row({"tie_word_embeddings": False}, "ignored"),
    (CONFIG, "use_cache"): Row({"use_cache": True}, "ignored"),
    (CONFIG, "hidden_dropout_prob"): Row({"hidden_dropout_prob": 0.7}, "ignored"),
    (CONFIG, "attention_probs_dropout_prob"): Row({"attention_probs_dropout_prob": 0.7}, "ignored"),
    (CONFIG, "chunk_size_feed_forward"): Row({"chunk_size_feed_forward": 1}, "ignored"),
    (CONFIG, "dtype, torch_dtype"): Row({"torch_dtype": "float32"}, "ignored"),
    (TOKENS, "tokenizer_class"): Row(KLASS),
    (TOKENS, "do_lower_case"): Row({**KLASS, "do_lower_case": False}),
    (TOKENS, "strip_accents"): Row({**KLASS, "strip_accents": False}),
    (TOKENS, "model_max_length"): Row({"model_max_length": 8}, beside=(NO_LIMIT,)),
    (TOKENS, "max_len"): Row(
        {"max_len": 8},
        beside=(NO_LIMIT, (TOKENS, lambda had: without(had, "model_max_length"))),
    ),
    (TOKENS, "truncation_side"): Row({"truncation_side": "left"}, beside=(SHORT,)),
    (TOKENS, "additional_special_tokens"): Row({"additional_special_tokens": ["w1"]}),
    (TOKENS, "extra_special_tokens"): Row({"extra_special_tokens": ["W2"]}),
    (TOKENS, "added_tokens_decoder"): Row(
        {"added_tokens_decoder": {"99": {"content": "W2", "special": False}}}
    ),
    (TOKENS, "split_special_tokens"): Row(
        {"split_special_tokens": True}, beside=((TOKENS, {"extra_special_tokens": ["w1"]}),)
    ),
    (TOKENS, "mask_token and other names"): Row({"mask_token": "[MASK]"}),
    (TOKENS, "fast_tokenizer_files"): Row({"fast_tokenizer_files": ["x.json"]}, "refused"),
    (TOKENS, "fix_mistral_regex"): Row({"fix_mistral_regex": True}, "refused"),
    (TOKENS, "auto_map"): Row({"auto_map": {"AutoTokenizer": ["t.Mine", None]}}, "refused"),
    (TOKENS, "add_bos_token, add_eos_token"): Row({"add_bos_token": True}, "ignored"),
    (TOKENS, "padding_side"): Row({"padding_side": "right"}, "ignored"),
    (TOKENS, "clean_up_tokenization_spaces"): Row(
        {"clean_up_tokenization_spaces": True}, "ignored"
    ),
    (TOKENS, "chat_template"): Row({"chat_template": "{{ messages }}"}, "ignored"),
    ("special_tokens_map.json", "every name"): Row({"mask_token": "[MASK]"}),
    ("added_tokens.json", "every token"): Row({"W2": 99}),
    ("tokenizer.json", "truncation: direction"): Row(tokenizer(truncation=LEFT), beside=(SHORT,)),
    ("tokenizer.json", "truncation: max_length, stride, strategy"): Row(
        tokenizer(truncation={**LEFT, "direction": "Right"}), "ignored"
    ),
    ("tokenizer.json", "padding"): Row(tokenizer(padding=PAD), "ignored"),
}


def without(table: dict[str, Any], key: str) -> dict[str, Any]:
    """`table` less one key."""
    return {name: value for name, value in table.items() if name != key}


def plain(folder: Path) -> Path:
    """A tiny BERT followed by one module of each kind; more tokens than words."""
    pick = np.random.default_rng(3)
    rows = pick.normal(0, 0.3, (32, 32)).astype(np.float32)
    ones, few = np.ones(32, np.float32), np.full(32, 0.3, np.float32)
    dense = {"in_features": 32, "out_features": 32, "bias": True}
    write_folder(
        folder,
        [
            "Pooling",
            ("Dense", dense, {"linear.weight": rows, "linear.bias": few}),
            ("LayerNorm", {"dimension": 32}, {"norm.weight": ones * 2, "norm.bias": few}),
            ("Normalize", {}, None),
            ("Dropout", {"dropout": 0.1}, None),
        ],
        vocab_size=70,
    )
    return folder


def change(folder: Path, file: str, changes: Any) -> None:
    """Write `changes` into a file of the folder."""
    path = folder / file
    had = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    made = changes(had) if callable(changes) else {**had, **changes}
    path.write_text(json.dumps(made), encoding="utf-8")


def apply(folder: Path, key: tuple[str, str]) -> Row:
    """The row of `key`, written into the folder."""
    row = ROWS[key]
    for file, changes in (*row.beside, (key[0], row.changes)):
        change(folder, file, changes)
    if row.drops:
        path = (folder / key[0]).parent / "model.safetensors"
        save_file(without(load_file(path), row.drops), path)
    return row


def of_kind(kind: str) -> list[tuple[str, str]]:
    """The rows that must come out so."""
    return [key for key, row in ROWS.items() if row.kind == kind]


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """What the folder gives as it is."""
    return ours(plain(tmp_path_factory.mktemp("plain") / "model"), TEXTS)


@pytest.mark.torch
@pytest.mark.parametrize("key", of_kind("followed"), ids=": ".join)
def test_followed(tmp_path: Path, vectors: np.ndarray, key: tuple[str, str]) -> None:
    folder = plain(tmp_path / "model")
    row = apply(folder, key)
    if row.beside:
        before = plain(tmp_path / "before")
        for file, changes in row.beside:
            change(before, file, changes)
        vectors = ours(before, TEXTS, prompt=row.prompt)
    mine, other = ours(folder, TEXTS, prompt=row.prompt), theirs(folder, TEXTS)
    assert mine.shape == other.shape and worst(mine, other) < 1e-5
    assert mine.shape != vectors.shape or np.abs(mine - vectors).max() > 1e-4, "it changes nothing"


@pytest.mark.torch
def test_ignored(tmp_path: Path, vectors: np.ndarray) -> None:
    folder = plain(tmp_path / "model")
    for key in of_kind("ignored"):
        apply(folder, key)
    mine = ours(folder, TEXTS)
    assert np.abs(mine - vectors).max() < 1e-6
    assert worst(mine, theirs(folder, TEXTS)) < 1e-5


@pytest.mark.parametrize("key", of_kind("ignored"), ids=": ".join)
def test_ignored_one_by_one(tmp_path: Path, key: tuple[str, str]) -> None:
    folder = plain(tmp_path / "model")
    before = [one.ids.tolist() for one in Tokenizer(read_card(folder)).encode(TEXTS)]
    steps = read_card(folder).steps
    apply(folder, key)
    card = read_card(folder)
    assert [one.ids.tolist() for one in Tokenizer(card).encode(TEXTS)] == before
    assert card.steps == steps and weights_digest(card)


@pytest.mark.parametrize("key", of_kind("refused"), ids=": ".join)
def test_refused(tmp_path: Path, key: tuple[str, str]) -> None:
    folder = plain(tmp_path / "model")
    apply(folder, key)
    with pytest.raises(ModelError) as refused:
        Tokenizer(read_card(folder))
        ours(folder, ["w1"])
    assert key[0].rpartition("/")[2] in str(refused.value) or str(folder) in str(refused.value)


def test_the_page_has_the_same_rows(repo: Path) -> None:
    page = (repo / "docs" / "models.md").read_text(encoding="utf-8")
    found = re.findall(r"^\| `([^|]+)` \| `([^|]+)` \| (followed|ignored|refused)\b", page, re.M)
    rows = {(file, field.replace("`", "")): kind for file, field, kind in found}
    assert rows == {key: row.kind for key, row in ROWS.items()}
