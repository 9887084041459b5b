"""The metrics of Text Embeddings Inference, by its names, for dashboards and scalers made for it.

They carry no model label: all models count together. Its counters lack the `_total` that the
Prometheus client appends, which is why they are made here as they go out.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter as Tally
from typing import TYPE_CHECKING

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily

from likewise.runtime import metrics
from likewise.server.errors import STATUS
from likewise.server.middleware import CLIENT_GONE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from likewise.server.seen import Run, Seen

_DURATIONS = tuple(1.5e-5 * 1.5**n for n in range(35))
_LENGTHS = tuple(float(2**n) for n in range(16))
_PARTS = ("tokenization", "queue", "inference")

FAILURES: dict[str, str] = {
    "overloaded": "overloaded",
    "deadline_exceeded": "overloaded",
    "rate_limited": "overloaded",
    "invalid_input": "validation",
    "input_empty": "tokenization",
    "input_unreadable": "tokenization",
    "input_too_long": "tokenization",
    "model_unsupported": "model_type",
    "not_finite": "missing_values",
}
"""Our codes of refusals as `err` says them. Others are `inference` where the server failed, and
`validation` where the client did. What a handler notes as `te_failure` goes before these."""

_NOT_COUNTED = frozenset(
    (
        "unauthorised", "forbidden", "host_not_allowed", "method_not_allowed", "body_malformed",
        "body_too_large", "request_timeout", "unsupported_media_type",
    )
)  # fmt: skip
"""Refused before TEI would look at the request."""
_SCORING = frozenset(("/predict", "/rerank", "/score", "/classify"))
_NO_INFERENCE = frozenset(("/tokenize", "/detokenize", "/decode"))
"""Routes that may be refused with an error of the input and never compute."""


class _Histogram:
    """Counts values below each bound; several equal ones at once cost as much as one."""

    def __init__(self, name: str, text: str, bounds: Sequence[float]) -> None:
        self._name = name
        self._text = text
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Add `value`, `times` times."""
        self._counts[bisect_left(self._bounds, value)] += times
        self._sum += value * times

    def family(self) -> Metric:
        """As it is now."""
        made = HistogramMetricFamily(self._name, self._text)
        below, buckets = 0, []
        for bound, count in zip((*self._bounds, float("inf")), self._counts, strict=True):
            below += count
            shown = "+Inf" if bound == float("inf") else f"{bound:.10g}"
            buckets.append((shown, below))
        made.add_metric([], buckets, self._sum)
        return made


class TeMetrics:
    """What `registry.register` takes; `saw` feeds it."""

    _COUNTERS = (
        ("te_request_count", "method", "Requests that ask a model for something."),
        ("te_request_success", "method", "Such requests that were answered."),
        ("te_request_failure", "err", "Such requests that were refused, by reason."),
        ("te_embed_count", "", "Texts that were to become vectors."),
        ("te_embed_success", "", "Texts that became vectors."),
        ("te_predict_count", "", "Texts or pairs that were to become scores."),
        ("te_predict_success", "", "Texts or pairs that became scores."),
    )

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Tally[tuple[str, str]] = Tally()
        for method in ("single", "batch"):
            self._counts["te_request_count", method] = 0
            self._counts["te_request_success", method] = 0
        for name, label, _ in self._COUNTERS:
            if not label:
                self._counts[name, ""] = 0
        self._durations = {
            name: _Histogram(name, f"Seconds: {text}.", _DURATIONS)
            for of, whose in (("request", "a request"), ("embed", "a text"), ("predict", "a pair"))
            for name, text in (
                (f"te_{of}_duration", f"{whose}, in all"),
                *((f"te_{of}_{part}_duration", f"{whose}, {part}") for part in _PARTS),
            )
        }
        self._lengths = _Histogram("te_request_input_length", "Tokens of a text.", _LENGTHS)

    def saw(self, seen: Seen) -> None:
        """Count one request, if it asked a model for something."""
        if not _is_inference(seen):
            return
        method = seen.notes.get("te_method") or ("batch" if seen.inputs > 1 else "single")
        with self._lock:
            self._counts["te_request_count", method] += 1
            if seen.status < 400:
                self._counts["te_request_success", method] += 1
                self._durations["te_request_duration"].observe(seen.seconds)
            else:
                self._counts["te_request_failure", _failure(seen)] += 1
                if not seen.runs:
                    of = "predict" if seen.route in _SCORING else "embed"
                    self._counts[f"te_{of}_count", ""] += _begun(seen)
            for run in seen.runs:
                self._ran(run)

    def describe(self) -> Iterator[Metric]:
        """The names, all of them known beforehand."""
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        with self._lock:
            counts = dict(self._counts)
            histograms = [each.family() for each in (*self._durations.values(), self._lengths)]
        for name, label, text in self._COUNTERS:
            family = Metric(name, text, "untyped")
            for (of, value), count in counts.items():
                if of == name:
                    family.add_sample(name, {label: value} if label else {}, count)
            yield family
        yield from histograms
        waiting = sum(
            sample.value
            for family in metrics.LIVE.collect()
            if family.name == "likewise_waiting_texts"
            for sample in family.samples
        )
        yield GaugeMetricFamily("te_queue_size", "Texts that wait to be computed.", value=waiting)

    def _ran(self, run: Run) -> None:
        of = "predict" if run.is_scoring else "embed"
        texts, times = len(run.tokens), run.times
        self._counts[f"te_{of}_count", ""] += texts
        self._counts[f"te_{of}_success", ""] += texts
        parts = (times.tokenise_s, times.queue_s, times.compute_s)
        for part, seconds in zip(_PARTS, parts, strict=True):
            self._durations[f"te_request_{part}_duration"].observe(seconds)
            self._durations[f"te_{of}_{part}_duration"].observe(seconds, texts)
        self._durations[f"te_{of}_duration"].observe(sum(parts), texts)
        for tokens in run.tokens:
            self._lengths.observe(tokens)


def _is_inference(seen: Seen) -> bool:
    """Whether it asked a model for something, or was refused before that could be seen."""
    if seen.notes.get("te_failure") == "":
        return False
    if seen.inputs:
        return True
    if seen.status < 400 or seen.error in _NOT_COUNTED or seen.method != "POST":
        return False
    is_ollama = seen.dialect == "ollama" and not seen.route.startswith("/api/embed")
    return seen.dialect not in ("likewise", "unknown") and not (
        is_ollama or seen.route in _NO_INFERENCE
    )


def _failure(seen: Seen) -> str:
    if seen.status == CLIENT_GONE:
        return "dropped"
    noted: str | None = seen.notes.get("te_failure")
    if noted is not None:
        return noted
    is_ours = seen.status >= 500 or STATUS.get(seen.error or "", (500, ""))[0] >= 500
    return FAILURES.get(seen.error or "", "inference" if is_ours else "validation")


def _begun(seen: Seen) -> int:
    """Inputs that TEI counts though none was answered: those it looks at one by one."""
    begins = _failure(seen) in ("tokenization", "inference", "dropped", "missing_values")
    return int(seen.notes.get("te_inputs", 0)) if begins else 0
