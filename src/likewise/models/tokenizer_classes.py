"""What tokenizer classes of transformers 5 make of a tokenizer.json: each rebuilds parts of it.

Such a class takes the vocabulary from the file, and has a normalizer, a pre-tokenizer and mostly a
post-processor of its own, which settings of tokenizer_config.json change. What the file says about
these parts counts only for `TokenizersBackend` (`PreTrainedTokenizerFast`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tokenizers import Regex, normalizers, pre_tokenizers

Parts = dict[str, Any]
"""Parts of tokenizer.json by their names there: `model` (without its vocabulary), and others."""
Template = Literal["bert", "roberta", "xlm-roberta", "t5"]

_MARK = "\u2581"
_QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A class that rebuilds its tokenizer."""

    model: Literal["WordPiece", "BPE", "Unigram"]
    parts: Callable[[Mapping[str, Any], Mapping[str, Any]], Parts]
    """From the settings and the whole tokenizer.json: `model`, `normalizer`, `pre_tokenizer`."""
    specials: Mapping[str, str | None]
    """Special tokens where the settings name none."""
    template: Template | None = None
    """The post-processor; None: the file's own."""
    ends: tuple[str, str] = ("cls_token", "sep_token")
    """Which special tokens begin and end a text in the template."""
    spaced: frozenset[str] = frozenset()
    """Special tokens that take the space before them along, where they have to be added."""
    normalised: bool = False
    """Whether special tokens that have to be added are found in the normalised text."""
    extra: tuple[str, ...] = ()
    """Further special tokens where the settings name none."""
    readds: bool = False
    """Whether all special tokens are added once more at the end, with their usual flags."""


def _state(part: Any) -> Any:
    return None if part is None else json.loads(part.__getstate__())


def _word_piece(settings: Mapping[str, Any], written: Mapping[str, Any]) -> Parts:
    del written
    unknown = content(settings.get("unk_token")) or "[UNK]"
    normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
        strip_accents=settings.get("strip_accents"),
        lowercase=settings.get("do_lower_case", True),
    )
    return {
        "model": {
            "unk_token": unknown,
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
        },
        "normalizer": _state(normalizer),
        "pre_tokenizer": _state(pre_tokenizers.BertPreTokenizer()),
    }


def _bpe(**changes: Any) -> dict[str, Any]:
    plain = {
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
    }
    return {**plain, **changes}


def _byte_level(settings: Mapping[str, Any], written: Mapping[str, Any]) -> Parts:
    del written
    space = bool(settings.get("add_prefix_space", False))
    return {
        "model": _bpe(),
        "normalizer": None,
        "pre_tokenizer": _state(pre_tokenizers.ByteLevel(add_prefix_space=space)),
    }


def _qwen(settings: Mapping[str, Any], written: Mapping[str, Any]) -> Parts:
    del written
    space = bool(settings.get("add_prefix_space") or False)
    words = pre_tokenizers.Split(Regex(_QWEN_WORDS), behavior="isolated", invert=False)
    bytewise = pre_tokenizers.ByteLevel(add_prefix_space=space, use_regex=False)
    return {
        "model": _bpe(),
        "normalizer": _state(normalizers.NFC()),
        "pre_tokenizer": _state(pre_tokenizers.Sequence([words, bytewise])),
    }


def _llama(settings: Mapping[str, Any], written: Mapping[str, Any]) -> Parts:
    del written
    space = settings.get("add_prefix_space")
    scheme = "first" if not settings.get("legacy", False) else "always"
    scheme = scheme if space is None or space else "never"
    marks = pre_tokenizers.Metaspace(replacement=_MARK, prepend_scheme=scheme, split=False)
    return {
        "model": _bpe(fuse_unk=True, byte_fallback=True),
        "normalizer": None,
        "pre_tokenizer": _state(marks),
    }


def _gemma(settings: Mapping[str, Any], written: Mapping[str, Any]) -> Parts:
    del written
    unknown = content(settings.get("unk_token")) or "<unk>"
    words = pre_tokenizers.Split(pattern=" ", behavior="merged_with_previous", invert=False)
    return {
        "model": _bpe(unk_token=unknown, fuse_unk=True, byte_fallback=True),
        "normalizer": _state(normalizers.Replace(" ", _MARK)),
        "pre_tokenizer": _state(words),
    }


def _words_of_pieces(scheme: str) -> Any:
    marks = pre_tokenizers.Metaspace(replacement=_MARK, prepend_scheme=scheme)
    return _state(pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), marks]))


