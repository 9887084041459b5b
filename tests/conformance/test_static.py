"""Tables of token vectors: what model2vec gives, and what sentence-transformers gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

from likewise.base.errors import InputError, ModelCorrupt, ModelUnsupported
from likewise.engines.batch import PackedBatch
from likewise.engines.static import StaticEngine
from likewise.models.card import read_card
from likewise.models.static_tokens import StaticTokenizer, tokenizer_for
from likewise.models.tokenize import Cut
from likewise.models.words import Words, reads_word_by_word
from likewise.runtime.service import load
from tests.conformance.tiny import WORDS, write_json

WIDTH = 8
TEXTS = [
    "w1",
    "W1 w2\tw3\n\nw4,w5  w6",
    "",
    "   ",
    "nothing known here",
    "unknown w7 words w8",
    "[CLS] w9 [SEP] w10[PAD]w11",
    "wéré Wörds ñ w12",
    "\x00w1\u200bw2\u3000w3\x85w4\x1cw5",
    "人工 智能",
    "🙂 w13",
    " ".join(f"w{n % 60}" for n in range(1000)),
    "w" * 5000,
]


def words(**changes: Any) -> tokenizers.Tokenizer:
    """A tokenizer like BERT's; `changes` are its parts."""
    vocabulary = {word: index for index, word in enumerate([*WORDS, "##0", "##1", ",", "n", "##n"])}
    inner = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer()
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.add_special_tokens(["[CLS]", "[SEP]", "[PAD]"])
    for name, part in changes.items():
        setattr(inner, name, part)
    return inner


def table(rows: int, dtype: Any = np.float32) -> Any:
    """Random vectors."""
    values = np.random.default_rng(0).normal(0, 30, (rows, WIDTH))
    return np.rint(values).astype(np.int8) if dtype is np.int8 else values.astype(dtype)


def save_model2vec(folder: Path, **options: Any) -> Any:
    """A model of model2vec in `folder`, and that model."""
    from model2vec import StaticModel

    inner = options.pop("inner", None) or words()
    rows = options.pop("rows", inner.get_vocab_size())
    options.setdefault("normalize", True)
    made = StaticModel(table(rows, options.pop("dtype", np.float32)), inner, **options)
    made.save_pretrained(folder)
    return made


def embed(folder: Path, texts: list[str] = TEXTS) -> Any:
    """Vectors by tokenizer and engine alone."""
    card = read_card(folder)
    encoded = tokenizer_for(card).encode(texts)
    return StaticEngine(card).stream()(PackedBatch.of([one.ids for one in encoded]))["vectors"]


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "not normalised": {"normalize": False},
    "short": {"max_length": 3},
    "everything": {"max_length": None},
    "weights": {"weights": np.linspace(0.5, 2, 69, dtype=np.float32)},
    "half": {"dtype": np.float16},
    "int8": {"dtype": np.int8},
    "clusters": {
        "rows": 5,
        "token_mapping": np.arange(69, dtype=np.int64) % 5,
        "weights": np.linspace(0.5, 2, 69, dtype=np.float32),
    },
    "no unknown": {"inner": words(model=models.BPE({"w": 0, "1": 1, "w1": 2}, [("w", "1")]))},
    "unigram": {"inner": words(model=models.Unigram([("?", 0.0), ("w", -1.0), ("1", -1.0)], 0))},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))
def test_model2vec_gives_the_same(tmp_path: Path, options: dict[str, Any]) -> None:
    theirs = save_model2vec(tmp_path / "model", **options).encode(TEXTS)
    ours = embed(tmp_path / "model")
    rounding = 2e-3 if options.get("dtype") is np.float16 else 2e-6
    assert ours.dtype == np.float32
    assert np.abs(ours - theirs).max() <= rounding * max(1, np.abs(theirs).max())
    # The empty text, the blank one, and those of which every token is unknown.
    assert [index for index, row in enumerate(theirs) if not row.any()] == [
        index for index, row in enumerate(ours) if not row.any()
    ]


