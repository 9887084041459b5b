"""P1: how fast is the engine alone, against the machine's limit and against other libraries?

    python bench/engine.py [MODEL_FOLDER] [--texts 2000] [--rounds 8] [--gguf FILE] [--skip SIDE]

Mixed real texts of log-normal length, tokenising included. The texts are dealt into as many blocks
as rounds; in each round every side embeds the same block, one right after the other, so that what
else the machine does meets them all. Ratios are medians over the rounds. Sides whose packages are
missing are named and left out. Last come the ratios, ours first.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _texts
from _report import write
from roofline import Peak, model_flop

Embed = Callable[[list[str]], Any]
TARGETS = {
    "sentence-transformers, torch f32": 5.0,
    "sentence-transformers, torch bf16": 1.8,
    "sentence-transformers, OpenVINO": 1.3,
    "sentence-transformers, ONNX": 1.5,
    "llama.cpp, f16": 3.5,
}
ROOFLINE_TARGET = 0.70
PEAK_ROWS = (512, 2048)


def ours(folder: Path) -> tuple[Embed, Any]:
    """The service, and itself for questions."""
    from likewise.runtime.service import load

    service = load(folder)
    return service.embed, service


def sentence_transformers(folder: Path, kind: str) -> Embed:
    """Its `encode`, in one of its ways to run."""
    from sentence_transformers import SentenceTransformer

    options: dict[str, Any] = {"device": "cpu"}
    if kind == "torch bf16":
        import torch

        options["model_kwargs"] = {"torch_dtype": torch.bfloat16}
    elif kind != "torch f32":
        backend = "onnx" if kind == "ONNX" else "openvino"
        options |= {"backend": backend, "model_kwargs": {"export": True}}
        if backend == "onnx":
            options["model_kwargs"]["provider"] = "CPUExecutionProvider"
        elif kind == "OpenVINO f32":
            options["model_kwargs"]["ov_config"] = {"INFERENCE_PRECISION_HINT": "f32"}
    model = SentenceTransformer(str(folder), **options)
    return lambda texts: model.encode(texts, show_progress_bar=False)


def llama_cpp(gguf: Path) -> Embed:
    """One text a call: with several, it aborts on texts longer than the model."""
    from llama_cpp import Llama

    model = Llama(str(gguf), embedding=True, verbose=False, n_ctx=512, n_batch=512)
    return lambda texts: [model.embed(text, truncate=True) for text in texts]


def others(folder: Path, gguf: Path | None) -> dict[str, Callable[[], Embed]]:
    """How to make each of the other sides, where its packages are installed."""
    needs = {
        "torch f32": ("sentence_transformers",),
        "torch bf16": ("sentence_transformers",),
        "OpenVINO": ("sentence_transformers", "optimum.intel"),
        "ONNX": ("sentence_transformers", "optimum.onnxruntime", "onnxruntime"),
    }
    sides: dict[str, Callable[[], Embed]] = {}
    for kind, packages in needs.items():
        name = f"sentence-transformers, {kind}"
        if missing := [package for package in packages if not is_installed(package)]:
            print(f"left out: {name} (not installed: {', '.join(missing)})")
            continue
        sides[name] = functools.partial(sentence_transformers, folder, kind)
    if gguf is None or not is_installed("llama_cpp"):
        print("left out: llama.cpp, f16 (needs llama-cpp-python and --gguf FILE)")
    else:
        sides["llama.cpp, f16"] = functools.partial(llama_cpp, gguf)
    return sides


def is_installed(package: str) -> bool:
    """Whether `package` can be imported."""
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def seconds(embed: Embed, texts: list[str]) -> float:
    """How long `embed` takes for `texts`."""
    started = time.perf_counter()
    embed(texts)
    return time.perf_counter() - started


def start(sides: dict[str, Callable[[], Embed]], warm: list[str]) -> dict[str, Embed]:
    """The sides that start; one that doesn't is named with its reason."""
    started = {}
    for name, make in sides.items():
        try:
            embed = make()
            embed(warm)
        except Exception as failure:  # noqa: BLE001 - whatever another library raises
            print(f"left out: {name} ({type(failure).__name__}: {str(failure)[:200]})")
            continue
        started[name] = embed
    return started


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--gguf", type=Path)
    parser.add_argument("--skip", action="append", default=[], help="a side to leave out")
    asked = parser.parse_args()
    folder = asked.folder or default_folder()
    texts, origin = _texts.mixed(asked.texts)
    embed, service = ours(folder)
    lengths = service.submit(texts, lane="bulk").result().tokens
    info = service.info()
    mean = sum(lengths) / len(lengths)
    print(f"{len(texts)} texts ({origin}), mean {mean:.1f} tokens, longest {max(lengths)}")
    print(f"likewise: {info['engine']}, {info['precision']} ({info['why']})")
    wanted = {
        name: make
        for name, make in others(folder, asked.gguf).items()
        if not any(skipped in name for skipped in asked.skip)
    }
    sides = {"likewise": embed, **start(wanted, texts[:: len(texts) // 64])}
    peaks = [Peak(rows, info["precision"]) for rows in PEAK_ROWS]
    times: dict[str, list[float]] = {name: [] for name in sides}
    rooflines = []
    for turn in range(asked.rounds):
        block = texts[turn :: asked.rounds]
        # Around ours, so that the machine's limit is that of the same moments.
        after = before = [peak.rate() for peak in peaks]
        for name, side in sides.items():
            times[name].append(seconds(side, block))
            if name == "likewise":
                after = [peak.rate() for peak in peaks]
        rate = max(statistics.mean(pair) for pair in zip(before, after, strict=True))
        flop = model_flop(lengths[turn :: asked.rounds])
        rooflines.append(flop / rate / times["likewise"][-1])
    report(times, rooflines, texts, mean, info)
    service.close()


def report(
    times: dict[str, list[float]],
    rooflines: list[float],
    texts: list[str],
    mean: float,
    info: dict[str, Any],
) -> None:
    """Print the figures and keep them."""
    rates = {name: len(texts) / sum(values) for name, values in times.items()}
    ratios = {
        name: statistics.median(
            other / mine for other, mine in zip(values, times["likewise"], strict=True)
        )
        for name, values in times.items()
        if name != "likewise"
    }
    roofline = statistics.median(rooflines)
    for name, rate in rates.items():
        print(f"{name:36} {rate:8.1f} texts/s  {rate * mean:8.0f} tokens/s")
    row = {"mean_tokens": mean, "precision": info["precision"], "texts_per_second": rates}
    write("engine", {**row, "ratios": ratios, "roofline": roofline})
    print(f"roofline {roofline:.2f} (target {ROOFLINE_TARGET:.2f})")
    for name, ratio in ratios.items():
        print(f"likewise : {name} = {ratio:.2f} (target {TARGETS[name]})")


def default_folder() -> Path:
    """The default model, from the cache of the tests or of the user."""
    from likewise.models.locate import DEFAULT_MODEL, locate

    here = Path(__file__).resolve().parents[1] / ".pytest_cache" / "likewise"
    return locate(DEFAULT_MODEL, cache=here).folder


if __name__ == "__main__":
    main()
