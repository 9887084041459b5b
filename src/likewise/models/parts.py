"""The modules of a sentence-transformers folder, in the format up to 5.3 and that since 5.4."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from likewise.base.errors import ModelCorrupt, ModelUnsupported

# Both spellings of the class path end in the class's name; only these packages are known.
_PACKAGES = ("sentence_transformers.", "pylate.models.")
_TRANSFORMERS = ("Transformer", "MLMTransformer")
# What heads are made of; `models.heads` says which may follow which.
_HEADS = ("SpladePooling", "MultiVectorMask", "LogitScore")
_STEPS = ("Pooling", "Dense", "LayerNorm", "Normalize", "Dropout")
_KNOWN = (*_TRANSFORMERS, *_STEPS, *_HEADS)
# The classic format has a flag a mode; several are concatenated in this order.
_CLASSIC_MODES: Mapping[str, str] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
POOLINGS = tuple(_CLASSIC_MODES.values())
"""Modes of pooling, in the order in which the results of several lie side by side."""
# Names of torch's classes; sentence-transformers writes the class and makes it with no arguments,
# so that each has the parameters torch gives it by itself. Those with weights aren't here.
_TORCH_ACTIVATIONS: Mapping[str, str] = {
    "CELU": "elu",
    "ELU": "elu",
    "GELU": "gelu",
    "Hardsigmoid": "hardsigmoid",
    "Hardswish": "hardswish",
    "Hardtanh": "hardtanh",
    "Identity": "identity",
    "LeakyReLU": "leaky_relu",
    "LogSigmoid": "log_sigmoid",
    "Mish": "mish",
    "ReLU": "relu",
    "ReLU6": "relu6",
    "SELU": "selu",
    "SiLU": "silu",
    "Sigmoid": "sigmoid",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Tanh": "tanh",
    "Tanhshrink": "tanhshrink",
}
ACTIVATIONS: Mapping[str, str] = {
    f"{package}.{name}": ours
    for name, ours in _TORCH_ACTIVATIONS.items()
    for package in (
        "torch.nn.modules.linear" if name == "Identity" else "torch.nn.modules.activation",
        "torch.nn",
    )
}
"""Activations as files name them, and what `nets.ops` calls them."""
_VECTORS = "sentence_embedding"
_LAYER_NORM_EPSILON = 1e-5


@dataclass(frozen=True, slots=True)
class Module:
    """An entry of modules.json: the class's short name and the folder of its files."""

    kind: str
    path: str


@dataclass(frozen=True, slots=True)
class Pooling:
    """Tokens to one row; several modes lie side by side."""

    modes: tuple[str, ...]
    include_prompt: bool = True


@dataclass(frozen=True, slots=True)
class Dense:
    """A linear layer after pooling; its weights are in `folder`."""

    folder: Path
    inputs: int
    outputs: int
    bias: bool
    activation: str
    residual: bool = False
    """What went in is added to what comes out, through `residual.weight` if the widths differ."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Its weights."""
        found: dict[str, tuple[int, ...]] = {"linear.weight": (self.outputs, self.inputs)}
        if self.bias:
            found["linear.bias"] = (self.outputs,)
        if self.residual and self.inputs != self.outputs:
            found["residual.weight"] = (self.outputs, self.inputs)
        return found


@dataclass(frozen=True, slots=True)
class LayerNorm:
    """Rows normalised over their width, scaled and shifted; the weights are in `folder`."""

    folder: Path
    width: int
    epsilon: float = _LAYER_NORM_EPSILON

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Its weights."""
        return {"norm.weight": (self.width,), "norm.bias": (self.width,)}


@dataclass(frozen=True, slots=True)
class Normalise:
    """Rows scaled to length 1."""


@dataclass(frozen=True, slots=True)
class Truncate:
    """Rows cut to their first `width` numbers, and left at the length that they then have."""

    inputs: int
    width: int


Step = Pooling | Dense | LayerNorm | Normalise | Truncate


def unscaled(steps: Sequence[Step]) -> tuple[Sequence[Step], Sequence[Step]]:
    """`steps` in two: those that decide a vector's numbers, and the last that scale or cut it."""
    count = len(steps)
    while count and isinstance(steps[count - 1], Normalise | Truncate):
        count -= 1
    return steps[:count], steps[count:]


