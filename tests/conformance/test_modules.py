"""Modules, prompts and limits of a folder: every engine agrees with sentence-transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from likewise.engines.names import PACKED
from likewise.models.card import read_card
from likewise.models.parts import ACTIVATIONS
from likewise.nets.ops import Activation
from tests.conformance.folders import (
    TEXTS,
    ours,
    theirs,
    worst,
    write_folder,
    write_modules,
)
from tests.conformance.tiny import write_json

pytestmark = pytest.mark.torch

PICK = np.random.default_rng(5)
NAMES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
FLAGS = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}


@pytest.fixture(params=PACKED)
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine's name."""
    return str(request.param)


def random(*shape: int) -> np.ndarray:
    """Normal random numbers, float32."""
    return PICK.normal(size=shape).astype(np.float32)


def pooling(modes: Any, **more: Any) -> Any:
    """A Pooling module in the format since 5.4."""
    return ("Pooling", {"embedding_dimension": 32, "pooling_mode": modes, **more}, None)


def dense(inputs: int, outputs: int, activation: str = "Tanh", **more: Any) -> Any:
    """A Dense module with random weights."""
    package = "linear" if activation == "Identity" else "activation"
    config = {
        "in_features": inputs,
        "out_features": outputs,
        "bias": True,
        "activation_function": f"torch.nn.modules.{package}.{activation}",
        **more,
    }
    weights = {"linear.weight": random(outputs, inputs)}
    if config["bias"]:
        weights["linear.bias"] = random(outputs)
    if config.get("use_residual") and inputs != outputs:
        weights["residual.weight"] = random(outputs, inputs)
    return ("Dense", config, weights)


def layer_norm(width: int) -> Any:
    """A LayerNorm module with random weights."""
    return (
        "LayerNorm",
        {"dimension": width},
        {"norm.weight": random(width), "norm.bias": random(width)},
    )


def agree(folder: Path, engine: str, *, prompt: str = "") -> None:
    """Both give the same vectors for `TEXTS`, in one batch, and for each alone."""
    options = {"prompt": prompt} if prompt else {}
    mine, reference = (
        ours(folder, TEXTS, engine=engine, prompt=prompt),
        theirs(folder, TEXTS, **options),
    )
    assert worst(mine, reference) < 1e-5
    assert np.abs(mine - reference).max() < 1e-4 * max(1, np.abs(reference).max())
    alone = ours(folder, TEXTS[2:3], engine=engine, prompt=prompt)
    assert np.abs(alone - mine[2:3]).max() < 1e-5 * max(1, np.abs(mine).max())


@pytest.mark.parametrize(
    "modes",
    [*NAMES, ["cls", "mean"], ["lasttoken", "max", "weightedmean"]],
    ids=lambda modes: modes if isinstance(modes, str) else "+".join(modes),
)
def test_every_pooling(tmp_path: Path, engine: str, modes: Any) -> None:
    agree(write_folder(tmp_path / "model", [pooling(modes)]), engine)


def test_all_the_classic_flags_lie_in_the_classic_order(tmp_path: Path, engine: str) -> None:
    flags = {flag: True for flag in reversed(FLAGS.values())}
    folder = write_folder(tmp_path / "model")
    config = {"word_embedding_dimension": 32, **flags}
    write_modules(folder, [("Pooling", config, None), "Normalize"], old=True)
    assert read_card(folder).pooling.modes == NAMES
    agree(folder, engine)


@pytest.mark.parametrize("mode", NAMES)
def test_a_prompt_left_out_of_the_pooling(tmp_path: Path, engine: str, mode: str) -> None:
    agree(
        write_folder(tmp_path / "model", [pooling(mode, include_prompt=False)]),
        engine,
        prompt="w5 w6 w7 ",
    )


def test_a_prompt_that_fills_all_that_is_read(tmp_path: Path, engine: str) -> None:
    modules = [pooling(["cls", "mean", "lasttoken"], include_prompt=False)]
    agree(write_folder(tmp_path / "model", modules), engine, prompt="w5 " * 70)


