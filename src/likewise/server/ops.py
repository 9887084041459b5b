"""For operators: `/health`, `/ready`, `/metrics`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from likewise.base.clock import wall
from likewise.server.errors import json_response
from likewise.server.proof import CHALLENGE, LONGEST_CHALLENGE, PROOF, proof
from likewise.server.readiness import Report
from likewise.server.routing import Spoken
from likewise.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client import CollectorRegistry, Metric
    from starlette.requests import Request
    from starlette.routing import Route

    from likewise.server.bindings import LiveBinding
    from likewise.server.readiness import Readiness
    from likewise.server.serving import Catalogue


class Health(TypedDict):
    """The answer of `GET /health`."""

    status: str
    version: str
    uptime_s: float
    unix: float
    """Seconds since 1970: all that infinity's client looks for."""
    models: dict[str, dict[str, Any]]
    """Each model's state, and what it says of itself."""
    bindings: list[str]
    troubles: dict[str, str]
    """What keeps a binding from following."""


def routes() -> list[Route]:
    """What operators ask."""
    return [
        Spoken("/health", health, methods=["GET"], dialect="likewise", answer=Health),
        Spoken("/ready", ready, methods=["GET"], dialect="likewise", answer=Report),
        Spoken(
            "/metrics", metrics, methods=["GET"], dialect="likewise", media_types=["text/plain"]
        ),
    ]


async def health(request: Request) -> Response:
    """200 while the process works: its models, and what is wrong with a binding if anything is."""
    state = request.app.state
    served: Catalogue = state.models
    live: Sequence[LiveBinding] = state.bindings
    troubles = {binding.name: binding.trouble for binding in live if binding.trouble}
    challenge = request.headers.get(CHALLENGE, "")
    secret: str | None = getattr(state, "secret", None)
    headers = {}
    if secret is not None and 0 < len(challenge) <= LONGEST_CHALLENGE:
        headers[PROOF] = proof(secret, challenge)
    return json_response(
        {
            "status": "degraded" if troubles else "ok",
            "version": __version__,
            "uptime_s": round(wall() - state.started_at, 1),
            "unix": wall(),
            "models": {one.name: {"state": one.state, **one.facts()} for one in served.models()},
            "bindings": [binding.name for binding in live],
            "troubles": troubles,
        },
        headers=headers,
    )


async def ready(request: Request) -> Response:
    """200 when a request would be answered now, else 503 with what is in the way."""
    readiness: Readiness = request.app.state.readiness
    report = await readiness.report()
    return json_response(report, 200 if report["ready"] else 503)


async def metrics(request: Request) -> Response:
    """Prometheus' text format."""
    from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

    text = await run_in_threadpool(generate_latest, request.app.state.registry)
    return Response(text, headers={"content-type": CONTENT_TYPE_LATEST})


class BindingStates:
    """Gauges of every binding, read when scraped."""

    _GAUGES = (
        ("rows", "Rows of the source table."),
        ("current", "Rows whose vectors are of their present text."),
        ("pending", "Changes not yet carried over."),
        ("parked", "Rows that can't be embedded."),
        ("lag_seconds", "Age of the oldest change not yet carried over."),
        ("coverage", "Part of the rows that are current, 0 to 1."),
        ("rows_per_second", "Rows published a second since the last time somebody asked."),
        ("seconds_left", "Seconds until nothing is pending, at the present rate."),
        ("generation", "Number of the generation that answers."),
    )
    _OF_GENERATIONS = (
        ("coverage", "Part of the rows that are current in a generation, 0 to 1."),
        ("pending", "Changes not yet carried over into a generation."),
    )

    def __init__(self, live: Sequence[LiveBinding]) -> None:
        self._live = live

    def register(self, registry: CollectorRegistry) -> None:
        """Be read on every scrape of `registry`."""
        registry.register(self)

    def describe(self) -> list[Metric]:
        """Nothing: names are known only when collected."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The gauges as they are now."""
        from prometheus_client.core import GaugeMetricFamily

        states = [binding.state() for binding in self._live]
        for name, help_text in self._GAUGES:
            family = GaugeMetricFamily(f"likewise_binding_{name}", help_text, labels=("binding",))
            for state in states:
                if (value := state.get(name)) is not None:
                    family.add_metric([str(state["name"])], float(value))
            yield family
        for name, help_text in self._OF_GENERATIONS:
            labels = ("binding", "generation", "state")
            family = GaugeMetricFamily(
                f"likewise_binding_generation_{name}", help_text, labels=labels
            )
            for state in states:
                for each in state["generations"]:
                    if (value := each.get(name)) is not None:
                        at = [str(state["name"]), str(each["generation"]), str(each["state"])]
                        family.add_metric(at, float(value))
            yield family
