"""What a large model takes of memory: its weights once, in the arithmetic that runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likewise.nets.decoder import Decoder
from tests.conformance.tiny import write_json, write_parts
from tests.support import LIMIT

CONFIG: dict[str, Any] = {
    "model_type": "qwen3",
    "vocab_size": 64,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 2,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 64,
}
MOST = 1.6
# While it loads, pages of files come on top, which the kernel may take back: how many of them
# are there at the worst moment is a matter of who runs when.
PEAK = 2.4
PROGRAM = """
import json, sys
from pathlib import Path
from likewise.engines.batch import PackedBatch
from likewise.engines.openvino import OpenVinoEngine
from likewise.models.card import read_card

def resident(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field))

def load(folder):
    engine = OpenVinoEngine(read_card(Path(folder)), precision="exact", threads=1)
    engine.stream()(PackedBatch.of([list(range(16))]))
    return engine

kept = load(sys.argv[1])
before = resident("VmRSS")
kept = [kept, load(sys.argv[2])]
print(json.dumps([resident("VmRSS") - before, resident("VmHWM") - before]))
"""


def write(folder: Path, kind: type, **changes: int) -> int:
    """A model of constant weights; bytes of its weights in float32."""
    from safetensors.numpy import save_file

    config: dict[str, Any] = {**CONFIG, **changes}
    write_json(folder / "config.json", config)
    shapes = Decoder.read(config, where="test").shapes()
    weights: dict[str, Any] = {name: np.full(shape, 0.01, kind) for name, shape in shapes.items()}
    save_file(weights, folder / "model.safetensors")
    write_parts(
        folder, pooling="lasttoken", normalise=True, width=config["hidden_size"], longest=64
    )
    return sum(4 * array.size for array in weights.values())


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_loading_takes_the_weights_once(tmp_path: Path, kind: type) -> None:
    write(tmp_path / "small", kind, hidden_size=64, intermediate_size=64, head_dim=8)
    weights = write(tmp_path / "large", kind)
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "small"), str(tmp_path / "large")]
    found = subprocess.run(command, check=True, capture_output=True, text=True, timeout=LIMIT)
    steady, peak = json.loads(found.stdout)
    assert steady < MOST * weights, (steady / weights, peak / weights)
    assert peak < PEAK * weights, (steady / weights, peak / weights)
