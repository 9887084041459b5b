"""What the model side counts, in one table; `REGISTRY` is what `/metrics` shows."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_TOKENS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048)
_LANE = ("model", "lane")

TEXTS = Counter("likewise_texts", "Texts embedded.", _LANE, registry=REGISTRY)
TOKENS = Counter(
    "likewise_tokens", "Tokens computed, special ones included.", _LANE, registry=REGISTRY
)
TRUNCATED = Counter(
    "likewise_truncated_texts",
    "Texts of which only the beginning was read.",
    ("model",),
    registry=REGISTRY,
)
OVERLOADED = Counter(
    "likewise_overloaded", "Requests refused because a lane was full.", _LANE, registry=REGISTRY
)
FAILED_BATCHES = Counter(
    "likewise_failed_batches", "Batches that failed.", ("model", "code"), registry=REGISTRY
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
QUEUE_SECONDS = Histogram(
    "likewise_queue_seconds",
    "Time that a batch's first text waited.",
    _LANE,
    buckets=_SECONDS,
    registry=REGISTRY,
)
SELFCHECK = Gauge(
    "likewise_selfcheck_worst_cosine",
    "Worst agreement of a model's precision with float32, over fixed texts.",
    ("model", "profile"),
    registry=REGISTRY,
)
WAITING_TOKENS = Gauge(
    "likewise_waiting_tokens", "Tokens waiting to be computed.", _LANE, registry=REGISTRY
)
