"""Architectures on torch in bf16: as near to full precision as transformers in bf16 comes, or so.

With random weights, which leave little room for errors to cancel out: over all configurations of
`test_encoders` and `test_decoders` the worst text was 1.9e-3 away (cosine distance), where
transformers' own bf16 was 7.1e-3 away.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from likewise.engines.batch import PackedBatch
from likewise.models.card import read_card
from tests.conformance import test_decoders as decoders
from tests.conformance import test_encoders as encoders
from tests.conformance.test_engines import worst_cosine_distance
from tests.conformance.tiny import write_net

pytestmark = pytest.mark.torch

CASES = [
    (encoders, "roberta"),
    (encoders, "mpnet"),
    (encoders, "modernbert"),
    (encoders, "nomic"),
    (decoders, "qwen3"),
    (decoders, "gemma3, causal"),
    (decoders, "eurobert"),
]


@pytest.mark.parametrize(("kind", "name"), CASES, ids=[name for _, name in CASES])
def test_bf16_comes_as_near_as_transformers_does(
    tmp_path: Path, kind: ModuleType, name: str
) -> None:
    import torch

    from likewise.engines.torch_packed import TorchPackedEngine

    is_decoder = kind is decoders
    model_type, changes = kind.CONFIGS[name]
    states: Any = kind.last_states if is_decoder else kind.means
    net = kind.build(model_type, changes)
    pooling = "lasttoken" if is_decoder else "mean"
    folder = write_net(tmp_path / "model", net, pooling=pooling, longest=kind.LONGEST)
    batch = kind.texts()
    engine = TorchPackedEngine(read_card(folder), precision="fast", device="cpu", threads=1)
    ours = engine.stream()(PackedBatch.of(batch))["vectors"]
    exact = states(net, batch)
    theirs = states(net.to(torch.bfloat16), batch)
    assert 0 < worst_cosine_distance(ours, exact) < 3e-3
    assert worst_cosine_distance(ours, exact) < 3 * worst_cosine_distance(theirs, exact)
