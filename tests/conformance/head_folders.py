"""Tiny folders of rerankers, SPLADE and ColBERT models, as transformers and others write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.conformance.tiny import write_json

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", "[unused1]"]
WORDS = [*SPECIAL, "yes", "no", ".", ",", "!", *(f"w{number}" for number in range(84))]
LONGEST = 48
SIZES: dict[str, Any] = {
    "vocab_size": len(WORDS),
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
    "initializer_range": 0.3,
}
_ENDS = [("[CLS]", 2), ("[SEP]", 3)]


def words(*counts: int, seed: int = 0) -> list[str]:
    """A text of so many words, for each of `counts`; some have punctuation."""
    pick = np.random.default_rng(seed)
    made = []
    for count in counts:
        chosen = [WORDS[n] for n in pick.integers(9, len(WORDS), count)]
        made.append(" ".join(chosen))
    return made


def write_tokenizer(
    folder: Path, *, splits: bool = False, ends: bool = True, **settings: Any
) -> None:
    """Whole words between [CLS] and [SEP], saved as transformers does."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = dict(zip(WORDS, range(len(WORDS)), strict=True))
    inner = Tokenizer(models.WordLevel(vocabulary, "[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]
        if splits
        else [pre_tokenizers.WhitespaceSplit()]
    )
    if ends:
        inner.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=_ENDS,
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=LONGEST,
        **settings,
    )
    fast.save_pretrained(folder)


def write_transformer(folder: Path, kind: str, task: str, **changes: Any) -> Any:
    """A `kind` with random weights and the head of `task`, such as `SequenceClassification`."""
    import torch
    import transformers

    known = set(transformers.AutoConfig.for_model(kind).to_dict())
    sizes = {key: value for key, value in SIZES.items() if key in known or key == "vocab_size"}
    config = transformers.AutoConfig.for_model(kind, **(sizes | changes))
    torch.manual_seed(7)
    net = getattr(transformers, f"AutoModelFor{task}").from_config(config).eval()
    with torch.no_grad():
        for name, values in net.named_parameters():
            if "norm" in name.lower() and name.endswith("weight"):
                values.uniform_(0.5, 1.5)
            else:
                values.normal_(0, 0.25)
    net.save_pretrained(folder)
    return net


def write_modules(folder: Path, *modules: tuple[str, str, dict[str, Any] | None]) -> None:
    """modules.json of (class path, folder, its config.json)."""
    write_json(
        folder / "modules.json",
        [
            {"idx": index, "name": str(index), "path": path, "type": kind}
            for index, (kind, path, _) in enumerate(modules)
        ],
    )
    for _, path, config in modules:
        if config is not None:
            write_json(folder / path / "config.json", config)
