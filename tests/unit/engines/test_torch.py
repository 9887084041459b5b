"""The torch engine beyond the shared suite: devices, precision, packing, replicas, memory."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likewise.base.errors import EngineError, MissingExtra, ModelUnsupported, SettingsError
from likewise.base.names import resolve
from likewise.engines.batch import PackedBatch
from likewise.engines.names import ENGINES, EXTRAS
from likewise.models.card import read_card
from likewise.models.weights import Weights
from tests.conformance.test_engines import texts, worst_cosine_distance
from tests.conformance.tiny import write_bert

pytestmark = pytest.mark.torch


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_bert(tmp_path / "model", num_hidden_layers=3)


def engine(folder: Path, **options: Any) -> Any:
    from likewise.engines.torch_packed import TorchPackedEngine

    chosen: dict[str, Any] = {"device": "cpu", "threads": 1} | options
    return TorchPackedEngine(read_card(folder), **chosen)


def vectors(made: Any, batch: PackedBatch | None = None) -> Any:
    return made.stream()(batch or PackedBatch.of(texts()))["vectors"]


# --- precision -----------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", ["auto", "exact", "f32"])
def test_a_cpu_computes_in_f32(folder: Path, asked: str) -> None:
    made = engine(folder, precision=asked)
    assert made.precision == "f32"
    assert made.why


def test_fast_is_bf16_and_comes_near(folder: Path) -> None:
    made = engine(folder, precision="fast")
    assert made.precision == "bf16"
    found, exact = vectors(made), vectors(engine(folder))
    assert found.dtype == np.float32
    # Random weights: 4e-4 where bf16 is emulated, 6e-4 where the CPU multiplies in it.
    assert 0 < worst_cosine_distance(found, exact) < 1e-3
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-6


def test_small_is_refused_by_name(folder: Path) -> None:
    with pytest.raises(ModelUnsupported, match=r"precision small \(int8\).*use fast or exact"):
        engine(folder, precision="small")


def test_leaving_the_range_of_f16_is_noticed(folder: Path) -> None:
    import torch
    from safetensors.numpy import load_file, save_file

    from likewise.engines.graph import outputs, prepare
    from likewise.engines.torch_replica import Replica
    from likewise.engines.torch_weights import DeviceWeights

    def is_finite(dtype: torch.dtype) -> bool:
        card = read_card(folder)
        net, weights = prepare(card)
        held = DeviceWeights(weights, torch.device("cpu"))
        replica = Replica(
            lambda ops: outputs(card, net, ops), held, dtype=dtype, longest=64, varlen=None
        )
        with torch.inference_mode():
            return replica.warm()

    assert is_finite(torch.float16)
    kept = load_file(folder / "model.safetensors")
    name = "encoder.layer.0.output.dense.weight"
    save_file({**kept, name: kept[name] * 1e6}, folder / "model.safetensors")
    assert not is_finite(torch.float16)
    assert is_finite(torch.bfloat16)


# --- devices -------------------------------------------------------------------------------------


def test_a_device_that_is_not_there_is_refused(folder: Path) -> None:
    with pytest.raises(SettingsError, match="device cuda:7 isn't here; there are: cpu"):
        engine(folder, device="cuda:7")


def test_replicas_take_turns_and_agree(folder: Path) -> None:
    made = engine(folder, device=["cpu", "cpu"], threads=4)
    assert made.streams == 4
    found = [vectors(made) for _ in range(made.streams)]
    assert len({id(replica) for replica in made._replicas}) == 2
    assert [runner._replica for runner in made._runners] == [*made._replicas, *made._replicas]
    assert all(np.array_equal(one, found[0]) for one in found)


def test_one_thread_is_one_stream_a_device(folder: Path) -> None:
    assert engine(folder, threads=1).streams == 1
    assert engine(folder, device=["cpu", "cpu"], threads=1).streams == 2
    assert engine(folder, threads=64).streams == 4


def test_a_text_longer_than_the_model_fails_before_the_device(folder: Path) -> None:
    with pytest.raises(EngineError, match="a text of 65 tokens for a model that reads 64"):
        vectors(engine(folder), PackedBatch.of([[5] * 65]))


def test_the_batch_that_pays_is_stated(folder: Path) -> None:
    assert engine(folder).budget_tokens == 512


# --- packed attention ----------------------------------------------------------------------------


def by_cumulative(query: Any, key: Any, value: Any, cumulative: Any, longest: int, how: Any) -> Any:
    """A variable-length attention that is easy to trust: one stretch after the other."""
    import torch

    ends = cumulative.tolist()
    assert max(b - a for a, b in zip(ends, ends[1:], strict=False)) <= longest
    done = []
    for start, stop in zip(ends, ends[1:], strict=False):
        q, k, v = (x[start:stop].transpose(0, 1) for x in (query, key, value))
        y = torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=how.scale)
        done.append(y.transpose(0, 1))
    return torch.cat(done)


@pytest.mark.parametrize("size", [(0, 0), (256, 16), (512, 13)])
@pytest.mark.parametrize("pooling", ["mean", "cls", "lasttoken", "max"])
def test_what_a_batch_is_filled_up_with_changes_nothing(
    tmp_path: Path, pooling: str, size: tuple[int, int]
) -> None:
    import torch

    from likewise.engines.graph import outputs, prepare
    from likewise.engines.torch_replica import Replica
    from likewise.engines.torch_weights import DeviceWeights

    card = read_card(write_bert(tmp_path / "model", pooling=pooling))
    net, weights = prepare(card)
    replica = Replica(
        lambda ops: outputs(card, net, ops),
        DeviceWeights(weights, torch.device("cpu")),
        dtype=torch.float32,
        longest=64,
        varlen=by_cumulative,
    )
    with torch.inference_mode():
        assert replica.warm() and replica.is_packed
        batch = PackedBatch.of(texts())
        feed = replica.feed(batch, tokens=size[0], texts=size[1])
        assert not feed.groups
        found = replica.compute(feed, replica.moved(feed), is_captured=True)["vectors"]
    assert len(found) == max(batch.texts, size[1])
    expected = vectors(engine(card.folder), batch)
    assert np.abs(found[: batch.texts].numpy() - expected).max() < 1e-6


def test_the_probe_of_a_kernel_tells_right_from_wrong() -> None:
    import torch

    from likewise.engines.torch_attention import _alone, _probe

    def right(query: Any, key: Any, value: Any, cumulative: Any, longest: int, how: Any) -> Any:
        qkv = torch.cat([query, key, value], dim=1).float()
        lengths = cumulative.diff().tolist()
        return torch.cat([_alone(one, how) for one in qkv.split(lengths)]).to(query.dtype)

    def unwindowed(q: Any, k: Any, v: Any, cumulative: Any, longest: int, how: Any) -> Any:
        return right(q, k, v, cumulative, longest, replace(how, window=None))

    def broken(q: Any, k: Any, v: Any, cumulative: Any, longest: int, how: Any) -> Any:
        return right(q, k, v, cumulative, longest, how) * float("nan")

    cpu = torch.device("cpu")
    assert _probe(right, cpu, torch.bfloat16) < 0.05
    assert _probe(unwindowed, cpu, torch.bfloat16) > 0.05
    assert _probe(broken, cpu, torch.bfloat16) > 0.05


def test_sums_without_segment_reduce_agree() -> None:
    import torch

    from likewise.engines.torch_ops import _scattered

    x = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    bounds = torch.tensor([0, 2, 3, 9])
    index = torch.tensor([0, 0, 1, 2, 2, 2, 2, 2, 2])
    for how in ("sum", "max"):
        found = torch.segment_reduce(x, how, offsets=bounds)
        assert torch.allclose(_scattered(x, index, 3, how), found, atol=1e-6)


def test_sizes_of_graphs_are_few() -> None:
    from likewise.engines.torch_graphs import TEXTS, TOKENS, graph_size

    assert graph_size(1, 1) == (16, 1)
    assert graph_size(16, 1) == (16, 1)
    assert graph_size(17, 2) == (32, 4)
    assert graph_size(513, 1) is None and graph_size(64, 17) is None
    sizes = {graph_size(t, n) for t in range(1, 513) for n in range(1, 17)}
    assert len(sizes) <= len(TOKENS) * len(TEXTS)


# --- memory --------------------------------------------------------------------------------------


def test_f32_weights_are_the_mapped_file(folder: Path) -> None:
    made = engine(folder)
    held = made._replicas[0].weights
    name = "encoder.layer.0.output.dense.weight"
    import torch

    assert held.get(name, torch.float32).data_ptr() == held.host(name).ctypes.data


def test_a_closed_engine_holds_nothing(folder: Path) -> None:
    import torch

    made = engine(folder, precision="fast")
    forward = made.stream()
    forward(PackedBatch.of(texts()))
    name = "embeddings.word_embeddings.weight"
    held = weakref.ref(made._replicas[0].weights.get(name, torch.bfloat16))
    made.close()
    gc.collect()
    assert held() is None
    with pytest.raises(EngineError, match="closed"):
        made.stream()


def test_large_weights_come_over_in_blocks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = vectors(engine(folder, precision="fast"))
    blocks = Weights.blocks
    monkeypatch.setattr(Weights, "blocks", lambda self, name: blocks(self, name, 50))
    assert np.array_equal(vectors(engine(folder, precision="fast")), whole)


class Full:
    """A runner on a device that another program fills: it has room for so many tokens."""

    def __init__(self, runner: Any, room: int) -> None:
        self.runner, self.room, self.sizes = runner, room, list[int]()

    def __call__(self, batch: PackedBatch) -> Any:
        import torch

        self.sizes.append(batch.tokens)
        if batch.tokens > self.room:
            raise torch.cuda.OutOfMemoryError("full")
        return self.runner(batch)


def test_a_batch_that_finds_no_memory_is_halved(folder: Path) -> None:
    import torch

    from likewise.engines.torch_packed import _run

    made = engine(folder)
    batch = PackedBatch.of(texts(), prompts=[1] * len(texts()))
    full = Full(made._runner(made._replicas[0]), room=70)
    with torch.inference_mode():
        found: Any = _run(full, batch)["vectors"]  # type: ignore[arg-type]
    assert full.sizes[0] == batch.tokens and len(full.sizes) > 3
    assert np.abs(found - vectors(made, batch)).max() < 1e-6
    with pytest.raises(torch.cuda.OutOfMemoryError), torch.inference_mode():
        _run(Full(full.runner, room=63), batch)  # type: ignore[arg-type]


# --- imports -------------------------------------------------------------------------------------

BLOCKER = """
import json, sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name.partition(".")[0])
sys.meta_path.insert(0, Block())
"""


def run(code: str, blocked: set[str]) -> subprocess.CompletedProcess[str]:
    """`code` in a fresh interpreter that has none of the packages `blocked`."""
    program = BLOCKER.format(blocked=blocked) + code
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )


def test_it_runs_with_torch_and_little_else(folder: Path) -> None:
    code = f"""
