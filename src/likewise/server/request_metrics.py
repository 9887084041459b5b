"""What is counted of requests, in one table; `saw` is the one place that counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from likewise.server.seen import Seen

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SHORT = (0.00001, 0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.1, 1)
_INPUTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
_TOKENS = (8, 32, 128, 512, 2048, 8192, 32768, 131072, 524288)
_WHO = ("model", "lane", "dialect")


class RequestMetrics:
    """The metrics of one application."""

    def __init__(self, registry: CollectorRegistry) -> None:
        from prometheus_client import Counter, Gauge, Histogram

        self._requests = Counter(
            "likewise_http_requests",
            "Requests answered.",
            ("route", "method", "status", "dialect"),
            registry=registry,
        )
        self._seconds = Histogram(
            "likewise_http_request_seconds",
            "Time from the request's head to the answer's last byte.",
            ("route", "dialect"),
            buckets=_SECONDS,
            registry=registry,
        )
        self.running = Gauge(
            "likewise_http_requests_running", "Requests being answered.", registry=registry
        )
        self._serialise = Histogram(
            "likewise_serialise_seconds",
            "Time from the end of the computation to the answer's first byte.",
            ("dialect",),
            buckets=_SHORT,
            registry=registry,
        )
        self._inputs = Histogram(
            "likewise_request_inputs",
            "Texts or pairs in one request.",
            _WHO,
            buckets=_INPUTS,
            registry=registry,
        )
        self._tokens = Histogram(
            "likewise_request_tokens",
            "Tokens computed for one request, special ones included.",
            _WHO,
            buckets=_TOKENS,
            registry=registry,
        )

        self._token_ids = Counter(
            "likewise_token_id_inputs",
            "Inputs that came as token ids, which may be another tokenizer's.",
            ("model", "dialect"),
            registry=registry,
        )

    def saw(self, seen: Seen) -> None:
        """Count one request."""
        self._requests.labels(seen.route, seen.method, str(seen.status), seen.dialect).inc()
        self._seconds.labels(seen.route, seen.dialect).observe(seen.seconds)
        if seen.serialise_s is not None:
            self._serialise.labels(seen.dialect).observe(seen.serialise_s)
        if ids := seen.notes.get("token_ids"):
            self._token_ids.labels(seen.model or "", seen.dialect).inc(ids)
        if seen.runs:
            who = (seen.model or "", seen.lane or "", seen.dialect)
            self._inputs.labels(*who).observe(seen.inputs)
            self._tokens.labels(*who).observe(seen.tokens)
