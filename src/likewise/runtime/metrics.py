"""What the model side counts, in one table; `REGISTRY` is what `/metrics` shows."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily

if TYPE_CHECKING:
    from likewise.runtime.cache import VectorCache
    from likewise.runtime.lanes import Lanes

REGISTRY = CollectorRegistry()

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_SHORT = (0.0001, 0.0002, 0.0005, *_SECONDS)
_TOKENS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048)
_SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_LANE = ("model", "lane")
_WHO = (*_LANE, "dialect")

TEXTS = Counter("likewise_texts", "Texts computed.", _WHO, registry=REGISTRY)
TOKENS = Counter(
    "likewise_tokens", "Tokens computed, special ones included.", _WHO, registry=REGISTRY
)
TRUNCATED = Counter(
    "likewise_truncated_texts",
    "Texts that were cut to what the model reads.",
    ("model", "dialect"),
    registry=REGISTRY,
)
DROPPED_TOKENS = Counter(
    "likewise_truncated_tokens",
    "Tokens that were cut away; of a text far longer than the model reads, those looked at.",
    ("model", "dialect"),
    registry=REGISTRY,
)
REJECTED = Counter(
    "likewise_rejected",
    "Requests refused because of load: a full lane, a deadline, a rate limit.",
    (*_WHO, "reason"),
    registry=REGISTRY,
)
SHARED = Counter(
    "likewise_shared_texts",
    "Texts not computed because the same one was being computed.",
    ("model",),
    registry=REGISTRY,
)
CACHE_HITS = Counter(
    "likewise_cache_hits", "Texts whose vector was kept.", ("model",), registry=REGISTRY
)
CACHE_MISSES = Counter(
    "likewise_cache_misses",
    "Texts whose vector was looked for and not kept.",
    ("model",),
    registry=REGISTRY,
)
NOT_FINITE = Counter(
    "likewise_not_finite",
    "Texts whose numbers came out as NaN or Inf.",
    ("model",),
    registry=REGISTRY,
)
FAILED_BATCHES = Counter(
    "likewise_failed_batches", "Batches that failed.", ("model", "code"), registry=REGISTRY
)
TOKENISE_SECONDS = Histogram(
    "likewise_tokenise_seconds",
    "Time to cut one request's texts into tokens.",
    _LANE,
    buckets=_SHORT,
    registry=REGISTRY,
)
BATCH_SECONDS = Histogram(
    "likewise_batch_seconds",
    "Time to compute one batch.",
    _LANE,
    buckets=_SECONDS,
    registry=REGISTRY,
)
BATCH_TOKENS = Histogram(
    "likewise_batch_tokens", "Tokens in one batch.", _LANE, buckets=_TOKENS, registry=REGISTRY
)
BATCH_FILL = Histogram(
    "likewise_batch_fill",
    "Tokens in one batch, as a share of the most that is good for the engine.",
    _LANE,
    buckets=_SHARES,
    registry=REGISTRY,
)
PADDING = Histogram(
    "likewise_padding_share",
    "Empty share of the rectangle of a batch's texts, which only attention may see.",
    _LANE,
    buckets=_SHARES,
    registry=REGISTRY,
)
QUEUE_SECONDS = Histogram(
    "likewise_queue_seconds",
    "Time that a batch's first text waited.",
    _LANE,
    buckets=_SECONDS,
    registry=REGISTRY,
)
TE_BATCH_SIZE = Histogram(
    "te_batch_next_size",
    "Texts in one batch, by the name that Text Embeddings Inference gives it.",
    buckets=[2**n for n in range(13)],
    registry=REGISTRY,
)
TE_BATCH_TOKENS = Histogram(
    "te_batch_next_tokens",
    "Tokens in one batch, by the name that Text Embeddings Inference gives it.",
    buckets=[2**n for n in range(21)],
    registry=REGISTRY,
)
SELFCHECK = Gauge(
    "likewise_selfcheck_worst_cosine",
    "Worst agreement of a model's precision with float32, over fixed texts.",
    ("model", "profile"),
    registry=REGISTRY,
)

MODEL_LOADS = Counter(
    "likewise_model_loads",
    "Loads of models by how they ended: loaded, reloaded, failed, refused.",
    ("model", "outcome"),
    registry=REGISTRY,
)
MODEL_UNLOADS = Counter(
    "likewise_model_unloads",
    "Models unloaded, by why: idle, memory, asked, replaced, removed, gone, stopping.",
    ("model", "reason"),
    registry=REGISTRY,
)
MODEL_LOAD_SECONDS = Histogram(
    "likewise_model_load_seconds",
    "Time to load a model, with looking for it.",
    ("model",),
    buckets=(0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500),
    registry=REGISTRY,
)
MODEL_RESIDENT_BYTES = Gauge(
    "likewise_model_resident_bytes",
    "Weights of a model's generations that are in memory, as they are run.",
    ("model",),
    registry=REGISTRY,
)
MODELS_LOADED = Gauge(
    "likewise_models_loaded", "Models that would answer at once.", registry=REGISTRY
)


class Live:
    """What waits in every lane of every loaded model, read when scraped."""

    _GAUGES = (
        ("likewise_waiting_tokens", "Tokens waiting to be computed."),
        ("likewise_waiting_texts", "Texts waiting to be computed."),
        ("likewise_queue_age_seconds", "How long what came first has been waiting."),
    )

    def __init__(self) -> None:
        self._lanes: weakref.WeakKeyDictionary[Lanes, str] = weakref.WeakKeyDictionary()

    def watch(self, model: str, lanes: Lanes) -> None:
        """Show the lanes of `model` for as long as they are there."""
        self._lanes[lanes] = model

    def describe(self) -> list[GaugeMetricFamily]:
        """The names, which don't depend on what is loaded."""
        return [GaugeMetricFamily(name, text, labels=_LANE) for name, text in self._GAUGES]

    def collect(self) -> Iterator[Metric]:
        """The gauges as they are now; two generations of one model count together."""
        from likewise.runtime.lanes import LANES

        seen: dict[tuple[str, str], tuple[float, float, float]] = {}
        for lanes, model in list(self._lanes.items()):
            for lane in () if lanes.is_closed else LANES:
                tokens, texts, age = seen.get((model, lane), (0.0, 0.0, 0.0))
                seen[model, lane] = (
                    tokens + lanes.waiting_tokens(lane),
                    texts + lanes.waiting_texts(lane),
                    max(age, lanes.oldest_s(lane)),
                )
        for at, family in enumerate(self.describe()):
            for labels, values in seen.items():
                family.add_metric(labels, values[at])
            yield family