def _pieces(
    settings: Mapping[str, Any], written: Mapping[str, Any], unknown: int, *, spaced: bool = True
) -> Parts:
    space = settings.get("add_prefix_space", True) if spaced else True
    return {
        "model": {"unk_id": unknown, "byte_fallback": False},
        "normalizer": precompiled(written),
        "pre_tokenizer": _words_of_pieces("always" if space else "never"),
    }


def _xlm_roberta(settings: Mapping[str, Any], written: Mapping[str, Any]) -> Parts:
    return _pieces(settings, written, 3)


def _t5(settings: Mapping[str, Any], written: Mapping[str, Any]) -> Parts:
    return _pieces(settings, written, 2, spaced=False)


def _camembert(settings: Mapping[str, Any], written: Mapping[str, Any]) -> Parts:
    name = content(settings.get("unk_token")) or "<unk>"
    vocab = written["model"].get("vocab") or []
    unknown = next((index for index, each in enumerate(vocab) if each[0] == name), 0)
    return _pieces(settings, written, unknown)


def _albert(settings: Mapping[str, Any], written: Mapping[str, Any]) -> Parts:
    steps: list[Any] = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    if not settings.get("keep_accents", False):
        steps += [normalizers.NFKD(), normalizers.StripAccents()]
    if settings.get("do_lower_case", True):
        steps.append(normalizers.Lowercase())
    parts = _pieces(settings, written, 1)
    charsmap = parts["normalizer"]
    states = [_state(step) for step in steps] + ([charsmap] if charsmap else [])
    return {**parts, "normalizer": {"type": "Sequence", "normalizers": states}}


def _deberta_v2(settings: Mapping[str, Any], written: Mapping[str, Any]) -> Parts:
    name = content(settings.get("unk_token")) or "[UNK]"
    vocab = [tuple(each) for each in written["model"].get("vocab") or [] if len(each) == 2]
    found = [index for index, each in enumerate(vocab) if each == (name, 0.0)]
    unknown = found[0] if found else settings.get("unk_id", 1)
    steps: list[Any] = [normalizers.Lowercase()] if settings.get("do_lower_case", False) else []
    steps += [
        normalizers.Replace(Regex(r"\s{2,}|[\n\r\t]"), " "),
        normalizers.NFC(),
        normalizers.Strip(left=False, right=True),
    ]
    splits: list[Any] = []
    if settings.get("split_by_punct", False):
        splits.append(pre_tokenizers.Punctuation(behavior="isolated"))
    scheme = "always" if settings.get("add_prefix_space", True) else "first"
    splits.append(pre_tokenizers.Metaspace(replacement=_MARK, prepend_scheme=scheme))
    return {
        "model": {"unk_id": unknown, "byte_fallback": False},
        "normalizer": _state(normalizers.Sequence(steps)),
        "pre_tokenizer": _state(pre_tokenizers.Sequence(splits)),
    }


def content(token: Any) -> str | None:
    """The text of a token as files write it: a text, or a table with `content`."""
    if isinstance(token, Mapping):
        token = token.get("content")
    return token if isinstance(token, str) else None


def precompiled(written: Mapping[str, Any]) -> Any:
    """The first normalizer of a tokenizer.json that is a SentencePiece table of characters."""
    normalizer = written.get("normalizer") or {}
    listed = normalizer.get("normalizers") if normalizer.get("type") == "Sequence" else [normalizer]
    for each in listed or []:
        if each.get("type") == "Precompiled" and "precompiled_charsmap" in each:
            return {"type": "Precompiled", "precompiled_charsmap": each["precompiled_charsmap"]}
    return None


_BRACKETS = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "sep", "pad", "cls", "mask")}
_ANGLES = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "cls_token": "<s>",
    "mask_token": "<mask>",
}
_BOTH = {"bos_token": "[CLS]", "eos_token": "[SEP]", **_BRACKETS}
_TEXT = "<|endoftext|>"

