"""Traces: what a span says, whose trace it goes on with, and what really goes over the wire."""

import builtins
import http.server
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.testclient import TestClient

from likewise.base.errors import EngineError, MissingExtra, SettingsError
from likewise.cli import resolve, settings
from likewise.runtime.pending import Embedded
from likewise.runtime.sinks import Times
from likewise.server.app import build
from likewise.server.tracing import Tracer
from tests.unit.server.fakes import FakeModel

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SECRET = "a text that is nobody's business"


class Slow(FakeModel):
    """Says that it took its time."""

    def submit(self, inputs: Any, **options: Any) -> Future[Embedded]:
        found = super().submit(inputs, **options).result()
        made: Future[Embedded] = Future()
        times = Times(1e-6, 2e-6, 3e-6)
        made.set_result(Embedded(found.vectors, found.tokens, found.truncated, times))
        return made


@pytest.fixture
def kept() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def model() -> FakeModel:
    return Slow()


@pytest.fixture
def client(kept: InMemorySpanExporter, model: FakeModel) -> Iterator[TestClient]:
    tracer = Tracer(SimpleSpanProcessor(kept))
    with TestClient(build({"m": model}, tracer=tracer)) as client:
        yield client
    tracer.close()


def of_request(kept: InMemorySpanExporter) -> tuple[ReadableSpan, Sequence[ReadableSpan]]:
    *parts, request = kept.get_finished_spans()
    return request, parts


def test_a_request_and_its_parts(client: TestClient, kept: InMemorySpanExporter) -> None:
    headers = {"x-request-id": "id-1"}
    client.post("/v1/embeddings", json={"input": [SECRET, "b"]}, headers=headers)
    request, parts = of_request(kept)
    assert request.name == "POST /v1/embeddings"
    assert request.kind.name == "SERVER"
    assert dict(request.attributes or {}) == {
        "http.request.method": "POST", "http.route": "/v1/embeddings",
        "http.response.status_code": 200, "likewise.dialect": "openai",
        "likewise.request_id": "id-1", "likewise.model": "m", "likewise.lane": "interactive",
        "likewise.inputs": 2, "likewise.tokens": 7,
    }  # fmt: skip
    assert [part.name for part in parts] == ["tokenise", "queue", "compute", "serialise"]
    assert request.context is not None
    ends = [request.start_time or 0]
    for part in parts:
        assert part.parent is not None
        assert part.parent.span_id == request.context.span_id
        assert (part.start_time or 0) >= ends[-1] - 1000
        ends.append(part.end_time or 0)
    assert ends == sorted(ends)
    assert (request.end_time or 0) >= ends[-1]
    assert SECRET not in "".join(span.to_json() for span in (request, *parts))


def test_it_goes_on_with_the_callers_trace(client: TestClient, kept: InMemorySpanExporter) -> None:
    answer = client.get("/health", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    request, _ = of_request(kept)
    assert request.context is not None
    assert request.parent is not None
    assert f"{request.context.trace_id:032x}" == TRACE
    assert f"{request.parent.span_id:016x}" == PARENT
    own = f"{request.context.span_id:016x}"
    assert answer.headers["traceparent"] == f"00-{TRACE}-{own}-01"


def test_a_trace_that_isnt_sampled_stays_so(client: TestClient, kept: InMemorySpanExporter) -> None:
    answer = client.get("/health", headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})
    assert answer.headers["traceparent"].startswith(f"00-{TRACE}-")
    assert answer.headers["traceparent"].endswith("-00")
    assert kept.get_finished_spans() == ()


@pytest.mark.parametrize(
    "bad",
    [
        "", "x", f"00-{TRACE}-{PARENT}", f"ff-{TRACE}-{PARENT}-01", f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE.upper()}x-{PARENT}-01", "00-" + "é" * 32,
    ],
)  # fmt: skip
def test_what_is_no_trace_is_ignored(
    client: TestClient, kept: InMemorySpanExporter, bad: str
) -> None:
    answer = client.get("/health", headers={b"traceparent": bad.encode("latin-1")})
    assert answer.status_code == 200
    request, _ = of_request(kept)
    assert request.parent is None
    assert TRACE not in answer.headers["traceparent"]


def test_failures_are_marked(
    client: TestClient, kept: InMemorySpanExporter, model: FakeModel
) -> None:
    model.fails = EngineError("broken")
    client.post("/v1/embeddings", json={"input": "a"})
    request, _ = of_request(kept)
    assert not request.status.is_ok
    assert (request.attributes or {})["error.type"] == "engine_error"


def test_without_a_tracer_there_is_no_trace() -> None:
    with TestClient(build({"m": FakeModel()})) as client:
        answer = client.get("/health", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    assert "traceparent" not in answer.headers


class Receiver(http.server.BaseHTTPRequestHandler):
    """Takes OTLP over HTTP."""

    taken: list[tuple[str, ExportTraceServiceRequest]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.taken.append((self.path, ExportTraceServiceRequest.FromString(body)))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[tuple[str, ExportTraceServiceRequest]]]]:
    taken: list[tuple[str, ExportTraceServiceRequest]] = []
    handler = type("Own", (Receiver,), {"taken": taken})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/", taken
        server.shutdown()
        thread.join()


def test_spans_go_out_as_otlp(
    receiver: tuple[str, list[tuple[str, ExportTraceServiceRequest]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url, taken = receiver
    # A proxy can't reach this machine's own addresses, and isn't asked to.
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    tracer = Tracer.to(url)
    with TestClient(build({"m": Slow()}, tracer=tracer)) as client:
        client.post("/v1/embeddings", json={"input": SECRET})
    tracer.close()
    ((path, sent),) = taken
    assert path == "/v1/traces"
    (resource,) = sent.resource_spans
    named = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert named["service.name"] == "likewise"
    spans = {span.name: span for scope in resource.scope_spans for span in scope.spans}
    assert set(spans) == {"POST /v1/embeddings", "tokenise", "queue", "compute", "serialise"}
    assert spans["compute"].parent_span_id == spans["POST /v1/embeddings"].span_id
    assert SECRET.encode() not in sent.SerializeToString()


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **options: Any) -> Any:
        if name.startswith("opentelemetry"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r"pip install 'likewise\[otel\]'"):
        Tracer.to("http://127.0.0.1:4318")


def test_where_traces_go_is_said_or_nowhere() -> None:
    named = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
    written = settings.ServerSettings(otlp_endpoint="http://other:4318")
    assert resolve.otlp_endpoint(environment={}) is None
    assert resolve.otlp_endpoint(settings.ServerSettings(), environment={}) is None
    assert resolve.otlp_endpoint(environment=named) == "http://collector:4318"
    assert resolve.otlp_endpoint(written, environment=named) == "http://other:4318"
    with pytest.raises(SettingsError, match="must begin with http:// or https://"):
        resolve.otlp_endpoint(environment={"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317"})