class Caches:
    """What the caches of vectors hold, read when scraped; several models may share one."""

    _GAUGES = (
        ("likewise_cache_vectors", "Vectors that are kept."),
        ("likewise_cache_bytes", "Bytes that the vectors that are kept count."),
    )

    def __init__(self) -> None:
        self._caches: weakref.WeakSet[VectorCache] = weakref.WeakSet()

    def watch(self, cache: VectorCache) -> None:
        """Show `cache` for as long as it is there."""
        self._caches.add(cache)

    def describe(self) -> list[GaugeMetricFamily]:
        """The names, which don't depend on what there is."""
        return [GaugeMetricFamily(name, text, labels=("cache",)) for name, text in self._GAUGES]

    def collect(self) -> Iterator[Metric]:
        """The gauges as they are now, caches of a kind together."""
        seen: dict[str, tuple[int, int]] = {}
        for cache in list(self._caches):
            vectors, held = seen.get(cache.kind, (0, 0))
            size = cache.size()
            seen[cache.kind] = (vectors + size.vectors, held + size.bytes)
        for at, family in enumerate(self.describe()):
            for kind, values in seen.items():
                family.add_metric((kind,), values[at])
            yield family


LIVE = Live()
REGISTRY.register(LIVE)
CACHES = Caches()
REGISTRY.register(CACHES)


def saw_batch(
    model: str,
    lane: str,
    *,
    seconds: float,
    tokens: int,
    texts: int,
    longest: int,
    budget: int,
    dialects: Sequence[tuple[str, int]],
) -> None:
    """One batch was computed; `dialects` has who asked for each text, and its tokens."""
    took, size, fill, padding = _batches(model, lane)
    took.observe(seconds)
    size.observe(tokens)
    fill.observe(min(1.0, tokens / budget))
    padding.observe(1 - tokens / (texts * longest))
    TE_BATCH_SIZE.observe(texts)
    TE_BATCH_TOKENS.observe(tokens)
    by_dialect: dict[str, list[int]] = {}
    for dialect, count in dialects:
        by_dialect.setdefault(dialect, []).append(count)
    for dialect, counts in by_dialect.items():
        done, read = _computed(model, lane, dialect)
        done.inc(len(counts))
        read.inc(sum(counts))


# Looking a label up costs as much as counting: once for each model will do.
@functools.cache
def _batches(model: str, lane: str) -> tuple[Histogram, ...]:
    return tuple(
        each.labels(model, lane) for each in (BATCH_SECONDS, BATCH_TOKENS, BATCH_FILL, PADDING)
    )


@functools.cache
def _computed(model: str, lane: str, dialect: str) -> tuple[Counter, Counter]:
    return TEXTS.labels(model, lane, dialect), TOKENS.labels(model, lane, dialect)
