"""A folder's tokenizer: tokenizer.json, or built from vocabulary files where that has one meaning.

BERT's WordPiece (vocab.txt) and RoBERTa's byte-level BPE (vocab.json, merges.txt) are built as
transformers builds them. Anything else without a tokenizer.json is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import tokenizers
from tokenizers import AddedToken, models, normalizers, pre_tokenizers, processors

from likewise.base.errors import ModelCorrupt, ModelNotFound, ModelUnsupported
from likewise.base.log import fields, logger
from likewise.models.parts import read_json
from likewise.models.static import STATIC
from likewise.models.tokenizer_classes import content
from likewise.models.tokenizer_files import assemble, opened

_log = logger("models")
# Classes of transformers whose tokenizer is BERT's, and RoBERTa's, with nothing of their own.
_WORD_PIECE = ("Bert", "DistilBert", "Electra", "MobileBert")
_BYTE_LEVEL = ("Roberta", "Longformer")
_BY_ARCHITECTURE: Mapping[str, str] = {
    "bert": "Bert",
    "distilbert": "DistilBert",
    "electra": "Electra",
    "roberta": "Roberta",
}
_BERT_SPECIALS = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
_ROBERTA_SPECIALS = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "cls_token": "<s>",
    "mask_token": "<mask>",
}
_OTHERS = ("sentencepiece.bpe.model", "spiece.model", "tokenizer.model", "spm.model")


def tokenizer_folder(transformer: Path, base: Path) -> Path:
    """Where the tokenizer is: in the folder of an adapter, `transformer`, or with its `base`."""
    names = ("tokenizer.json", "vocab.txt", "vocab.json", *_OTHERS)
    return transformer if any((transformer / name).is_file() for name in names) else base


def open_tokenizer(transformer: Path, architecture: str) -> tokenizers.Tokenizer:
    """The tokenizer of the folder `transformer`, whose config.json says `architecture`.

    Files beside tokenizer.json count as they do in transformers.

    Raises:
        ModelNotFound: there are no files of a tokenizer.
        ModelUnsupported: there are, but what they mean isn't certain; the remedy is given.
        ModelCorrupt: a file is damaged.
    """
    path = transformer / "tokenizer.json"
    if path.is_file():
        if architecture == STATIC:
            # Tables of token vectors are read with this file alone, by both libraries.
            return opened(path)
        assembled = assemble(transformer, architecture)
        if assembled.differs:
            parts = ", ".join(assembled.parts)
            _log.info(
                fields("tokenizer.json isn't all that counts", folder=transformer, otherwise=parts)
            )
        return assembled.open(path)
    described = describe(transformer, architecture)
    if described["kind"] == "wordpiece":
        return _word_piece(described)
    return _byte_level(described)


def describe(transformer: Path, architecture: str) -> dict[str, Any]:
    """What a tokenizer without tokenizer.json is built of, as values that can be written as JSON.

    Raises:
        ModelNotFound, ModelUnsupported, ModelCorrupt: as `open_tokenizer`.
    """
    settings = read_json(transformer / "tokenizer_config.json", missing={})
    kind = str(settings.get("tokenizer_class") or _BY_ARCHITECTURE.get(architecture, ""))
    kind = kind.removesuffix("Fast").removesuffix("Tokenizer")
    specials = {
        **read_json(transformer / "special_tokens_map.json", missing={}),
        **{key: value for key, value in settings.items() if key.endswith("_token")},
    }
    texts, vocab, merges = (transformer / n for n in ("vocab.txt", "vocab.json", "merges.txt"))
    if kind in _WORD_PIECE and texts.is_file():
        lines = _lines(texts)
        found: dict[str, Any] = {
            "kind": "wordpiece",
            "vocab": {token: index for index, token in enumerate(lines)},
            "lower": settings.get("do_lower_case", True),
            "chinese": settings.get("tokenize_chinese_chars", True),
            "accents": settings.get("strip_accents"),
            "specials": _specials(specials, _BERT_SPECIALS),
        }
    elif kind in _BYTE_LEVEL and vocab.is_file() and merges.is_file():
        found = {
            "kind": "byte-level",
            "vocab": read_json(vocab),
            "merges": [line.split(" ") for line in _lines(merges) if _is_merge(line)],
            "space": bool(settings.get("add_prefix_space", False)),
            "specials": _specials(specials, _ROBERTA_SPECIALS),
        }
    else:
        raise _no_tokenizer(transformer, kind)
    found["flags"] = {
        str(value["content"]): _flags(value)
        for value in specials.values()
        if isinstance(value, dict)
    }
    found["added"] = _added(transformer, settings, found["vocab"])
    # Only where they are there, so that digests of before they were read stay what they were.
    if extra := _extra({**specials, **settings}):
        found["extra"] = extra
    if settings.get("split_special_tokens"):
        found["split"] = True
    _require_specials(found, texts if found["kind"] == "wordpiece" else vocab)
    return found


def _word_piece(described: Mapping[str, Any]) -> tokenizers.Tokenizer:
    specials: dict[str, str] = described["specials"]
    unknown, cls, sep = (specials[f"{name}_token"] for name in ("unk", "cls", "sep"))
    inner = tokenizers.Tokenizer(models.WordPiece(described["vocab"], unk_token=unknown))
    inner.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=described["chinese"],
        strip_accents=described["accents"],
        lowercase=described["lower"],
    )
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.post_processor = processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
        special_tokens=[(token, described["vocab"][token]) for token in (cls, sep)],
    )
    _add(inner, described)
    return inner


def _byte_level(described: Mapping[str, Any]) -> tokenizers.Tokenizer:
    specials: dict[str, str] = described["specials"]
    vocab, space = described["vocab"], described["space"]
    merges = [(left, right) for left, right in described["merges"]]
    inner = tokenizers.Tokenizer(models.BPE(vocab, merges, fuse_unk=False))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=space)
    sep, cls = specials["sep_token"], specials["cls_token"]
    inner.post_processor = processors.RobertaProcessing(
        (sep, vocab[sep]), (cls, vocab[cls]), True, space
    )
    _add(inner, described)
    return inner


def _add(inner: tokenizers.Tokenizer, described: Mapping[str, Any]) -> None:
    """Special tokens are found in a text as they are."""
    flags = described["flags"]
    inner.add_special_tokens(
        [
            AddedToken(token, **{"normalized": False, **flags.get(token, {}), "special": True})
            for token in dict.fromkeys(described["specials"].values())
            if token in described["vocab"]
        ]
    )
    inner.add_tokens([AddedToken(**values) for values in described["added"]])
    inner.add_tokens([AddedToken(token, special=True) for token in described.get("extra", ())])
    inner.encode_special_tokens = described.get("split", False)


def _extra(settings: Mapping[str, Any]) -> list[str]:
    """Further special tokens, with or without names of their own."""
    listed = settings.get("extra_special_tokens") or settings.get("additional_special_tokens") or []
    named = [
        value
        for name, value in settings.items()
        if name.endswith("_token") and name not in _ROBERTA_SPECIALS
    ]
    values = [*(listed.values() if isinstance(listed, dict) else listed), *named]
    return [token for token in map(content, values) if token]


def _specials(written: Mapping[str, Any], usual: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for name, token in usual.items():
        value = written.get(name) or token
        found[name] = value if isinstance(value, str) else str(value.get("content", token))
    return found


def _flags(values: Mapping[str, Any]) -> dict[str, bool]:
    keys = ("single_word", "lstrip", "rstrip", "normalized", "special")
    return {key: bool(values.get(key, False)) for key in keys}


def _added(
    transformer: Path, settings: Mapping[str, Any], vocab: Mapping[str, int]
) -> list[dict[str, Any]]:
    """Tokens beside the vocabulary, in order of their ids, which must follow on it."""
    path = transformer / "added_tokens.json"
    plain = {str(token): int(index) for token, index in read_json(path, missing={}).items()}
    known: dict[str, dict[str, Any]] = {}
    for index, values in (settings.get("added_tokens_decoder") or {}).items():
        known[str(values["content"])] = _flags(values)
        plain[str(values["content"])] = int(index)
    beside = sorted((index, token) for token, index in plain.items() if token not in vocab)
    if [index for index, _ in beside] != list(range(len(vocab), len(vocab) + len(beside))):
        raise ModelUnsupported(
            f"{transformer}: tokens are added at {[index for index, _ in beside][:5]}, but the "
            f"vocabulary ends at {len(vocab) - 1}; {_remedy(transformer)}"
        )
    return [{"content": token, **known.get(token, {})} for _, token in beside]


def _require_specials(found: Mapping[str, Any], where: Path) -> None:
    specials, vocab = found["specials"], found["vocab"]
    for name in ("unk_token", "cls_token", "sep_token"):
        if specials[name] not in vocab:
            raise ModelCorrupt(f"{where} doesn't hold the {name} {specials[name]!r}")


def _is_merge(line: str) -> bool:
    return bool(line.strip()) and not line.startswith("#version")


def _lines(path: Path) -> list[str]:
    try:
        # Not splitlines: a vocabulary may hold characters that Python counts as ends of lines.
        lines = path.read_bytes().decode("utf-8").replace("\r\n", "\n").split("\n")
    except ValueError as broken:
        raise ModelCorrupt(f"{path} isn't UTF-8: {broken}") from broken
    return lines[:-1] if lines and not lines[-1] else lines


def _no_tokenizer(transformer: Path, kind: str) -> ModelNotFound | ModelUnsupported:
    names = ("vocab.txt", "vocab.json", "merges.txt", *_OTHERS)
    here = [name for name in names if (transformer / name).is_file()]
    if not here:
        return ModelNotFound(
            f"{transformer} has no tokenizer.json, nor vocabulary files to build one from"
        )
    return ModelUnsupported(
        f"{transformer} has no tokenizer.json, and {', '.join(here)} of a "
        f"{kind or 'tokenizer that no file names'} isn't turned into one here; "
        f"{_remedy(transformer)}"
    )


def _remedy(transformer: Path) -> str:
    path = json.dumps(str(transformer))
    return (
        "write tokenizer.json with: python -c 'from transformers import AutoTokenizer; "
        f"AutoTokenizer.from_pretrained({path}).save_pretrained({path})'"
    )


def lower_first(inner: tokenizers.Tokenizer) -> None:
    """Lower-case first of all, as sentence-transformers does for `do_lower_case`."""
    before = inner.normalizer
    steps: list[Any] = [before]
    if isinstance(before, normalizers.Sequence):
        steps = list(cast("Any", before))
    if any(isinstance(step, normalizers.Lowercase) for step in steps):
        return
    kept = [step for step in steps if step is not None]
    inner.normalizer = normalizers.Sequence([normalizers.Lowercase(), *kept])
