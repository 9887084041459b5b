"""Tiny models with random weights, written to disk as a sentence-transformers folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{number}" for number in range(60))]
SMALL: dict[str, Any] = {
    "model_type": "bert",
    "vocab_size": len(WORDS),
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}


def write_json(path: Path, value: Any) -> None:
    """`value` as a JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def write_tokenizer(folder: Path) -> None:
    """A tokenizer of whole words between [CLS] and [SEP]; it cuts and pads, as real ones come."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    inner = Tokenizer(models.WordLevel(dict(zip(WORDS, range(len(WORDS)), strict=True)), "[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    inner.enable_truncation(4)
    inner.enable_padding(length=4)
    inner.save(str(folder / "tokenizer.json"))
    # Without it transformers takes the class that is usual for the model, with rules of its own.
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})


def write_weights(folder: Path, config: dict[str, Any], *, prefix: str = "", seed: int = 0) -> None:
    """Random weights of the shapes that `config` asks for."""
    from safetensors.numpy import save_file

    from likewise.nets.bert import Bert

    pick = np.random.default_rng(seed)
    shapes = Bert.read(config, where="test").shapes()
    made = {}
    for name, shape in shapes.items():
        values = pick.normal(0, 0.3, shape)
        made[prefix + name] = (values + ("LayerNorm.weight" in name)).astype(np.float32)
    save_file(made, folder / "model.safetensors")


def write_bert(
    folder: Path,
    *,
    pooling: list[str] | str = "mean",
    normalise: bool = True,
    prefix: str = "",
    **changes: Any,
) -> Path:
    """A whole model folder; `changes` go into config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {**SMALL, **changes}
    write_json(folder / "config.json", config)
    write_weights(folder, config, prefix=prefix)
    return write_parts(
        folder,
        pooling=pooling,
        normalise=normalise,
        width=config["hidden_size"],
        longest=config["max_position_embeddings"],
    )


def write_cross_encoder(folder: Path, *, labels: int = 1, damaged: bool = False) -> Path:
    """A BERT that scores pairs, without modules.json; one `damaged` overflows for w59."""
    from safetensors.numpy import load_file, save_file

    write_bert(folder)
    (folder / "modules.json").unlink()
    pick = np.random.default_rng(5)
    weights = load_file(folder / "model.safetensors")
    for name, shape in (
        ("pooler.dense.weight", (32, 32)),
        ("pooler.dense.bias", (32,)),
        ("classifier.weight", (labels, 32)),
        ("classifier.bias", (labels,)),
    ):
        weights[name] = pick.normal(0, 0.3, shape).astype(np.float32)
    if damaged:
        weights["embeddings.word_embeddings.weight"][WORDS.index("w59")] = 3e38
    save_file(weights, folder / "model.safetensors")
    named = {str(index): f"label {index}" for index in range(labels)}
    marked = {"architectures": ["BertForSequenceClassification"], "id2label": named}
    write_json(folder / "config.json", {**SMALL, **marked})
    return folder


def write_net(
    folder: Path, net: Any, *, pooling: str = "mean", normalise: bool = False, longest: int = 64
) -> Path:
    """A whole model folder around `net`, a model of transformers with the 64 words of `WORDS`."""
    net.save_pretrained(folder)
    width = net.config.get_text_config().hidden_size
    return write_parts(folder, pooling=pooling, normalise=normalise, width=width, longest=longest)


def write_parts(
    folder: Path, *, pooling: list[str] | str, normalise: bool, width: int, longest: int
) -> Path:
    """What lies around config.json and weights: tokenizer, modules, pooling, length."""
    write_tokenizer(folder)
    modules = ["Transformer", "Pooling", *(["Normalize"] if normalise else [])]
    entries = [
        {
            "idx": index,
            "name": str(index),
            "path": f"{index}_{kind}" if index else "",
            "type": f"sentence_transformers.models.{kind}",
        }
        for index, kind in enumerate(modules)
    ]
    write_json(folder / "modules.json", entries)
    write_json(
        folder / "1_Pooling" / "config.json",
        {"embedding_dimension": width, "pooling_mode": pooling, "include_prompt": True},
    )
    write_json(
        folder / "sentence_bert_config.json",
        {"max_seq_length": longest, "do_lower_case": False},
    )
    return folder
