"""How a folder wants texts read: how many tokens, in lower case or not, and with nothing unknown.

`sentence_bert_config.json` says it, in the words of sentence-transformers up to 5.3
(`max_seq_length`) or since 5.4 (`modality_config` and others, the limit being the tokenizer's).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from likewise.base.errors import ModelCorrupt, ModelUnsupported
from likewise.models.parts import read_json, table

# Written by sentence-transformers up to 5.3; the prefix named the architecture in its first years.
_FILES = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
_NO_LIMIT = 1_000_000
"""Tokenizer files write 1e30 for "no limit"; anything this large means that."""
# Positions of these begin after the padding token's, so that a table of 514 serves 512 tokens.
_AFTER_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet", "longformer", "xlm-roberta-xl")
# Positions of these are computed, not looked up: the limit may be beyond those trained on.
_COMPUTED_POSITIONS = (
    "eurobert",
    "gemma",
    "gemma3_text",
    "gte",
    "jina_bert",
    "jina_bert_normed",
    "llama",
    "mistral",
    "modernbert",
    "new",
    "nomic_bert",
    "qwen2",
    "qwen3",
)
# What a folder may tell transformers to do that changes no vector here.
_HARMLESS: Mapping[str, frozenset[str]] = {
    "model": frozenset(
        "add_pooling_layer attn_implementation device_map dtype low_cpu_mem_usage revision "
        "code_revision torch_dtype trust_remote_code unpad_inputs use_memory_efficient_attention "
        "use_safetensors use_cache".split()
    ),
    "processor": frozenset(
        "clean_up_tokenization_spaces code_revision model_max_length padding_side revision "
        "trust_remote_code use_fast".split()
    ),
    "config": frozenset("code_revision revision trust_remote_code use_cache".split()),
}
_SPELLINGS = {
    "model": ("model_args", "model_kwargs"),
    "processor": ("tokenizer_args", "processor_kwargs"),
    "config": ("config_args", "config_kwargs"),
}
_PROCESSING: Mapping[str, tuple[Any, ...]] = {
    "padding": (True, False, "longest", "max_length"),
    "truncation": (True, "longest_first", "only_first"),
    "return_tensors": ("pt", "np"),
    "add_special_tokens": (True,),
}


@dataclass(frozen=True, slots=True)
class Reading:
    """How texts are read."""

    max_tokens: int
    """Tokens of one text, special ones included."""
    lower_case: bool
    notes: tuple[str, ...] = ()


def read_reading(
    transformer: Path,
    config: Mapping[str, Any],
    architecture: str,
    *,
    pooled: bool = True,
    is_bare: bool = False,
    limit: int | None = None,
) -> Reading:
    """How the model in `transformer` wants texts read; `pooled` models give vectors of texts.

    A folder that `is_bare`, without modules.json, has no settings of sentence-transformers': it
    doesn't read them there. An operator's `limit` of tokens goes before the folder's.

    Raises:
        ModelUnsupported: it asks for something that isn't done here; it is named.
        ModelCorrupt: it doesn't say how many tokens it reads.
    """
    files = () if is_bare else _FILES
    path = next((transformer / f for f in files if (transformer / f).is_file()), None)
    written = {} if path is None else read_json(path)
    if path is not None:
        _require_known(written, path, pooled)
    tokenizer = read_json(transformer / "tokenizer_config.json", missing={})
    # As in sentence-transformers: the first of these that says something; else the least of all.
    wanted = next((n for n in (limit, *_limits(written)) if n is not None), None)
    if wanted is None:
        longest = tokenizer.get("model_max_length", tokenizer.get("max_len"))
        limits = (longest, config.get("max_position_embeddings"))
        known = [int(n) for n in limits if isinstance(n, int | float) and 0 < n < _NO_LIMIT]
        wanted = min(known, default=None)
    if not isinstance(wanted, int) or isinstance(wanted, bool) or wanted < 1:
        raise ModelCorrupt(
            f"{transformer} doesn't say how many tokens the model reads (max_seq_length, "
            f"model_max_length or max_position_embeddings); found {wanted!r}"
        )
    lower_case = bool(written.get("do_lower_case", False))
    places = _positions(config, architecture)
    if places is None or wanted <= places:
        return Reading(wanted, lower_case)
    if architecture in _COMPUTED_POSITIONS:
        note = f"reads {wanted} tokens, more than the {places} positions it was configured for"
        return Reading(wanted, lower_case, (note,))
    note = f"max_seq_length {wanted} capped to the {places} positions the model has"
    return Reading(places, lower_case, (note,))


def _limits(written: Mapping[str, Any]) -> tuple[Any, ...]:
    def inside(value: Any, key: str) -> Any:
        return value.get(key) if isinstance(value, dict) else None

    processors = (inside(written.get(name), "model_max_length") for name in _SPELLINGS["processor"])
    processing = inside(inside(written.get("processing_kwargs"), "text"), "max_length")
    return (processing, *processors, written.get("max_seq_length"))


def _positions(config: Mapping[str, Any], architecture: str) -> int | None:
    positions = config.get("max_position_embeddings")
    if not isinstance(positions, int):
        return None
    if architecture in _AFTER_PADDING:
        padding = 1 if architecture == "mpnet" else config.get("pad_token_id", 1)
        return positions - int(padding if padding is not None else 1) - 1
    return positions


def _require_known(written: Mapping[str, Any], path: Path, pooled: bool) -> None:
    for kind, spellings in _SPELLINGS.items():
        for name in spellings:
            extra = set(table(written, name, path)) - _HARMLESS[kind]
            if extra:
                raise ModelUnsupported(
                    f"{path}: {name} with {', '.join(sorted(extra))} isn't followed here"
                )
    if written.get("tokenizer_name_or_path"):
        raise ModelUnsupported(
            f"{path} names another tokenizer ({written['tokenizer_name_or_path']}); copy its "
            "files into the folder and drop tokenizer_name_or_path"
        )
    _require_known_processing(table(written, "processing_kwargs", path), path)
    if pooled:
        _require_token_embeddings(written, path)


def _require_known_processing(processing: Mapping[str, Any], path: Path) -> None:
    for kind in ("common", "text"):
        for key, value in table(processing, kind, path).items():
            # `value in` alone would take 1 for True.
            known = [each for each in _PROCESSING.get(key, ()) if each is value or each == value]
            if key != "max_length" and not known:
                raise ModelUnsupported(
                    f"{path}: processing_kwargs {kind}.{key} = {value!r} isn't followed here"
                )


def _require_token_embeddings(written: Mapping[str, Any], path: Path) -> None:
    """Refuse folders whose transformer gives anything but the last hidden state of plain text."""
    task = written.get("transformer_task", "feature-extraction")
    output = written.get("module_output_name", "token_embeddings")
    if task != "feature-extraction" or output != "token_embeddings":
        raise ModelUnsupported(
            f"{path}: transformer_task {task!r} giving {output!r} before a pooling isn't computed "
            "here; only 'feature-extraction' giving 'token_embeddings' is"
        )
    if written.get("modality_config") is not None:
        modalities = table(written, "modality_config", path)
        if "message" in modalities:
            raise ModelUnsupported(
                f"{path}: texts go through the tokenizer's chat template (modality 'message'), "
                "which isn't done here; only the modality 'text' is"
            )
        text = table(modalities, "text", path)
        gives = text.get("method_output_name")
        gives = gives[0] if isinstance(gives, list) and len(gives) == 1 else gives
        if (text.get("method"), gives) != ("forward", "last_hidden_state"):
            raise ModelUnsupported(
                f"{path}: text through {text.get('method')!r} giving {gives!r} isn't computed "
                "here; only 'forward' giving 'last_hidden_state' is"
            )
    for key in ("query_length", "document_length", "query_expansion"):
        if written.get(key) is not None:
            raise ModelUnsupported(f"{path}: {key} isn't followed in a model with a pooling")