def test_a_prompt_is_pooled_with_the_text_unless_told(tmp_path: Path, engine: str) -> None:
    agree(write_folder(tmp_path / "model", [pooling("mean")]), engine, prompt="w5 w6 ")


@pytest.mark.parametrize("activation", sorted({name.rpartition(".")[2] for name in ACTIVATIONS}))
def test_every_activation_of_a_dense_layer(tmp_path: Path, engine: str, activation: str) -> None:
    agree(write_folder(tmp_path / "model", ["Pooling", dense(32, 24, activation)]), engine)


def test_every_activation_is_known_to_the_engines() -> None:
    assert set(ACTIVATIONS.values()) <= set(get_args(Activation))


CHAINS: dict[str, list[Any]] = {
    "dense, normalised": ["Pooling", dense(32, 8), "Normalize"],
    "normalised, dense": ["Pooling", "Normalize", dense(32, 48, "Identity", bias=False)],
    "two dense layers": ["Pooling", dense(32, 20, "GELU"), dense(20, 32, "Identity"), "Normalize"],
    "residual": ["Pooling", dense(32, 32, "ReLU", use_residual=True)],
    "residual to another width": ["Pooling", dense(32, 12, "SiLU", use_residual=True)],
    "names written out": [
        "Pooling",
        dense(32, 8, module_input_name="sentence_embedding", module_output_name=None),
        ("Normalize", {"module_input_name": "sentence_embedding"}, None),
    ],
    "layer norm": ["Pooling", layer_norm(32), "Normalize"],
    "dense of several poolings, dropout, layer norm": [
        pooling(["cls", "mean"]),
        ("Dropout", {"dropout": 0.3}, None),
        dense(64, 16),
        layer_norm(16),
    ],
}


@pytest.mark.parametrize("chain", CHAINS.values(), ids=list(CHAINS))
def test_modules_after_the_pooling(tmp_path: Path, engine: str, chain: list[Any]) -> None:
    agree(write_folder(tmp_path / "model", chain), engine)


WORDS = " ".join(f"w{n % 60}" for n in range(100))
LIMITS: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "up to 5.3": ({"max_seq_length": 10, "do_lower_case": False}, {}, 10),
    "null": ({"max_seq_length": None}, {"model_max_length": 12}, 12),
    "missing": ({}, {"model_max_length": 13}, 13),
    "the tokenizer says none": ({}, {"model_max_length": 1e30}, 64),
    "the tokenizer says too much": ({}, {"model_max_length": 512}, 64),
    "since 5.4": (
        {
            "transformer_task": "feature-extraction",
            "modality_config": {
                "text": {"method": "forward", "method_output_name": "last_hidden_state"}
            },
            "module_output_name": "token_embeddings",
        },
        {"model_max_length": 14},
        14,
    ),
    "for the processor": ({"processing_kwargs": {"text": {"max_length": 9}}}, {}, 9),
    "for the tokenizer": (
        {"max_seq_length": 20, "tokenizer_args": {"model_max_length": 11}},
        {},
        11,
    ),
    "cut in front": ({"max_seq_length": 10}, {"truncation_side": "left"}, 10),
    "lower case": ({"max_seq_length": 8, "do_lower_case": True}, {}, 8),
}


@pytest.mark.parametrize(("written", "tokenizer", "limit"), LIMITS.values(), ids=list(LIMITS))
def test_how_much_is_read(
    tmp_path: Path, written: dict[str, Any], tokenizer: dict[str, Any], limit: int
) -> None:
    folder = write_folder(tmp_path / "model")
    write_json(folder / "sentence_bert_config.json", written)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    write_json(folder / "tokenizer_config.json", {**settings, **tokenizer})
    assert read_card(folder).max_tokens == limit
    texts = [WORDS, "w1 w2", WORDS.upper()]
    assert worst(ours(folder, texts), theirs(folder, texts)) < 1e-5


