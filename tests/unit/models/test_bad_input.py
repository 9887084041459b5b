"""A folder that can't be used is refused before the first request: file, reason, remedy."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from likewise.base.errors import LikewiseError, ModelCorrupt, ModelNotFound, ModelUnsupported
from likewise.engines.graph import prepare
from likewise.models.card import read_card
from likewise.models.tokenize import Tokenizer
from likewise.runtime.service import load
from tests.conformance.folders import write_folder
from tests.conformance.test_lora import lora, write_adapter
from tests.conformance.tiny import SMALL, write_json

Spoil = Callable[[Path], Any]
TANH = "torch.nn.modules.activation.Tanh"
DENSE_CONFIG = {"in_features": 32, "out_features": 8, "bias": True, "activation_function": TANH}
DENSE = (
    "Dense",
    DENSE_CONFIG,
    {"linear.weight": np.ones((8, 32), np.float32), "linear.bias": np.ones(8, np.float32)},
)
NORM = (
    "LayerNorm",
    {"dimension": 8},
    {"norm.weight": np.ones(8, np.float32), "norm.bias": np.ones(8, np.float32)},
)
QUERY = "encoder.layer.1.attention.self.query.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good folder, with every part there is, to be spoilt."""
    return write_folder(tmp_path / "model", ["Pooling", DENSE, NORM, "Normalize"])


def gone(file: str) -> Spoil:
    """The file, or folder, isn't there."""
    return lambda folder: (
        shutil.rmtree(folder / file) if (folder / file).is_dir() else (folder / file).unlink()
    )