def scales(steps: Sequence[Step]) -> bool:
    """Whether the last of `steps` scale a vector to length 1, cut or not."""
    return any(isinstance(step, Normalise) for step in unscaled(steps)[1])


def read_json(path: Path, *, missing: dict[str, Any] | None = None) -> dict[str, Any]:
    """The JSON object in `path`; `missing`, when given, if there is no such file.

    Raises:
        ModelCorrupt: it isn't there, isn't JSON, or isn't an object.
    """
    value = _load(path) if missing is None or path.is_file() else missing
    if not isinstance(value, dict):
        raise ModelCorrupt(f"{path} holds a {type(value).__name__}, not a JSON object")
    return value


def read_list(path: Path) -> list[dict[str, Any]]:
    """The JSON objects listed in `path`; none if there is no such file.

    Raises:
        ModelCorrupt: it isn't JSON, or isn't a list of objects.
    """
    if not path.is_file():
        return []
    entries = _load(path)
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise ModelCorrupt(f"{path} isn't a list of objects")
    return entries


def table(values: Mapping[str, Any], key: str, where: Path) -> dict[str, Any]:
    """The JSON object under `key`; empty when there is none.

    Raises:
        ModelCorrupt: something else is there; `where` names the file.
    """
    found = values.get(key)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ModelCorrupt(f"{where}: {key} is a {type(found).__name__}, not a JSON object")
    return found


def read_modules(folder: Path) -> list[Module]:
    """The modules of `folder`, in order; a transformer and a pooling when it lists none.

    Raises:
        ModelUnsupported: one isn't known here.
        ModelCorrupt: modules.json is damaged.
    """
    path = folder / "modules.json"
    if not path.is_file():
        return [Module("Transformer", "")]
    entries = _load(path)
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        raise ModelCorrupt(f"{path} isn't a list of modules")
    modules = [_module(entry, path) for entry in entries]
    if not modules or modules[0].kind not in _TRANSFORMERS:
        raise ModelUnsupported(f"{path}: the first module must be a Transformer")
    return modules


def read_steps(
    folder: Path, modules: Sequence[Module], width: int, pooling: tuple[str, ...] | None = None
) -> tuple[tuple[Step, ...], int]:
    """What `modules` do after the transformer of `width`, and the width of the vectors then.

    The modes `pooling`, where given, count instead of those of the Pooling among them.

    Raises:
        ModelUnsupported: a part, or the order of parts, isn't known here.
        ModelCorrupt: a part's width isn't that of the part before it.
    """
    steps: list[Step] = []
    if pooling is not None and not any(module.kind == "Pooling" for module in modules):
        steps, width = [Pooling(pooling)], width * len(pooling)
    for module in modules:
        if (module.kind == "Pooling") != (not steps) or module.kind not in _STEPS:
            raise ModelUnsupported(
                f"{folder / 'modules.json'}: {' -> '.join(m.kind for m in modules)} after the "
                "transformer isn't computed here; one Pooling must come first"
            )
        path = folder / module.path
        step: Step
        if module.kind == "Pooling":
            step, width = _pooling(path / "config.json", width, pooling)
        elif module.kind == "Dense":
            step, width = _dense(path, width)
        elif module.kind == "LayerNorm":
            step = _layer_norm(path, width)
        elif module.kind == "Normalize":
            step = _normalise(path)
        else:
            continue  # Dropout only acts while a model is trained
        steps.append(step)
    return tuple(steps), width


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as missing:
        raise ModelCorrupt(f"{path} is missing") from missing
    except (OSError, ValueError) as broken:
        raise ModelCorrupt(f"{path} can't be read as JSON: {broken}") from broken