def test_prompts_by_kind_by_name_and_by_default(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    folder = write_folder(tmp_path / "model")
    prompts = {"query": "w5 w6 ", "document": "w7 ", "topic": "w8 w9 w8 ", "none": None}
    settings = {"prompts": prompts, "default_prompt_name": "topic"}
    write_json(folder / "config_sentence_transformers.json", settings)
    card, model = read_card(folder), SentenceTransformer(str(folder), device="cpu")
    query = ours(folder, TEXTS, prompt=card.prompt("query"))
    assert worst(query, model.encode_query(TEXTS)) < 1e-5
    assert (
        worst(ours(folder, TEXTS, prompt=card.prompt("document")), model.encode_document(TEXTS))
        < 1e-5
    )
    for name in prompts:
        mine = ours(folder, TEXTS, prompt=card.prompt(name))
        assert worst(mine, model.encode(TEXTS, prompt_name=name)) < 1e-5
    assert worst(query, model.encode(TEXTS)) > 1e-4

    del prompts["document"]
    write_json(folder / "config_sentence_transformers.json", settings)
    default = read_card(folder).prompt("document")
    assert worst(ours(folder, TEXTS, prompt=default), model.encode(TEXTS)) < 1e-5


def test_space_around_a_text_is_kept_where_the_tokenizer_keeps_it(tmp_path: Path) -> None:
    from tokenizers import ByteLevelBPETokenizer, processors

    texts = ["hello world", " hello world", "hello world \n", "  ", "hello"]
    inner = ByteLevelBPETokenizer()
    specials = ["[CLS]", "[SEP]", "[PAD]", "[UNK]"]
    inner.train_from_iterator(texts * 9, vocab_size=300, special_tokens=specials)
    inner.post_processor = processors.RobertaProcessing(("[SEP]", 1), ("[CLS]", 0))
    folder = write_folder(
        tmp_path / "model", [pooling("mean", include_prompt=False)], vocab_size=300
    )
    inner.save(str(folder / "tokenizer.json"))
    agreed = ours(folder, texts), theirs(folder, texts)
    assert worst(*agreed) < 1e-5
    assert worst(agreed[0][:1], agreed[0][1:2]) > 1e-5
    prompt = "hello: "
    mine = ours(folder, texts, prompt=prompt)
    assert worst(mine, theirs(folder, texts, prompt=prompt)) < 1e-5


def test_truncated_vectors(tmp_path: Path) -> None:
    from likewise.vectors.norm import truncate

    folder = write_folder(tmp_path / "model", ["Pooling", "Normalize"])
    mine = truncate(ours(folder, TEXTS), 8)
    cut = theirs(folder, TEXTS, truncate_dim=8, normalize_embeddings=True)
    assert np.abs(mine - cut).max() < 1e-5


@pytest.mark.parametrize("width", [8, 32, 40])
@pytest.mark.parametrize("chain", [["Pooling"], ["Pooling", "Normalize"]], ids=str)
def test_truncate_dim(tmp_path: Path, engine: str, chain: list[Any], width: int) -> None:
    folder = write_folder(tmp_path / "model", chain)
    write_json(folder / "config_sentence_transformers.json", {"truncate_dim": width})
    mine, other = ours(folder, TEXTS, engine=engine), theirs(folder, TEXTS)
    # Not only their direction: cut vectors aren't scaled to length 1 again.
    assert mine.shape == other.shape and np.abs(mine - other).max() < 1e-4


@pytest.mark.parametrize(
    "config",
    [{}, {"architectures": ["BertForCausalLM"]}, {"architectures": ["BertModel"]}],
    ids=str,
)
def test_a_folder_without_modules(tmp_path: Path, engine: str, config: dict[str, Any]) -> None:
    folder = write_folder(tmp_path / "model", **config)
    (folder / "modules.json").unlink()
    write_json(folder / "config_sentence_transformers.json", {"prompts": {"document": "w9 "}})
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 7})
    agree(folder, engine)
