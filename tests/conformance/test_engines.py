"""One suite for every engine: what packed arithmetic must give; transformers is the oracle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likewise.base.errors import EngineError, ModelCorrupt, ModelUnsupported
from likewise.engines.batch import PackedBatch
from tests.conformance.tiny import SMALL, write_bert, write_json

LENGTHS = (1, 2, 3, 5, 8, 13, 21, 34, 64, 4, 4, 4, 33)

CONFIGS: dict[str, dict[str, Any]] = {
    "one head, one layer": {"num_attention_heads": 1, "num_hidden_layers": 1},
    "wide and deep": {"hidden_size": 64, "num_attention_heads": 8, "num_hidden_layers": 4},
    "tanh gelu": {"hidden_act": "gelu_new", "layer_norm_eps": 1e-5},
    "relu": {"hidden_act": "relu", "intermediate_size": 20},
    "odd sizes": {"hidden_size": 30, "num_attention_heads": 3, "intermediate_size": 7},
    "one type": {"type_vocab_size": 1, "layer_norm_eps": 0.1},
}


def texts(lengths: tuple[int, ...] = LENGTHS, seed: int = 1) -> list[list[int]]:
    """Random token ids of these lengths."""
    pick = np.random.default_rng(seed)
    return [pick.integers(4, SMALL["vocab_size"], length).tolist() for length in lengths]


def hidden_states(folder: Path, ids: list[int]) -> Any:
    """What transformers computes for one text, without padding: float64 [tokens, width]."""
    import torch
    from transformers import BertConfig, BertModel

    config = BertConfig.from_pretrained(folder)
    net = BertModel.from_pretrained(folder, config=config, add_pooling_layer=False).eval()
    with torch.no_grad():
        states = net(input_ids=torch.tensor([ids])).last_hidden_state[0]
    return states.double().numpy()


def worst_cosine_distance(ours: Any, theirs: Any) -> float:
    """Largest 1 - cosine over the rows."""
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    cosines = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return float((1 - cosines).max())


@pytest.mark.torch
@pytest.mark.parametrize("config", CONFIGS.values(), ids=list(CONFIGS))
def test_random_berts_match_transformers(make: Any, tmp_path: Path, config: dict[str, Any]) -> None:
    folder = write_bert(tmp_path / "model", normalise=False, **config)
    batch = texts((1, 2, 7, 19, 64))
    ours = make(folder).stream()(PackedBatch.of(batch))["vectors"]
    theirs = np.stack([hidden_states(folder, ids).mean(axis=0) for ids in batch])
    assert worst_cosine_distance(ours, theirs) < 1e-5
    assert np.abs(ours - theirs).max() < 1e-4


@pytest.mark.torch
@pytest.mark.parametrize("mode", ["mean", "cls", "max", "lasttoken"])
def test_every_pooling_matches(make: Any, tmp_path: Path, mode: str) -> None:
    folder = write_bert(tmp_path / "model", pooling=mode, normalise=False)
    batch = texts((1, 2, 7, 19, 64))
    ours = make(folder).stream()(PackedBatch.of(batch))["vectors"]
    pooled = {
        "mean": lambda states: states.mean(axis=0),
        "cls": lambda states: states[0],
        "max": lambda states: states.max(axis=0),
        "lasttoken": lambda states: states[-1],
    }
    theirs = np.stack([pooled[mode](hidden_states(folder, ids)) for ids in batch])
    assert np.abs(ours - theirs).max() < 1e-4


def test_several_poolings_lie_side_by_side(make: Any, tmp_path: Path) -> None:
    batch = PackedBatch.of(texts())
    apart = [
        make(write_bert(tmp_path / mode, pooling=mode, normalise=False)).stream()(batch)["vectors"]
        for mode in ("cls", "mean")
    ]
    both = write_bert(tmp_path / "both", pooling=["cls", "mean"], normalise=False)
    assert np.allclose(
        make(both).stream()(batch)["vectors"], np.concatenate(apart, axis=1), atol=1e-6
    )


def test_a_dense_layer_follows_the_pooling(make: Any, tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    folder = write_bert(tmp_path / "model", normalise=False)
    plain = make(folder).stream()(PackedBatch.of(texts()))["vectors"]
    matrix = np.random.default_rng(3).normal(size=(5, 32)).astype(np.float32)
    bias = np.arange(5, dtype=np.float32)
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Dense", "Dense")]
    write_json(
        folder / "modules.json",
        [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in modules],
    )
    activation = "torch.nn.modules.activation.Tanh"
    write_json(
        folder / "2_Dense" / "config.json",
        {"in_features": 32, "out_features": 5, "bias": True, "activation_function": activation},
    )
    save_file(
        {"linear.weight": matrix, "linear.bias": bias}, folder / "2_Dense" / "model.safetensors"
    )
    ours = make(folder).stream()(PackedBatch.of(texts()))["vectors"]
    assert np.allclose(ours, np.tanh(plain @ matrix.T + bias), atol=1e-5)


def test_normalised_vectors_have_length_one(make: Any, tmp_path: Path) -> None:
    plain = make(write_bert(tmp_path / "plain", normalise=False)).stream()(PackedBatch.of(texts()))[
        "vectors"
    ]
    ours = make(write_bert(tmp_path / "model")).stream()(PackedBatch.of(texts()))["vectors"]
    assert np.allclose(ours, plain / np.linalg.norm(plain, axis=1, keepdims=True), atol=1e-6)


def test_alone_equals_in_a_batch_for_every_mix_of_lengths(make: Any, tmp_path: Path) -> None:
    forward = make(write_bert(tmp_path / "model")).stream()
    alone = {}
    for seed in range(12):
        pick = np.random.default_rng(seed)
        lengths = tuple(int(n) for n in pick.integers(1, 65, pick.integers(1, 30)))
        batch = texts(lengths, seed)
        together = forward(PackedBatch.of(batch))["vectors"]
        assert together.shape == (len(batch), 32) and together.dtype == np.float32
        for row, ids in enumerate(batch):
            if tuple(ids) not in alone:
                alone[tuple(ids)] = forward(PackedBatch.of([ids]))["vectors"][0]
            assert np.abs(alone[tuple(ids)] - together[row]).max() < 1e-5


def test_two_streams_at_once_agree(make: Any, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    engine = make(write_bert(tmp_path / "model"), threads=2)
    assert engine.streams == 2
    batches = [PackedBatch.of(texts(seed=seed)) for seed in range(20)]
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(
            lambda forward: [forward(batch)["vectors"] for batch in batches],
            [engine.stream(), engine.stream()],
        )
    assert all(np.abs(a - b).max() < 1e-6 for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_weights_may_have_a_prefix(make: Any, tmp_path: Path, prefix: str) -> None:
    plain = make(write_bert(tmp_path / "plain")).stream()(PackedBatch.of(texts()))["vectors"]
    named = make(write_bert(tmp_path / "named", prefix=prefix)).stream()(PackedBatch.of(texts()))[
        "vectors"
    ]
    assert np.array_equal(plain, named)


def test_an_unknown_precision_is_refused(make: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelUnsupported, match="'int4' isn't known"):
        make(write_bert(tmp_path / "model"), precision="int4")


def test_an_unknown_architecture_is_refused(make: Any, tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "model")
    write_json(folder / "config.json", {**SMALL, "model_type": "bart"})
    with pytest.raises(ModelUnsupported, match="'bart'.*known: bert"):
        make(folder)


def test_weights_of_another_shape_are_refused(make: Any, tmp_path: Path) -> None:
    folder = write_bert(tmp_path / "model")
    write_json(folder / "config.json", {**SMALL, "intermediate_size": 49})
    name = r"encoder.layer.0.intermediate.dense.weight' is \[48, 32\].*asks for \[49, 32\]"
    with pytest.raises(ModelCorrupt, match=name):
        make(folder)


def test_a_closed_engine_says_so(make: Any, tmp_path: Path) -> None:
    engine = make(write_bert(tmp_path / "model"))
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.stream()
