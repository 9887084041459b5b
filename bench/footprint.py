"""How much memory do large models and long inputs take?

    python bench/footprint.py [--only NAME]

Models with random weights in the shapes of well-known ones. Each is loaded in a process of its own,
embeds short texts, then one of 8,192 tokens if it reads that many. Resident memory (with the
mapped file's pages) is compared with the weights in the arithmetic that runs, and with that of a
process that has only imported everything. Last come the ratios.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from _report import write
from engine import default_folder

TARGET = 1.6
MIB = 1 << 20

BERT_LARGE: dict[str, Any] = {
    "model_type": "bert", "vocab_size": 30522, "hidden_size": 1024, "num_hidden_layers": 24,
    "num_attention_heads": 16, "intermediate_size": 4096, "max_position_embeddings": 512,
    "type_vocab_size": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-12,
}  # fmt: skip
BERT_LONG = BERT_LARGE | {
    "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
    "intermediate_size": 3072, "max_position_embeddings": 8192,
}  # fmt: skip
MODERNBERT = {
    "model_type": "modernbert", "vocab_size": 50368, "hidden_size": 768, "num_hidden_layers": 22,
    "num_attention_heads": 12, "intermediate_size": 1152, "max_position_embeddings": 8192,
    "global_attn_every_n_layers": 3, "local_attention": 128, "global_rope_theta": 160000.0,
    "local_rope_theta": 10000.0, "hidden_activation": "gelu", "norm_eps": 1e-5,
}  # fmt: skip
QWEN3 = {
    "model_type": "qwen3", "vocab_size": 151669, "hidden_size": 1024, "num_hidden_layers": 28,
    "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "hidden_act": "silu",
    "intermediate_size": 3072, "max_position_embeddings": 512, "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0, "attention_bias": False, "use_sliding_window": False,
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A model, the type of the numbers in its file, and the profile it runs in."""

    config: Mapping[str, Any]
    stored: str
    profile: str


CASES = {
    "bert-large, f32 file": Case(BERT_LARGE, "F32", "exact"),
    "bert-large, f32 file, small": Case(BERT_LARGE, "F32", "small"),
    "bert-large, f32 file, fast": Case(BERT_LARGE, "F32", "fast"),
    "bert-base of 8,192 positions": Case(BERT_LONG, "F32", "exact"),
    "modernbert-base": Case(MODERNBERT, "F32", "exact"),
    "qwen3-0.6b, bf16 file": Case(QWEN3, "BF16", "exact"),
    "qwen3-0.6b, bf16 file, small": Case(QWEN3, "BF16", "small"),
    "qwen3-0.6b, bf16 file, fast": Case(QWEN3, "BF16", "fast"),
}
BYTES = {"f32": 4, "bf16": 2, "f16": 2, "int8": 1}


def write_model(folder: Path, case: Case, like: Path) -> int:
    """A model folder with random weights, tensor by tensor; how many numbers there are."""
    from likewise.base.names import resolve
    from likewise.nets.names import NETS

    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(like / name, folder)
    (folder / "config.json").write_text(json.dumps(case.config))
    length = {"max_seq_length": case.config["max_position_embeddings"]}
    (folder / "sentence_bert_config.json").write_text(json.dumps(length))
    net = resolve(str(case.config["model_type"]), NETS, what="architecture")
    shapes = net.read(case.config, where="bench").shapes()
    size = 4 if case.stored == "F32" else 2
    header, at = {}, 0
    for name, shape in shapes.items():
        count = int(np.prod(shape))
        header[name] = {
            "dtype": case.stored,
            "shape": list(shape),
            "data_offsets": [at, at + count * size],
        }
        at += count * size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 64)
    pick = np.random.default_rng(0)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            values = pick.standard_normal(int(np.prod(shape)), np.float32) * np.float32(0.02)
            values += np.float32("norm.weight" in name.lower())
            raw = values if size == 4 else (values.view(np.uint32) >> 16).astype(np.uint16)
            file.write(raw.tobytes())
    return at // size


def run(folder: str, profile: str, longest: int) -> None:
    """In a process of its own: load, embed, and say what it took."""
    from likewise.runtime.service import load

    own = psutil.Process()
    before = own.memory_info().rss
    started = time.perf_counter()
    service = load(Path(folder), precision=profile)  # type: ignore[arg-type]
    loading = time.perf_counter() - started
    service.embed(["a few words", "and some more of them"] * 8)
    steady, peak = own.memory_info().rss, _peak()
    found = {
        "before": before,
        "steady": steady,
        "peak": peak,
        "load_s": loading,
        "precision": service.info()["precision"],
    }
    if longest > 1000:
        text = "word " * (longest - 2)
        started = time.perf_counter()
        tokens = service.submit([text], lane="bulk").result().tokens[0]
        found |= {
            "long_tokens": tokens,
            "long_s": time.perf_counter() - started,
            "long_steady": own.memory_info().rss,
            "long_peak": _peak(),
        }
    sys.stdout.write(json.dumps(found))
    service.close()


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default="")
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.run:
        run(asked.run[0], asked.run[1], int(asked.run[2]))
        return
    like = default_folder()
    rows: dict[str, dict[str, Any]] = {}
    for name, case in CASES.items():
        if asked.only not in name:
            continue
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "model"
            numbers = write_model(folder, case, like)
            longest = str(case.config["max_position_embeddings"])
            command = [sys.executable, __file__, "--run", str(folder), case.profile, longest]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        row = json.loads(done.stdout)
        row["weights"] = numbers * BYTES[row["precision"]]
        row["file"] = numbers * (4 if case.stored == "F32" else 2)
        rows[name] = row
        print(
            f"{name}: file {row['file'] / MIB:.0f} MiB, weights in {row['precision']} "
            f"{row['weights'] / MIB:.0f} MiB; resident {row['steady'] / MIB:.0f} MiB, "
            f"at most {row['peak'] / MIB:.0f} MiB while loading ({row['load_s']:.1f} s)",
            flush=True,
        )
        if "long_s" in row:
            print(
                f"    one text of {row['long_tokens']} tokens: {row['long_s']:.1f} s, at most "
                f"{row['long_peak'] / MIB:.0f} MiB, {row['long_steady'] / MIB:.0f} MiB after it",
                flush=True,
            )
    write("footprint", {"cases": rows})
    for name, row in rows.items():
        ratio = (row["steady"] - row["before"]) / row["weights"]
        peak = (row["peak"] - row["before"]) / row["weights"]
        print(f"{name}: resident / weights {ratio:.2f}, peak {peak:.2f} (target {TARGET})")


if __name__ == "__main__":
    main()
