"""tokenizer.json and the files beside it give the ids that transformers gives on the same files."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from likewise.base.errors import ModelCorrupt, ModelUnsupported
from likewise.models.tokenizer_files import assemble
from tests.conformance.tiny import write_json
from tests.unit.models.test_vocabulary import LETTERS, NASTY

TEXTS = [*NASTY, "<q>x <q> [unused0] a<r>b", "It's 'quoted' ``so'' A-B.", "<s> </s>[SEP]<pad>"]
BRACKETS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ANGLES = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "<bos>", "<eos>", "<|endoftext|>"]
WORDS = ["[unused0]", "hello", "world", "##lo", "##ing", "he"]
PIECES = [*dict.fromkeys(LETTERS), *(f"##{letter}" for letter in dict.fromkeys(LETTERS))]


def word_piece() -> Tokenizer:
    """A WordPiece whose other parts are nothing that a class of transformers has."""
    vocab = dict.fromkeys([*BRACKETS, *ANGLES, *WORDS, *PIECES])
    made = models.WordPiece({token: index for index, token in enumerate(vocab)}, unk_token="[UNK]")
    inner = Tokenizer(made)
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", pair="[CLS] $A $B", special_tokens=[("[CLS]", 2)]
    )
    inner.add_special_tokens([*BRACKETS, "<s>", "</s>"])
    return inner


def bytewise() -> Tokenizer:
    """A byte-level BPE learned from the texts."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=[*ANGLES, "[CLS]", "[SEP]"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator([text for text in NASTY if text.isprintable()] * 3, trainer)
    ends = [(token, inner.token_to_id(token)) for token in ("<s>", "<|endoftext|>")]
    inner.post_processor = processors.TemplateProcessing(
        single="$A <|endoftext|>", pair="$A <s> $B:1", special_tokens=ends
    )
    return inner


def marked() -> Tokenizer:
    """A BPE of characters with bytes to fall back on, as Llama's and Gemma's are."""
    letters = [*dict.fromkeys(LETTERS), "\u2581", "\u2581h", "he"]
    vocab = [*ANGLES, *(f"<0x{n:02X}>" for n in range(256)), *letters]
    merges = [("\u2581", "h"), ("h", "e")]
    ids = {token: index for index, token in enumerate(vocab)}
    inner = Tokenizer(models.BPE(ids, merges, unk_token="<unk>", byte_fallback=True))
    inner.add_special_tokens(["<s>", "</s>", "<bos>", "<eos>"])
    return inner


def unigram() -> Tokenizer:
    """A Unigram of characters and some pieces."""
    vocab = [
        *ANGLES[:4],
        "<mask>",
        *BRACKETS,
        "\u2581",
        "\u2581he",
        "he",
        "llo",
        "\u2581w",
        "added",
    ]
    listed = [*dict.fromkeys([*vocab, *LETTERS])]
    scores = [(token, -0.5 * index if index > 9 else 0.0) for index, token in enumerate(listed)]
    inner = Tokenizer(models.Unigram(scores, unk_id=3))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    inner.add_special_tokens(["<s>", "</s>", "<mask>", "[CLS]", "[SEP]"])
    return inner


MAKERS = {"word_piece": word_piece, "bytewise": bytewise, "marked": marked, "unigram": unigram}
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "word_piece": [
        {"do_lower_case": False},
        {"strip_accents": False, "tokenize_chinese_chars": False},
        {"sep_token": "[MASK]", "cls_token": {"content": "<s>", "__type": "AddedToken"}},
    ],
    "bytewise": [{"add_prefix_space": True}, {"trim_offsets": False}],
    "marked": [
        {"add_prefix_space": False},
        {"legacy": True},
        {"add_bos_token": True, "add_eos_token": True},
    ],
    "unigram": [
        {"add_prefix_space": False},
        {"do_lower_case": True, "keep_accents": True, "split_by_punct": True},
    ],
}
CLASSES: dict[str, list[str]] = {
    "word_piece": ["Bert", "DistilBert", "Electra", "MPNet", "PreTrained", "NoSuch"],
    "bytewise": [
        "Roberta",
        "Longformer",
        "Bart",
        "Deberta",
        "GPT2",
        "Qwen2",
        "Llama",
        "PreTrained",
    ],
    "marked": ["Llama", "Gemma", "PreTrained"],
    "unigram": ["XLMRoberta", "Camembert", "DebertaV2", "Albert", "T5", "PreTrained"],
}
TOKENS = {"content": "<q>", "lstrip": False, "rstrip": False, "normalized": False}
EVERYWHERE: list[dict[str, Any]] = [
    {},
    {"split_special_tokens": True},
    {"additional_special_tokens": ["[unused0]", "<r>"]},
    {"extra_special_tokens": {"image_token": "<q>"}, "video_token": "<r>"},
    {
        "added_tokens_decoder": {
            "3": {**TOKENS, "lstrip": True},
            "9999": {**TOKENS, "content": "<r>"},
        }
    },
    {"padding_side": "left", "truncation_side": "left", "clean_up_tokenization_spaces": True},
]


def write(folder: Path, maker: str, kind: str, settings: dict[str, Any]) -> Path:
    """A folder with a tokenizer and its settings; the model is of no known kind."""
    folder.mkdir(exist_ok=True, parents=True)
    MAKERS[maker]().save(str(folder / "tokenizer.json"))
    write_json(
        folder / "tokenizer_config.json", {"tokenizer_class": f"{kind}Tokenizer", **settings}
    )
    write_json(folder / "config.json", {"model_type": "llama"})
    return folder


