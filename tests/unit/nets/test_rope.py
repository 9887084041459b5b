"""Rotary frequencies: the same as transformers computes, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from likewise.base.errors import ModelCorrupt, ModelUnsupported
from likewise.nets.rope import frequencies

LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
TRAINED = {"original_max_position_embeddings": 512}
SCALINGS: dict[str, dict[str, Any]] = {
    "linear": {"rope_type": "linear", "factor": 2.5},
    "dynamic": {"rope_type": "dynamic", "factor": 4.0},
    "llama3": {"rope_type": "llama3", **LLAMA3, **TRAINED},
    "yarn": {"rope_type": "yarn", "factor": 4.0, **TRAINED},
    "yarn, untruncated": {"rope_type": "yarn", "factor": 4.0, "truncate": False, **TRAINED},
    "yarn, betas": {"rope_type": "yarn", "factor": 8.0, "beta_fast": 16, "beta_slow": 2, **TRAINED},
    "yarn, attention factor": {
        "rope_type": "yarn",
        "factor": 4.0,
        "attention_factor": 0.75,
        **TRAINED,
    },
    "yarn, mscale": {
        "rope_type": "yarn",
        "factor": 40.0,
        "mscale": 0.7,
        "mscale_all_dim": 1.3,
        **TRAINED,
    },
    "yarn, length unsaid": {"rope_type": "yarn", "factor": 4.0},
}


@pytest.mark.torch
@pytest.mark.parametrize("spelling", ["rope_scaling", "rope_parameters"])
@pytest.mark.parametrize("width", [16, 128])
@pytest.mark.parametrize("scaling", SCALINGS.values(), ids=list(SCALINGS))
def test_scalings_match_transformers(scaling: dict[str, Any], width: int, spelling: str) -> None:
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    sizes = {"hidden_size": 256, "num_attention_heads": 2, "max_position_embeddings": 2048}
    theta = 50_000.0
    config = LlamaConfig(**sizes, head_dim=width, rope_parameters={**scaling, "rope_theta": theta})
    theirs, factor = ROPE_INIT_FUNCTIONS[scaling["rope_type"]](config)
    if spelling == "rope_scaling":
        kind = scaling["rope_type"]
        rest = {key: value for key, value in scaling.items() if key != "rope_type"}
        written = {**sizes, "rope_theta": theta, "rope_scaling": {"type": kind, **rest}}
    else:
        written = {**sizes, "rope_parameters": {**scaling, "rope_theta": theta}}
    ours = frequencies(written, width=width, where="here")
    assert len(ours.frequencies) == width // 2
    # torch's powers differ by the last bit or two between kinds of CPU.
    assert np.allclose(ours.frequencies, theirs.numpy(), rtol=1e-6, atol=0)
    assert ours.scale == pytest.approx(factor, rel=1e-12)


def test_the_plain_ones_are_powers_of_the_base() -> None:
    ours = frequencies({"rope_theta": 100.0}, width=4, where="here")
    assert ours.frequencies == pytest.approx((1.0, 0.1))
    assert ours.scale == 1.0
    assert frequencies({}, width=4, where="here").frequencies == pytest.approx((1.0, 0.01))
    assert frequencies({}, width=4, where="here", theta=25.0).frequencies[1] == pytest.approx(0.2)


def test_a_part_of_the_head_may_turn() -> None:
    for config in (
        {"partial_rotary_factor": 0.5},
        {"rope_parameters": {"partial_rotary_factor": 0.5}},
    ):
        assert frequencies(config, width=8, where="here").frequencies == pytest.approx((1.0, 0.01))


def test_kinds_of_layers_may_differ() -> None:
    config = {
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 100.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 25.0},
        }
    }
    full = frequencies(config, width=4, where="here", kind="full_attention")
    local = frequencies(config, width=4, where="here", kind="sliding_attention")
    assert full.frequencies == pytest.approx((0.5, 0.05))
    assert local.frequencies == pytest.approx((1.0, 0.2))
    with pytest.raises(ModelCorrupt, match="no entry for chunked_attention, only for full"):
        frequencies(config, width=4, where="here", kind="chunked_attention")


@pytest.mark.parametrize(
    ("config", "error", "says"),
    [
        ({"rope_scaling": {"type": "longrope"}}, ModelUnsupported, "'longrope'.*known: default"),
        (
            {"rope_scaling": {"type": "dynamic", "factor": 2.0, "alpha": 1000.0}},
            ModelUnsupported,
            "rotary parameter alpha.*'dynamic'",
        ),
        (
            {"rope_scaling": {"type": "default", "mrope_section": [1, 1]}},
            ModelUnsupported,
            "mrope_section",
        ),
        ({"rope_scaling": {"type": "linear"}}, ModelCorrupt, "factor must be a positive number"),
        ({"rope_scaling": {"type": "linear", "factor": "2"}}, ModelCorrupt, "factor .* not '2'"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, ModelCorrupt, "max_position_emb"),
        ({"rope_scaling": {"type": "yarn", "factor": 2.0}}, ModelCorrupt, "original_max_position"),
        (
            {"rope_scaling": {"type": "llama3", **LLAMA3, **TRAINED, "high_freq_factor": 1.0}},
            ModelCorrupt,
            "high_freq_factor 1.0 must be above",
        ),
        ({"rope_scaling": "linear"}, ModelCorrupt, "aren't a table but 'linear'"),
        ({"rope_theta": -1.0}, ModelCorrupt, "rope_theta must be a positive number"),
        ({"partial_rotary_factor": 0.4}, ModelCorrupt, "3 of a head's 8 numbers would turn"),
        ({"partial_rotary_factor": 2.0}, ModelCorrupt, "16 of a head's 8 numbers"),
    ],
)
def test_refused_by_name(config: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        frequencies(config, width=8, where="here")
