"""The slow way: an architecture that isn't written here, computed by transformers itself."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
import transformers
from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES
from transformers.utils import logging as progress

from likewise.base.errors import ModelCorrupt, ModelUnsupported
from likewise.base.log import fields, logger
from likewise.engines.batch import PackedBatch
from likewise.engines.graph import outputs
from likewise.engines.heads import with_heads
from likewise.engines.steps import with_steps
from likewise.engines.torch_device import use_full_f32
from likewise.engines.torch_feed import Feed
from likewise.engines.torch_ops import TorchOps
from likewise.engines.torch_packed import TorchPackedEngine
from likewise.engines.torch_replica import Replica
from likewise.engines.torch_weights import DeviceWeights
from likewise.models.weights import open_weights
from likewise.nets.ops import Ops, Tensor

if TYPE_CHECKING:
    from likewise.models.card import ModelCard

_log = logger("engines.torch")

# Of an encoder with a decoder only the encoder is wanted; transformers has it alone for these.
_ENCODERS = {
    "t5": "T5EncoderModel",
    "mt5": "MT5EncoderModel",
    "umt5": "UMT5EncoderModel",
    "longt5": "LongT5EncoderModel",
    "switch_transformers": "SwitchTransformersEncoderModel",
}
# Weights a checkpoint may lack: no hidden state depends on them.
_UNUSED = ("pooler.", "lm_head.", "cls.")
_LEAST_COSINE = {torch.float32: 1 - 1e-5}
_LEAST_COSINE_ROUNDED = 1 - 1e-3


@dataclass(frozen=True, slots=True)
class Foreign:
    """In the place of an architecture: its hidden states come from elsewhere."""

    prefixes: ClassVar[tuple[str, ...]] = ("",)
    probe: ClassVar[str] = ""
    width: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Transformers looks after the weights."""
        return {}

    def forward(self, ops: Ops[Tensor], *, pairs: bool = False) -> Tensor:
        """The last hidden state of every token, [tokens, width]."""
        states: Tensor = cast("Any", ops).hidden_states(pairs=pairs)
        return states


class ForeignOps(TorchOps):
    """The vocabulary, and hidden states from a model of transformers."""

    def __init__(self, *known: Any, model: Any, **more: Any) -> None:
        """As `TorchOps`; `model` gives the hidden states."""
        super().__init__(*known, **more)
        self._model = model

    def hidden_states(self, *, pairs: bool) -> torch.Tensor:
        """Each group of texts in a rectangle, padding on the right, and the tokens gathered."""
        views, done = self._views, []
        for group in self._feed.groups:
            size = group.texts * group.length
            slots = views["slots"][group.first_slot : group.first_slot + size]
            lengths = views["lengths"][group.first_text : group.first_text + group.texts]
            shape = (group.texts, group.length)
            places = torch.arange(group.length, device=slots.device)
            given = {
                "input_ids": views["ids"][slots].view(shape).long(),
                "attention_mask": (places < lengths[:, None]).long(),
            }
            if pairs:
                given["token_type_ids"] = views["types"][slots].view(shape).long()
            states = self._model(**given).last_hidden_state
            done.append(states.reshape(size, -1))
        return torch.cat(done).index_select(0, views["back"])


class ForeignReplica(Replica):
    """A model of transformers on one device."""

    def __init__(self, model: Any, write: Any, weights: DeviceWeights, **more: Any) -> None:
        """`model` gives the hidden states, `write` what is made of them."""
        super().__init__(write, weights, varlen=None, **more)
        self._model = model
        self._is_equal = True

    @property
    def takes_padding(self) -> bool:
        """Whether texts of like length may go together: padding leaves the model's states alone."""
        return not self._is_equal

    def warm(self) -> bool:
        """Compute two short texts with padding and without; whether all came out finite."""
        words = int(self._model.config.get_text_config().vocab_size)
        ids = [5 + 3 * place % max(1, words - 5) for place in range(min(self._longest, 12))]
        batch = PackedBatch.of([ids, ids[: max(1, len(ids) - 4)]])
        apart, together = (self._states(batch, is_equal=one) for one in (True, False))
        cosines = torch.nn.functional.cosine_similarity(apart, together)
        least = _LEAST_COSINE.get(self._dtype, _LEAST_COSINE_ROUNDED)
        self._is_equal = not bool((cosines >= least).all())
        return super().warm() and bool(torch.isfinite(apart).all())

    def feed(self, batch: PackedBatch, *, tokens: int = 0, texts: int = 0) -> Feed:
        """`batch` in rectangles."""
        return Feed.of(batch, is_equal=self._is_equal)

    def _states(self, batch: PackedBatch, *, is_equal: bool) -> torch.Tensor:
        feed = Feed.of(batch, is_equal=is_equal)
        ops = self._ops(feed, self.moved(feed), is_captured=False)
        return ops.hidden_states(pairs=False).float()

    def _ops(self, feed: Feed, numbers: torch.Tensor, *, is_captured: bool) -> ForeignOps:
        return ForeignOps(
            self.weights,
            feed,
            numbers,
            model=self._model,
            dtype=self._dtype,
            longest=self._longest,
            is_captured=is_captured,
        )

    def close(self) -> None:
        """Let the model go too."""
        super().close()
        self._model = None


