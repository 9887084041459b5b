"""OpenTelemetry traces: a span a request, the parts of its way below it; only where asked for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from likewise.base.clock import wall
from likewise.base.extras import needed
from likewise.base.loopback import is_loopback_url
from likewise.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

    from likewise.server.seen import Run, Seen

_TIMEOUT_S = 5
_NS = 1_000_000_000


class Tracer:
    """Makes spans and gives them to an exporter; `close` it, so that the last ones go out."""

    def __init__(self, processor: SpanProcessor) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        named = Resource.create({"service.name": "likewise", "service.version": __version__})
        self._provider = TracerProvider(resource=named, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("likewise", __version__)
        self._context = TraceContextTextMapPropagator()

    @classmethod
    def to(cls, endpoint: str) -> Self:
        """A tracer that sends what it has to `endpoint`, as OTLP over HTTP, some seconds apart.

        Raises:
            MissingExtra: OpenTelemetry isn't installed.
        """
        with needed("sending traces (otlp_endpoint)", extra="otel", param="otlp_endpoint"):
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from requests import Session
        session = Session()
        # No proxy can reach this machine's own addresses, whatever NO_PROXY says.
        session.trust_env = not is_loopback_url(endpoint)
        url = endpoint.rstrip("/") + "/v1/traces"
        exporter: SpanExporter = OTLPSpanExporter(endpoint=url, timeout=_TIMEOUT_S, session=session)
        return cls(BatchSpanProcessor(exporter))

    def begin(self, headers: Mapping[str, str]) -> Tracing:
        """A request begins; its span goes on with the caller's trace where `traceparent` is one."""
        from opentelemetry.trace import SpanKind

        carrier = {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}
        began = time.perf_counter()
        offset = wall() - began
        span = self._tracer.start_span(
            "request",
            context=self._context.extract(carrier),
            kind=SpanKind.SERVER,
            start_time=int((began + offset) * _NS),
        )
        return Tracing(self, span, offset)

    def close(self) -> None:
        """Send what is left, and stop."""
        self._provider.shutdown()

    def below(self, span: Span, name: str, began_ns: int, ended_ns: int) -> None:
        """A part of `span`."""
        from opentelemetry.trace import set_span_in_context

        part = self._tracer.start_span(name, set_span_in_context(span), start_time=began_ns)
        part.end(ended_ns)


class Tracing:
    """The span of one request while it is answered."""

    def __init__(self, tracer: Tracer, span: Span, offset: float) -> None:
        """`offset` leads from the performance counter to seconds since 1970."""
        self._tracer = tracer
        self._span = span
        self._offset = offset

    @property
    def traceparent(self) -> str:
        """The span, for the header of the answer."""
        at = self._span.get_span_context()
        return f"00-{at.trace_id:032x}-{at.span_id:016x}-{int(at.trace_flags):02x}"

    def end(self, seen: Seen) -> None:
        """The request was answered."""
        from opentelemetry.trace import StatusCode

        span = self._span
        if span.is_recording():
            span.update_name(f"{seen.method} {seen.route}")
            span.set_attributes(dict(_attributes(seen)))
            if seen.status >= 500:
                span.set_status(StatusCode.ERROR)
            for name, began, ended in _parts(seen):
                self._tracer.below(span, name, self._ns(began), self._ns(ended))
        span.end(self._ns(seen.ended_at))

    def _ns(self, at: float) -> int:
        return int((at + self._offset) * _NS)


def _attributes(seen: Seen) -> Iterator[tuple[str, str | int]]:
    """What the span says; never a text, a key or a path as the caller wrote it."""
    yield "http.request.method", seen.method
    yield "http.route", seen.route
    yield "http.response.status_code", seen.status
    yield "likewise.dialect", seen.dialect
    yield "likewise.request_id", str(seen.notes.get("request_id", ""))
    if seen.model is not None:
        yield "likewise.model", seen.model
    if seen.lane is not None:
        yield "likewise.lane", seen.lane
        yield "likewise.inputs", seen.inputs
        yield "likewise.tokens", seen.tokens
    if seen.error is not None:
        yield "error.type", seen.error


def _parts(seen: Seen) -> Iterator[tuple[str, float, float]]:
    """The parts of a request's way: name, beginning and end on the performance counter."""
    for run in seen.runs:
        yield from _parts_of_run(run)
    if seen.serialise_s is not None and seen.first_byte_at is not None:
        yield "serialise", seen.first_byte_at - seen.serialise_s, seen.first_byte_at


def _parts_of_run(run: Run) -> Iterator[tuple[str, float, float]]:
    """One after the other, none beyond the end: waiting and computing are means over inputs."""
    at, times = run.submitted_at, run.times
    for name, seconds in (
        ("tokenise", times.tokenise_s),
        ("queue", times.queue_s),
        ("compute", times.compute_s),
    ):
        until = min(at + seconds, run.done_at)
        yield name, at, until
        at = until
