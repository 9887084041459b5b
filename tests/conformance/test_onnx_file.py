"""Folders that ship only a graph: what comes out is what sentence-transformers computes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likewise.base.errors import ModelCorrupt, ModelNotFound, ModelUnsupported
from likewise.engines.batch import PackedBatch
from likewise.engines.onnx_file import OnnxFileEngine
from likewise.engines.quiet import opset, ov
from likewise.models.card import read_card
from likewise.models.graphs import graph_file
from likewise.runtime.service import load
from tests.conformance.tiny import SMALL, write_bert, write_json

TEXTS = ["w1", "w2 w3 w4", "", " ".join(f"w{n % 60}" for n in range(200)), "w9 unknown w10", "w2"]
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def export(net: Any, folder: Path, *, output: str, file: str = "onnx/model.onnx") -> Path:
    """`net`, a model of transformers, as ONNX in `folder`; its weights are taken away."""
    import torch

    class Plain(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, ids: Any, mask: Any, types: Any) -> Any:
            given = self.net(input_ids=ids, attention_mask=mask, token_type_ids=types)
            return getattr(given, output)

    ids, mask = torch.tensor([[2, 5, 6, 3], [2, 5, 3, 0]]), torch.tensor([[1] * 4, [1, 1, 1, 0]])
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    axes = {name: {0: "texts", 1: "length"} for name in INPUTS}
    axes[output] = {0: "texts"} if output == "logits" else {0: "texts", 1: "length"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, about itself
        torch.onnx.export(
            Plain().eval(),
            (ids, mask, torch.zeros_like(ids)),
            str(path),
            input_names=list(INPUTS),
            output_names=[output],
            dynamic_axes=axes,
            opset_version=17,
            dynamo=False,
        )
    (folder / "model.safetensors").unlink()
    return folder


def only_onnx(folder: Path) -> tuple[Path, Any]:
    """A BERT of which only the ONNX is left, and what sentence-transformers made of it before."""
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers import BertModel

    theirs = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    net = BertModel.from_pretrained(folder, add_pooling_layer=False, attn_implementation="eager")
    with torch.no_grad():
        return export(net, folder, output="last_hidden_state"), theirs


def with_dense(folder: Path) -> Path:
    """The model in `folder` with a Dense and a Normalize after its pooling."""
    from safetensors.numpy import save_file

    parts = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Dense", "Dense")]
    entries = [
        {
            "idx": index,
            "name": str(index),
            "path": path,
            "type": f"sentence_transformers.models.{kind}",
        }
        for index, (path, kind) in enumerate([*parts, ("3_Normalize", "Normalize")])
    ]
    write_json(folder / "modules.json", entries)
    write_json(
        folder / "2_Dense" / "config.json",
        {
            "in_features": 32,
            "out_features": 5,
            "bias": False,
            "activation_function": "torch.nn.modules.activation.Tanh",
        },
    )
    matrix = np.random.default_rng(3).normal(size=(5, 32)).astype(np.float32)
    save_file({"linear.weight": matrix}, folder / "2_Dense" / "model.safetensors")
    return folder


@pytest.mark.torch
@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "dense"])
def test_pooling_and_modules_follow_the_graph(tmp_path: Path, pooling: str) -> None:
    folder = write_bert(tmp_path / "model", pooling="mean" if pooling == "dense" else pooling)
    folder, theirs = only_onnx(with_dense(folder) if pooling == "dense" else folder)
    service = load(folder, threads=1, precision="exact")
    try:
        info = service.info()
        assert (info["engine"], info["slow"]) == ("onnx_file", True)
        assert "the folder ships only model.onnx" in info["engine_why"]
        assert "with padding, the slow way" in info["why"] and "padding" in info["slow_because"]
        ours = service.embed(TEXTS)
        assert np.abs(ours - theirs).max() < 1e-5
        alone = np.concatenate([service.embed([text]) for text in TEXTS])
        assert np.abs(alone - ours).max() < 1e-5
    finally:
        service.close()


@pytest.mark.torch
def test_an_openvino_graph_goes_before_an_onnx_one(tmp_path: Path) -> None:
    folder, theirs = only_onnx(write_bert(tmp_path / "model"))
    graph = ov.Core().read_model(folder / "onnx" / "model.onnx")
    ov.serialize(graph, str(folder / "openvino" / "openvino_model.xml"))
    (folder / "onnx" / "model.onnx").write_bytes(b"damaged")
    service = load(folder, threads=1, precision="exact")
    try:
        assert "openvino_model.xml" in service.info()["why"]
        assert np.abs(service.embed(TEXTS) - theirs).max() < 1e-5
        digest = service.info()["weights"]
    finally:
        service.close()
    weights = (folder / "openvino" / "openvino_model.bin").read_bytes()
    (folder / "openvino" / "openvino_model.bin").write_bytes(weights[:-4] + b"\0\0\0\0")
    changed = load(folder, threads=1, precision="exact")
    assert changed.info()["weights"] != digest
    changed.close()


@pytest.mark.torch
def test_logits_are_the_scores_of_a_classifier(tmp_path: Path) -> None:
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    folder = write_bert(tmp_path / "model")
    (folder / "modules.json").unlink()
    torch.manual_seed(0)
    config = BertConfig(**{**SMALL, "num_labels": 1}, attn_implementation="eager")
    net = BertForSequenceClassification(config).eval()
    net.save_pretrained(folder)
    ids = torch.tensor([[2, 5, 6, 3, 7, 3], [2, 5, 3, 9, 3, 0]])
    types = torch.tensor([[0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 0]])
    with torch.no_grad():
        given = net(input_ids=ids, attention_mask=(ids > 0).long(), token_type_ids=types)
    export(net, folder, output="logits")
    card = read_card(folder)
    assert card.gives == ("scores",)
    rows = [(ids[0], types[0]), (ids[1][:5], types[1][:5])]
    batch = PackedBatch.of(
        [row.numpy() for row, _ in rows], types=[kinds.numpy() for _, kinds in rows]
    )
    ours = OnnxFileEngine(card, precision="exact", threads=1).stream()(batch)["scores"]
    assert np.abs(ours - given.logits.numpy()).max() < 1e-5


def graph_only(
    folder: Path,
    *,
    inputs: tuple[str, ...] = INPUTS[:2],
    output: str = "last_hidden_state",
    length: int = -1,
    width: int = 32,
    name: str = "openvino/openvino_model.xml",
) -> Path:
    """A folder whose graph has these inputs and output, and computes nothing of use."""
    write_bert(folder)
    (folder / "model.safetensors").unlink()
    given = [opset.parameter([-1, length], np.int64) for _ in inputs]
    table = opset.constant(np.zeros((len(SMALL), width), np.float32))
    total = given[0]
    for each in given[1:]:
        total = opset.add(total, each)
    rows = opset.gather(table, opset.multiply(total, np.int64(0)), np.int32(0))
    for each, called in zip(given, inputs, strict=True):
        each.output(0).set_names({called})
    rows.output(0).set_names({output})
    (folder / name).parent.mkdir(exist_ok=True)
    ov.serialize(ov.Model([rows], given), str(folder / name))
    return folder


def make(folder: Path, **options: Any) -> OnnxFileEngine:
    """The engine."""
    return OnnxFileEngine(read_card(folder), **{"threads": 1} | options)


def test_a_graph_that_fits_is_taken(tmp_path: Path) -> None:
    engine = make(graph_only(tmp_path / "model", inputs=(*INPUTS, "position_ids")))
    assert engine.stream()(PackedBatch.of([[5], [6, 7]]))["vectors"].shape == (2, 32)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"output": "sentence_embedding"}, "gives 'sentence_embedding' but no hidden states"),
        ({"output": "other"}, "has no output last_hidden_state.*it has: other"),
        ({"inputs": ("input_ids", "past_key")}, "asks for an input 'past_key'; known: input_ids"),
        ({"length": 128}, r"input 'input_ids' takes only \[\?,128\]"),
    ],
)
def test_what_cannot_be_known_is_refused(
    tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ModelUnsupported, match=says):
        make(graph_only(tmp_path / "model", **options))


def test_a_graph_of_another_width_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelCorrupt, match=r"hidden states are \[\?,\?,31\], the folder says .*32"):
        make(graph_only(tmp_path / "model", width=31))


def test_variants_are_named_and_never_chosen(tmp_path: Path) -> None:
    folder = graph_only(tmp_path / "model", name="openvino/openvino_model_qint8_quantized.xml")
    assert graph_file(read_card(folder)) is None
    with pytest.raises(ModelUnsupported, match="only variants.*openvino_model_qint8_quantized.xml"):
        make(folder)


def test_no_graph_and_a_damaged_one(tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "model")
    with pytest.raises(ModelNotFound, match="has no graph; looked for: openvino/"):
        make(folder)
    (folder / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(ModelCorrupt, match="model.onnx can't be read as a graph"):
        make(folder)


def test_small_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelUnsupported, match="weights of a ready-made graph stay as they are"):
        make(graph_only(tmp_path / "model"), precision="small")
