"""LoRA adapters (the layout of peft): small changes to a model's weights, merged when it is loaded.

A layer's weight W becomes W + s B A, with s = alpha / r, or alpha / sqrt(r) for `use_rslora`.
Source: Hu et al., LoRA (2021); Kalajdzievski, rsLoRA (2023); Liu et al., DoRA (2024).
"""

from __future__ import annotations

import contextlib
import functools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from likewise.base.errors import ModelCorrupt, ModelNotFound, ModelUnsupported
from likewise.models.parts import read_json, table
from likewise.models.weights import Weights, open_file, pickled_in

if TYPE_CHECKING:
    from likewise.base.types import Vectors

_CONFIG = "adapter_config.json"
_FILE = "adapter_model.safetensors"
_WRAPPER = "base_model.model."
# Written beside what is followed here; none of these changes what is computed.
_IDLE = frozenset(
    "auto_mapping base_model_class base_model_name_or_path bias corda_config eva_config "
    "exclude_modules fan_in_fan_out inference_mode init_lora_weights layers_pattern "
    "layers_to_transform loftq_config lora_alpha lora_dropout megatron_config megatron_core "
    "modules_to_save parent_library peft_type peft_version qalora_group_size r rank_pattern "
    "alpha_pattern revision runtime_config target_modules task_type use_dora use_rslora "
    "ensure_weight_tying arrow_config".split()
)
# Others begin by changing the base model's own weights, which aren't in the adapter's file.
_PLAIN_STARTS = (True, False, None, "gaussian", "eva")


@dataclass(frozen=True, slots=True)
class Adapter:
    """Changes to the weights of the model in `base`, from the files in `folder`."""

    folder: Path
    base: Path
    rank: int
    alpha: float
    is_rank_stable: bool
    is_transposed: bool
    """Whether the base keeps its weights as [inputs, outputs] (`fan_in_fan_out`)."""
    ranks: Mapping[str, int]
    """Other ranks, by pattern of the layer's name; so `alphas`."""
    alphas: Mapping[str, float]

    @property
    def file(self) -> Path:
        """The file with its numbers."""
        return self.folder / _FILE

    def scale(self, layer: str) -> float:
        """What B A is multiplied by in `layer`."""
        rank = int(_chosen(self.ranks, layer, self.rank))
        alpha = float(_chosen(self.alphas, layer, self.alpha))
        return alpha / math.sqrt(rank) if self.is_rank_stable else alpha / rank


def read_adapter(transformer: Path, find: Callable[[str], Path] | None) -> Adapter | None:
    """The adapter in `transformer`, if it is one; `find` gives the folder of a model by name.

    Raises:
        ModelUnsupported: it changes more than is computed here; what is named.
        ModelNotFound: the model it is for isn't here.
        ModelCorrupt: its configuration is damaged.
    """
    path = transformer / _CONFIG
    if not path.is_file():
        return None
    config = read_json(path)
    _require_known(config, path)
    try:
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
        ranks = {str(key): int(n) for key, n in table(config, "rank_pattern", path).items()}
        alphas = {str(key): float(n) for key, n in table(config, "alpha_pattern", path).items()}
    except (KeyError, TypeError, ValueError) as wrong:
        raise ModelCorrupt(f"{path}: r or lora_alpha is missing or no number: {wrong!r}") from wrong
    least = min([rank, *ranks.values()])
    if least < 1:
        raise ModelCorrupt(f"{path}: a rank must be at least 1, not {least}")
    return Adapter(
        folder=transformer,
        base=_base(str(config.get("base_model_name_or_path") or ""), transformer, find),
        rank=rank,
        alpha=alpha,
        is_rank_stable=bool(config.get("use_rslora", False)),
        is_transposed=bool(config.get("fan_in_fan_out", False)),
        ranks=ranks,
        alphas=alphas,
    )


def adapted(weights: Weights, adapter: Adapter, prefixes: tuple[str, ...]) -> Weights:
    """`weights`, changed by `adapter`; its layers may be named with any of `prefixes`.

    Raises:
        ModelUnsupported: it holds something that isn't computed here.
        ModelCorrupt: it doesn't fit the weights.
    """
    if not adapter.file.is_file():
        pickled = pickled_in(adapter.folder)
        if pickled is not None:
            raise pickled
        raise ModelNotFound(f"{adapter.folder} has no {_FILE}")
    part = open_file(adapter.file)
    part.require({key: _shape(part, key) for key in part.names})
    layers: dict[str, set[str]] = {}
    changes: dict[str, Callable[[Vectors], Vectors]] = {}
    for key in part.names:
        layer, what = _split(key, adapter)
        if layer.startswith("pooler.") and f"{layer}.{what}" not in weights:
            continue  # whoever reads it will miss it; most models don't
        if what in ("weight", "bias"):
            # A trained bias is saved with the layer that the adapter was put around.
            name = _named(weights, f"{layer.removesuffix('.base_layer')}.{what}", prefixes, adapter)
            changes[name] = functools.partial(_replaced, part, key, name)
        else:
            layers.setdefault(layer, set()).add(what)
    for layer, kinds in layers.items():
        name = _named(weights, f"{layer}.weight", prefixes, adapter)
        if name in changes:
            raise ModelUnsupported(f"{adapter.file}: {layer} is both replaced and adapted")
        changes[name] = _merge(adapter, part, layer, kinds, _shape(weights, name))
    return weights.with_changes(changes, part)