@pytest.mark.parametrize("name", ["int8", "clusters", "plain"])
def test_model2vec_without_modules_json_and_model_type(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "model"
    theirs = save_model2vec(folder, **OPTIONS[name]).encode(TEXTS)
    (folder / "modules.json").unlink()
    assert "model_type" not in json.loads((folder / "config.json").read_text())
    assert np.abs(embed(folder) - theirs).max() <= 2e-6 * max(1, np.abs(theirs).max())
    assert "no model_type" in read_card(folder).notes[0]


def test_settings_of_other_tokenizers_change_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    theirs = save_model2vec(folder).encode(TEXTS)
    settings = {"tokenizer_class": "BertTokenizer", "do_lower_case": False, "strip_accents": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "added_tokens.json").write_text(json.dumps({"w1 w2": 69}))
    assert np.abs(embed(folder) - theirs).max() <= 2e-6


def save_static_embedding(folder: Path, *, normalise: bool = False, inner: Any = None) -> Any:
    """A StaticEmbedding of sentence-transformers in `folder`, and that model."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding

    inner = inner or words()
    rows = table(inner.get_vocab_size())
    modules: list[Any] = [StaticEmbedding(inner, embedding_weights=rows)]
    made = SentenceTransformer(modules=[*modules, *([Normalize()] if normalise else [])])
    made.save_pretrained(str(folder))
    return made


@pytest.mark.torch
@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("cut", [None, ("right", 3), ("left", 3)])
def test_sentence_transformers_gives_the_same(
    tmp_path: Path, normalise: bool, cut: tuple[str, int] | None
) -> None:
    inner = words()
    if cut is not None:
        inner.enable_truncation(cut[1], direction=cut[0])
    made = save_static_embedding(tmp_path / "model", normalise=normalise, inner=inner)
    theirs = made.encode(TEXTS, convert_to_numpy=True)
    assert np.abs(embed(tmp_path / "model") - theirs).max() < 2e-5
    for old in ("sentence_transformers.models.StaticEmbedding", "sentence_transformers.base.X"):
        modules = json.loads((tmp_path / "model" / "modules.json").read_text())
        modules[0]["type"] = old.replace(".X", ".StaticEmbedding")
        write_json(tmp_path / "model" / "modules.json", modules)
        assert np.abs(embed(tmp_path / "model") - theirs).max() < 2e-5


@pytest.mark.torch
def test_a_folder_below_and_prompts(tmp_path: Path) -> None:
    made = save_static_embedding(tmp_path / "plain")
    folder = tmp_path / "model"
    (folder / "0_StaticEmbedding").mkdir(parents=True)
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / "plain" / name).rename(folder / "0_StaticEmbedding" / name)
    entry = {"path": "0_StaticEmbedding", "type": "sentence_transformers.models.StaticEmbedding"}
    write_json(folder / "modules.json", [entry])
    settings = {"prompts": {"query": "w1 w2 "}}
    write_json(folder / "config_sentence_transformers.json", settings)
    service = load(folder)
    try:
        ours = service.embed(TEXTS[:3], kind="query")
        assert np.abs(ours - made.encode(TEXTS[:3], prompt="w1 w2 ")).max() < 1e-5
    finally:
        service.close()


def test_through_the_service(tmp_path: Path) -> None:
    made = save_model2vec(tmp_path / "model")
    service = load(tmp_path / "model")
    try:
        info = service.info()
        assert (info["engine"], info["precision"], info["slow"]) == ("static", "f32", False)
        assert "token vectors" in info["engine_why"]
        texts = [f"w{n % 60} w{n % 7}" for n in range(700)]
        assert np.array_equal(service.embed(texts), made.encode(texts))
        assert np.array_equal(service.embed([[4, 5]]), made.encode(["w0 w1"]))  # type: ignore[list-item]
    finally:
        service.close()


def test_what_was_cut_is_told_and_what_is_unknown_is_not(tmp_path: Path) -> None:
    save_model2vec(tmp_path / "model", max_length=3)
    tokenizer = tokenizer_for(read_card(tmp_path / "model"))
    texts = ["w1 w2 w3", "w1 w2 w3 w4", "zz zz zz", "zz w1 zz zz zz", "z" * 100, ""]
    found = tokenizer.encode(texts)
    assert [one.truncated for one in found] == [False, True, False, True, True, False]
    assert [len(one.ids) for one in found] == [3, 3, 1, 1, 1, 1]


def test_ids_that_are_complete_get_no_prompt(tmp_path: Path) -> None:
    save_model2vec(tmp_path / "model")
    tokenizer = tokenizer_for(read_card(tmp_path / "model"))
    (with_prompt,) = tokenizer.encode_ids([[6]], prompt="w0 w1 ")
    assert with_prompt.ids.tolist() == [4, 5, 6]
    (as_given,) = tokenizer.encode_ids([[6]], prompt="w0 w1 ", cut=Cut(special=False))
    assert as_given.ids.tolist() == [6]


def test_a_lone_surrogate_is_named(tmp_path: Path) -> None:
    save_model2vec(tmp_path / "model")
    with pytest.raises(InputError, match="input 6 isn't valid Unicode: a lone surrogate at char"):
        tokenizer_for(read_card(tmp_path / "model")).encode(["w1", "w2 \ud800 w3"], first=5)


def test_less_precision_and_other_models_are_refused(tmp_path: Path) -> None:
    save_model2vec(tmp_path / "model")
    with pytest.raises(ModelUnsupported, match="only added up; use exact"):
        load(tmp_path / "model", precision="small")


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"config": {"normalize": False}}, ModelCorrupt, "config.json says normalize False"),
        ({"config": {"max_length": "x"}}, ModelCorrupt, "max_length must be a positive whole"),
        ({"first": "elsewhere.StaticEmbedding"}, ModelUnsupported, "'elsewhere.StaticEmbedding'"),
        ({"modules": ["Dense"]}, ModelUnsupported, "Dense after StaticEmbedding isn't computed"),
        ({"tensors": {"other": table(2)}}, ModelCorrupt, "has no table of token vectors"),
        ({"tensors": {"embeddings": table(3)}}, ModelCorrupt, "ids up to 68, .* vectors for 3"),
        (
            {"tensors": {"embeddings": table(69), "weights": np.ones(3, np.float32)}},
            ModelCorrupt,
            "3 weights for 69 token ids",
        ),
        (
            {"tensors": {"embeddings": table(2), "mapping": np.arange(69)}},
            ModelCorrupt,
            "leads to rows 0 to 68; the table has 2",
        ),
    ],
)
def test_damage_is_named(
    tmp_path: Path, change: dict[str, Any], error: type[Exception], says: str
) -> None:
    from safetensors.numpy import save_file

    folder = tmp_path / "model"
    save_model2vec(folder)
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", config | change.get("config", {}))
    if "modules" in change:
        kinds = ["StaticEmbedding", *change["modules"]]
        entries = [{"path": ".", "type": f"sentence_transformers.models.{kind}"} for kind in kinds]
        write_json(folder / "modules.json", entries)
    if "first" in change:
        write_json(folder / "modules.json", [{"path": ".", "type": change["first"]}])
    if "tensors" in change:
        save_file(change["tensors"], folder / "model.safetensors")
    with pytest.raises(error, match=says):
        load(folder)


def test_words_are_remembered_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = words()
    known = Words(inner)
    plain = [one.ids for one in inner.encode_batch(TEXTS, add_special_tokens=False)]
    for _ in range(2):
        assert [ids.tolist() for ids in known.encode(TEXTS)] == plain
    assert all(len(word) <= 64 for word in known._known)
    monkeypatch.setattr("likewise.models.words.MOST_WORDS", 3)
    assert [ids.tolist() for ids in known.encode(TEXTS)] == plain
    assert len(known.encode(["w1"])) == 1 and set(known._known) == {"", "w1"}


@pytest.mark.parametrize("kind", ["bert", "whitespace", "split", "bpe"])
def test_random_texts_read_by_words_are_read_the_same(kind: str) -> None:
    inner = {
        "bert": lambda: words(),
        "whitespace": lambda: words(
            normalizer=normalizers.Sequence([normalizers.NFKD(), normalizers.Lowercase()]),
            pre_tokenizer=pre_tokenizers.Whitespace(),
        ),
        "split": lambda: words(
            normalizer=None,
            pre_tokenizer=pre_tokenizers.Sequence(
                [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Digits(True)]
            ),
        ),
        "bpe": lambda: words(model=models.BPE({"w": 0, "1": 1, "w1": 2, " ": 3}, [("w", "1")])),
    }[kind]()
    assert reads_word_by_word(inner)
    known = Words(inner)
    pick = np.random.default_rng(5)
    letters = [
        *"w1w2ab,. \n\t\r\u0301\u00b4\u3000\x1c\x85\u200b\x00éÉß人🙂",
        "[CLS]",
        "[UNK]",
        "  ",
    ]
    texts = ["".join(pick.choice(letters, pick.integers(0, 40))) for _ in range(2000)]
    plain = [one.ids for one in inner.encode_batch(texts, add_special_tokens=False)]
    assert [ids.tolist() for ids in known.encode(texts)] == plain


def test_tokenizers_that_look_beyond_a_space_are_not_read_by_words() -> None:
    for changes in (
        {"pre_tokenizer": pre_tokenizers.ByteLevel()},
        {"pre_tokenizer": pre_tokenizers.Metaspace()},
        {"pre_tokenizer": None},
        {"normalizer": normalizers.Prepend("_")},
        {"normalizer": normalizers.Replace(" ", "_")},
        {"model": models.BPE({"w": 0}, [], dropout=0.1)},
    ):
        assert not reads_word_by_word(words(**changes))
    spaced = words()
    spaced.add_tokens(["two words"])
    assert not reads_word_by_word(spaced)


def test_such_tokenizers_are_read_whole(tmp_path: Path) -> None:
    inner = words(pre_tokenizer=pre_tokenizers.Metaspace())
    theirs = save_model2vec(tmp_path / "model", inner=inner).encode(TEXTS)
    tokenizer = tokenizer_for(read_card(tmp_path / "model"))
    assert isinstance(tokenizer, StaticTokenizer) and tokenizer._words is None
    assert np.abs(embed(tmp_path / "model") - theirs).max() < 2e-6