def _module(entry: Mapping[str, Any], path: Path) -> Module:
    kind, where = str(entry.get("type", "")), entry.get("path", "")
    name = kind.rpartition(".")[2]
    if not kind.startswith(_PACKAGES) or name not in _KNOWN:
        raise ModelUnsupported(
            f"{path}: module {kind!r} isn't computed here; known: {', '.join(_KNOWN)}"
        )
    if entry.get("kwargs"):
        raise ModelUnsupported(
            f"{path}: module {kind!r} wants {entry['kwargs']} with every text, which isn't "
            "computed here"
        )
    if not isinstance(where, str) or Path(where).is_absolute() or ".." in Path(where).parts:
        raise ModelCorrupt(f"{path}: module path {where!r} leads out of the folder")
    return Module(name, where)


def _pooling(path: Path, width: int, instead: tuple[str, ...] | None) -> tuple[Pooling, int]:
    config = read_json(path)
    if instead is not None:
        modes = list(instead)
    elif "pooling_mode" in config:
        given = config["pooling_mode"]
        modes = list(given) if isinstance(given, list) else [given]
    elif _CLASSIC_MODES.keys() & config.keys():
        # With every flag off sentence-transformers takes the mean.
        modes = [mode for flag, mode in _CLASSIC_MODES.items() if config.get(flag)] or ["mean"]
    else:
        modes = ["mean"]
    unknown = [mode for mode in modes if mode not in POOLINGS]
    if unknown or not modes:
        raise ModelUnsupported(
            f"{path}: pooling {unknown or 'of no kind'} isn't computed here; "
            f"known: {', '.join(POOLINGS)}"
        )
    written = config.get("embedding_dimension", config.get("word_embedding_dimension", width))
    if written != width:
        raise ModelCorrupt(f"{path} pools vectors of width {written}, the model's are of {width}")
    return Pooling(tuple(modes), bool(config.get("include_prompt", True))), width * len(modes)


def _dense(folder: Path, width: int) -> tuple[Dense, int]:
    path = folder / "config.json"
    config = read_json(path)
    activation = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise ModelUnsupported(
            f"{path}: activation {activation!r} isn't computed here; "
            f"known: {', '.join(_TORCH_ACTIVATIONS)} of torch.nn"
        )
    _require_vectors(config, path)
    inputs, outputs = config.get("in_features"), config.get("out_features")
    if not isinstance(inputs, int) or not isinstance(outputs, int) or outputs < 1:
        raise ModelCorrupt(f"{path} doesn't say its in_features and out_features")
    if inputs != width:
        raise ModelCorrupt(f"{path} takes vectors of width {inputs}, those before it have {width}")
    dense = Dense(
        folder,
        inputs,
        outputs,
        bool(config.get("bias", True)),
        ACTIVATIONS[activation],
        bool(config.get("use_residual", False)),
    )
    return dense, outputs


def _layer_norm(folder: Path, width: int) -> LayerNorm:
    path = folder / "config.json"
    written = read_json(path).get("dimension")
    if written != width:
        raise ModelCorrupt(
            f"{path} normalises vectors of width {written}, those before it have {width}"
        )
    return LayerNorm(folder, width)


def _normalise(folder: Path) -> Normalise:
    # The folder needn't exist: up to 5.3 there was nothing to write in it.
    path = folder / "config.json"
    _require_vectors(read_json(path, missing={}), path)
    return Normalise()


def _require_vectors(config: Mapping[str, Any], path: Path) -> None:
    sides = {config.get(f"module_{side}_name") for side in ("input", "output")}
    others = sorted(str(side) for side in sides - {None, _VECTORS})
    if others:
        raise ModelUnsupported(
            f"{path}: a module between {_VECTORS} and {', '.join(others)} isn't computed here"
        )