REBUILT: Mapping[str, Rebuilt] = {
    "Bert": Rebuilt("WordPiece", _word_piece, _BRACKETS, "bert"),
    "MPNet": Rebuilt(
        "WordPiece",
        _word_piece,
        {**_ANGLES, "unk_token": "[UNK]"},
        "roberta",
        spaced=frozenset({"mask_token"}),
        normalised=True,
    ),
    "Roberta": Rebuilt("BPE", _byte_level, _ANGLES, "roberta"),
    "Deberta": Rebuilt("BPE", _byte_level, _BOTH, "xlm-roberta"),
    "GPT2": Rebuilt(
        "BPE", _byte_level, {"unk_token": _TEXT, "bos_token": _TEXT, "eos_token": _TEXT}
    ),
    "Qwen2": Rebuilt(
        "BPE",
        _qwen,
        {"unk_token": _TEXT, "eos_token": _TEXT, "pad_token": _TEXT},
        readds=True,
    ),
    "Llama": Rebuilt(
        "BPE", _llama, {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    ),
    "Gemma": Rebuilt(
        "BPE",
        _gemma,
        {
            "unk_token": "<unk>",
            "bos_token": "<bos>",
            "eos_token": "<eos>",
            "pad_token": "<pad>",
            "mask_token": "<mask>",
        },
    ),
    "XLMRoberta": Rebuilt(
        "Unigram", _xlm_roberta, _ANGLES, "xlm-roberta", ends=("bos_token", "eos_token")
    ),
    "Camembert": Rebuilt(
        "Unigram",
        _camembert,
        _ANGLES,
        "xlm-roberta",
        ends=("bos_token", "eos_token"),
        spaced=frozenset({"mask_token"}),
        extra=("<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"),
    ),
    "DebertaV2": Rebuilt("Unigram", _deberta_v2, _BOTH, "bert"),
    "Albert": Rebuilt(
        "Unigram", _albert, {**_BOTH, "unk_token": "<unk>", "pad_token": "<pad>"}, "bert"
    ),
    "T5": Rebuilt(
        "Unigram",
        _t5,
        {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"},
        "t5",
        ends=("", "eos_token"),
        extra=tuple(f"<extra_id_{number}>" for number in range(100)),
    ),
}
"""By the name of the class without `Tokenizer` and `Fast`."""
_SAME: Mapping[str, str] = {
    **dict.fromkeys(
        ("DistilBert", "Electra", "MobileBert", "SqueezeBert", "Lxmert", "LayoutLM"), "Bert"
    ),
    **dict.fromkeys(("Longformer", "Bart", "LED", "Mvp"), "Roberta"),
}
"""Classes that are another one, or do as it does."""
BY_MODEL: Mapping[str, str] = {
    "albert": "Albert",
    "bart": "Roberta",
    "bert": "Bert",
    "camembert": "Camembert",
    "deberta": "Deberta",
    "deberta-v2": "DebertaV2",
    "distilbert": "Bert",
    "electra": "Bert",
    "gemma": "Gemma",
    "gemma2": "Gemma",
    "gemma3_text": "Gemma",
    "gpt2": "GPT2",
    "gte": "XLMRoberta",
    "longformer": "Roberta",
    "mistral": "",
    "mixtral": "",
    "mobilebert": "MobileBert",
    "modernbert": "",
    "mpnet": "MPNet",
    "nomic_bert": "Bert",
    "phi3": "",
    "qwen2": "Qwen2",
    "qwen3": "Qwen2",
    "roberta": "Roberta",
    "t5": "T5",
    "xlm-roberta": "XLMRoberta",
}
"""The class of a `model_type` in transformers; empty: the one that follows tokenizer.json."""
OVERRULED = frozenset({"modernbert", "phi3", "qwen2"})
"""Kinds of models of which transformers doesn't believe the folder's `tokenizer_class`."""
UNKNOWN = frozenset(
    "Barthez BigBird Blenderbot CLIP CodeGen CodeLlama Cohere DPRContextEncoder "
    "DPRQuestionEncoder DPRReader Esmc Funnel GPTNeoX Herbert Lasr LayoutLMv2 LayoutLMv3 LayoutXLM "
    "Luke MBart MBart50 MLuke MarkupLM Nllb Nougat OpenAIGPT Pegasus Qwen3_5 Reformer RemBert "
    "RoFormer SeamlessM4T Siglip2 Splinter Tipsv2 Udop VideoPrism Whisper XGLM XLNet".split()
)
"""Classes that rebuild their tokenizer in ways not written here."""


def class_of(settings: Mapping[str, Any], config: Mapping[str, Any], *, bytewise: bool) -> str:
    """The class that transformers takes, as `REBUILT` or `UNKNOWN` name it; empty: the file counts.

    `bytewise` says whether tokenizer.json is a byte-level one.
    """
    named = settings.get("tokenizer_class") or config.get("tokenizer_class") or ""
    named = _short(str(named))
    kind = str(config.get("model_type"))
    usual = BY_MODEL.get(kind)
    if named == "Llama" and bytewise and kind not in OVERRULED:
        return ""
    if usual is not None and named and usual != named:
        if not usual:
            return ""
        named = usual if kind in OVERRULED else named
    elif not named:
        named = usual or ""
    named = _SAME.get(named, named)
    return named if named in REBUILT or named in UNKNOWN else ""


def _short(name: str) -> str:
    return name.removesuffix("Fast").removesuffix("Tokenizer")
