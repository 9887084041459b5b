"""Where torch computes, and in which numbers: devices, arithmetic, and how large a batch pays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from likewise.base.errors import ModelUnsupported, SettingsError
from likewise.base.precision import profile
from likewise.engines.heads import budget

if TYPE_CHECKING:
    from likewise.models.card import ModelCard

NAMES = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}

CPU_BUDGET = 512
"""Tokens of a batch on a CPU: more leaves its caches and gains nothing."""
GPU_BUDGET = 16384
"""Tokens of a batch on a GPU, enough to keep one busy for milliseconds with a small model."""
_LEAST_BUDGET = 1024
_SHARE_OF_FREE = 0.25
"""Of the memory that is free when the engine starts, what a batch's numbers may take."""


def choose_devices(asked: str | Sequence[str] | None) -> tuple[torch.device, ...]:
    """The devices to compute on, a copy of the model on each.

    None takes every CUDA device that the process sees (CUDA_VISIBLE_DEVICES limits them), else
    MPS, else the CPU; `cuda` alone means every CUDA device too.

    Raises:
        SettingsError: one of them isn't there.
    """
    if asked is None:
        asked = _best()
    names = asked.split(",") if isinstance(asked, str) else list(asked)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if names == ["cuda"] and count:
        names = [f"cuda:{index}" for index in range(count)]
    there = ["cpu", *(f"cuda:{index}" for index in range(count))]
    if _has_mps():
        there.append("mps")
    unknown = [name for name in names if name not in there]
    if unknown or not names:
        raise SettingsError(
            f"device {', '.join(unknown) or 'of no name'} isn't here; there are: "
            f"{', '.join(there)}",
            param="device",
        )
    return tuple(torch.device(name) for name in names)


def choose_dtype(asked: str, device: torch.device) -> tuple[torch.dtype, str]:
    """The numbers to compute in on `device`, and why.

    Raises:
        ModelUnsupported: the profile isn't known, or not computed here.
    """
    wanted = profile(asked)
    if wanted == "small":
        raise ModelUnsupported(
            "precision small (int8) isn't computed by the torch engine; use fast or exact",
            param="precision",
        )
    if wanted == "exact":
        return torch.float32, "asked for"
    if wanted == "auto" and device.type == "cpu":
        return torch.float32, "torch on a CPU gains little from less"
    if device.type == "cpu" or _has_bf16(device):
        why = "asked for" if wanted == "fast" else f"{device.type} computes in bf16"
        return torch.bfloat16, why
    return torch.float16, f"this {device.type} device has no bf16"


def described(devices: Sequence[torch.device]) -> str:
    """Torch and what it computes on, to tell results of one from those of another."""
    names = [torch.cuda.get_device_name(d) if d.type == "cuda" else d.type for d in devices]
    return f"torch {torch.__version__} on {', '.join(names)}"


def use_full_f32() -> None:
    """Have torch compute f32 in f32: a program may have let it use fewer bits (TF32)."""
    if torch.get_float32_matmul_precision() != "highest":
        torch.set_float32_matmul_precision("highest")


def budget_tokens(card: ModelCard, devices: Sequence[torch.device]) -> int:
    """Tokens of a batch that keep these devices busy and fit into their free memory."""
    if devices[0].type == "cpu":
        return budget(card, CPU_BUDGET)
    free = min(
        (torch.cuda.mem_get_info(one)[0] for one in devices if one.type == "cuda"), default=0
    )
    if not free:
        return _LEAST_BUDGET
    fitting = int(free * _SHARE_OF_FREE / _bytes_per_token(card))
    return max(_LEAST_BUDGET, min(GPU_BUDGET, fitting))


def _bytes_per_token(card: ModelCard) -> int:
    # A layer's widest numbers, several of them at once; each stream has its own.
    widths = [card.config.get(key) for key in ("intermediate_size", "n_inner", "hidden_size")]
    widest = max((width for width in widths if isinstance(width, int)), default=4096)
    is_sparse = any(head.gives == "sparse" for head in card.heads)
    return 64 * widest + (16 * int(card.config["vocab_size"]) if is_sparse else 0)


def _best() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if _has_mps() else "cpu"


def _has_mps() -> bool:
    return bool(torch.backends.mps.is_available())


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        # Emulated before compute capability 8, and slower than f16 there.
        return bool(torch.cuda.get_device_capability(device)[0] >= 8)
    return bool(torch.backends.mps.is_macos_or_newer(14, 0))