class TorchAnyEngine(TorchPackedEngine):
    """Any encoder or decoder that transformers knows by itself; code of models is never run."""

    name = "torch_any"

    def __init__(self, card: ModelCard, **options: Any) -> None:
        """As `TorchPackedEngine`, which takes the same options.

        Raises:
            ModelUnsupported: transformers hasn't got the architecture, or a part isn't computed.
            ModelCorrupt: the weights are damaged or don't fit the configuration.
            SettingsError: there is no such device.
            EngineError: the device failed, or hasn't the memory.
        """
        super().__init__(card, **options | {"graphs": False})
        first = cast("ForeignReplica", self._replicas[0])
        how = (
            "texts of like length are padded"
            if first.takes_padding
            else "only texts of equal length go together, as padding changes this model's states"
        )
        self.version = f"{self.version}, transformers {transformers.__version__}"
        self.why = f"{self.why}; transformers computes it, the slow way: {how}"
        _log.info(fields("the slow way", model=card.name, architecture=card.architecture, how=how))

    @staticmethod
    def can_run(card: ModelCard) -> bool:
        """Whether transformers knows the architecture."""
        return card.architecture in MODEL_MAPPING_NAMES

    def _load(
        self, card: ModelCard, devices: Sequence[torch.device], dtype: torch.dtype
    ) -> list[Replica]:
        _refuse_variants(card)
        if dtype == torch.float32:
            use_full_f32()
        checked = open_weights(card.transformer)
        replicas: list[Replica] = []
        for device in devices:
            model = load(card, dtype).to(device)
            net: Any = Foreign(int(model.config.get_text_config().hidden_size))
            weights = with_heads(card, net, with_steps(card.steps, checked))
            write: Any = functools.partial(outputs, card, net)
            held = DeviceWeights(weights, device)
            replicas.append(
                ForeignReplica(model, write, held, dtype=dtype, longest=card.max_tokens)
            )
        return replicas


def load(card: ModelCard, dtype: torch.dtype) -> Any:
    """The model of `card` as transformers has it, on the host, every weight of it read.

    Raises:
        ModelUnsupported: transformers hasn't got the architecture, or only with a decoder.
        ModelCorrupt: a weight is missing or of another shape.
    """
    kind = _kind(card)
    try:
        with _quiet():
            model, found = kind.from_pretrained(
                card.transformer,
                dtype=dtype,
                trust_remote_code=False,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, KeyError) as refused:
        raise ModelCorrupt(
            f"{card.transformer}: transformers can't load it: {refused}"
        ) from refused
    # Transformers makes up what it misses at random, and says so in a warning only.
    missing = [name for name in found["missing_keys"] if not _is_unused(name)]
    if missing:
        raise ModelCorrupt(
            f"{card.transformer}: the weights lack {missing[0]!r} and {len(missing) - 1} more that "
            f"a {card.architecture} needs"
        )
    model.config.use_cache = False
    return model.eval()


def _refuse_variants(card: ModelCard) -> None:
    if card.brings_code:
        raise ModelUnsupported(
            f"{card.transformer}: the model brings its own code, which is never run; what "
            f"transformers has under the name {card.architecture!r} may compute something else"
        )
    if card.adapter is not None:
        raise ModelUnsupported(
            f"{card.folder}: adapters are merged only into architectures written here, not into "
            f"{card.architecture!r}; merge it with peft and save the whole model"
        )


def _kind(card: ModelCard) -> Any:
    if card.architecture not in MODEL_MAPPING_NAMES:
        raise ModelUnsupported(
            f"{card.transformer}: architecture {card.architecture!r} is neither written here nor "
            f"known to transformers {transformers.__version__}"
        )
    if card.architecture in _ENCODERS:
        return getattr(transformers, _ENCODERS[card.architecture])
    if card.config.get("is_encoder_decoder"):
        raise ModelUnsupported(
            f"{card.transformer}: {card.architecture!r} is an encoder with a decoder; only the "
            f"encoders of {', '.join(_ENCODERS)} are taken alone"
        )
    return transformers.AutoModel


def _is_unused(name: str) -> bool:
    return any(f".{name}".find(f".{part}") >= 0 for part in _UNUSED)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bars and reports: what matters of them is checked."""
    shown, level = progress.is_progress_bar_enabled(), progress.get_verbosity()
    progress.disable_progress_bar()
    progress.set_verbosity_error()
    try:
        yield
    finally:
        progress.set_verbosity(level)
        if shown:
            progress.enable_progress_bar()