from pathlib import Path
from likewise.engines.batch import PackedBatch
from likewise.engines.torch_packed import TorchPackedEngine
from likewise.models.card import read_card
made = TorchPackedEngine(read_card(Path({str(folder)!r})), device="cpu", threads=1)
print(json.dumps(made.stream()(PackedBatch.of([[5, 6, 7]]))["vectors"].tolist()))
"""
    others = {"openvino", "starlette", "uvicorn", "apsw", "msgspec", "orjson", "click", "rich"}
    done = run(code, others | {"huggingface_hub", "prometheus_client", "sqlite_vec", "uvloop"})
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert np.allclose(found, vectors(engine(folder), PackedBatch.of([[5, 6, 7]])), atol=1e-6)


def test_the_gpu_bench_runs_whole_in_small() -> None:
    code = """
import runpy
sys.argv = ["bench/gpu.py", "--smoke"]
sys.path.insert(0, "bench")
runpy.run_path("bench/gpu.py", run_name="__main__")
"""
    others = {"openvino", "starlette", "uvicorn", "apsw", "msgspec", "orjson", "prometheus_client"}
    done = run(code, others)
    assert done.returncode == 0, done.stderr
    *_, last = done.stdout.splitlines()
    assert last.startswith("full: likewise : sentence-transformers, sdpa = ")


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [("torch", "torch", "torch"), ("torch_any", "transformers", "torch-any")],
)
def test_a_missing_package_names_its_extra(name: str, package: str, extra: str) -> None:
    code = f"""
from likewise.base.names import resolve
from likewise.engines.names import ENGINES, EXTRAS
resolve({name!r}, ENGINES, what="engine", extras=EXTRAS)
"""
    done = run(code, {package})
    assert f"engine '{name}' needs the package {package}, which isn't installed" in done.stderr
    assert f"{sys.executable} -m pip install 'likewise[{extra}]'" in done.stderr
    assert MissingExtra.__name__ in done.stderr


def test_every_extra_is_one_of_the_package() -> None:
    import tomllib

    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(EXTRAS.values()) <= set(project["optional-dependencies"])
    assert resolve("torch", ENGINES, what="engine", extras=EXTRAS).name == "torch"
