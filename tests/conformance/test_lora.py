"""LoRA adapters merged at load: against torch computing the base and the change beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likewise.base.errors import ModelCorrupt, ModelNotFound, ModelUnsupported
from likewise.engines.names import PACKED
from likewise.models.card import read_card
from likewise.models.digest import weights_digest
from tests.conformance.folders import TEXTS, ours, worst, write_folder
from tests.conformance.tiny import write_json

QUERY = "encoder.layer.0.attention.self.query"
VALUE = "encoder.layer.1.attention.self.value"
DENSE = "encoder.layer.1.intermediate.dense"
WORDS = "embeddings.word_embeddings"
WRAPPED = "base_model.model."
CONFIG = {
    "peft_type": "LORA",
    "r": 4,
    "lora_alpha": 10,
    "target_modules": ["query", "value"],
    "bias": "none",
    "lora_dropout": 0.1,
    "inference_mode": True,
    "init_lora_weights": True,
    "task_type": "FEATURE_EXTRACTION",
}
PICK = np.random.default_rng(11)


def random(*shape: int) -> np.ndarray:
    """Normal random numbers, float32."""
    return PICK.normal(0, 0.3, shape).astype(np.float32)


def write_adapter(
    folder: Path, base: str | Path, tensors: dict[str, np.ndarray], **changes: Any
) -> Path:
    """An adapter as sentence-transformers saves it: modules and tokenizer, and no config.json."""
    from safetensors.numpy import save_file

    write_folder(folder)
    (folder / "config.json").unlink()
    (folder / "model.safetensors").unlink()
    config = {**CONFIG, "base_model_name_or_path": str(base), **changes}
    write_json(folder / "adapter_config.json", config)
    named = {WRAPPED + name: np.ascontiguousarray(value) for name, value in tensors.items()}
    save_file(named, folder / "adapter_model.safetensors")
    return folder


def lora(layer: str, inputs: int, outputs: int, rank: int = 4) -> dict[str, np.ndarray]:
    """Random A [rank, inputs] and B [outputs, rank] of a layer."""
    return {
        f"{layer}.lora_A.weight": random(rank, inputs),
        f"{layer}.lora_B.weight": random(outputs, rank),
    }


def by_torch(base: Path, tensors: dict[str, np.ndarray], scales: dict[str, float]) -> np.ndarray:
    """Mean-pooled vectors of the base with every adapted layer computing W x + s B (A x)."""
    import torch
    from transformers import BertModel

    from likewise.models.tokenize import Tokenizer

    net = BertModel.from_pretrained(base, add_pooling_layer=False).eval()
    for layer, scale in scales.items():
        a, b = (torch.from_numpy(tensors[f"{layer}.lora_{n}.weight"]) for n in "AB")

        def beside(_m: Any, x: Any, y: Any, a: Any = a, b: Any = b, s: float = scale) -> Any:
            return y + s * (x[0] @ a.T @ b.T)

        net.get_submodule(layer).register_forward_hook(beside)
    rows = []
    with torch.no_grad():
        for one in Tokenizer(read_card(base)).encode(TEXTS):
            states = net(input_ids=torch.tensor(np.asarray(one.ids, np.int64)[None]))
            rows.append(states.last_hidden_state[0].mean(0).numpy())
    return np.stack(rows)


CASES: dict[str, tuple[dict[str, Any], dict[str, float]]] = {
    "plain": ({}, {QUERY: 2.5, VALUE: 2.5, DENSE: 2.5}),
    "rank-stabilised": ({"use_rslora": True}, {QUERY: 5.0, VALUE: 5.0, DENSE: 5.0}),
    "patterns": (
        {"rank_pattern": {"intermediate.dense": 2}, "alpha_pattern": {r"layer\.0\..*query": 3}},
        {QUERY: 0.75, VALUE: 2.5, DENSE: 5.0},
    ),
}


@pytest.mark.torch
@pytest.mark.parametrize("engine", PACKED)
@pytest.mark.parametrize(("changes", "scales"), CASES.values(), ids=list(CASES))
def test_an_adapter_is_merged(
    tmp_path: Path, engine: str, changes: dict[str, Any], scales: dict[str, float]
) -> None:
    base = write_folder(tmp_path / "base")
    rank = 2 if "rank_pattern" in changes else 4
    tensors = lora(QUERY, 32, 32) | lora(VALUE, 32, 32) | lora(DENSE, 32, 48, rank)
    folder = write_adapter(tmp_path / "adapter", base, tensors, **changes)
    reference = by_torch(base, tensors, scales)
    assert worst(ours(folder, TEXTS, engine=engine), reference) < 1e-5
    assert worst(ours(base, TEXTS, engine=engine), reference) > 1e-4


def changed(base: Path, name: str, value: np.ndarray, folder: Path) -> Path:
    """A copy of `base` with another tensor."""
    from safetensors.numpy import load_file, save_file

    write_folder(folder)
    tensors = load_file(base / "model.safetensors")
    assert tensors[name].shape == value.shape
    save_file(tensors | {name: value}, folder / "model.safetensors")
    return folder


def tensor(folder: Path, name: str) -> np.ndarray:
    """A tensor of a folder."""
    from safetensors.numpy import load_file

    return np.asarray(load_file(folder / "model.safetensors")[name])


def test_embeddings_biases_and_whole_layers(tmp_path: Path) -> None:
    base = write_folder(tmp_path / "base")
    a, b, bias = random(4, 64), random(32, 4), random(32)
    table = tensor(base, f"{WORDS}.weight") + 2.5 * (b @ a).T
    for name, given, whole in (
        (
            f"{WORDS}.weight",
            {f"{WORDS}.lora_embedding_A": a, f"{WORDS}.lora_embedding_B": b},
            table,
        ),
        (f"{QUERY}.bias", {f"{QUERY}.base_layer.bias": bias}, bias),
        (f"{DENSE}.weight", {f"{DENSE}.weight": random(48, 32)}, None),
    ):
        value = next(iter(given.values())) if whole is None else whole
        adapter = write_adapter(tmp_path / f"a-{name}", base, given)
        merged = changed(base, name, value.astype(np.float32), tmp_path / f"m-{name}")
        assert np.allclose(ours(adapter, TEXTS), ours(merged, TEXTS), atol=1e-5)
        assert not np.allclose(ours(adapter, TEXTS), ours(base, TEXTS), atol=1e-3)


def test_transposed_weights_and_magnitudes(tmp_path: Path) -> None:
    base = write_folder(tmp_path / "base")
    tensors = lora(QUERY, 32, 32)
    a, b = (tensors[f"{QUERY}.lora_{n}.weight"] for n in "AB")
    weight = tensor(base, f"{QUERY}.weight")
    turned = write_adapter(tmp_path / "turned", base, tensors, fan_in_fan_out=True)
    merged = changed(base, f"{QUERY}.weight", weight + 2.5 * (b @ a).T, tmp_path / "m1")
    assert np.allclose(ours(turned, TEXTS), ours(merged, TEXTS), atol=1e-5)

    lengths = np.abs(random(32)) + 1
    tensors[f"{QUERY}.lora_magnitude_vector"] = lengths
    dora = write_adapter(tmp_path / "dora", base, tensors, use_dora=True)
    whole = weight + 2.5 * (b @ a)
    whole *= lengths[:, None] / np.linalg.norm(whole, axis=1, keepdims=True)
    merged = changed(base, f"{QUERY}.weight", whole, tmp_path / "m2")
    assert np.allclose(ours(dora, TEXTS), ours(merged, TEXTS), atol=1e-5)


def test_the_base_is_found_by_path_beside_or_by_name(tmp_path: Path) -> None:
    write_folder(tmp_path / "base")
    tensors = lora(QUERY, 32, 32)
    for name in (tmp_path / "base", "../base", "someone/base"):
        folder = write_adapter(tmp_path / "adapter", name, tensors)
        assert read_card(folder).base.resolve() == tmp_path / "base"
    folder = write_adapter(tmp_path / "adapter", "someone/other", tensors)
    assert read_card(folder, find=lambda name: tmp_path / "base").base == tmp_path / "base"
    with pytest.raises(
        ModelNotFound, match=r"adapter for someone/other.*models pull someone/other"
    ):
        read_card(folder)


def test_the_digest_covers_the_adapter(tmp_path: Path) -> None:
    base = write_folder(tmp_path / "base")
    folder = write_adapter(tmp_path / "adapter", base, lora(QUERY, 32, 32))
    seen = {weights_digest(read_card(folder)), weights_digest(read_card(base))}
    write_adapter(folder, base, lora(QUERY, 32, 32))
    seen.add(weights_digest(read_card(folder)))
    config = json.loads((folder / "adapter_config.json").read_text())
    write_json(folder / "adapter_config.json", {**config, "lora_alpha": 11})
    seen.add(weights_digest(read_card(folder)))
    assert len(seen) == 4
    write_json(folder / "adapter_config.json", {**config, "lora_dropout": 0.5})
    assert weights_digest(read_card(folder)) in seen


REFUSED: dict[str, tuple[dict[str, Any], dict[str, np.ndarray], type[Exception], str]] = {
    "another kind": ({"peft_type": "IA3"}, {}, ModelUnsupported, "'IA3' isn't merged"),
    "a start that changes the base": (
        {"init_lora_weights": "pissa"},
        {},
        ModelUnsupported,
        "'pissa' changes the base",
    ),
    "a key from the future": ({"use_xlora": True}, {}, ModelUnsupported, "use_xlora.*merge_and_un"),
    "no rank": ({"r": None}, {}, ModelCorrupt, "r or lora_alpha"),
    "another width": ({}, lora(QUERY, 32, 31), ModelCorrupt, r"\[31, 32\].*\[32, 32\]"),
    "another rank": ({}, lora(QUERY, 32, 32, 3), ModelCorrupt, "rank 3.*rank 4"),
    "one half": (
        {},
        {f"{QUERY}.lora_A.weight": random(4, 32)},
        ModelCorrupt,
        "has one of lora_A.weight and lora_B.weight",
    ),
    "another model": ({}, lora("layers.0.q_proj", 32, 32), ModelCorrupt, "for another model"),
    "biases inside": (
        {},
        lora(QUERY, 32, 32) | {f"{QUERY}.lora_B.bias": random(32)},
        ModelUnsupported,
        r"lora_B.bias' isn't merged",
    ),
    "not finite": (
        {},
        lora(QUERY, 32, 32) | {f"{QUERY}.lora_A.weight": np.full((4, 32), np.nan, np.float32)},
        ModelCorrupt,
        "NaN or Inf",
    ),
}


@pytest.mark.parametrize(
    ("config", "tensors", "error", "says"), REFUSED.values(), ids=list(REFUSED)
)
def test_refused_by_name(
    tmp_path: Path,
    config: dict[str, Any],
    tensors: dict[str, np.ndarray],
    error: type[Exception],
    says: str,
) -> None:
    base = write_folder(tmp_path / "base")
    folder = write_adapter(tmp_path / "adapter", base, tensors or lora(QUERY, 32, 32), **config)
    with pytest.raises(error, match=says):
        ours(folder, TEXTS)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    base = write_folder(tmp_path / "base")
    folder = write_adapter(tmp_path / "adapter", base, lora(QUERY, 32, 32))
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelNotFound, match=r"no adapter_model\.safetensors"):
        ours(folder, TEXTS)
    (folder / "adapter_model.bin").write_bytes(b"")
    with pytest.raises(ModelUnsupported, match=r"adapter_model\.bin, a pickle.*models convert"):
        ours(folder, TEXTS)
