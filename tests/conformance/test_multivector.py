"""A vector a token on every packed engine, against sentence-transformers and plain loops."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likewise.base.errors import DimensionsError, ModelCorrupt
from likewise.nets.names import NETS
from likewise.runtime.service import Service
from likewise.vectors.maxsim import maxsim
from tests.conformance.head_folders import words, write_modules, write_tokenizer, write_transformer
from tests.conformance.test_heads import Open, change_json, opened, quiet
from tests.conformance.tiny import write_json

pytestmark = pytest.mark.torch

__all__ = ["opened"]

TEXTS = [*words(1, 4, 9, 30, 70, 7, seed=5), "w1 . w2 , , w3 !", ""]
BASE = "sentence_transformers.base.modules"
TRANSFORMER = (f"{BASE}.transformer.Transformer", "", None)
MASK = "sentence_transformers.multi_vector_encoder.modules.multi_vector_mask.MultiVectorMask"
NORMALISE = (
    f"{BASE}.normalize.Normalize",
    "3_Normalize",
    {"module_input_name": "token_embeddings"},
)
IDENTITY = "torch.nn.modules.linear.Identity"
DENSE = {"in_features": 32, "out_features": 8, "bias": False, "activation_function": IDENTITY}


def write_weights(path: Path, **shapes: tuple[int, ...]) -> None:
    """Random tensors in a safetensors file; `__` in a name is a point."""
    from safetensors.numpy import save_file

    pick = np.random.default_rng(11)
    path.parent.mkdir(parents=True, exist_ok=True)
    made = {n.replace("__", "."): pick.normal(0, 0.4, s) for n, s in shapes.items()}
    save_file({name: values.astype(np.float32) for name, values in made.items()}, path)


def write_colbert(
    folder: Path,
    *,
    kind: str = "bert",
    dense: dict[str, Any] | None = None,
    mask: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    **transformer: Any,
) -> Path:
    """A multi-vector model as sentence-transformers 6 writes it."""
    write_transformer(folder, kind, "MaskedLM")
    write_tokenizer(folder, splits=True)
    dense = {**DENSE, "module_input_name": "token_embeddings", **(dense or {})}
    width = dense["out_features"]
    write_modules(
        folder,
        TRANSFORMER,
        (f"{BASE}.dense.Dense", "1_Dense", dense),
        (MASK, "2_MultiVectorMask", mask or {}),
        NORMALISE,
    )
    shapes: dict[str, tuple[int, ...]] = {"linear__weight": (width, 32)}
    if dense["bias"]:
        shapes["linear__bias"] = (width,)
    if dense.get("use_residual") and width != 32:
        shapes["residual__weight"] = (width, 32)
    write_weights(folder / "1_Dense" / "model.safetensors", **shapes)
    states = {"method": "forward", "method_output_name": "last_hidden_state"}
    own = {
        "transformer_task": "feature-extraction",
        "modality_config": {"text": states},
        "module_output_name": "token_embeddings",
    }
    write_json(folder / "sentence_bert_config.json", own | transformer)
    write_json(
        folder / "config_sentence_transformers.json",
        {"model_type": "MultiVectorEncoder"} | (settings or {}),
    )
    return folder


def assert_as_theirs(service: Service, folder: Path) -> list[Any]:
    """Queries and documents as sentence-transformers encodes them; the queries."""
    from sentence_transformers import MultiVectorEncoder

    with quiet():
        encoder = MultiVectorEncoder(str(folder), device="cpu", local_files_only=True)
        theirs = {
            "query": encoder.encode_query(TEXTS, convert_to_numpy=True, batch_size=3),
            "document": encoder.encode_document(TEXTS, convert_to_numpy=True, batch_size=3),
        }
    ours = {}
    for kind, expected in theirs.items():
        ours[kind] = service.embed_tokens(TEXTS, kind=kind)  # type: ignore[arg-type]
        assert [len(one) for one in ours[kind]] == [len(one) for one in expected], kind
        for index, (a, b) in enumerate(zip(ours[kind], expected, strict=True)):
            assert np.abs(a - b).max(initial=0) < 1e-4, (kind, index)
            alone = service.embed_tokens([TEXTS[index]], kind=kind)[0]  # type: ignore[arg-type]
            assert np.abs(alone - a).max(initial=0) < 1e-5
    similar = encoder.similarity(theirs["query"], theirs["document"]).numpy()
    for row, query in zip(similar, ours["query"], strict=True):
        found = [maxsim(query, document) for document in ours["document"]]
        assert np.abs(np.array(found) - row).max() < 1e-3
    return ours["query"]


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "biased, tanh, residual": {
        "dense": {
            "bias": True,
            "activation_function": "torch.nn.modules.activation.Tanh",
            "use_residual": True,
        }
    },
    "residual of the same width": {"dense": {"out_features": 32, "use_residual": True}},
    "markers, lengths, punctuation": {
        "mask": {"skiplist_words": list(string.punctuation), "skiplist_tasks": ["document"]},
        "settings": {"prompts": {"query": "[unused0] ", "document": "[unused1] "}},
        "query_length": 7,
        "document_length": 12,
    },
    "expanded": {"query_expansion": {"strategy": "fixed", "length": 16}},
    "expanded and attended": {
        "query_expansion": {"strategy": "fixed", "length": 16, "attend": True, "token": "yes"}
    },
    "expanded at least": {
        "query_expansion": {"strategy": "min", "length": 10},
        "mask": {"skiplist_words": [".", "w1"], "skiplist_tasks": ["query", "document"]},
        "query_length": 20,
    },
}


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=list(VARIANTS))
def test_token_vectors_are_those_of_a_multi_vector_encoder(
    opened: Open, tmp_path: Path, variant: dict[str, Any]
) -> None:
    folder = write_colbert(tmp_path, **variant)
    service = opened(folder)
    assert service.card.gives == ("tokens",)
    assert_as_theirs(service, folder)


@pytest.mark.parametrize("kind", [kind for kind in ("roberta", "modernbert") if kind in NETS])
def test_expansion_in_other_architectures(opened: Open, tmp_path: Path, kind: str) -> None:
    folder = write_colbert(tmp_path, kind=kind, query_expansion={"strategy": "fixed", "length": 24})
    assert_as_theirs(opened(folder), folder)


@pytest.mark.parametrize("expands", [True, False])
def test_folders_of_pylate(opened: Open, tmp_path: Path, expands: bool) -> None:
    write_colbert(tmp_path)
    write_modules(
        tmp_path,
        ("sentence_transformers.models.Transformer", "", None),
        ("pylate.models.Dense.Dense", "1_Dense", DENSE),
    )
    write_json(tmp_path / "sentence_bert_config.json", {"max_seq_length": 40})
    write_json(
        tmp_path / "config_sentence_transformers.json",
        {
            "model_type": "ColBERT",
            "query_prefix": "[unused0] ",
            "document_prefix": "[unused1] ",
            "query_length": 12,
            "document_length": 20,
            "do_query_expansion": expands,
            "attend_to_expansion_tokens": False,
            "prompts": {},
        },
    )
    queries = assert_as_theirs(opened(tmp_path), tmp_path)
    assert {len(one) for one in queries} == ({12} if expands else {3, 4, 7, 12, 10})


def test_folders_of_stanford(opened: Open, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    write_transformer(tmp_path, "bert", "MaskedLM")
    write_tokenizer(tmp_path, splits=True)
    weights = load_file(tmp_path / "model.safetensors")
    weights["linear.weight"] = np.random.default_rng(3).normal(0, 0.4, (8, 32)).astype(np.float32)
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    change_json(tmp_path / "config.json", {"architectures": ["HF_ColBERT"]})
    write_json(
        tmp_path / "artifact.metadata",
        {"query_maxlen": 14, "doc_maxlen": 22, "dim": 8, "mask_punctuation": True},
    )
    assert_as_theirs(opened(tmp_path), tmp_path)
    write_json(tmp_path / "artifact.metadata", {"dim": 9})
    with pytest.raises(ModelCorrupt, match=r"'linear.weight', is \[8, 32\].*\[9, 32\]"):
        opened(tmp_path)


def test_maxsim_is_the_plain_loop() -> None:
    pick = np.random.default_rng(1)
    for rows, columns in ((1, 1), (3, 7), (12, 5)):
        query, document = (pick.normal(size=(n, 6)).astype(np.float32) for n in (rows, columns))
        by_hand = sum(max(float(q @ d) for d in document) for q in query)
        assert abs(maxsim(query, document) - by_hand) < 1e-4
    assert maxsim(query, document[:0]) == 0 == maxsim(query[:0], document)
    with pytest.raises(DimensionsError, match=r"\[12, 6\].*\[5, 5\]"):
        maxsim(query, document[:, :5])