def _merge(
    adapter: Adapter, part: Weights, layer: str, kinds: set[str], shape: tuple[int, ...]
) -> Callable[[Vectors], Vectors]:
    """The change to a layer's weight, of `shape`."""
    is_table = "lora_embedding_A" in kinds
    down, up = ("lora_embedding_A", "lora_embedding_B") if is_table else _DOWN_UP
    names = [f"{_WRAPPER}{layer}.{kind}" for kind in (down, up)]
    if not all(name in part for name in names):
        raise ModelCorrupt(f"{adapter.file}: {layer} has one of {down} and {up}, but not the other")
    a, b = (_shape(part, name) for name in names)
    turned = is_table or adapter.is_transposed
    if len(a) != 2 or len(b) != 2 or a[0] != b[1]:
        raise ModelCorrupt(f"{adapter.file}: {layer}: A is {list(a)} and B is {list(b)}")
    made = (a[1], b[0]) if turned else (b[0], a[1])
    rank = _chosen(adapter.ranks, layer, adapter.rank)
    if made != shape or a[0] != rank:
        raise ModelCorrupt(
            f"{adapter.file}: {layer}: a change of {list(made)} and rank {a[0]} to a weight of "
            f"{list(shape)} that {_CONFIG} gives rank {rank}"
        )
    magnitude = _magnitude(part, layer, kinds, shape, turned, adapter)
    scale = np.float32(adapter.scale(layer))

    def change(weight: Vectors) -> Vectors:
        delta = part[names[1]] @ part[names[0]] * scale
        whole = weight + (delta.T if turned else delta)
        if magnitude is None:
            return np.ascontiguousarray(whole, np.float32)
        lengths = np.linalg.norm(whole, axis=1, keepdims=True)
        return np.ascontiguousarray(whole * (part[magnitude].reshape(-1, 1) / lengths), np.float32)

    return change


def _magnitude(
    part: Weights,
    layer: str,
    kinds: set[str],
    shape: tuple[int, ...],
    turned: bool,
    adapter: Adapter,
) -> str | None:
    """The name of DoRA's lengths of the weight's rows, if it has some."""
    kind = next((kind for kind in kinds if kind.startswith("lora_magnitude_vector")), None)
    if kind is None:
        return None
    name = f"{_WRAPPER}{layer}.{kind}"
    if turned or _shape(part, name) not in ((shape[0],), (shape[0], 1)):
        raise ModelUnsupported(
            f"{adapter.file}: {name} {list(_shape(part, name))} (DoRA) of a weight {list(shape)} "
            "isn't computed here"
        )
    return name


_DOWN_UP = ("lora_A.weight", "lora_B.weight")
_KINDS = (
    *_DOWN_UP,
    "lora_embedding_A",
    "lora_embedding_B",
    "lora_magnitude_vector",
    "lora_magnitude_vector.weight",
    "weight",
    "bias",
)


def _split(key: str, adapter: Adapter) -> tuple[str, str]:
    for kind in _KINDS:
        if key.startswith(_WRAPPER) and key.endswith(f".{kind}"):
            layer = key.removeprefix(_WRAPPER).removesuffix(f".{kind}")
            if not layer.rpartition(".")[2].startswith("lora_"):
                return layer, kind
    raise ModelUnsupported(f"{adapter.file}: tensor {key!r} isn't merged here")


def _replaced(part: Weights, key: str, name: str, weight: Vectors) -> Vectors:
    whole = part[key]
    if whole.shape != weight.shape:
        raise ModelCorrupt(
            f"{part.files[0]}: {key} is {list(whole.shape)}, and {name} of the base is "
            f"{list(weight.shape)}"
        )
    return whole


def _named(weights: Weights, name: str, prefixes: tuple[str, ...], adapter: Adapter) -> str:
    for prefix in ("", *prefixes):
        if name.startswith(prefix) and name.removeprefix(prefix) in weights:
            return name.removeprefix(prefix)
    raise ModelCorrupt(
        f"{adapter.file} changes {name}, which the weights in {adapter.base} haven't got: it is "
        "for another model"
    )


def _shape(weights: Weights, name: str) -> tuple[int, ...]:
    found = weights.shape(name)
    assert found is not None, "asked for a tensor that was seen: this is a bug"
    return found


def _chosen(patterns: Mapping[str, Any], layer: str, usual: Any) -> Any:
    """The value of the pattern that is the end of the layer's name, as peft matches them."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", layer):
            return value
    return usual


def _require_known(config: Mapping[str, Any], path: Path) -> None:
    if config.get("peft_type") != "LORA":
        raise ModelUnsupported(
            f"{path}: an adapter of type {config.get('peft_type')!r} isn't merged here; only "
            "'LORA' is"
        )
    start = config.get("init_lora_weights", True)
    if start not in _PLAIN_STARTS:
        raise ModelUnsupported(
            f"{path}: init_lora_weights {start!r} changes the base model too, which isn't "
            "followed here; save the adapter converted to LoRA, or the merged model"
        )
    extra = sorted(key for key, value in config.items() if value and key not in _IDLE)
    if extra:
        raise ModelUnsupported(
            f"{path}: {', '.join(extra)} isn't followed here; merge the adapter with peft "
            "(merge_and_unload) and save the model"
        )


def _base(name: str, folder: Path, find: Callable[[str], Path] | None) -> Path:
    if not name:
        raise ModelCorrupt(f"{folder / _CONFIG} doesn't say base_model_name_or_path")
    tries = [Path(name), folder / name, folder.parent / name.rpartition("/")[2]]
    for place in tries:
        if (place / "config.json").is_file():
            return place
    if find is not None:
        with contextlib.suppress(ModelNotFound):
            return find(name)
    raise ModelNotFound(
        f"{folder} is an adapter for {name}, which isn't here. Put that model's folder beside "
        f"it, or fetch it: likewise models pull {name}"
    )
