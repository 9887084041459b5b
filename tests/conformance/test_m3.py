"""BGE-M3: vectors, lexical weights and a vector a token from one pass, against plain loops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from likewise.base.errors import ModelCorrupt, ModelUnsupported
from likewise.models.card import read_card
from likewise.models.convert import convert
from likewise.models.digest import outputs_digest, weights_digest
from likewise.nets.names import NETS
from likewise.runtime.service import Service
from tests.conformance.head_folders import words, write_tokenizer, write_transformer
from tests.conformance.test_heads import Open, opened, quiet
from tests.conformance.test_multivector import write_weights
from tests.conformance.tiny import write_parts

pytestmark = pytest.mark.torch

__all__ = ["opened"]

# Equal words twice, special tokens written out, and a word that isn't known.
TEXTS = [*words(1, 5, 9, 44, 70, seed=6), "w1 w2 w1 w1", "w3 [CLS] nothing w3", ""]
KIND = "xlm-roberta" if "xlm-roberta" in NETS else "bert"
WORDLESS = (0, 1, 2, 3)
"""[PAD], [UNK], [CLS] and [SEP], the last named as the end of a text."""


def write_m3(folder: Path, *, converted: bool = True) -> Path:
    """A tiny model in the layout of BGE-M3."""
    write_transformer(folder, KIND, "MaskedLM", max_position_embeddings=80)
    write_parts(folder, pooling="cls", normalise=True, width=32, longest=48)
    write_tokenizer(folder, eos_token="[SEP]")
    if converted:
        write_weights(folder / "sparse_linear.safetensors", weight=(1, 32), bias=(1,))
        raise_bias(folder / "sparse_linear.safetensors")
        write_weights(folder / "colbert_linear.safetensors", weight=(24, 32), bias=(24,))
    else:
        (folder / "sparse_linear.pt").write_bytes(b"never read")
        (folder / "colbert_linear.pt").write_bytes(b"never read")
    return folder


def raise_bias(path: Path) -> None:
    """Most weights above 0, so that words that occur twice and special tokens have some."""
    layer = load_file(path)
    layer["bias"] = np.full(1, 4.0, np.float32)
    save_file(layer, path)


def by_hand(folder: Path, ids: list[int]) -> tuple[Any, dict[int, float], Any]:
    """Vector, lexical weights and token vectors of one text, as FlagEmbedding computes them."""
    import torch
    from transformers import AutoModel

    with quiet():
        net = AutoModel.from_pretrained(folder, add_pooling_layer=False).eval()
    with torch.no_grad():
        states = net(input_ids=torch.tensor([ids])).last_hidden_state[0].double().numpy()
    sparse = load_file(folder / "sparse_linear.safetensors")
    weights = np.maximum(states @ sparse["weight"][0] + sparse["bias"][0], 0)
    lexical: dict[int, float] = {}
    for token, weight in zip(ids, weights, strict=True):
        if token not in WORDLESS and weight > lexical.get(token, 0):
            lexical[token] = float(weight)
    colbert = load_file(folder / "colbert_linear.safetensors")
    tokens = states[1:] @ colbert["weight"].T + colbert["bias"]
    vector = states[0] / np.linalg.norm(states[0])
    return vector, lexical, tokens / np.linalg.norm(tokens, axis=1, keepdims=True)


def ids_of(service: Service, text: str) -> list[int]:
    """The tokens that the model reads."""
    found: list[int] = service._reader.texts([text], 0, "")[0].ids.tolist()
    return found


def test_three_kinds_of_output_come_from_one_pass(opened: Open, tmp_path: Path) -> None:
    folder = write_m3(tmp_path)
    service = opened(folder)
    assert service.card.gives == ("vectors", "sparse", "tokens")
    given = service.submit_all(TEXTS).result()
    assert given.vectors is not None and given.sparse is not None and given.tokens is not None
    assert given.truncated == (4,)
    assert sum(len(ids) for ids, _ in given.sparse) > 20, "there must be weights to compare"
    for index, text in enumerate(TEXTS):
        vector, lexical, tokens = by_hand(folder, ids_of(service, text))
        assert np.abs(given.vectors[index] - vector).max() < 1e-4
        ids, weights = given.sparse[index]
        assert ids.tolist() == sorted(lexical) and ids.dtype == np.int32
        assert np.abs(weights - [lexical[token] for token in sorted(lexical)]).max(initial=0) < 1e-3
        assert given.tokens[index].shape == tokens.shape
        assert np.abs(given.tokens[index] - tokens).max() < 1e-4


def test_each_kind_alone_is_the_same(opened: Open, tmp_path: Path) -> None:
    service = opened(write_m3(tmp_path))
    given = service.submit_all(TEXTS).result()
    assert given.vectors is not None and given.sparse is not None and given.tokens is not None
    assert np.abs(service.embed(TEXTS) - given.vectors).max() < 1e-5
    for index, (ids, weights) in enumerate(service.embed_sparse(TEXTS)):
        assert np.array_equal(ids, given.sparse[index][0])
        assert np.abs(weights - given.sparse[index][1]).max(initial=0) < 1e-4
    for ours, theirs in zip(service.embed_tokens(TEXTS), given.tokens, strict=True):
        assert np.abs(ours - theirs).max() < 1e-5
    only = service.submit_all(TEXTS[:1], gives=["sparse"]).result()
    assert only.vectors is None and only.tokens is None and only.sparse is not None


def test_pickled_layers_are_left_unread_and_said_so(opened: Open, tmp_path: Path) -> None:
    converted = opened(write_m3(tmp_path / "converted"))
    service = opened(write_m3(tmp_path / "pickled", converted=False))
    notes = service.info()["notes"]
    assert service.info()["gives"] == ["vectors"]
    assert any("sparse_linear.pt is a pickle" in note for note in notes)
    assert any("likewise models convert" in note for note in notes)
    with pytest.raises(ModelUnsupported, match=r"gives no sparse; it gives vectors \(embed"):
        service.embed_sparse(["w1"])
    assert service.space.fingerprint == converted.space.fingerprint, "the vectors are the same"


def test_layers_of_another_width_are_refused(opened: Open, tmp_path: Path) -> None:
    folder = write_m3(tmp_path)
    write_weights(folder / "colbert_linear.safetensors", weight=(24, 31), bias=(24,))
    with pytest.raises(ModelCorrupt, match=r"'weight', is \[24, 31\].*\[any, 32\]"):
        opened(folder)


def test_pickled_layers_once_converted_are_computed(opened: Open, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    folder = write_m3(tmp_path)
    expected = opened(folder).submit_all(TEXTS).result()
    for stem in ("sparse_linear", "colbert_linear"):
        file = folder / f"{stem}.safetensors"
        torch.save(load_file(file), folder / f"{stem}.pt")
        file.unlink()
    assert opened(folder).card.gives == ("vectors",)
    convert(folder)
    found = opened(folder).submit_all(TEXTS).result()
    assert found.tokens is not None and expected.tokens is not None
    assert found.sparse is not None and expected.sparse is not None
    for ours, theirs in zip(found.tokens, expected.tokens, strict=True):
        assert np.array_equal(ours, theirs)
    for (ids, weights), (other_ids, others) in zip(found.sparse, expected.sparse, strict=True):
        assert np.array_equal(ids, other_ids) and np.array_equal(weights, others)


def test_another_lexical_layer_is_checked_anew(tmp_path: Path) -> None:
    """Its vectors stay what they were, so that what is stored stays comparable."""
    folder = write_m3(tmp_path / "model")
    card = read_card(folder)
    weights = weights_digest(card)
    before = outputs_digest(card, weights)
    for name, change in (("sparse_linear", 5.0), ("colbert_linear", 6.0)):
        path = folder / f"{name}.safetensors"
        layer = load_file(path)
        layer["bias"] = layer["bias"] + np.float32(change)
        save_file(layer, path)
        assert weights_digest(card) == weights
        changed = outputs_digest(card, weights)
        assert changed != before
        before = changed