def cut(file: str) -> Spoil:
    """Only half of the file is there."""

    def spoil(folder: Path) -> None:
        whole = (folder / file).read_bytes()
        (folder / file).write_bytes(whole[: len(whole) // 2])

    return spoil


def change(file: str, **values: Any) -> Spoil:
    """Other values in a JSON file, which may be new."""

    def spoil(folder: Path) -> None:
        path = folder / file
        written = json.loads(path.read_text()) if path.is_file() else {}
        write_json(path, written | values)

    return spoil


def without(file: str, key: str) -> Spoil:
    """A JSON file without one of its keys."""

    def spoil(folder: Path) -> None:
        written = json.loads((folder / file).read_text())
        del written[key]
        write_json(folder / file, written)

    return spoil


def tensors(file: str, **values: np.ndarray | None) -> Spoil:
    """Other tensors in a file of weights; None takes one out."""

    def spoil(folder: Path) -> None:
        held = {key: value for key, value in load_file(folder / file).items()} | values
        save_file({k: v for k, v in held.items() if v is not None}, folder / file)

    return spoil


def renamed(file: str, name: str) -> Spoil:
    """A file under another name."""
    return lambda folder: (folder / file).rename(folder / name)


def module(index: int, kind: str) -> Spoil:
    """Another class in modules.json."""

    def spoil(folder: Path) -> None:
        listed = json.loads((folder / "modules.json").read_text())
        listed[index]["type"] = kind
        write_json(folder / "modules.json", listed)

    return spoil


def word_pieces(folder: Path) -> None:
    """A tokenizer that only a SentencePiece model describes."""
    (folder / "tokenizer.json").unlink()
    (folder / "sentencepiece.bpe.model").write_bytes(b"")


def shards(folder: Path) -> None:
    """An index of weights that lists a file which isn't there."""
    (folder / "model.safetensors").unlink()
    places = {"weight_map": {QUERY: "model-00001-of-00002.safetensors"}}
    write_json(folder / "model.safetensors.index.json", places)


def code(folder: Path, **classes: str) -> None:
    """Code that comes with the model."""
    write_json(folder / "config.json", {**SMALL, "auto_map": classes})


NAN = np.full((32, 32), np.nan, np.float32)
W = "model.safetensors"
D = "2_Dense/model.safetensors"
POOLING = "1_Pooling/config.json"
BERT_CONFIG = "sentence_bert_config.json"
ST = "sentence_transformers.models"
CASES: dict[str, tuple[Spoil, type[LikewiseError], str]] = {
    # Files that are missing, cut short, or no files of their kind.
    "no config": (gone("config.json"), ModelNotFound, r"no config\.json"),
    "no weights": (gone(W), ModelNotFound, r"model has no model\.safetensors"),
    "no tokenizer": (gone("tokenizer.json"), ModelNotFound, r"no tokenizer\.json, nor vocabulary"),
    "no pooling file": (gone("1_Pooling"), ModelCorrupt, r"1_Pooling/config\.json is missing"),
    "no dense file": (gone("2_Dense"), ModelCorrupt, r"2_Dense/config\.json is missing"),
    "no dense weights": (gone(D), ModelNotFound, r"2_Dense has no model\.safetensors"),
    "no layer norm weights": (
        gone("3_LayerNorm/model.safetensors"),
        ModelNotFound,
        r"3_LayerNorm has no model\.safetensors",
    ),
    "a shard missing": (shards, ModelCorrupt, r"index\.json lists model-00001-of-00002.*missing"),
    "config cut": (cut("config.json"), ModelCorrupt, r"config\.json can't be read as JSON"),
    "modules cut": (cut("modules.json"), ModelCorrupt, r"modules\.json can't be read as JSON"),
    "tokenizer cut": (cut("tokenizer.json"), ModelCorrupt, r"tokenizer\.json can't be read"),
    "weights cut": (cut(W), ModelCorrupt, r"model\.safetensors is cut short"),
    "dense weights cut": (cut(D), ModelCorrupt, r"2_Dense/model\.safetensors is cut short"),
    # Pickles.
    "pickled": (
        renamed(W, "pytorch_model.bin"),
        ModelUnsupported,
        r"only in pytorch_model\.bin, a pickle.*likewise models convert /.*model",
    ),
    "pickled dense": (
        renamed(D, "2_Dense/pytorch_model.bin"),
        ModelUnsupported,
        r"2_Dense has its weights only in pytorch_model\.bin.*likewise models convert /.*2_Dense",
    ),
    # Weights that don't fit.
    "a tensor missing": (tensors(W, **{QUERY: None}), ModelCorrupt, f"no tensor '{QUERY}'"),
    "a tensor of another shape": (
        tensors(W, **{QUERY: np.ones((31, 32), np.float32)}),
        ModelCorrupt,
        rf"'{QUERY}' is \[31, 32\], config\.json asks for \[32, 32\]",
    ),
    "NaN": (tensors(W, **{QUERY: NAN}), ModelCorrupt, f"'{QUERY}' holds NaN or Inf"),
    "whole numbers": (
        tensors(W, **{QUERY: np.ones((32, 32), np.int64)}),
        ModelUnsupported,
        f"'{QUERY}' holds I64",
    ),
    "dense of another shape": (
        tensors(D, **{"linear.bias": np.ones(7, np.float32)}),
        ModelCorrupt,
        r"'linear\.bias' is \[7\].*asks for \[8\]",
    ),
    "NaN in dense": (
        tensors(D, **{"linear.weight": NAN[:8]}),
        ModelCorrupt,
        r"2_Dense/model\.safetensors: tensor 'linear\.weight' holds NaN",
    ),
    # Widths that don't follow from one another.
    "dense takes others": (
        change("2_Dense/config.json", in_features=33),
        ModelCorrupt,
        "takes vectors of width 33, those before it have 32",
    ),
    "layer norm of others": (
        change("3_LayerNorm/config.json", dimension=9),
        ModelCorrupt,
        r"3_LayerNorm/config\.json normalises vectors of width 9, those before it have 8",
    ),
    "pooling of others": (
        change(POOLING, embedding_dimension=31),
        ModelCorrupt,
        "pools vectors of width 31, the model's are of 32",
    ),
    # What isn't computed.
    "module": (module(2, f"{ST}.LSTM"), ModelUnsupported, r"models\.LSTM' isn't computed.*known:"),
    "weighted layers": (
        module(1, f"{ST}.WeightedLayerPooling"),
        ModelUnsupported,
        "WeightedLayerPooling' isn't computed",
    ),
    "router": (
        module(0, "sentence_transformers.base.modules.router.Router"),
        ModelUnsupported,
        "router.Router' isn't computed",
    ),
    "a module of their own": (module(3, "custom.LayerNorm"), ModelUnsupported, "custom.LayerNorm'"),
    "pooling": (change(POOLING, pooling_mode="attention"), ModelUnsupported, "'attention'.*known:"),
    "activation": (
        change("2_Dense/config.json", activation_function="torch.nn.modules.activation.PReLU"),
        ModelUnsupported,
        r"2_Dense/config\.json: activation 'torch\.nn\.modules\.activation\.PReLU'.*known:",
    ),
    "an activation of their own": (
        change("2_Dense/config.json", activation_function="transformers.activations.QuickGELU"),
        ModelUnsupported,
        "QuickGELU' isn't computed",
    ),
    "dense of tokens": (
        change("2_Dense/config.json", module_input_name="token_embeddings"),
        ModelUnsupported,
        "token_embeddings isn't computed",
    ),
    "architecture": (change("config.json", model_type="bart"), ModelUnsupported, "'bart'"),
    "hidden activation": (
        change("config.json", hidden_act="swiglu"),
        ModelUnsupported,
        "'swiglu' isn't computed here; known",
    ),
    "relative positions": (
        change("config.json", position_embedding_type="relative_key"),
        ModelUnsupported,
        "'relative_key' isn't computed",
    ),
    "quantised": (
        change("config.json", quantization_config={"quant_method": "gptq"}),
        ModelUnsupported,
        r"config\.json: the weights are quantised \(gptq\).*take the model in",
    ),
    "sentence piece": (
        word_pieces,
        ModelUnsupported,
        r"sentencepiece\.bpe\.model of a PreTrained.*save_pretrained",
    ),
    # Code that comes with the model.
    "code": (
        lambda folder: code(folder, AutoModel="modeling_qwen.Qwen2Model"),
        ModelUnsupported,
        r"config\.json: AutoModel -> modeling_qwen\.Qwen2Model.*never runs.*Take a version",
    ),
    "code of a known name from elsewhere": (
        lambda folder: code(folder, AutoModel="someone/fork--modeling_bert.JinaBertModel"),
        ModelUnsupported,
        r"someone/fork--modeling_bert\.JinaBertModel.*never runs",
    ),
    "a tokenizer of their own": (
        change("tokenizer_config.json", auto_map={"AutoTokenizer": ["tok.Mine", None]}),
        ModelUnsupported,
        r"tokenizer_config\.json: AutoTokenizer -> tok\.Mine.*never runs",
    ),
    # What config.json and others must say, and say wrongly.
    "no model_type": (without("config.json", "model_type"), ModelCorrupt, "say its model_type"),
    "no width": (without("config.json", "hidden_size"), ModelCorrupt, "say its hidden_size"),
    "no layers": (
        without("config.json", "num_hidden_layers"),
        ModelCorrupt,
        "num_hidden_layers must be a positive whole number",
    ),
    "uneven heads": (change("config.json", num_attention_heads=5), ModelCorrupt, "multiple of"),
    "a limit that is no number": (
        change(BERT_CONFIG, max_seq_length="long"),
        ModelCorrupt,
        "found 'long'",
    ),
    "a limit without room": (change(BERT_CONFIG, max_seq_length=2), ModelCorrupt, "no room"),
    "a chat template": (
        change(BERT_CONFIG, modality_config={"message": {}, "text": {}}),
        ModelUnsupported,
        "chat template",
    ),
    "pooled by the transformer": (
        change(
            BERT_CONFIG,
            modality_config={"text": {"method": "forward", "method_output_name": "pooler_output"}},
        ),
        ModelUnsupported,
        "giving 'pooler_output' isn't computed",
    ),
    "arguments for the model": (
        change(BERT_CONFIG, model_args={"variant": "8bit"}),
        ModelUnsupported,
        rf"{BERT_CONFIG}: model_args with variant isn't followed",
    ),
    "processing": (
        change(BERT_CONFIG, processing_kwargs={"text": {"add_special_tokens": False}}),
        ModelUnsupported,
        "text.add_special_tokens = False isn't followed",
    ),
    "prompts": (
        change("config_sentence_transformers.json", prompts=["query: "]),
        ModelCorrupt,
        r"config_sentence_transformers\.json: `prompts` isn't a table",
    ),
    "default prompt": (
        change("config_sentence_transformers.json", default_prompt_name="topic"),
        ModelCorrupt,
        "'topic' isn't among the prompts",
    ),
    "a tokenizer larger than the model": (
        lambda folder: [
            change("config.json", vocab_size=3)(folder),
            tensors(W, **{"embeddings.word_embeddings.weight": np.ones((3, 32), np.float32)})(
                folder
            ),
        ],
        ModelCorrupt,
        "every text the token id 3, and the model has only 3",
    ),
}


@pytest.mark.parametrize(("spoil", "error", "says"), CASES.values(), ids=list(CASES))
def test_refused_before_the_first_request(
    folder: Path, spoil: Spoil, error: type[LikewiseError], says: str
) -> None:
    spoil(folder)
    with pytest.raises(error, match=rf"(?s){says}") as caught:
        load(folder, precision="f32", engine="openvino").close()
    assert str(folder) in str(caught.value), "it says where"


def test_the_folder_is_good_before_it_is_spoilt(folder: Path) -> None:
    service = load(folder, precision="f32")
    assert service.embed(["w1 w2"]).shape == (1, 8)
    service.close()


WRONG = [None, [], ["x"], {}, {"x": None}, "x", -1, 1.5, True, 77]
MORE = {
    "config.json": ("architectures", "auto_map", "quantization_config", "pad_token_id", "id2label"),
    "sentence_bert_config.json": ("modality_config", "processing_kwargs", "model_args"),
    "tokenizer_config.json": ("auto_map", "truncation_side", "do_lower_case"),
    "config_sentence_transformers.json": ("matryoshka_dimensions", "truncate_dim"),
    "adapter_config.json": ("alpha_pattern", "rank_pattern", "use_dora"),
}


def tried(folder: Path) -> None:
    """Read all of the folder; what is wrong with it is a named error."""
    with contextlib.suppress(LikewiseError):
        card = read_card(folder)
        Tokenizer(card).encode(["w1"], prompt=card.prompt("query"))
        prepare(card)


@pytest.mark.parametrize("file", [*MORE, "modules.json", POOLING, "2_Dense/config.json"])
def test_values_of_any_kind_end_in_a_named_error_or_none(tmp_path: Path, file: str) -> None:
    folder = write_folder(tmp_path / "model", ["Pooling", DENSE, NORM, "Normalize"])
    write_json(
        folder / "config_sentence_transformers.json",
        {"prompts": {"query": "w1 "}, "default_prompt_name": "query"},
    )
    if file == "adapter_config.json":
        folder = write_adapter(tmp_path / "adapter", folder, lora(QUERY[:-7], 32, 32))
    written = json.loads((folder / file).read_text())
    each = written if isinstance(written, list) else [written]
    for values in each:
        for key in (*values, *MORE.get(file, ())):
            kept = dict(values)
            for wrong in WRONG:
                values[key] = wrong
                write_json(folder / file, written)
                tried(folder)
            values.clear()
            values.update(kept)
    for wrong in WRONG:
        write_json(folder / file, wrong)
        tried(folder)
