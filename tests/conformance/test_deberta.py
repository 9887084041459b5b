"""DeBERTa on every engine of `nets`: tiny random weights, against transformers in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likewise.base.errors import ModelUnsupported
from likewise.engines.batch import PackedBatch
from likewise.nets.deberta import Deberta
from tests.conformance.test_engines import worst_cosine_distance
from tests.conformance.tiny import WORDS, write_net

LONGEST = 128
SIZES: dict[str, Any] = {
    "vocab_size": len(WORDS),
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": LONGEST,
    "type_vocab_size": 0,
    "relative_attention": True,
    "position_biased_input": False,
    "pos_att_type": ["p2c", "c2p"],
    "share_att_key": True,
    "position_buckets": 16,
    "max_relative_positions": -1,
    "norm_rel_ebd": "layer_norm",
    "hidden_dropout_prob": 0.0,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "as v3": {},
    "own projections, odd heads": {
        "share_att_key": False,
        "hidden_size": 30,
        "num_attention_heads": 5,
    },
    "every distance, no norm": {
        "position_buckets": -1,
        "max_relative_positions": 20,
        "norm_rel_ebd": "none",
    },
    "content to position": {"pos_att_type": ["c2p"], "share_att_key": False},
    "position to content": {"pos_att_type": ["p2c"], "position_buckets": 8},
    "positions, types": {"position_biased_input": True, "type_vocab_size": 2},
    "no distances": {"relative_attention": False, "pos_att_type": None},
}


@pytest.mark.torch
@pytest.mark.parametrize("changes", CONFIGS.values(), ids=list(CONFIGS))
def test_random_debertas_match_transformers(
    make: Any, tmp_path: Path, changes: dict[str, Any]
) -> None:
    import torch
    from transformers import DebertaV2Config, DebertaV2Model

    torch.manual_seed(0)
    net = DebertaV2Model(DebertaV2Config(**{**SIZES, **changes})).eval()
    with torch.no_grad():
        for name, weight in net.named_parameters():
            weight.normal_(0, 0.4)
            if "LayerNorm.weight" in name:
                weight.add_(1)
    folder = write_net(tmp_path / "model", net, longest=LONGEST)
    pick = np.random.default_rng(1)
    batch = [pick.integers(4, len(WORDS), length).tolist() for length in (1, 2, 7, 33, 128, 64)]
    forward = make(folder).stream()
    ours = forward(PackedBatch.of(batch))["vectors"]
    with torch.no_grad():
        states = [net(torch.tensor([ids])).last_hidden_state[0] for ids in batch]
    theirs = np.stack([state.mean(0).double().numpy() for state in states])
    assert worst_cosine_distance(ours, theirs) < 1e-6
    assert np.abs(ours - theirs).max() < 2e-4
    alone = np.concatenate([forward(PackedBatch.of([ids]))["vectors"] for ids in batch])
    assert np.abs(alone - ours).max() < 2e-5


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"conv_kernel_size": 3}, "conv_kernel_size 3: the convolution"),
        ({"pos_att_type": "c2p|p2p"}, "pos_att_type p2p isn't computed here; known: c2p, p2c"),
        ({"relative_attention": False}, "pos_att_type is set, relative_attention isn't"),
        ({"embedding_size": 12}, "embedding_size 12 other than hidden_size 24"),
        ({"attention_head_size": 8}, "attention_head_size"),
        ({"hidden_act": "mish"}, "hidden_act 'mish'"),
    ],
)
def test_refused_by_name(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelUnsupported, match=says):
        Deberta.read({**SIZES, **changes}, where="here")
