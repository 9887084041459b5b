"""Weights on a device: brought over when first asked for, in the numbers that are computed in."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from likewise.base.types import Vectors
    from likewise.models.weights import Weights


class DeviceWeights:
    """The weights of a model on one device; each is there once for each dtype it is used in."""

    def __init__(self, weights: Weights, device: torch.device) -> None:
        self._weights = weights
        self.device = device
        self._held: dict[Hashable, Any] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._weights

    def get(self, name: str, dtype: torch.dtype) -> torch.Tensor:
        """The weight `name`."""
        return self.joined([name], dtype)

    def joined(self, names: Sequence[str], dtype: torch.dtype) -> torch.Tensor:
        """The rows of several weights, one after the other, as one tensor."""
        return self.once((*names, dtype), lambda: self._joined(names, dtype))

    def biases(self, names: Sequence[str], dtype: torch.dtype) -> torch.Tensor | None:
        """The biases of the layers `names`, zeros for those without; None if no layer has one."""
        if not any(f"{name}.bias" in self._weights for name in names):
            return None
        return self.once(("biases", *names, dtype), lambda: self._joined_biases(names, dtype))

    def made(self, key: Hashable, make: Callable[[], Vectors], dtype: torch.dtype) -> torch.Tensor:
        """What `make` computes on the host, kept on the device under `key`."""
        return self.once((key, dtype), lambda: self._whole(make(), dtype))

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What `make` gives, kept under `key`."""
        if key not in self._held:
            self._held[key] = make()
        return self._held[key]

    def host(self, name: str) -> Vectors:
        """The weight `name` as the files have it, float32."""
        return self._weights[name]

    def close(self) -> None:
        """Let everything on the device go."""
        self._held.clear()

    def release(self) -> None:
        """Let the pages of the files go from memory."""
        self._weights.release()

    def _joined(self, names: Sequence[str], dtype: torch.dtype) -> torch.Tensor:
        if len(names) == 1 and self.device.type == "cpu" and dtype == torch.float32:
            # The mapped file itself where it holds float32: nothing is held twice.
            return torch.from_numpy(self._weights[names[0]])
        shapes = [self._weights.shape(name) or () for name in names]
        rows = sum(shape[0] for shape in shapes)
        blocks = (block for name in names for block in self._weights.blocks(name))
        return self._bring(blocks, (rows, *shapes[0][1:]), dtype)

    def _joined_biases(self, names: Sequence[str], dtype: torch.dtype) -> torch.Tensor:
        parts = [
            self._weights[f"{name}.bias"]
            if f"{name}.bias" in self._weights
            else np.zeros(len(self._weights[f"{name}.weight"]), np.float32)
            for name in names
        ]
        return self._whole(np.concatenate(parts), dtype)

    def _whole(self, values: Vectors, dtype: torch.dtype) -> torch.Tensor:
        return self._bring([values], values.shape, dtype)

    def _bring(
        self, blocks: Iterable[Vectors], shape: tuple[int, ...], dtype: torch.dtype
    ) -> torch.Tensor:
        brought = torch.empty(shape, dtype=dtype, device=self.device)
        at = 0
        for block in blocks:
            # Rounded on the host: half as much to copy over.
            part = torch.from_numpy(np.ascontiguousarray(block)).to(dtype)
            brought[at : at + len(part)].copy_(part)
            at += len(part)
        if self.device.type == "cuda":
            # Other streams will read it, and don't wait for this one.
            torch.cuda.current_stream(self.device).synchronize()
        return brought
