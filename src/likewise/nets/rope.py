"""How fast each pair of a head's numbers turns: rotary frequencies from config.json."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from likewise.base.errors import ModelCorrupt, ModelUnsupported
from likewise.nets.ops import Rotary

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

_THETA = 10_000.0
# Where they stand and the rope_type doesn't use them they change nothing, as in transformers.
_COMMON = frozenset(
    "type rope_type rope_theta partial_rotary_factor original_max_position_embeddings".split()
)


@dataclass(frozen=True, slots=True)
class _Given:
    """What a config says about its rotary embedding, and where that stands."""

    values: Mapping[str, Any]
    config: Mapping[str, Any]
    where: str
    turning: int
    theta: float

    def number(self, key: str, default: float | None = None) -> float:
        """A positive number; `default` where there is none."""
        value = self.values.get(key)
        return _positive(default if value is None else value, key, self.where)

    def trained(self) -> float:
        """The longest text before the context was stretched."""
        key = "original_max_position_embeddings"
        # transformers lets the config's own key win over the one among the rotary parameters.
        value = self.config.get(key) or self.values.get(key)
        return _positive(value or self.config.get("max_position_embeddings"), key, self.where)


def frequencies(
    config: Mapping[str, Any],
    *,
    width: int,
    where: str,
    kind: str | None = None,
    theta: float | None = None,
    interleaved: bool = False,
) -> Rotary:
    """The turning of heads of `width` numbers that `config` describes; `where` is its file.

    Both spellings are read: `rope_theta` beside `rope_scaling`, and `rope_parameters`, which has
    one entry for all layers or one for each `kind` of layer. `theta` counts where there is none.

    Raises:
        ModelUnsupported: it asks for a scaling, or for a parameter of one, not computed here.
        ModelCorrupt: a parameter is missing or isn't a positive number.
    """
    values = _values(config, kind, where)
    base = values.get("rope_theta") or config.get("rope_theta") or theta or _THETA
    part = values.get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0
    turning = int(width * _positive(part, "partial_rotary_factor", where))
    if turning < 2 or turning % 2 or turning > width:
        raise ModelCorrupt(
            f"{where}: {turning} of a head's {width} numbers would turn; they turn in pairs, so it "
            "must be an even number, at least 2 and no more than the head has"
        )
    given = _Given(values, config, where, turning, _positive(base, "rope_theta", where))
    name = values.get("rope_type") or values.get("type") or "default"
    if name not in _SCALINGS:
        raise ModelUnsupported(
            f"{where}: rope_type {name!r} isn't computed here; known: {', '.join(_SCALINGS)}"
        )
    allowed, scaling = _SCALINGS[name]
    unknown = sorted({key for key, value in values.items() if value is not None} - allowed)
    if unknown:
        raise ModelUnsupported(
            f"{where}: rotary parameter {', '.join(unknown)} isn't computed here for rope_type "
            f"{name!r}; known: {', '.join(sorted(allowed))}"
        )
    turns, scale = scaling(given)
    return Rotary(tuple(float(turn) for turn in turns), scale, interleaved)


def _values(config: Mapping[str, Any], kind: str | None, where: str) -> Mapping[str, Any]:
    # transformers, too, lets `rope_scaling` win where both are written.
    values = config.get("rope_scaling") or config.get("rope_parameters") or {}
    if (
        isinstance(values, Mapping)
        and values
        and all(isinstance(v, Mapping) for v in values.values())
    ):
        if kind not in values:
            raise ModelCorrupt(
                f"{where}: rope_parameters has no entry for {kind or 'all layers'}, only for "
                f"{', '.join(sorted(values))}"
            )
        values = values[kind]
    if not isinstance(values, Mapping):
        raise ModelCorrupt(f"{where}: the rotary parameters aren't a table but {values!r}")
    return values


def _plain(given: _Given) -> tuple[Floats, float]:
    """RoFormer (https://arxiv.org/abs/2104.09864), section 3.2.2."""
    exponents = np.arange(0, given.turning, 2, dtype=np.float32) / np.float32(given.turning)
    # In float32 as in torch: at 8,192 places the last bit of a frequency can be seen.
    return np.float32(1) / np.float32(given.theta) ** exponents, 1.0


def _dynamic(given: _Given) -> tuple[Floats, float]:
    """NTK scaling by the text's length, which changes nothing up to max_position_embeddings.

    That is the longest text a model reads here.
    """
    given.number("factor")
    _positive(given.config.get("max_position_embeddings"), "max_position_embeddings", given.where)
    return _plain(given)


def _linear(given: _Given) -> tuple[Floats, float]:
    """Places divided by a factor (https://arxiv.org/abs/2306.15595)."""
    return _plain(given)[0] / np.float32(given.number("factor")), 1.0


def _ntk(given: _Given) -> tuple[Floats, float]:
    """The base multiplied by a factor, and the slowest turn slowed by it (the code GTE came with).

    Unlike `dynamic`, for texts of all lengths.
    """
    factor = np.float32(given.number("factor"))
    widened = replace(given, theta=given.theta * float(factor))
    return _plain(widened)[0] / factor ** np.float32(2 / given.turning), 1.0


def _llama3(given: _Given) -> tuple[Floats, float]:
    """Slow turns divided by a factor, fast ones left, those between blended: as in Llama 3.1."""
    turns = _plain(given)[0]
    factor, trained = given.number("factor"), given.trained()
    low, high = given.number("low_freq_factor"), given.number("high_freq_factor")
    if high <= low:
        raise ModelCorrupt(
            f"{given.where}: high_freq_factor {high} must be above low_freq_factor {low}"
        )
    rounds = np.float32(trained) * turns / np.float32(2 * math.pi)
    share = np.clip((rounds - np.float32(low)) / np.float32(high - low), 0, 1)
    return (1 - share) * turns / np.float32(factor) + share * turns, 1.0


def _yarn(given: _Given) -> tuple[Floats, float]:
    """YaRN (https://arxiv.org/abs/2309.00071), section 3.2, with its temperature in the turns."""
    turns, trained = _plain(given)[0], given.trained()
    whole = given.config.get("max_position_embeddings")
    factor = given.number("factor", whole / trained if isinstance(whole, int) else None)

    def pair(rounds: float) -> float:
        ratio = math.log(trained / (rounds * 2 * math.pi))
        return given.turning * ratio / (2 * math.log(given.theta))

    low, high = pair(given.number("beta_fast", 32)), pair(given.number("beta_slow", 1))
    if given.values.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, given.turning - 1)
    high += 0.001 if low == high else 0.0
    places = np.arange(given.turning // 2, dtype=np.float32)
    stretched = np.clip((places - np.float32(low)) / np.float32(high - low), 0, 1)
    blended = stretched * turns / np.float32(factor) + (1 - stretched) * turns
    return blended, _temperature(given, factor)


def _temperature(given: _Given, factor: float) -> float:
    if given.values.get("attention_factor") is not None:
        return given.number("attention_factor")
    if given.values.get("mscale") and given.values.get("mscale_all_dim"):
        above, below = (given.number(key) for key in ("mscale", "mscale_all_dim"))
        return _warmth(factor, above) / _warmth(factor, below)
    return _warmth(factor, 1.0)


def _warmth(factor: float, scale: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0


def _positive(value: Any, key: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ModelCorrupt(f"{where}: {key} must be a positive number, not {value!r}")
    return float(value)


_YARN = "factor attention_factor beta_fast beta_slow mscale mscale_all_dim truncate"
_SCALINGS: dict[str, tuple[frozenset[str], Callable[[_Given], tuple[Floats, float]]]] = {
    "default": (_COMMON, _plain),
    "linear": (_COMMON | {"factor"}, _linear),
    "dynamic": (_COMMON | {"factor"}, _dynamic),
    "ntk": (_COMMON | {"factor"}, _ntk),
    "llama3": (_COMMON | {"factor", "low_freq_factor", "high_freq_factor"}, _llama3),
    "yarn": (_COMMON | frozenset(_YARN.split()), _yarn),
}