def agree(folder: Path) -> None:
    """Both give the same ids, for single texts and for pairs."""
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(folder)
    ours = assemble(folder, "llama").open(folder / "tokenizer.json")
    ours.no_truncation()
    for text in TEXTS:
        assert ours.encode(text).ids == theirs(text)["input_ids"], text
    for one, other in itertools.pairwise(TEXTS[2:6]):
        assert ours.encode(one, other).ids == theirs(one, other)["input_ids"]


@pytest.mark.torch
@pytest.mark.parametrize(
    ("maker", "kind"), [(maker, kind) for maker, kinds in CLASSES.items() for kind in kinds]
)
def test_every_class_and_its_settings(tmp_path: Path, maker: str, kind: str) -> None:
    for index, settings in enumerate([*EVERYWHERE, *SETTINGS[maker]]):
        agree(write(tmp_path / str(index), maker, kind, settings))


@pytest.mark.torch
@pytest.mark.parametrize(
    ("maker", "kind"), [("word_piece", "Bert"), ("unigram", "XLMRoberta"), ("marked", "PreTrained")]
)
@pytest.mark.parametrize(
    "mapped",
    [
        {"cls_token": "<q>", "sep_token": {**TOKENS, "content": "<r>", "rstrip": True}},
        {"additional_special_tokens": ["[unused0]", "<r>"]},
        {"extra_special_tokens": ["<q>"], "bos_token": "<|endoftext|>"},
    ],
    ids=str,
)
def test_older_files(tmp_path: Path, maker: str, kind: str, mapped: dict[str, Any]) -> None:
    folder = write(tmp_path, maker, kind, {"unk_token": "[UNK]", "model_max_length": 9})
    write_json(folder / "special_tokens_map.json", mapped)
    agree(folder)
    size = len(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"])
    write_json(folder / "added_tokens.json", {"<q>": size, "<r>": size + 1, "hello": size + 2})
    agree(folder)
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": f"{kind}TokenizerFast"})
    agree(folder)


MODELS = {
    "bert": "word_piece",
    "mpnet": "word_piece",
    "nomic_bert": "word_piece",
    "roberta": "bytewise",
    "qwen2": "bytewise",
    "qwen3": "bytewise",
    "modernbert": "bytewise",
    "mistral": "marked",
    "gemma": "marked",
    "gemma3_text": "marked",
    "xlm-roberta": "unigram",
    "camembert": "unigram",
    "deberta-v2": "unigram",
}


@pytest.mark.torch
@pytest.mark.parametrize(
    ("model_type", "named"),
    [
        (model_type, named)
        for model_type, maker in MODELS.items()
        for named in (None, "PreTrainedTokenizerFast", "LlamaTokenizer")
        # A BPE can't be made of another kind's vocabulary.
        if named != "LlamaTokenizer" or maker in ("bytewise", "marked")
    ],
)
def test_the_class_of_a_model(tmp_path: Path, model_type: str, named: str | None) -> None:
    folder = write(tmp_path, MODELS[model_type], "", {})
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": named} if named else {})
    write_json(folder / "config.json", {"model_type": model_type})
    agree(folder)
    if named is None:
        write_json(
            folder / "config.json", {"model_type": model_type, "tokenizer_class": "LlamaTokenizer"}
        )
        if MODELS[model_type] in ("bytewise", "marked"):
            agree(folder)


def test_a_class_with_other_rules_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path, "unigram", "XLNet", {})
    with pytest.raises(ModelUnsupported, match="XLNetTokenizer has rules.*PreTrainedTokenizerFast"):
        assemble(folder, "xlnet")
    write(folder, "unigram", "Bert", {})
    with pytest.raises(ModelUnsupported, match="holds a Unigram.*wants a WordPiece"):
        assemble(folder, "bert")


def test_damaged_files(tmp_path: Path) -> None:
    folder = write(tmp_path, "word_piece", "Bert", {"added_tokens_decoder": {"x": 1}})
    with pytest.raises(ModelCorrupt, match="added_tokens_decoder has 'x'"):
        assemble(folder, "bert")
    write(folder, "word_piece", "Bert", {})
    write_json(folder / "added_tokens.json", {"<q>": "one"})
    with pytest.raises(ModelCorrupt, match=r"added_tokens\.json: '<q>' has no number"):
        assemble(folder, "bert")


@pytest.mark.parametrize(
    "settings",
    [
        {"do_lower_case": None},
        {"tokenize_chinese_chars": "yes"},
        {"extra_special_tokens": 3, "strip_accents": "no"},
    ],
    ids=str,
)
def test_values_of_another_kind_are_damage(tmp_path: Path, settings: dict[str, Any]) -> None:
    folder = write(tmp_path, "word_piece", "Bert", settings)
    with pytest.raises(ModelCorrupt):
        assemble(folder, "bert").open(folder / "tokenizer.json")


def test_a_folder_saved_by_transformers_differs_in_nothing(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    for maker, kind in (("word_piece", "Bert"), ("bytewise", "Roberta"), ("unigram", "XLMRoberta")):
        folder = write(tmp_path / kind, maker, kind, {"additional_special_tokens": ["<r>"]})
        assert "added_tokens" in assemble(folder, "").parts
        AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
        assert not assemble(folder, "").differs and not assemble(folder, "").parts, kind
